//! What is known of a finished unit: enough to make the manifest without looking at its shards again.
//!
//! The record appears after the unit's shards have been brought to the disk, so where it lies, they are whole.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::names::{record_name, shard_path};
use super::staging::write_whole;
use crate::error::DatasetError;
use crate::examine::PixelAverage;
use crate::manifest::RowGroupEntry;

/// No record is larger: it has a few bytes for each image of a shard.
pub(super) const RECORD_BYTES_MAX: u64 = 1 << 30;

/// A finished unit.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UnitRecord {
    /// One a split, in order.
    pub(super) splits: Vec<SplitRecord>,
    /// The images that were left out, in order.
    pub(super) left_out: Vec<LeftOut>,
    /// Images dealt with.
    pub(super) images: u64,
    /// Bytes of their sources.
    pub(super) source_bytes: u64,
}

/// What went to one split; its shard is there if it has row groups.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SplitRecord {
    pub(super) row_groups: Vec<GroupRecord>,
    pub(super) shard_bytes: u64,
    pub(super) pixels: PixelAverage,
    /// For finding duplicates later: which image each row is, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) rows: Vec<RowKey>,
}

/// Which image a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RowKey {
    /// Its position in the unit.
    pub(super) at: u32,
    /// XXH3-64 of the source's bytes, for the ledger.
    pub(super) xxh3: u64,
    /// XXH3-128 of the source's bytes, for telling images apart.
    #[serde(with = "hexadecimal")]
    pub(super) content: u128,
}

/// A row group of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupRecord {
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) rows: u32,
    pub(super) image_bytes: u64,
    pub(super) xxh3: u64,
}

/// An image that is not in the data set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LeftOut {
    /// Its position in the unit.
    pub(super) at: u32,
    /// Why it was left out.
    pub(super) kind: LeftOutKind,
    /// Its path in the source.
    pub(super) source: String,
    /// Why, in words.
    pub(super) reason: String,
    /// XXH3-64 of its bytes in hexadecimal, unless they could not be read.
    pub(super) xxh3: Option<String>,
}

/// Why an image is not in the data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LeftOutKind {
    /// It cannot be read or decoded.
    Bad,
    /// A side is shorter than asked for.
    Small,
    /// An image before it has the same bytes.
    Duplicate,
}

impl UnitRecord {
    /// Images left out for a reason.
    pub(super) fn count(&self, kind: LeftOutKind) -> u64 {
        self.left_out.iter().filter(|left_out| left_out.kind == kind).count() as u64
    }

    /// Rows of all splits.
    pub(super) fn rows(&self) -> u64 {
        self.splits.iter().flat_map(|split| &split.row_groups).map(|group| u64::from(group.rows)).sum()
    }

    /// Lets go of what grows with rows; it is needed no more when the record is saved and its rows are counted as seen.
    pub(super) fn forget_rows(&mut self) {
        for split in &mut self.splits {
            split.rows = Vec::new();
        }
    }

    /// Whether the unit's shards are as long as they were written; `bytes_of` tells the length of a file of the data set.
    pub(super) fn is_whole(&self, unit: u32, splits: &[String], bytes_of: impl Fn(&Path) -> Option<u64>) -> bool {
        let is_there = |(split, record): (usize, &SplitRecord)| {
            record.shard_bytes == 0 || bytes_of(&shard_path(splits, split, unit)) == Some(record.shard_bytes)
        };
        self.is_of(splits) && self.splits.iter().enumerate().all(is_there)
    }

    /// Whether it can be the record of a conversion with these splits.
    pub(super) fn is_of(&self, splits: &[String]) -> bool {
        let is_possible = |split: &SplitRecord| split.row_groups.is_empty() == (split.shard_bytes == 0);
        self.splits.len() == splits.len() && self.splits.iter().all(is_possible)
    }

    pub(super) fn save(&self, units: &Path, unit: u32) -> Result<(), DatasetError> {
        write_whole(&units.join(record_name(unit)), &self.to_bytes())
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        serde_json::json!(self).to_string().into_bytes()
    }

    /// What is not a record was not written by this version: the unit is made again.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<UnitRecord> {
        serde_json::from_slice(bytes).ok()
    }

    /// The record of a unit, if the unit is finished.
    pub(super) fn load(units: &Path, unit: u32) -> Result<Option<UnitRecord>, DatasetError> {
        match fs_err::read(units.join(record_name(unit))) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            read => Ok(UnitRecord::from_bytes(&read?)),
        }
    }
}

impl GroupRecord {
    /// The manifest's entry for it.
    pub(super) fn entry(&self, file: &Arc<str>) -> RowGroupEntry {
        let &GroupRecord { offset, length, rows, image_bytes, xxh3 } = self;
        RowGroupEntry { file: file.clone(), offset, length, rows, image_bytes, xxh3, first_sample_id: 0, row_group: 0 }
    }
}

mod hexadecimal {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{value:032x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        u128::from_str_radix(&String::deserialize(deserializer)?, 16).map_err(D::Error::custom)
    }
}
