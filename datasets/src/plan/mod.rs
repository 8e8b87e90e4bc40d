//! The order of an epoch, and who takes which part of it.
//!
//! Everything here is a pure function of its arguments. Memory grows with row groups; the rows of one window at a time
//! are put in order.

mod batches;
#[cfg(test)]
mod quality;
#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::ops::Range;

use serde::{Deserialize, Serialize};

pub(crate) use self::batches::{Batches, Taken};
use crate::manifest::Manifest;
use crate::random::RandomStream;

/// How the rows of an epoch are put in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Shuffle {
    /// In manifest order.
    Sequential,
    /// Row groups permuted, and rows permuted inside windows of so many row groups.
    Window(NonZeroUsize),
}

/// Which part of every global batch this process takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// This process, below `world`.
    pub rank: usize,
    /// How many processes share a batch.
    pub world: NonZeroUsize,
}

impl Share {
    /// All of every batch, for a process that shares with nobody.
    pub const WHOLE: Self = Self { rank: 0, world: NonZeroUsize::MIN };
}

/// What happens to the last batch of an epoch if it is not full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LastBatch {
    /// It is left out, as in training.
    Drop,
    /// It is delivered with fewer rows, as in evaluation.
    Keep,
}

/// The next global batch to deliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// The epoch, from 0.
    pub epoch: u64,
    /// The global batch in the epoch, from 0.
    pub batch: u64,
}

/// What a [`RowStream`](crate::RowStream) delivers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Decides the order of every epoch.
    pub seed: u64,
    /// How rows are put in order.
    pub shuffle: Shuffle,
    /// Rows in a global batch.
    pub batch_size: NonZeroUsize,
    /// The part of every global batch that this process takes.
    pub share: Share,
    /// What happens to the last batch of an epoch.
    pub last_batch: LastBatch,
    /// Where to begin.
    pub start: Cursor,
    /// The epoch to stop before; without it the stream never ends.
    pub end_epoch: Option<u64>,
}

/// The order of one epoch: row groups are permuted, and rows are permuted inside a window of row groups.
///
/// Positions 0..rows are the places of the order; a window covers a run of them.
#[derive(Debug, Clone)]
pub struct EpochPlan {
    seed: u64,
    epoch: u64,
    shuffle: Shuffle,
    /// Row groups in fetching order, as their numbers in the manifest.
    groups: Vec<u32>,
    /// The rows of each, in the same order.
    group_rows: Vec<u32>,
    window_groups: usize,
    /// The first position of each window, and the end of the last.
    window_starts: Vec<u64>,
}

/// Where a row lies: the row group's place in its window, and the row in the row group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowPlace {
    /// Index into [`WindowOrder::groups`].
    pub slot: u32,
    /// The row in the row group.
    pub row: u32,
}

/// The order of the rows in one window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowOrder {
    /// The epoch.
    pub epoch: u64,
    /// The positions that the window covers.
    pub positions: Range<u64>,
    /// Its row groups in fetching order, as their numbers in the manifest.
    pub groups: Vec<u32>,
    /// Its rows, one a position.
    pub rows: Vec<RowPlace>,
}

/// Keys of random streams end in what they are for.
const GROUP_ORDER: u64 = u64::from_le_bytes(*b"groups\0\0");
const ROW_ORDER: u64 = u64::from_le_bytes(*b"rows\0\0\0\0");

impl EpochPlan {
    /// Puts the row groups of an epoch in order.
    pub fn new(manifest: &Manifest, seed: u64, epoch: u64, shuffle: Shuffle) -> EpochPlan {
        let entries = manifest.row_groups();
        // Two thousand million row groups would be a manifest of a hundred gigabytes.
        let mut groups: Vec<u32> = (0..entries.len() as u32).collect();
        let window_groups = match shuffle {
            Shuffle::Sequential => 1,
            Shuffle::Window(groups) => groups.get(),
        };
        if shuffle != Shuffle::Sequential {
            RandomStream::new(&[seed, epoch, GROUP_ORDER]).shuffle(&mut groups);
        }
        let group_rows: Vec<u32> = groups.iter().map(|&group| entries[group as usize].rows).collect();
        let mut window_starts = vec![0];
        let mut end = 0;
        for window in group_rows.chunks(window_groups) {
            end += window.iter().copied().map(u64::from).sum::<u64>();
            window_starts.push(end);
        }
        EpochPlan { seed, epoch, shuffle, groups, group_rows, window_groups, window_starts }
    }

    /// How many rows the epoch has.
    pub fn rows(&self) -> u64 {
        self.window_starts[self.windows()]
    }

    /// How many windows the epoch has.
    pub fn windows(&self) -> usize {
        self.window_starts.len() - 1
    }

    /// All row groups in fetching order, as their numbers in the manifest.
    pub fn group_order(&self) -> &[u32] {
        &self.groups
    }

    /// The window that covers a position below [`rows`](EpochPlan::rows).
    pub fn window_of(&self, position: u64) -> usize {
        self.window_starts.partition_point(|&start| start <= position) - 1
    }

    /// Puts the rows of a window in order.
    ///
    /// # Panics
    ///
    /// If there is no such window.
    pub fn window(&self, window: usize) -> WindowOrder {
        let first = window * self.window_groups;
        let slots = first..self.groups.len().min(first.saturating_add(self.window_groups));
        let group_rows = &self.group_rows[slots.clone()];
        let positions = self.window_starts[window]..self.window_starts[window + 1];
        let mut rows = Vec::with_capacity((positions.end - positions.start) as usize);
        for (slot, &count) in group_rows.iter().enumerate() {
            rows.extend((0..count).map(|row| RowPlace { slot: slot as u32, row }));
        }
        if self.shuffle != Shuffle::Sequential {
            RandomStream::new(&[self.seed, self.epoch, window as u64, ROW_ORDER]).shuffle(&mut rows);
        }
        WindowOrder { epoch: self.epoch, positions, groups: self.groups[slots].to_vec(), rows }
    }
}

impl WindowOrder {
    /// The row at a position of the window: its row group's number in the manifest, and the row in there.
    ///
    /// # Panics
    ///
    /// If the window does not cover the position.
    pub fn row_at(&self, position: u64) -> (usize, u32) {
        let RowPlace { slot, row } = self.place_at(position);
        (self.groups[slot as usize] as usize, row)
    }

    pub(crate) fn place_at(&self, position: u64) -> RowPlace {
        self.rows[(position - self.positions.start) as usize]
    }
}
