//! Folder in, shards out.
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::Path;

use crate::error::DatasetError;
use crate::examine::ImageExaminer;
use crate::manifest::PixelStats;

/// The order in which images are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Shuffled by the seed, so that reading in order is already mixed.
    Shuffled,
    /// Sorted by path.
    Sorted,
}

/// How closely images are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The header must tell format and size.
    Header,
    /// The whole image must decode.
    Decode,
}

/// What happens to bad images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBad {
    /// They are left out and listed in the ledger.
    Skip,
    /// The conversion fails.
    Fail,
}

/// How to convert.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConvertOptions {
    /// Decides the order and the sample that is measured.
    pub seed: u64,
    /// The order in which images are written.
    pub order: Order,
    /// Convert only so many images, the first in that order.
    pub limit: Option<NonZeroU64>,
    /// Row groups hold at most so many bytes of images, or a single image.
    pub row_group_bytes: NonZeroU64,
    /// Shards hold at most so many bytes of images, or a single row group.
    pub shard_bytes: NonZeroU64,
    /// How closely images are looked at.
    pub check: Check,
    /// What happens to bad images.
    pub on_bad: OnBad,
    /// How many bad images are tolerated when they are skipped; without it, any number.
    pub bad_budget: Option<u64>,
    /// Measure mean and deviation of the pixels on so many images.
    pub measure: Option<NonZeroU64>,
    /// Threads that read and examine images; the output does not depend on it.
    pub workers: NonZeroUsize,
    /// Replace the data set at the destination.
    pub overwrite: bool,
}

impl Default for ConvertOptions {
    fn default() -> Self {
        todo!()
    }
}

/// How far a conversion or a verification is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Images dealt with.
    pub done: u64,
    /// Images in all.
    pub total: u64,
    /// Bytes of the images dealt with.
    pub bytes: u64,
    /// Bad ones among them.
    pub bad: u64,
}

/// What a conversion did.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ConvertReport {
    /// Images written.
    pub rows: u64,
    /// Shards written.
    pub shards: u64,
    /// Row groups written.
    pub row_groups: u64,
    /// Bytes of the images.
    pub image_bytes: u64,
    /// Bytes of all files written.
    pub output_bytes: u64,
    /// Bad images, listed in `quarantine.jsonl`.
    pub bad: u64,
    /// Files that are no images.
    pub skipped: u64,
    /// Classes.
    pub classes: u64,
    /// Mean and deviation of the pixels, if measured.
    pub pixel_stats: Option<PixelStats>,
    /// XXH3-64 of the data set's content, in hexadecimal.
    pub fingerprint: String,
}

/// Converts the images of the folder `source` to a data set at `destination`.
///
/// # Errors
///
/// See [`DatasetError`]; the destination is then as it was.
pub fn convert(
    _source: &Path,
    _destination: &Path,
    _options: &ConvertOptions,
    _examiner: &dyn ImageExaminer,
    _progress: &dyn Fn(Progress),
) -> Result<ConvertReport, DatasetError> {
    todo!()
}
