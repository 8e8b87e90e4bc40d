//! What the pipeline did: CPU time and counts for each stage, waiting and occupancy of each queue.
//!
//! Counters are relaxed atomics that every thread adds to, a handful of times an image; a [`PipelineSnapshot`] reads
//! them while the pipeline runs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use patchstream_datasets::FetchSnapshot;
use serde::Serialize;

/// What workers do to an image, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Decode,
    Resize,
    Mask,
    Patchify,
    Assemble,
}

impl Stage {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Decode, "decode"),
        (Self::Resize, "resize"),
        (Self::Mask, "mask"),
        (Self::Patchify, "patchify"),
        (Self::Assemble, "assemble"),
    ];
}

/// A number that several threads add to.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    pub(crate) fn subtract(&self, amount: u64) {
        self.0.fetch_sub(amount, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds the nanoseconds for which `wait` kept this thread.
    pub(crate) fn time<T>(&self, wait: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = wait();
        self.add(start.elapsed().as_nanos() as u64);
        result
    }
}

#[derive(Debug, Default)]
struct StageCounters {
    cpu_ns: Counter,
    count: Counter,
}

/// Counters of one queue.
#[derive(Debug, Default)]
pub(crate) struct QueueCounters {
    /// Time for which whoever fills the queue waited for room.
    pub(crate) put_wait_ns: Counter,
    /// Time for which whoever empties the queue waited for something, summed over threads.
    pub(crate) take_wait_ns: Counter,
    /// Items in the queue.
    pub(crate) items: Counter,
    /// Bytes in the queue.
    pub(crate) bytes: Counter,
}

/// All counters of a pipeline.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    stages: [StageCounters; Stage::ALL.len()],
    pub(crate) images: Counter,
    pub(crate) batches: Counter,
    pub(crate) encoded_bytes: Counter,
    pub(crate) decoded_px: Counter,
    pub(crate) worker_cpu_ns: Counter,
    pub(crate) dispatch_cpu_ns: Counter,
    pub(crate) replaced: Counter,
    pub(crate) rows: QueueCounters,
    pub(crate) finished: QueueCounters,
}

impl Stats {
    pub(crate) fn stage_snapshots(&self) -> Vec<StageSnapshot> {
        Stage::ALL
            .iter()
            .map(|&(stage, name)| {
                let StageCounters { cpu_ns, count } = &self.stages[stage as usize];
                StageSnapshot { name, cpu_ns: cpu_ns.get(), count: count.get() }
            })
            .collect()
    }
}

/// Measures the stages that one thread goes through, one after the other.
#[derive(Debug)]
pub(crate) struct Stopwatch<'a> {
    stats: &'a Stats,
    last: Duration,
}

impl<'a> Stopwatch<'a> {
    pub(crate) fn start(stats: &'a Stats) -> Self {
        Self { stats, last: thread_cpu_time() }
    }

    /// Books the CPU time since the start or the last lap on `stage`.
    pub(crate) fn lap(&mut self, stage: Stage) {
        let now = thread_cpu_time();
        let counters = &self.stats.stages[stage as usize];
        counters.cpu_ns.add(now.saturating_sub(self.last).as_nanos() as u64);
        counters.count.add(1);
        self.last = now;
    }
}

/// CPU time that this thread has used so far; unlike a clock on the wall it does not count being preempted.
pub(crate) fn thread_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Work of one stage so far, summed over threads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StageSnapshot {
    /// The stage: `decode`, `resize`, `mask`, `patchify` count images, `assemble` counts batches.
    pub name: &'static str,
    /// CPU time.
    pub cpu_ns: u64,
    /// How often it was done.
    pub count: u64,
}

/// One queue.
///
/// Where putting waits, what follows the queue is the bottleneck; where taking waits, what comes before it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QueueSnapshot {
    /// The queue: `rows` (encoded images for workers, in chunks) or `batches` (for the consumer).
    pub name: &'static str,
    /// Items that fit.
    pub capacity: u64,
    /// Items in it now.
    pub items: u64,
    /// Bytes in it now.
    pub bytes: u64,
    /// Time for which whoever fills the queue waited for room.
    pub put_wait_ns: u64,
    /// Time for which whoever empties the queue waited for something, summed over threads.
    pub take_wait_ns: u64,
}

impl QueueSnapshot {
    pub(crate) fn new(name: &'static str, capacity: usize, counters: &QueueCounters) -> Self {
        Self {
            name,
            capacity: capacity as u64,
            items: counters.items.get(),
            bytes: counters.bytes.get(),
            put_wait_ns: counters.put_wait_ns.get(),
            take_wait_ns: counters.take_wait_ns.get(),
        }
    }
}

/// State of a pipeline at one moment. Times and counts are sums since the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PipelineSnapshot {
    /// Images that workers have finished.
    pub images: u64,
    /// Batches that workers have finished.
    pub batches: u64,
    /// Bytes of encoded images that workers have decoded.
    pub encoded_bytes: u64,
    /// Pixels that decoding put out.
    pub decoded_px: u64,
    /// Threads that decode.
    pub workers: usize,
    /// CPU time of the workers, of all their work.
    pub worker_cpu_ns: u64,
    /// CPU time of the thread that hands rows out.
    pub dispatch_cpu_ns: u64,
    /// Different samples found bad.
    pub quarantined: u64,
    /// Rows that show the replacement of a bad sample.
    pub replaced: u64,
    /// Reading of shards, which is a queue as well: where its consumer waits, reading is the bottleneck.
    pub read: Option<FetchSnapshot>,
    /// The stages, in order.
    pub stages: Vec<StageSnapshot>,
    /// The queues, in order.
    pub queues: Vec<QueueSnapshot>,
}
