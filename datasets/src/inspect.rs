//! Summaries and verification.
use crate::convert::Progress;
use crate::dataset::Dataset;
use crate::error::DatasetError;
use crate::examine::ImageExaminer;

/// What is in a data set.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Summary {}

/// Summarises a data set.
///
/// # Errors
///
/// If a shard cannot be read.
pub fn summarize(_dataset: &Dataset) -> Result<Summary, DatasetError> {
    todo!()
}

/// A row group that is damaged.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DamagedGroup {
    /// Its number in the data set.
    pub group: usize,
    /// The shard.
    pub file: String,
    /// Its number in the shard.
    pub row_group: u32,
    /// What is wrong.
    pub reason: String,
}

/// A row that does not decode.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DamagedRow {
    /// The sample.
    pub sample_id: u64,
    /// Its path in the source.
    pub path: String,
    /// What is wrong.
    pub reason: String,
}

/// What verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Verification {
    /// Row groups looked at.
    pub groups: u64,
    /// Rows looked at.
    pub rows: u64,
    /// Row groups that are damaged.
    pub damaged_groups: Vec<DamagedGroup>,
    /// Rows that do not decode.
    pub damaged_rows: Vec<DamagedRow>,
}

/// Verifies every checksum, and every image if an examiner is given.
///
/// # Errors
///
/// Damage is no error here but part of the result.
pub fn verify(
    _dataset: &Dataset,
    _examiner: Option<&dyn ImageExaminer>,
    _progress: &dyn Fn(Progress),
) -> Result<Verification, DatasetError> {
    todo!()
}
