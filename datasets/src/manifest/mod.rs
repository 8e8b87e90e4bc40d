//! What a data set consists of: one entry a row group, and what holds for all of them.
//!
//! This module has the types and the rules that every manifest obeys; `file` turns a manifest into the bytes of
//! `manifest.parquet` and back.

mod file;
#[cfg(all(test, target_os = "linux"))]
mod huge_tests;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::schema::SCHEMA_VERSION;

/// The name of the manifest inside a data set.
pub const MANIFEST_FILE: &str = "manifest.parquet";

/// A larger manifest is refused; it would describe about a hundred million row groups.
pub(crate) const MANIFEST_BYTES_MAX: u64 = 4 << 30;

/// No row group is longer than this many bytes, so that a corrupt manifest cannot ask for any amount of memory. Parquet
/// itself ends at 2 GiB a page.
pub const GROUP_BYTES_MAX: u64 = 1 << 30;

/// Bytes of the smallest raw image: `P6 1 1 255` and a pixel.
const RAW_IMAGE_BYTES_MIN: u64 = 14;

/// Where a row group lies, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowGroupEntry {
    /// The shard, relative to the manifest; shared by the row groups of a shard.
    pub file: Arc<str>,
    /// Where the row group begins, in bytes from the start of the shard.
    pub offset: u64,
    /// How many bytes it takes.
    pub length: u64,
    /// How many rows it has.
    pub rows: u32,
    /// The sum of the sizes of its images, in bytes.
    pub image_bytes: u64,
    /// XXH3-64 of the bytes `offset..offset + length`.
    pub xxh3: u64,
    /// The sample id of its first row (derived from the entries before it).
    pub first_sample_id: u64,
    /// Its number inside its shard (derived from the entries before it).
    pub row_group: u32,
}

/// Mean and standard deviation of the pixels of a data set: red, green, blue, in 0..=1, every image counting alike.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PixelStats {
    /// The mean of each channel.
    pub mean: [f64; 3],
    /// The standard deviation of each channel.
    pub std: [f64; 3],
    /// How many images were measured.
    pub images: u64,
}

/// What a data set consists of.
///
/// Invariants, checked when it is made: row groups of a shard follow each other and do not overlap, a shard's row groups
/// stand together, file names stay inside the data set, every row group has rows, lengths are capped, and the sum of
/// rows fits in 64 bits.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    row_groups: Vec<RowGroupEntry>,
    class_names: Vec<String>,
    conversion: serde_json::Value,
    pixel_stats: Option<PixelStats>,
    rows: u64,
}

impl Manifest {
    /// Checks the entries and derives what follows from their order.
    ///
    /// # Errors
    ///
    /// The rule that an entry breaks.
    pub(crate) fn new(
        mut row_groups: Vec<RowGroupEntry>,
        class_names: Vec<String>,
        conversion: serde_json::Value,
        pixel_stats: Option<PixelStats>,
    ) -> Result<Manifest, String> {
        let mut rows = 0_u64;
        let mut seen = std::collections::HashSet::new();
        for group in 0..row_groups.len() {
            let (before, rest) = row_groups.split_at_mut(group);
            let entry = &mut rest[0];
            let previous = before.last().filter(|last| last.file == entry.file);
            check_entry(entry).map_err(|reason| format!("row group {group}: {reason}"))?;
            if let Some(previous) = previous {
                if entry.offset < previous.offset + previous.length {
                    return Err(format!("row group {group} begins before the end of the one before it"));
                }
                entry.row_group = previous.row_group + 1;
            } else {
                if !seen.insert(entry.file.clone()) {
                    return Err(format!("row group {group}: the row groups of `{}` do not stand together", entry.file));
                }
                entry.row_group = 0;
            }
            entry.first_sample_id = rows;
            rows = rows.checked_add(u64::from(entry.rows)).ok_or("the number of rows does not fit in 64 bits")?;
        }
        Ok(Manifest { row_groups, class_names, conversion, pixel_stats, rows })
    }

    /// All row groups, in the order that gives the samples their ids.
    pub fn row_groups(&self) -> &[RowGroupEntry] {
        &self.row_groups
    }

    /// How many rows there are.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The names of the classes, in the order of the labels; empty without labels.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// The configuration of the conversion, as JSON.
    pub fn conversion(&self) -> &serde_json::Value {
        &self.conversion
    }

    /// Mean and deviation of the pixels, where they were measured.
    pub fn pixel_stats(&self) -> Option<PixelStats> {
        self.pixel_stats
    }

    /// The version of the format, always [`SCHEMA_VERSION`], because others are refused.
    pub fn schema_version(&self) -> u32 {
        SCHEMA_VERSION
    }

    /// How many shards there are.
    pub fn shards(&self) -> u64 {
        self.row_groups.iter().filter(|entry| entry.row_group == 0).count() as u64
    }

    /// XXH3-64 over everything that decides what a reader gets: version, entries, class names and pixel statistics.
    ///
    /// The configuration of the conversion is left out: it tells how the data came about, not what they are.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = Xxh3::new();
        let mut text = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        text(&SCHEMA_VERSION.to_le_bytes());
        for entry in &self.row_groups {
            text(entry.file.as_bytes());
            let numbers = [entry.offset, entry.length, u64::from(entry.rows), entry.image_bytes, entry.xxh3];
            text(numbers.map(u64::to_le_bytes).as_flattened());
        }
        for name in &self.class_names {
            text(name.as_bytes());
        }
        if let Some(stats) = self.pixel_stats {
            text(
                [stats.mean, stats.std]
                    .as_flattened()
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect::<Vec<_>>()
                    .as_slice(),
            );
            text(&stats.images.to_le_bytes());
        }
        hasher.digest()
    }

    /// Row group of a sample, and its row in there; nothing if there is no such sample.
    pub fn locate(&self, sample_id: u64) -> Option<(usize, u32)> {
        if sample_id >= self.rows {
            return None;
        }
        let group = self.row_groups.partition_point(|entry| entry.first_sample_id <= sample_id) - 1;
        Some((group, (sample_id - self.row_groups[group].first_sample_id) as u32))
    }
}

fn check_entry(entry: &RowGroupEntry) -> Result<(), String> {
    check_file_name(&entry.file)?;
    if entry.rows == 0 {
        return Err("it has no rows".to_owned());
    }
    if entry.length > GROUP_BYTES_MAX {
        return Err(format!("expected at most {GROUP_BYTES_MAX} bytes, got {}", entry.length));
    }
    if entry.offset.checked_add(entry.length).is_none() {
        return Err("its byte range does not fit in 64 bits".to_owned());
    }
    // What is stored as it is takes at least the four bytes of its length. Compressed images are raw ones, of at least so many
    // bytes each, and unpacked no larger than a row group may be; so no manifest can ask for any amount of memory.
    let as_it_is = u64::from(entry.rows) * 4 <= entry.length && entry.image_bytes <= entry.length;
    let compressed =
        u64::from(entry.rows) * RAW_IMAGE_BYTES_MIN <= entry.image_bytes && entry.image_bytes <= GROUP_BYTES_MAX;
    if !as_it_is && !compressed {
        return Err(format!("{} rows of {} bytes do not fit in {}", entry.rows, entry.image_bytes, entry.length));
    }
    Ok(())
}

/// A shard's name is a relative path of plain components, so that no manifest reads files outside of its data set.
fn check_file_name(file: &str) -> Result<(), String> {
    let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', ':', '\0']);
    if file.split('/').all(plain) { Ok(()) } else { Err(format!("`{file}` is not the name of a file in the data set")) }
}
