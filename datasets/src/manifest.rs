//! The manifest.
use std::sync::Arc;

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
    /// The sample id of its first row (derived).
    pub first_sample_id: u64,
    /// Its number inside its shard (derived).
    pub row_group: u32,
}

/// Mean and standard deviation of the pixels of a data set, red, green, blue, in 0..=1.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
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
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {}

impl Manifest {
    /// All row groups, in the order that gives the samples their ids.
    pub fn row_groups(&self) -> &[RowGroupEntry] {
        todo!()
    }
    /// How many rows there are.
    pub fn rows(&self) -> u64 {
        todo!()
    }
    /// The names of the classes; empty without labels.
    pub fn class_names(&self) -> &[String] {
        todo!()
    }
    /// XXH3-64 over the content.
    pub fn fingerprint(&self) -> u64 {
        todo!()
    }
    /// The version of the format.
    pub fn schema_version(&self) -> u32 {
        todo!()
    }
    /// The configuration of the conversion, as JSON.
    pub fn conversion(&self) -> &serde_json::Value {
        todo!()
    }
    /// Mean and deviation of the pixels, where they were measured.
    pub fn pixel_stats(&self) -> Option<PixelStats> {
        todo!()
    }
    /// Row group and row in it of a sample.
    pub fn locate(&self, _sample_id: u64) -> Option<(usize, u32)> {
        todo!()
    }
}
