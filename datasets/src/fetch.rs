//! What fetching measures.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;

/// Counters of a [`RowStream`](crate::RowStream), updated while it runs.
///
/// A consumer that waits much is faster than fetching; a fetcher that waits much has nothing to do, as it should be.
#[derive(Debug, Default)]
pub struct FetchStats {
    bytes: AtomicU64,
    groups: AtomicU64,
    retries: AtomicU64,
    consumer_wait_ns: AtomicU64,
    fetcher_wait_ns: AtomicU64,
    ahead_groups: AtomicU64,
    ahead_bytes: AtomicU64,
    window_bytes: AtomicU64,
}

/// The counters at one moment.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct FetchSnapshot {
    /// Bytes of the row groups that arrived.
    pub bytes: u64,
    /// Row groups that arrived.
    pub groups: u64,
    /// Reads that were tried again.
    pub retries: u64,
    /// How long the consumer waited for a row group, in nanoseconds.
    pub consumer_wait_ns: u64,
    /// How long fetching waited for room in the read-ahead, in nanoseconds.
    pub fetcher_wait_ns: u64,
    /// Row groups that are read ahead, or being read, at this moment.
    pub ahead_groups: u64,
    /// Bytes of the row groups that are read ahead, or being read, at this moment.
    pub ahead_bytes: u64,
    /// Bytes of the current window that are still needed, at this moment.
    pub window_bytes: u64,
}

impl FetchStats {
    /// The counters at this moment.
    pub fn snapshot(&self) -> FetchSnapshot {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        FetchSnapshot {
            bytes: value(&self.bytes),
            groups: value(&self.groups),
            retries: value(&self.retries),
            consumer_wait_ns: value(&self.consumer_wait_ns),
            fetcher_wait_ns: value(&self.fetcher_wait_ns),
            ahead_groups: value(&self.ahead_groups),
            ahead_bytes: value(&self.ahead_bytes),
            window_bytes: value(&self.window_bytes),
        }
    }

    pub(crate) fn arrived(&self, bytes: u64, retries: u32) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.groups.fetch_add(1, Ordering::Relaxed);
        self.retries.fetch_add(u64::from(retries), Ordering::Relaxed);
    }

    pub(crate) fn consumer_waited(&self, since: Instant) {
        add(&self.consumer_wait_ns, since.elapsed());
    }

    pub(crate) fn fetcher_waited(&self, since: Instant) {
        add(&self.fetcher_wait_ns, since.elapsed());
    }
}

fn add(counter: &AtomicU64, time: Duration) {
    counter.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// The room that a row group takes, from before it is read until its last row was given out.
#[derive(Debug)]
pub(crate) struct Room {
    stats: Arc<FetchStats>,
    bytes: u64,
    /// Whether the row group belongs to the current window; before that it is read ahead.
    in_window: bool,
    permit: OwnedSemaphorePermit,
}

impl Room {
    pub(crate) fn new(stats: Arc<FetchStats>, bytes: u64, permit: OwnedSemaphorePermit) -> Room {
        stats.ahead_groups.fetch_add(1, Ordering::Relaxed);
        stats.ahead_bytes.fetch_add(bytes, Ordering::Relaxed);
        Room { stats, bytes, in_window: false, permit }
    }

    /// The row group is part of the current window from now on.
    pub(crate) fn enter_window(&mut self) {
        if !std::mem::replace(&mut self.in_window, true) {
            self.stats.ahead_groups.fetch_sub(1, Ordering::Relaxed);
            self.stats.ahead_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
            self.stats.window_bytes.fetch_add(self.bytes, Ordering::Relaxed);
        }
    }

    /// Gives back all but `bytes`.
    pub(crate) fn shrink(&mut self, bytes: u64) {
        let freed = self.bytes.saturating_sub(bytes);
        let counter = if self.in_window { &self.stats.window_bytes } else { &self.stats.ahead_bytes };
        counter.fetch_sub(freed, Ordering::Relaxed);
        self.bytes -= freed;
        drop(self.permit.split(usize::try_from(freed).unwrap_or(usize::MAX).min(self.permit.num_permits())));
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if !self.in_window {
            self.stats.ahead_groups.fetch_sub(1, Ordering::Relaxed);
        }
        self.shrink(0);
    }
}
