//! What an output depends on, and in what two outputs differ.

use serde_json::{Value, json};
use xxhash_rust::xxh3::Xxh3;

use super::options::ConvertOptions;
use crate::sources::ImageSource;

/// Options that decide how a conversion is carried out, but nothing of what it writes.
const WITHOUT_EFFECT: [&str; 6] = ["workers", "overwrite", "resume", "on_bad", "bad_budget", "part"];

/// The key under which a split's manifest names the split.
pub(super) const SPLIT_KEY: &str = "split";

/// Everything that decides what is written, as it stands in the manifest.
pub(super) fn configuration(options: &ConvertOptions, source: &dyn ImageSource) -> Value {
    let mut configuration = json!(options);
    if let Value::Object(fields) = &mut configuration {
        fields.retain(|key, _| !WITHOUT_EFFECT.contains(&&**key));
        fields.insert("source".to_owned(), json!(source.format().name()));
        fields.insert("source_fingerprint".to_owned(), json!(format!("{:016x}", fingerprint(source))));
    }
    configuration
}

/// XXH3-64 over what the listing says of all images.
fn fingerprint(source: &dyn ImageSource) -> u64 {
    let mut hasher = Xxh3::new();
    let mut text = |text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    for name in source.class_names() {
        text(name);
    }
    for image in 0..source.len() {
        text(&source.path(image));
        text(&format!("{:?} {}", source.label(image), source.bytes(image)));
    }
    hasher.digest()
}

/// A difference between two configurations: what differs, what it was, and what it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) option: String,
    pub(super) was: String,
    pub(super) is: String,
}

/// The first difference, if there is any.
pub(super) fn difference(was: &Value, is: &Value) -> Option<Difference> {
    let empty = serde_json::Map::new();
    let [was, is] = [was, is].map(|value| value.as_object().unwrap_or(&empty));
    let keys = was.keys().chain(is.keys()).filter(|key| *key != SPLIT_KEY);
    let key = keys.into_iter().find(|key| was.get(*key) != is.get(*key))?;
    let option = match &**key {
        "row_group_bytes" => "--row-group-mib (in bytes)",
        "shard_bytes" => "--shard-mib (in bytes)",
        "encode" => "--encode, --max-side, --quality or --zstd",
        "measure" => "--pixel-stats",
        "splits" => "--split",
        "min_side_px" => "--filter-min-side",
        "tile_index" => "--tile-index",
        "source" => "the kind of source",
        "source_fingerprint" => "the list of images, their sizes or classes",
        "seed" | "order" | "limit" | "check" | "dedupe" => &format!("--{key}"),
        other => other,
    };
    let text = |value: Option<&Value>| match value {
        None | Some(Value::Null) => "not given".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    Some(Difference { option: option.to_owned(), was: text(was.get(key)), is: text(is.get(key)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named_as_they_were_typed() {
        let was = json!({ "seed": 0, "limit": null, "dedupe": false, "split": "val" });
        assert_eq!(difference(&was, &json!({ "seed": 0, "limit": null, "dedupe": false })), None);
        let check = |is: Value, option: &str, was_text: &str, is_text: &str| {
            let found = difference(&was, &is).unwrap();
            assert_eq!((&*found.option, &*found.was, &*found.is), (option, was_text, is_text));
        };
        check(json!({ "seed": 1, "limit": null, "dedupe": false }), "--seed", "0", "1");
        check(json!({ "seed": 0, "limit": 7, "dedupe": false }), "--limit", "not given", "7");
        check(json!({ "seed": 0, "limit": null, "dedupe": false, "measure": 3 }), "--pixel-stats", "not given", "3");
    }
}
