//! What the files and folders of a data set are called, and those of one that is being made.

use std::path::{Path, PathBuf};

use crate::manifest::MANIFEST_FILE;

/// The list of images that were left out, inside a data set: one JSON object a line, with `kind` (`bad`, `small` or
/// `duplicate`), `source`, `reason` and `xxh3`.
pub const LEDGER_FILE: &str = "quarantine.jsonl";

/// The folder of the records, inside the one that is being written.
pub(super) const UNITS: &str = "units";
/// What is being made, inside of [`UNITS`].
pub(super) const HEAD_FILE: &str = "conversion.json";

/// Where the shard of a split lies in the folder.
pub(super) fn shard_path(splits: &[String], split: usize, unit: u32) -> PathBuf {
    split_folder(splits.len(), &splits[split]).join(shard_name(&splits[split], unit))
}

/// A shard is named as its split, because Hugging Face `datasets` then takes such files, and only them, for the data.
pub(super) fn shard_name(split: &str, unit: u32) -> String {
    format!("{split}-{unit:05}.parquet")
}

/// The folder of a split's data set: all of it where nothing is split.
pub(super) fn split_folder(splits: usize, name: &str) -> PathBuf {
    if splits > 1 { PathBuf::from(name) } else { PathBuf::new() }
}

/// Whether this is the path of a record.
pub(super) fn is_record(path: &Path) -> bool {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    path.extension().is_some_and(|extension| extension == "json") && stem.parse::<u32>().is_ok()
}

/// The name of the record of a unit.
pub(super) fn record_name(unit: u32) -> String {
    format!("{unit:05}.json")
}

/// Whether a file or folder is called like what a conversion writes.
pub(super) fn is_ours(name: &str) -> bool {
    let is_shard = name
        .strip_suffix(".parquet")
        .and_then(|stem| stem.rsplit_once('-'))
        .is_some_and(|(_, number)| number.len() >= 5 && number.bytes().all(|byte| byte.is_ascii_digit()));
    is_shard || [MANIFEST_FILE, LEDGER_FILE, UNITS].contains(&name)
}
