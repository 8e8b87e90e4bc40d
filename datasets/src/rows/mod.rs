//! Rows in plan order, read ahead of whoever takes them.
//!
//! A task (`ahead`) follows the plan, fetches the row groups of each window and sends them through a bounded channel;
//! [`RowStream`] holds the window whose rows it is giving out. `replace` finds replacements for bad rows.
//!
//! Invariants: what is read ahead of the current window is bounded in bytes, save for one row group that is larger than
//! the bound; no row that is skipped, because the stream starts later or another rank takes it, costs a read by itself.

mod ahead;
mod replace;
#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::ahead::{Message, Planner};
pub use self::replace::Replacer;
use crate::dataset::Dataset;
use crate::error::DatasetError;
use crate::fetch::FetchStats;
use crate::group::{EncodedGroup, EncodedRow};
use crate::plan::{Batches, Schedule, WindowOrder};

/// Messages between the task and the stream; row groups among them are bounded in bytes before they get here.
const CHANNEL_MESSAGES: usize = 64;

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
    /// How many rows this rank's part of the batch has.
    pub rows_in_batch: usize,
    /// The row.
    pub row: EncodedRow,
}

/// The rows of a schedule that belong to this rank, in plan order, epoch after epoch without a pause between them.
///
/// Ends after the last epoch of the schedule, or after the first error. Dropping it stops the reading.
#[derive(Debug)]
pub struct RowStream {
    receiver: mpsc::Receiver<Result<Message, DatasetError>>,
    task: JoinHandle<()>,
    window: Option<Window>,
    batches: Batches,
    schedule: Schedule,
    stats: Arc<FetchStats>,
    /// Holds the runtime that the task runs on.
    dataset: Arc<Dataset>,
    ended: bool,
}

/// The window whose rows are being given out.
#[derive(Debug)]
struct Window {
    order: WindowOrder,
    /// One a slot of the order; nothing for those of which this rank takes no row.
    groups: Vec<Option<Arc<EncodedGroup>>>,
    next_position: u64,
}

impl RowStream {
    /// Begins to fetch what the schedule delivers first.
    ///
    /// Up to `read_ahead_bytes` of row groups are read ahead of the current window, so that going from window to window
    /// costs no wait if that holds a window.
    ///
    /// # Errors
    ///
    /// If the schedule cannot be carried out.
    pub fn open(
        dataset: Arc<Dataset>,
        schedule: &Schedule,
        read_ahead_bytes: NonZeroUsize,
    ) -> Result<RowStream, DatasetError> {
        let batches = Batches::new(dataset.manifest().rows(), schedule)?;
        let stats = Arc::new(FetchStats::default());
        let (sender, receiver) = mpsc::channel(CHANNEL_MESSAGES);
        let planner = Planner::new(dataset.reader().clone(), schedule.clone(), batches);
        let task = ahead::run(planner, read_ahead_bytes, stats.clone(), sender);
        let task = dataset.handle().spawn(task);
        let schedule = schedule.clone();
        Ok(RowStream { receiver, task, window: None, batches, schedule, stats, dataset, ended: false })
    }

    /// The counters, which go on while the stream runs.
    pub fn stats(&self) -> Arc<FetchStats> {
        self.stats.clone()
    }

    /// Replacements for bad rows of this schedule.
    pub fn replacer(&self) -> Replacer {
        Replacer::new(self.dataset.clone(), &self.schedule, self.batches)
    }

    fn next_row(&mut self) -> Result<Option<PlannedRow>, DatasetError> {
        loop {
            if let Some(window) = &mut self.window
                && let Some(row) = window.next_row(&self.batches)
            {
                return Ok(Some(row));
            }
            // The old window goes before the new one comes, so that not both are in memory.
            self.window = None;
            let Some(message) = self.receive() else { return Ok(None) };
            let Message::Window { order, from, wanted } = message? else {
                return Err(DatasetError::Internal { what: "the order of row groups" });
            };
            let mut groups = vec![None; order.groups.len()];
            for slot in wanted {
                let message = self.receive().ok_or(DatasetError::Internal { what: "fetching" })?;
                let Message::Group { group, room } = message? else {
                    return Err(DatasetError::Internal { what: "the order of row groups" });
                };
                drop(room);
                groups[slot as usize] = Some(group);
            }
            self.window = Some(Window { order, groups, next_position: from });
        }
    }

    fn receive(&mut self) -> Option<Result<Message, DatasetError>> {
        let since = Instant::now();
        let message = self.receiver.blocking_recv();
        self.stats.consumer_waited(since);
        message
    }
}

impl Window {
    fn next_row(&mut self, batches: &Batches) -> Option<PlannedRow> {
        let place = batches.next_from(self.next_position).filter(|place| place.position < self.order.positions.end)?;
        self.next_position = place.position + 1;
        let at = self.order.place_at(place.position);
        let group = self.groups[at.slot as usize].as_ref();
        let row = group.and_then(|group| group.row(at.row)).expect("the plan fetches every row group it takes rows of");
        Some(PlannedRow {
            epoch: self.order.epoch,
            batch: place.batch,
            place: place.place as usize,
            global_place: place.global_place as usize,
            rows_in_batch: place.rows_in_batch as usize,
            row,
        })
    }
}

impl Iterator for RowStream {
    type Item = Result<PlannedRow, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.next_row().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

impl Drop for RowStream {
    fn drop(&mut self) {
        // The task ends at its next pause; the threads it ran on belong to the data set, which joins them.
        self.task.abort();
    }
}
