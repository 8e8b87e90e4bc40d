//! Rows in plan order, read ahead of whoever takes them.
//!
//! A task (`ahead`) follows the plan, fetches the row groups of each window and sends them through a bounded channel;
//! [`RowStream`] holds the window (`window`) whose rows it is giving out. `replace` finds replacements for bad rows,
//! `stop` ends all of this from outside.
//!
//! Invariants: the current window and what is read ahead take no more than the largest window and `read_ahead_bytes`
//! together; room that the current window no longer needs is read ahead into, across the window's border; no row that is
//! skipped, because the stream starts later or another rank takes it, costs a read by itself.

mod ahead;
mod replace;
mod stop;
#[cfg(test)]
mod tests;
mod window;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use self::ahead::{Message, Planner};
pub use self::replace::Replacer;
pub use self::stop::Stopper;
use self::window::Window;
use crate::dataset::Dataset;
use crate::error::DatasetError;
use crate::fetch::FetchStats;
use crate::group::EncodedRow;
use crate::manifest::Manifest;
use crate::plan::{Batches, Schedule, Shuffle};

/// Messages between the task and the stream. Row groups are bounded in bytes before they get here; this bounds their
/// number where they are tiny, and is more than a window should have.
const CHANNEL_MESSAGES: usize = 4096;

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
    window: Option<Window>,
    batches: Batches,
    schedule: Schedule,
    stats: Arc<FetchStats>,
    read_ahead_bytes: u64,
    stopper: Stopper,
    /// Holds the runtime that the task runs on.
    dataset: Arc<Dataset>,
    ended: bool,
}

impl RowStream {
    /// Begins to fetch what the schedule delivers first.
    ///
    /// Memory is bounded by the largest window and `read_ahead_bytes` beside it. Where `read_ahead_bytes` holds a window,
    /// all of the next one is there in time. Where it does not, the rows that are left of the current window are copied
    /// together as it is used up, and what that frees is read ahead into, so that going from window to window costs a copy
    /// of each image instead of a wait.
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
        let read_ahead_bytes = read_ahead_bytes.get() as u64;
        let room_bytes = window_bytes_max(dataset.manifest(), schedule.shuffle).saturating_add(read_ahead_bytes);
        let stats = Arc::new(FetchStats::default());
        let (sender, receiver) = mpsc::channel(CHANNEL_MESSAGES);
        let planner = Planner::new(dataset.reader().clone(), schedule.clone(), batches);
        let task = dataset.handle().spawn(ahead::run(planner, room_bytes, stats.clone(), sender));
        let stopper = Stopper::new(task.abort_handle());
        let schedule = schedule.clone();
        let window = None;
        Ok(RowStream { receiver, window, batches, schedule, stats, read_ahead_bytes, stopper, dataset, ended: false })
    }

    /// The counters, which go on while the stream runs.
    pub fn stats(&self) -> Arc<FetchStats> {
        self.stats.clone()
    }

    /// Replacements for bad rows of this schedule.
    pub fn replacer(&self) -> Replacer {
        Replacer::new(self.dataset.clone(), &self.schedule, self.batches, self.stopper.clone())
    }

    /// Ends this stream from any thread, even while another one waits in [`next`](Iterator::next).
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    fn next_row(&mut self) -> Result<Option<PlannedRow>, DatasetError> {
        loop {
            if let Some(window) = &mut self.window
                && let Some(place) = window.next_place(&self.batches)
            {
                while !window.is_there(place) {
                    let Message::Group { slot, group, room } = receive(&mut self.receiver, &self.stats)? else {
                        return Err(DatasetError::Internal { what: "the order of row groups" });
                    };
                    window.put(slot, group, room, &self.batches);
                }
                return Ok(Some(window.take(place, &self.batches)));
            }
            // The old window goes before the new one comes, so that not both are in memory.
            self.window = None;
            match receive(&mut self.receiver, &self.stats)? {
                Message::Window { order, from, rows_wanted } => {
                    let entries = self.dataset.manifest().row_groups();
                    let bytes = order.groups.iter().map(|&group| entries[group as usize].length).sum::<u64>();
                    self.window = Some(Window::new(order, from, rows_wanted, bytes > self.read_ahead_bytes));
                }
                Message::End => return Ok(None),
                Message::Group { .. } => return Err(DatasetError::Internal { what: "the order of row groups" }),
            }
        }
    }
}

/// The next message, for which the consumer waits.
fn receive(
    receiver: &mut mpsc::Receiver<Result<Message, DatasetError>>,
    stats: &FetchStats,
) -> Result<Message, DatasetError> {
    let since = Instant::now();
    let message = receiver.blocking_recv();
    stats.consumer_waited(since);
    message.unwrap_or(Err(DatasetError::Internal { what: "fetching" }))
}

/// Bytes of the largest window that an epoch can have.
fn window_bytes_max(manifest: &Manifest, shuffle: Shuffle) -> u64 {
    let mut lengths: Vec<u64> = manifest.row_groups().iter().map(|entry| entry.length).collect();
    let groups = match shuffle {
        Shuffle::Sequential => 1,
        Shuffle::Window(groups) => groups.get().min(lengths.len()),
    };
    if groups < lengths.len() {
        lengths.select_nth_unstable_by(groups - 1, |a, b| b.cmp(a));
    }
    lengths.iter().take(groups).sum()
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
        // Whoever still works on the last rows may need replacements, so only the reading ahead ends here: at its next
        // pause. The threads it ran on belong to the data set, which joins them.
        self.stopper.stop_reading_ahead();
    }
}
