//! The dispatcher's thread: takes rows in plan order, gives each batch its memory, and hands rows out in chunks.

use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender};

use super::source::{EncodedImage, PlacedRow, RowSource};
use super::worker::Finished;
use crate::batch::memory::{Layout, Pool, RowSplitter, Rows};
use crate::stats::{Stats, thread_cpu_time};

/// Rows of a chunk at most: enough that waking a thread costs little beside decoding, few enough that no worker is
/// left alone with much at the end of a batch.
pub(crate) const CHUNK_ROWS: usize = 8;
/// A chunk is handed out as soon as its images have this many bytes, which bounds the queue in bytes.
const CHUNK_BYTES: usize = 1 << 20;

/// Some consecutive rows of one batch, and the memory that they are to be written to.
pub(crate) struct Chunk<R> {
    /// The batch's number since the start of the stream.
    pub(crate) sequence: u64,
    pub(crate) epoch: u64,
    pub(crate) batch: u64,
    pub(crate) images: ChunkImages<R>,
    pub(crate) rows: Rows,
}

/// The images of a chunk; an array, so that handing out rows allocates nothing.
pub(crate) struct ChunkImages<R> {
    /// Filled from the front: each image and its place in the global batch.
    pub(crate) images: [Option<(usize, R)>; CHUNK_ROWS],
    pub(crate) count: usize,
    pub(crate) bytes: usize,
}

impl<R> Default for ChunkImages<R> {
    fn default() -> Self {
        Self { images: [const { None }; CHUNK_ROWS], count: 0, bytes: 0 }
    }
}

/// Rows of a chunk, so that what is on its way is work for every worker twice over: with small batches and many workers,
/// chunks of [`CHUNK_ROWS`] would leave most of them idle.
fn chunk_rows(rows_in_flight: usize, workers: usize) -> usize {
    (rows_in_flight / (2 * workers)).clamp(1, CHUNK_ROWS)
}

pub(crate) struct Dispatcher<S: RowSource> {
    pub(crate) source: S,
    pub(crate) pool: Arc<Pool>,
    /// Sizes of a batch; the number of rows is that of each batch.
    pub(crate) layout: Layout,
    /// A permit for each batch that may be on its way; the consumer gives them back.
    pub(crate) permits: Receiver<()>,
    /// Batches that can be on their way.
    pub(crate) batches_in_flight: usize,
    pub(crate) workers: usize,
    /// Rows that are made of one image.
    pub(crate) repeats: usize,
    pub(crate) chunks: Sender<Chunk<S::Row>>,
    pub(crate) finished: Sender<Finished>,
    pub(crate) stats: Arc<Stats>,
}

impl<S: RowSource> Dispatcher<S> {
    /// Runs until the plan ends, a read fails, or the other ends of the channels are gone.
    pub(crate) fn run(mut self) {
        let mut sequence = 0;
        let mut cpu_time = thread_cpu_time();
        loop {
            let now = thread_cpu_time();
            self.stats.dispatch_cpu_ns.add(now.saturating_sub(cpu_time).as_nanos() as u64);
            cpu_time = now;
            let first = match self.source.next() {
                None => return,
                Some(Ok(row)) => row,
                Some(Err(error)) => {
                    // Nobody is left to tell when this fails.
                    let _ = self.finished.send(Finished { sequence, outcome: Err(error) });
                    return;
                }
            };
            let permits = &self.permits;
            if self.stats.finished.put_wait_ns.time(|| permits.recv()).is_err() {
                return;
            }
            let splitter = self.pool.lease(Layout { rows: first.rows_in_batch * self.repeats, ..self.layout });
            match self.hand_out(sequence, first, splitter) {
                Some(Ok(())) => sequence += 1,
                Some(Err(outcome)) => {
                    let _ = self.finished.send(outcome);
                    return;
                }
                None => return,
            }
        }
    }

    /// Hands out the rows of one batch, of which `first` is the first; nothing when nobody takes them any more.
    fn hand_out(
        &mut self,
        sequence: u64,
        first: PlacedRow<S::Row>,
        mut splitter: RowSplitter,
    ) -> Option<Result<(), Finished>> {
        let (epoch, batch, rows_in_batch) = (first.epoch, first.batch, first.rows_in_batch);
        let chunk_rows = chunk_rows(rows_in_batch * self.batches_in_flight, self.workers);
        let mut images = ChunkImages::default();
        let mut row = first;
        for place in 0..rows_in_batch {
            assert_eq!((row.epoch, row.batch, row.place), (epoch, batch, place), "rows come in plan order");
            images.bytes += row.row.bytes().len();
            images.images[images.count] = Some((row.global_place, row.row));
            images.count += 1;
            let is_last = place + 1 == rows_in_batch;
            if is_last || images.count == chunk_rows || images.bytes >= CHUNK_BYTES {
                let images = std::mem::take(&mut images);
                let rows = splitter.take(images.count * self.repeats);
                self.send(Chunk { sequence, epoch, batch, images, rows })?;
            }
            if is_last {
                break;
            }
            row = match self.source.next() {
                Some(Ok(row)) => row,
                Some(Err(error)) => return Some(Err(Finished { sequence, outcome: Err(error) })),
                None => unreachable!("a plan ends after a whole batch"),
            };
        }
        Some(Ok(()))
    }

    /// Gives nothing when all workers are gone.
    fn send(&self, chunk: Chunk<S::Row>) -> Option<()> {
        let queue = &self.stats.rows;
        queue.items.add(chunk.images.count as u64);
        queue.bytes.add(chunk.images.bytes as u64);
        queue.put_wait_ns.time(|| self.chunks.send(chunk)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_batches_become_small_chunks_where_many_work() {
        let check = |batch_rows: usize, workers: usize, expected: usize| {
            assert_eq!(chunk_rows(3 * batch_rows, workers), expected, "{batch_rows} rows, {workers} workers");
        };
        check(64, 2, 8);
        check(64, 12, 8);
        check(64, 64, 1);
        check(4096, 64, 8);
        check(1, 64, 1);
    }
}
