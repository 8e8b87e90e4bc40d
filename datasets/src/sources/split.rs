//! Sources that come in parts, as `train` and `val`.

use std::path::Path;

use crate::error::DatasetError;

/// The word that asks for all parts.
pub const ALL_SPLITS: &str = "all";

/// What parts are called in sources, and what they are called here.
const NAMES: [(&str, &str); 10] = [
    ("dev", "val"),
    ("t10k", "test"),
    ("test", "test"),
    ("testing", "test"),
    ("train", "train"),
    ("training", "train"),
    ("val", "val"),
    ("valid", "val"),
    ("validation", "val"),
    ("eval", "val"),
];

/// The part that a folder of this name is.
pub(super) fn split_of_folder(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, split)| *split)
}

/// The part that a file belongs to: one of the words of its name tells.
pub(super) fn split_of_file(name: &str) -> Option<&'static str> {
    name.split(|character: char| !character.is_ascii_alphanumeric()).find_map(split_of_folder)
}

/// Keeps those items that belong to the part that was asked for.
///
/// # Errors
///
/// If nothing was asked for and there are several parts: to mix them, or to leave some out, is for the user to say.
pub(super) fn choose<T>(
    source: &Path,
    items: Vec<T>,
    split_of: impl Fn(&T) -> Option<&'static str>,
    wanted: Option<&str>,
) -> Result<Vec<T>, DatasetError> {
    let mut found: Vec<&str> = items.iter().filter_map(&split_of).collect();
    found.sort_unstable();
    found.dedup();
    let list = found.iter().map(|split| format!("`{split}`")).collect::<Vec<_>>().join(", ");
    match wanted {
        None if found.len() > 1 => Err(DatasetError::SourceSplits { path: source.to_owned(), splits: list }),
        None | Some(ALL_SPLITS) => Ok(items),
        Some(wanted) => {
            let wanted = split_of_folder(wanted).unwrap_or(wanted);
            if !found.contains(&wanted) {
                let has = if found.is_empty() { "no splits".to_owned() } else { format!("the splits {list}") };
                let reason =
                    format!("expected one that the source has, got `{wanted}`; `{}` has {has}", source.display());
                return Err(DatasetError::InvalidOption { option: "split", reason });
            }
            Ok(items.into_iter().filter(|item| split_of(item) == Some(wanted)).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_parts_are_for_the_user_to_choose_from() {
        let names = ["train-00000.parquet", "validation-0.parquet", "README.parquet"];
        let choose = |names: &[&'static str], wanted| {
            choose(Path::new("set"), names.to_vec(), |name| split_of_file(name), wanted)
        };
        assert!(choose(&names, None).unwrap_err().to_string().contains("`train`, `val`"));
        assert_eq!(choose(&names, Some("all")).unwrap(), names);
        assert_eq!(choose(&names, Some("val")).unwrap(), ["validation-0.parquet"]);
        assert_eq!(choose(&names, Some("validation")).unwrap(), ["validation-0.parquet"]);
        assert!(choose(&names, Some("test")).unwrap_err().to_string().contains("got `test`"));
        assert_eq!(choose(&names[..1], None).unwrap(), names[..1]);
        assert_eq!(split_of_file("t10k-images-idx3-ubyte.gz"), Some("test"));
    }
}
