//! One configuration out of a preset, a TOML file, `--set` and flags, each winning over what stands before it.

use std::path::Path;

use toml::{Table, Value};

use super::RunConfig;
use crate::report::UserError;

const DEFAULT_PRESET: &str = "vit_micro";
/// How alike two names must be (Jaro-Winkler) for one to be offered in place of the other.
const SIMILAR: f64 = 0.8;

/// Where values come from, weakest first.
pub(crate) struct ConfigSource<'a> {
    /// A configuration saved by an earlier run, when resuming.
    pub(crate) saved: Option<Table>,
    pub(crate) file: Option<&'a Path>,
    /// `key=value` pairs as typed.
    pub(crate) overrides: &'a [String],
    /// Keys that have flags of their own.
    pub(crate) flags: Vec<(&'static str, String)>,
}

/// The configuration that a run uses, every key checked by name, type and range.
pub(crate) fn resolve(source: ConfigSource<'_>) -> anyhow::Result<RunConfig> {
    let mut chosen = source.saved.unwrap_or_default();
    if let Some(path) = source.file {
        let text = fs_err::read_to_string(path)?;
        let table: Table = text.parse().map_err(|error| {
            UserError::new(format!("{} is not valid TOML\n{error}", path.display())).hint("see `--show-config`")
        })?;
        overlay(&mut chosen, table);
    }
    for pair in source.overrides {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            UserError::new(format!("--set expects key=value, got `{pair}`")).hint("for example --set train.lr=1e-3")
        })?;
        insert(&mut chosen, key.trim(), parse_value(value.trim()))?;
    }
    for (key, value) in source.flags {
        insert(&mut chosen, key, Value::String(value))?;
    }

    let preset = match chosen.get("preset") {
        None => DEFAULT_PRESET,
        Some(Value::String(name)) => name,
        Some(other) => return Err(UserError::new(format!("`preset` must be a name, got {other}")).into()),
    };
    let defaults = RunConfig::of_preset(preset)?;
    let known = Table::try_from(defaults.clone().with_optional_keys())?;
    refuse_unknown_keys(&chosen, &known, "")?;
    let mut table = Table::try_from(defaults)?;
    overlay(&mut table, chosen);
    let config: RunConfig = table.try_into().map_err(|error: toml::de::Error| {
        UserError::new(format!("configuration: {}", error.to_string().trim().replace('\n', " ")))
    })?;
    config.validate()?;
    Ok(config)
}

/// Keys at which two configurations differ, with both values.
pub(crate) fn differences(before: &RunConfig, after: &RunConfig) -> anyhow::Result<Vec<(String, String, String)>> {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    flatten(&Value::Table(Table::try_from(before)?), String::new(), &mut left);
    flatten(&Value::Table(Table::try_from(after)?), String::new(), &mut right);
    let value_of = |list: &[(String, String)], key: &str| {
        list.iter().find(|(name, _)| name == key).map_or_else(|| "unset".to_owned(), |(_, value)| value.clone())
    };
    let mut keys: Vec<&String> = left.iter().chain(&right).map(|(key, _)| key).collect();
    keys.sort();
    keys.dedup();
    let pairs = keys.into_iter().map(|key| (key.clone(), value_of(&left, key), value_of(&right, key)));
    Ok(pairs.filter(|(_, before, after)| before != after).collect())
}

fn flatten(value: &Value, prefix: String, out: &mut Vec<(String, String)>) {
    match value {
        Value::Table(table) => {
            for (key, inner) in table {
                let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(inner, path, out);
            }
        }
        other => out.push((prefix, other.to_string())),
    }
}

/// Values of `upper` win; tables are merged key by key.
fn overlay(lower: &mut Table, upper: Table) {
    for (key, value) in upper {
        match (lower.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(table)) => overlay(inner, table),
            (_, value) => {
                lower.insert(key, value);
            }
        }
    }
}

/// A value as TOML writes it; what TOML cannot read is text, so that paths and names need no quotes.
fn parse_value(text: &str) -> Value {
    format!("value = {text}")
        .parse::<Table>()
        .ok()
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

fn insert(table: &mut Table, key: &str, value: Value) -> anyhow::Result<()> {
    let (sections, name) = key.rsplit_once('.').map_or((None, key), |(sections, name)| (Some(sections), name));
    let mut table = table;
    for section in sections.into_iter().flat_map(|sections| sections.split('.')) {
        let entry = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
        table = entry.as_table_mut().ok_or_else(|| {
            UserError::new(format!("`{key}`: `{section}` is a value, not a section of the configuration"))
        })?;
    }
    table.insert(name.to_owned(), value);
    Ok(())
}

/// `section` is the dotted name of the table that is looked at, with a dot at its end unless it is the whole.
fn refuse_unknown_keys(given: &Table, known: &Table, section: &str) -> anyhow::Result<()> {
    for (key, value) in given {
        match (known.get(key), value) {
            (Some(Value::Table(known)), Value::Table(given)) => {
                refuse_unknown_keys(given, known, &format!("{section}{key}."))?;
            }
            (Some(_), _) => {}
            (None, _) => return Err(unknown_key(key, known, section).into()),
        }
    }
    Ok(())
}

fn unknown_key(key: &str, known: &Table, section: &str) -> UserError {
    let nearest = known
        .keys()
        .map(|name| (strsim::jaro_winkler(key, name), name))
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .filter(|(likeness, _)| *likeness >= SIMILAR);
    let hint = match nearest {
        Some((_, name)) => format!("did you mean `{section}{name}`?"),
        None => format!("known here: {}", known.keys().cloned().collect::<Vec<_>>().join(", ")),
    };
    UserError::new(format!("unknown configuration key `{section}{key}`")).hint(hint)
}
