//! Cutting an epoch's order into global batches, and those into the parts of the ranks.

use super::{LastBatch, Schedule};
use crate::error::DatasetError;

/// A position of the order that this rank takes, and its place in the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) position: u64,
    pub(crate) batch: u64,
    /// In the global batch.
    pub(crate) global_place: u64,
    /// In this rank's part.
    pub(crate) place: u64,
    pub(crate) rows_in_batch: u64,
}

/// How one rank sees the epochs of a schedule. All epochs of a data set are cut alike.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Batches {
    rows: u64,
    batch_size: u64,
    /// Global batches in an epoch.
    count: u64,
    rank: u64,
    world: u64,
}

impl Batches {
    /// # Errors
    ///
    /// [`DatasetError::Schedule`] where the schedule would never deliver anything, or begins beyond the epoch.
    pub(crate) fn new(rows: u64, schedule: &Schedule) -> Result<Batches, DatasetError> {
        let (rank, world) = (schedule.share.rank as u64, schedule.share.world.get() as u64);
        let batch_size = schedule.batch_size.get() as u64;
        let batches = match schedule.last_batch {
            LastBatch::Drop => rows / batch_size,
            LastBatch::Keep => rows.div_ceil(batch_size),
        };
        let refuse = |reason: String| Err(DatasetError::Schedule { reason });
        if rank >= world {
            return refuse(format!("expected a rank below {world}, got {rank}"));
        }
        if batch_size < world {
            return refuse(format!("a global batch of {batch_size} rows does not reach for {world} ranks"));
        }
        if batches == 0 {
            return refuse(format!("the data set has {rows} rows, fewer than one global batch of {batch_size}"));
        }
        if schedule.start.batch > batches {
            return refuse(format!("expected to start at most at batch {batches}, got {}", schedule.start.batch));
        }
        Ok(Batches { rows, batch_size, count: batches, rank, world })
    }

    pub(crate) fn first_position(&self, batch: u64) -> u64 {
        batch * self.batch_size
    }

    /// The first position from `position` on that this rank takes; nothing at the end of the epoch.
    pub(crate) fn next_from(&self, position: u64) -> Option<Taken> {
        let mut batch = position / self.batch_size;
        let mut wanted = position % self.batch_size;
        while batch < self.count {
            let size = self.batch_size.min(self.rows - self.first_position(batch));
            let cut = |rank: u64| (u128::from(rank) * u128::from(size) / u128::from(self.world)) as u64;
            let (begin, end) = (cut(self.rank), cut(self.rank + 1));
            let global_place = wanted.max(begin);
            if global_place < end {
                return Some(Taken {
                    position: self.first_position(batch) + global_place,
                    batch,
                    global_place,
                    place: global_place - begin,
                    rows_in_batch: end - begin,
                });
            }
            batch += 1;
            wanted = 0;
        }
        None
    }

    /// Where the replacement of a bad row is looked for, wrapping round to the start of the epoch.
    pub(crate) fn replacement(&self, batch: u64, global_place: u64, attempt: u64) -> u64 {
        let behind = (u128::from(batch) + 1) * u128::from(self.batch_size);
        ((behind + u128::from(global_place) + u128::from(attempt)) % u128::from(self.rows)) as u64
    }
}
