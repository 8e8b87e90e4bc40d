//! A worker's thread: makes rows of encoded images, and batches of the last rows.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::datatypes::SchemaRef;
use crossbeam::channel::{Receiver, Sender};

use super::dispatch::Chunk;
use super::source::{EncodedImage, Replacements};
use crate::batch::PatchBatch;
use crate::batch::memory::Rows;
use crate::error::PipelineError;
use crate::quarantine::Quarantine;
use crate::random::SampleKey;
use crate::sample::SampleMaker;
use crate::stats::{Stage, Stats, Stopwatch, thread_cpu_time};

/// A batch, or why there is none.
pub(crate) struct Finished {
    /// The batch's number since the start of the stream.
    pub(crate) sequence: u64,
    pub(crate) outcome: Result<PatchBatch, PipelineError>,
}

pub(crate) struct Worker<R, P> {
    pub(crate) seed: u64,
    pub(crate) maker: SampleMaker,
    pub(crate) schema: SchemaRef,
    pub(crate) replacements: P,
    pub(crate) chunks: Receiver<Chunk<R>>,
    pub(crate) finished: Sender<Finished>,
    pub(crate) quarantine: Arc<Quarantine>,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) stats: Arc<Stats>,
}

impl<R: EncodedImage, P: Replacements<R>> Worker<R, P> {
    /// Runs until there is nothing more to do, or the first error.
    ///
    /// Chunks are taken in plan order, so when one fails, every batch before its own is finished by the other workers
    /// or fails as well: the consumer sees all good batches, then the error.
    pub(crate) fn run(mut self) {
        let mut cpu_time = thread_cpu_time();
        while let Ok(chunk) = self.stats.rows.take_wait_ns.time(|| self.chunks.recv()) {
            self.stats.rows.items.subtract(chunk.images.count as u64);
            self.stats.rows.bytes.subtract(chunk.images.bytes as u64);
            if self.stop.load(Ordering::Relaxed) {
                continue;
            }
            let sequence = chunk.sequence;
            // A panic is passed on as an error. What it may leave half-done belongs to this worker, which ends.
            let outcome = catch_unwind(AssertUnwindSafe(|| self.fill(chunk)))
                .unwrap_or_else(|payload| Err(PipelineError::panicked(payload.as_ref())));
            let now = thread_cpu_time();
            self.stats.worker_cpu_ns.add(now.saturating_sub(cpu_time).as_nanos() as u64);
            cpu_time = now;

            let Some(outcome) = outcome.transpose() else { continue };
            let failed = outcome.is_err();
            // There is room for as many batches as have permits and an error of each thread, so this never waits. It
            // fails when the consumer is gone, and then the channel of chunks ends too.
            let _ = self.finished.send(Finished { sequence, outcome });
            if failed {
                return;
            }
        }
    }

    /// Writes the rows of a chunk; gives the batch if they were the last ones.
    fn fill(&mut self, chunk: Chunk<R>) -> Result<Option<PatchBatch>, PipelineError> {
        let Chunk { epoch, batch, images, mut rows, .. } = chunk;
        for (offset, (global_place, image)) in images.images.into_iter().flatten().enumerate() {
            let repeats = self.maker.repeats();
            self.make_rows((epoch, batch, global_place), image, &mut rows, offset * repeats..(offset + 1) * repeats)?;
        }
        self.stats.images.add(rows.len() as u64);
        let Some(written) = rows.finish() else { return Ok(None) };

        let _span = tracing::debug_span!("assemble", epoch, batch).entered();
        let mut stopwatch = Stopwatch::start(&self.stats);
        let assembled = PatchBatch::assemble(epoch, batch, &self.schema, &written);
        stopwatch.lap(Stage::Assemble);
        self.stats.batches.add(1);
        self.stats.finished.items.add(1);
        self.stats.finished.bytes.add(assembled.bytes() as u64);
        Ok(Some(assembled))
    }

    /// Writes the rows of the image, or of the first good replacement, for a place in the plan.
    fn make_rows(
        &mut self,
        (epoch, batch, global_place): (u64, u64, usize),
        mut image: R,
        rows: &mut Rows,
        range: Range<usize>,
    ) -> Result<(), PipelineError> {
        let mut attempt = 0;
        loop {
            let key = SampleKey { seed: self.seed, epoch, sample_id: image.sample_id(), repeat: 0 };
            let (bytes, segments) = (image.bytes(), image.segments());
            let made = self.maker.make(bytes, segments, key, rows, range.start, &self.stats);
            image.check()?;
            match made {
                Ok(()) => break,
                Err(error) if error.is_bad_sample() => {
                    self.quarantine.enter(image.sample_id(), image.path(), &error)?;
                }
                Err(error) => return Err(error),
            }
            // This ends: candidates go through the whole epoch, and the budget never covers all of the data set.
            image = self.replacements.candidate(epoch, batch, global_place, attempt)?;
            attempt += 1;
        }
        self.stats.replaced.add(if attempt > 0 { range.len() as u64 } else { 0 });
        for row in range {
            let slot = rows.slot(row);
            *slot.sample_id = image.sample_id();
            *slot.label = image.label().unwrap_or(0);
            *slot.has_label = u8::from(image.label().is_some());
        }
        Ok(())
    }
}
