//! Fetching, and what it measures.

/// Counters of a [`RowStream`](crate::RowStream), updated while it runs.
#[derive(Debug, Default)]
pub struct FetchStats {}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct FetchSnapshot {
    /// Bytes that arrived.
    pub bytes: u64,
    /// Row groups that arrived.
    pub groups: u64,
    /// Reads that were tried again.
    pub retries: u64,
    /// How long the consumer waited for a row group, in nanoseconds.
    pub consumer_wait_ns: u64,
    /// How long fetching waited for room in the read-ahead, in nanoseconds.
    pub fetcher_wait_ns: u64,
    /// Row groups that are read ahead at this moment.
    pub ahead_groups: u64,
    /// Bytes of the row groups that are read ahead, or being read, at this moment.
    pub ahead_bytes: u64,
}

impl FetchStats {
    /// The counters at this moment.
    pub fn snapshot(&self) -> FetchSnapshot {
        todo!()
    }
}
