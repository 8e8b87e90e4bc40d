//! Threads and queues: patch batches in plan order.
//!
//! ```text
//!                permits <----------------------------------------------+
//!                   |                                                   |
//! rows in plan  -> dispatcher -> chunks -> workers (W) -> finished -> PatchStream -> batches in plan order
//! order                          (bounded)                (bounded)
//! ```
//!
//! At most `queue_batches + 1` batches are on their way at any time: each takes a permit before its first row is handed
//! out, and the consumer gives it back when it receives the batch. Work is taken in plan order, so the oldest batch is
//! always being worked on, whoever finishes first, and nothing can lock up. Shutting down is dropping channel ends.

pub(crate) mod dispatch;
pub(crate) mod source;
#[cfg(test)]
mod tests;
pub(crate) mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crossbeam::channel::{self, Receiver, Sender};
use patchstream_datasets::{Dataset, FetchStats, RowStream, Schedule, Stopper};

use crate::batch::memory::{Layout, Pool};
use crate::batch::{self, PatchBatch};
use crate::config::PipelineConfig;
use crate::error::PipelineError;
use crate::quarantine::Quarantine;
use crate::sample::{SampleConfig, SampleMaker};
use crate::stats::{PipelineSnapshot, QueueSnapshot, Stats};
use dispatch::{CHUNK_ROWS, Dispatcher};
use source::{Replacements, RowSource, ShardRows};
use worker::{Finished, Worker};

/// Patch batches of a schedule, in plan order, made ahead of the consumer by threads of its own.
///
/// The same batches come out, byte by byte, for any number of workers and from wherever the schedule starts. After an
/// error there is nothing more. Dropping the stream ends and joins its threads.
#[derive(Debug)]
pub struct PatchStream {
    /// Batches that came out of turn; bounded by the permits.
    early: BTreeMap<u64, Result<PatchBatch, PipelineError>>,
    next_sequence: u64,
    finished: Receiver<Finished>,
    /// Nothing after the end.
    permits: Option<Sender<()>>,
    stop: Arc<AtomicBool>,
    /// Ends reads that somebody waits for; made-up rows have none.
    stopper: Option<Stopper>,
    threads: Vec<JoinHandle<()>>,
    probe: Probe,
}

/// Looks at a running pipeline, from any thread.
#[derive(Debug, Clone)]
pub struct Probe {
    stats: Arc<Stats>,
    quarantine: Arc<Quarantine>,
    fetch: Option<Arc<FetchStats>>,
    workers: usize,
    chunk_capacity: usize,
    batch_capacity: usize,
}

impl PatchStream {
    /// Starts the threads.
    ///
    /// # Errors
    /// When configuration or schedule cannot work, the ledger cannot be opened, or a thread cannot be started.
    #[expect(clippy::needless_pass_by_value, reason = "the stream is the schedule being carried out")]
    pub fn start(
        dataset: Arc<Dataset>,
        schedule: Schedule,
        config: &PipelineConfig,
    ) -> Result<PatchStream, PipelineError> {
        config.validate()?;
        let dataset_rows = dataset.manifest().rows();
        let seed = schedule.seed;
        let rows = RowStream::open(dataset, &schedule, config.read_ahead_bytes)?;
        let (fetch, replacer, stopper) = (rows.stats(), rows.replacer(), rows.stopper());
        let mut stream = Self::run(ShardRows(rows), &replacer, dataset_rows, seed, config)?;
        stream.probe.fetch = Some(fetch);
        stream.stopper = Some(stopper);
        Ok(stream)
    }

    /// Starts the threads on any source of rows; `config` must be valid.
    pub(crate) fn run<S: RowSource>(
        source: S,
        replacements: &impl Replacements<S::Row>,
        dataset_rows: u64,
        seed: u64,
        config: &PipelineConfig,
    ) -> Result<Self, PipelineError> {
        let PipelineConfig { grid, masking, transform, decode, apply_exif, repeats, .. } = config.clone();
        let workers = config.workers.get();
        // Two chunks for each worker: one to go on with while the dispatcher is woken, one in case it is late.
        let chunk_capacity = workers * 2;
        let batch_capacity = config.queue_batches.get() + 1;
        let stats = Arc::new(Stats::default());
        let quarantine = Arc::new(Quarantine::open(&config.bad_samples, dataset_rows)?);

        let (give_permit, permits) = channel::bounded(batch_capacity);
        for _ in 0..batch_capacity {
            give_permit.send(()).expect("the receiver is at hand");
        }
        let (send_chunk, chunks) = channel::bounded(chunk_capacity);
        let (send_finished, finished) = channel::bounded(batch_capacity + workers + 1);

        let mut stream = Self {
            early: BTreeMap::new(),
            next_sequence: 0,
            finished,
            permits: Some(give_permit),
            stop: Arc::default(),
            stopper: None,
            threads: Vec::with_capacity(workers + 1),
            probe: Probe {
                stats: Arc::clone(&stats),
                quarantine: Arc::clone(&quarantine),
                fetch: None,
                workers,
                chunk_capacity,
                batch_capacity,
            },
        };
        let visible = masking.visible_patches(grid.patches());
        let sample = SampleConfig { grid, masking, transform, decode, apply_exif, repeats };
        let schema = batch::schema(&grid, &masking);
        for index in 0..workers {
            let worker = Worker {
                seed,
                maker: SampleMaker::new(sample.clone()),
                schema: Arc::clone(&schema),
                replacements: replacements.clone(),
                chunks: chunks.clone(),
                finished: send_finished.clone(),
                quarantine: Arc::clone(&quarantine),
                stop: Arc::clone(&stream.stop),
                stats: Arc::clone(&stats),
            };
            stream.spawn(format!("patch-worker-{index}"), move || worker.run())?;
        }
        let dispatcher = Dispatcher {
            source,
            // The consumer usually holds one batch while it asks for the next.
            pool: Pool::new(batch_capacity + 1),
            layout: Layout { rows: 0, visible, masked: grid.patches() - visible, patch_bytes: grid.patch_bytes() },
            permits,
            batches_in_flight: batch_capacity,
            workers,
            repeats: repeats.get(),
            chunks: send_chunk,
            finished: send_finished,
            stats,
        };
        stream.spawn("patch-dispatch".to_owned(), move || dispatcher.run())?;
        Ok(stream)
    }

    fn spawn(&mut self, name: String, run: impl FnOnce() + Send + 'static) -> Result<(), PipelineError> {
        let thread = std::thread::Builder::new()
            .name(name.clone())
            .spawn(run)
            .map_err(|source| PipelineError::Thread { name, source })?;
        self.threads.push(thread);
        Ok(())
    }

    /// What the pipeline has done so far.
    pub fn snapshot(&self) -> PipelineSnapshot {
        self.probe.snapshot()
    }

    /// For looking at the pipeline while this stream is in use elsewhere.
    pub fn probe(&self) -> Probe {
        self.probe.clone()
    }

    /// Ends the reading for this stream from any thread: whoever waits for a batch gets one that was read already, or an error.
    /// Made-up rows have none.
    pub fn stopper(&self) -> Option<Stopper> {
        self.stopper.clone()
    }

    /// Ends all threads and waits for them; gives the panic of one that did not end by itself.
    fn shut_down(&mut self) -> Option<PipelineError> {
        self.stop.store(true, Ordering::Relaxed);
        self.permits = None;
        if let Some(stopper) = &self.stopper {
            stopper.stop();
        }
        let mut panic = None;
        for thread in self.threads.drain(..) {
            if let Err(payload) = thread.join() {
                panic = Some(PipelineError::panicked(payload.as_ref()));
            }
        }
        panic
    }

    fn deliver(&mut self, outcome: Result<PatchBatch, PipelineError>) -> Result<PatchBatch, PipelineError> {
        match &outcome {
            Ok(batch) => {
                self.next_sequence += 1;
                let queue = &self.probe.stats.finished;
                queue.items.subtract(1);
                queue.bytes.subtract(batch.bytes() as u64);
                if let Some(permits) = &self.permits {
                    // The dispatcher may have come to the end of the plan.
                    let _ = permits.send(());
                }
            }
            Err(_) => {
                self.shut_down();
            }
        }
        outcome
    }
}

impl Iterator for PatchStream {
    type Item = Result<PatchBatch, PipelineError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            // No permits are left to give when the stream has ended.
            self.permits.as_ref()?;
            if let Some(outcome) = self.early.remove(&self.next_sequence) {
                return Some(self.deliver(outcome));
            }
            let (finished, queue) = (&self.finished, &self.probe.stats.finished);
            if let Ok(Finished { sequence, outcome }) = queue.take_wait_ns.time(|| finished.recv()) {
                // Of several errors in one batch the first is as good as any.
                self.early.entry(sequence).or_insert(outcome);
                continue;
            }
            // All threads are gone: the plan is at its end, or the dispatcher panicked.
            let panic = self.shut_down();
            let missing = (!self.early.is_empty()).then(|| PipelineError::Incomplete { sequence: self.next_sequence });
            return panic.or(missing).map(Err);
        }
    }
}

impl Drop for PatchStream {
    fn drop(&mut self) {
        self.shut_down();
    }
}

impl Probe {
    /// What the pipeline has done so far.
    pub fn snapshot(&self) -> PipelineSnapshot {
        let stats = &self.stats;
        PipelineSnapshot {
            images: stats.images.get(),
            batches: stats.batches.get(),
            encoded_bytes: stats.encoded_bytes.get(),
            decoded_px: stats.decoded_px.get(),
            workers: self.workers,
            worker_cpu_ns: stats.worker_cpu_ns.get(),
            dispatch_cpu_ns: stats.dispatch_cpu_ns.get(),
            quarantined: self.quarantine.count(),
            replaced: stats.replaced.get(),
            read: self.fetch.as_ref().map(|fetch| fetch.snapshot()),
            stages: stats.stage_snapshots(),
            queues: vec![
                // One chunk more is in the dispatcher's hands, which waits for room.
                QueueSnapshot::new("rows", (self.chunk_capacity + 1) * CHUNK_ROWS, &stats.rows),
                QueueSnapshot::new("batches", self.batch_capacity, &stats.finished),
            ],
        }
    }
}
