//! Rows in plan order.
use std::num::NonZeroUsize;
use std::sync::Arc;

use crate::dataset::Dataset;
use crate::error::DatasetError;
use crate::fetch::FetchStats;
use crate::group::EncodedRow;
use crate::plan::Schedule;

/// The rows of a schedule, in plan order.
#[derive(Debug)]
pub struct RowStream {}

/// A row, and the place it has in its batch.
#[derive(Debug, Clone)]
pub struct PlannedRow {
    /// The epoch.
    pub epoch: u64,
    /// The global batch in the epoch.
    pub batch: u64,
    /// The place in this rank's part of the batch.
    pub place: usize,
    /// The place in the global batch.
    pub global_place: usize,
    /// How many rows this rank's part has.
    pub rows_in_batch: usize,
    /// The row.
    pub row: EncodedRow,
}

/// Finds replacements for bad samples.
#[derive(Debug, Clone)]
pub struct Replacer {}

impl RowStream {
    /// Begins to fetch.
    ///
    /// # Errors
    ///
    /// If the schedule cannot be carried out.
    pub fn open(
        _dataset: Arc<Dataset>,
        _schedule: &Schedule,
        _read_ahead_bytes: NonZeroUsize,
    ) -> Result<RowStream, DatasetError> {
        todo!()
    }
    /// Counters.
    pub fn stats(&self) -> Arc<FetchStats> {
        todo!()
    }
    /// Replacements for bad samples of this schedule.
    pub fn replacer(&self) -> Replacer {
        todo!()
    }
}

impl Iterator for RowStream {
    type Item = Result<PlannedRow, DatasetError>;
    fn next(&mut self) -> Option<Self::Item> {
        todo!()
    }
}

impl Replacer {
    /// The row that replaces a bad one.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn candidate(
        &self,
        _epoch: u64,
        _batch: u64,
        _global_place: usize,
        _attempt: u64,
    ) -> Result<EncodedRow, DatasetError> {
        todo!()
    }
}
