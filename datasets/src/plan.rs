//! The order of an epoch.
use std::num::NonZeroUsize;

/// How the rows of an epoch are put in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Shuffle {
    /// In manifest order.
    Sequential,
    /// Row groups permuted, and rows permuted inside windows of so many row groups.
    Window(NonZeroUsize),
}

/// Which part of every global batch this process takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// This process, below `world`.
    pub rank: usize,
    /// How many processes share a batch.
    pub world: NonZeroUsize,
}

/// What happens to the last batch of an epoch if it is not full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LastBatch {
    /// It is left out, as in training.
    Drop,
    /// It is delivered with fewer rows, as in evaluation.
    Keep,
}

/// The next global batch to deliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// The epoch, from 0.
    pub epoch: u64,
    /// The global batch in the epoch, from 0.
    pub batch: u64,
}

/// What a [`RowStream`](crate::RowStream) delivers.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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

/// The order of one epoch.
#[derive(Debug, Clone)]
pub struct EpochPlan {}
