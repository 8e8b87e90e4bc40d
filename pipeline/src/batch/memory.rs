//! The memory of batches: taken from a pool, written by several threads at once, then read as Arrow buffers.
//!
//! A batch is one block with a section for each column. [`Pool::lease`] gives a [`RowSplitter`], which hands out
//! [`Rows`]: exclusive access to some rows, for one thread. Whoever finishes the last rows gets the [`Written`] block,
//! which can only be read; when the last of its Arrow buffers is dropped, the block goes back to the pool.
//!
//! All `unsafe` of batches is in this file, and rests on two invariants: no row is handed out twice, and a block is
//! read only after each of its rows was finished.

use std::cell::UnsafeCell;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::buffer::Buffer;
use crossbeam::queue::ArrayQueue;

/// What blocks consist of, so that every section is aligned for SIMD and for Arrow's own kernels.
#[repr(C, align(64))]
struct Line(UnsafeCell<[u8; 64]>);

// SAFETY: lines are only accessed through `Rows`, exclusively by row, and through `Written`, for reading.
unsafe impl Sync for Line {}

/// The columns of a batch, in the order of their sections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Visible,
    Masked,
    VisibleIndex,
    MaskedIndex,
    SampleId,
    Label,
    HasLabel,
}

/// Sizes of a batch: B rows of V visible and M masked patches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) rows: usize,
    pub(crate) visible: usize,
    pub(crate) masked: usize,
    pub(crate) patch_bytes: usize,
}

impl Layout {
    /// Bytes that one row has in a section.
    fn row_bytes(&self, section: Section) -> usize {
        match section {
            Section::Visible => self.visible * self.patch_bytes,
            Section::Masked => self.masked * self.patch_bytes,
            Section::VisibleIndex => self.visible * 2,
            Section::MaskedIndex => self.masked * 2,
            Section::SampleId | Section::Label => 8,
            Section::HasLabel => 1,
        }
    }

    /// The bytes of a section within the block; every section starts at a line.
    fn section(&self, section: Section) -> Range<usize> {
        const ORDER: [Section; 7] = [
            Section::Visible,
            Section::Masked,
            Section::VisibleIndex,
            Section::MaskedIndex,
            Section::SampleId,
            Section::Label,
            Section::HasLabel,
        ];
        let lines = |section| (self.row_bytes(section) * self.rows).div_ceil(size_of::<Line>());
        let before: usize = ORDER.into_iter().take_while(|other| *other != section).map(lines).sum();
        let start = before * size_of::<Line>();
        start..start + self.row_bytes(section) * self.rows
    }

    fn lines(&self) -> usize {
        self.section(Section::HasLabel).end.div_ceil(size_of::<Line>())
    }

    /// Bytes of a whole batch.
    pub(crate) fn bytes(&self) -> usize {
        self.lines() * size_of::<Line>()
    }
}

/// Blocks that are waiting to be used again.
pub(crate) struct Pool {
    free: ArrayQueue<Box<[Line]>>,
}

impl Pool {
    /// A pool that keeps at most `blocks` free blocks; more can be in use.
    pub(crate) fn new(blocks: usize) -> Arc<Self> {
        Arc::new(Self { free: ArrayQueue::new(blocks) })
    }

    /// Memory for a batch, used before if there is some.
    pub(crate) fn lease(self: &Arc<Self>, layout: Layout) -> RowSplitter {
        let lines = layout.lines();
        let block = self
            .free
            .pop()
            .filter(|block| block.len() >= lines)
            .unwrap_or_else(|| (0..lines).map(|_| Line(UnsafeCell::new([0; 64]))).collect());
        let lease = Lease { block, layout, unfinished_rows: AtomicUsize::new(layout.rows), pool: Arc::clone(self) };
        RowSplitter { lease: Arc::new(lease), next_row: 0 }
    }
}

/// A block in use.
struct Lease {
    block: Box<[Line]>,
    layout: Layout,
    unfinished_rows: AtomicUsize,
    pool: Arc<Pool>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        // A full pool means that the consumer held more batches than usual; the block is freed then.
        let _ = self.pool.free.push(std::mem::take(&mut self.block));
    }
}

/// Hands out the rows of a batch, each once, in ascending order.
pub(crate) struct RowSplitter {
    lease: Arc<Lease>,
    next_row: usize,
}

impl RowSplitter {
    /// Exclusive access to the next `count` rows.
    pub(crate) fn take(&mut self, count: usize) -> Rows {
        let rows = self.next_row..self.next_row + count;
        assert!(rows.end <= self.lease.layout.rows, "the batch has {} rows", self.lease.layout.rows);
        self.next_row = rows.end;
        Rows { lease: Arc::clone(&self.lease), rows }
    }
}

/// Exclusive access to some rows of a batch.
pub(crate) struct Rows {
    lease: Arc<Lease>,
    /// Disjoint from those of every other `Rows` of this lease.
    rows: Range<usize>,
}

/// One row of a batch, to be written.
pub(crate) struct Slot<'a> {
    pub(crate) visible: &'a mut [u8],
    pub(crate) masked: &'a mut [u8],
    pub(crate) visible_index: &'a mut [u16],
    pub(crate) masked_index: &'a mut [u16],
    pub(crate) sample_id: &'a mut u64,
    pub(crate) label: &'a mut i64,
    pub(crate) has_label: &'a mut u8,
}

impl Rows {
    /// How many rows these are.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The `offset`-th of these rows.
    pub(crate) fn slot(&mut self, offset: usize) -> Slot<'_> {
        let row = self.rows.start + offset;
        assert!(row < self.rows.end, "these are {} rows", self.rows.len());
        let Layout { visible, masked, patch_bytes, .. } = self.lease.layout;
        // SAFETY: `row` belongs to `self` alone, and `self` is borrowed for as long as the slices live; sections do
        // not overlap, and each is named once. The lengths are those that `Layout::row_bytes` counts.
        unsafe {
            Slot {
                visible: self.cells(Section::Visible, row, visible * patch_bytes),
                masked: self.cells(Section::Masked, row, masked * patch_bytes),
                visible_index: self.cells(Section::VisibleIndex, row, visible),
                masked_index: self.cells(Section::MaskedIndex, row, masked),
                sample_id: &mut self.cells(Section::SampleId, row, 1)[0],
                label: &mut self.cells(Section::Label, row, 1)[0],
                has_label: &mut self.cells(Section::HasLabel, row, 1)[0],
            }
        }
    }

    /// The `count` values that a row has in a section.
    ///
    /// # Safety
    /// `row` must belong to `self`, no other slice of the same row and section may be alive, and `count` values of `T`,
    /// an integer type, must be what a row has in this section.
    #[expect(clippy::mut_from_ref, reason = "the memory is shared; which rows are ours is this type's invariant")]
    unsafe fn cells<T>(&self, section: Section, row: usize, count: usize) -> &mut [T] {
        let row_bytes = self.lease.layout.row_bytes(section);
        debug_assert_eq!(row_bytes, count * size_of::<T>());
        let offset = self.lease.layout.section(section).start + row * row_bytes;
        debug_assert!(offset + row_bytes <= size_of_val(&*self.lease.block));
        // SAFETY: the range lies within the block (`Layout::lines` covers all sections), whose bytes were initialised
        // when it was made; sections start at multiples of 64, and rows are multiples of the integer's size, so it is
        // aligned. `UnsafeCell` allows to write through the shared reference; exclusiveness is the caller's promise.
        unsafe {
            let start = self.lease.block.as_ptr().cast::<u8>().add(offset).cast_mut().cast::<T>();
            std::slice::from_raw_parts_mut(start, count)
        }
    }

    /// Gives the rows back as written; whoever gives back the last ones gets the batch.
    pub(crate) fn finish(self) -> Option<Written> {
        // Release makes what was written visible to whoever sees the count reach zero, which acquires it.
        let unfinished = self.lease.unfinished_rows.fetch_sub(self.rows.len(), Ordering::AcqRel);
        (unfinished == self.rows.len()).then_some(Written { lease: self.lease })
    }
}

/// A batch whose rows are all written; nobody can write to it any more.
pub(crate) struct Written {
    lease: Arc<Lease>,
}

impl Written {
    pub(crate) fn layout(&self) -> Layout {
        self.lease.layout
    }

    /// A column's memory, which stays out of the pool for as long as the buffer lives.
    pub(crate) fn buffer(&self, section: Section) -> Buffer {
        let range = self.lease.layout.section(section);
        let start = NonNull::from(&*self.lease.block).cast::<u8>();
        let owner = Arc::new(BufferOwner(Arc::clone(&self.lease)));
        // SAFETY: the range lies within the block, which `owner` keeps; it is initialised, and no `Rows` is left that
        // could write to it, since each of its rows was finished.
        unsafe { Buffer::from_custom_allocation(start.add(range.start), range.len(), owner) }
    }
}

/// What Arrow holds to keep a block.
struct BufferOwner(#[expect(dead_code, reason = "held for its drop")] Arc<Lease>);

// Arrow wants to know that a panic cannot be seen through a buffer: what is in it was finished before it was made.
impl std::panic::RefUnwindSafe for BufferOwner {}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout { rows: 5, visible: 3, masked: 2, patch_bytes: 12 };

    fn fill(mut rows: Rows, value: u8) -> Option<Written> {
        for offset in 0..rows.len() {
            let slot = rows.slot(offset);
            slot.visible.fill(value);
            slot.masked.fill(value);
            slot.visible_index.fill(u16::from(value));
            slot.masked_index.fill(u16::from(value));
            (*slot.sample_id, *slot.label, *slot.has_label) = (u64::from(value), i64::from(value), 1);
        }
        rows.finish()
    }

    #[test]
    fn rows_written_by_several_threads_come_out_in_their_places() {
        let mut splitter = Pool::new(1).lease(LAYOUT);
        let parts: Vec<Rows> = [2, 1, 2].into_iter().map(|count| splitter.take(count)).collect();
        let written: Vec<Written> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (1u8..).zip(parts).map(|(value, rows)| scope.spawn(move || fill(rows, value))).collect();
            threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(written.len(), 1, "one thread was the last");
        assert_eq!(written[0].buffer(Section::SampleId).typed_data::<u64>(), [1, 1, 2, 3, 3]);
        assert_eq!(written[0].buffer(Section::VisibleIndex).typed_data::<u16>()[5..8], [1, 2, 2]);
        assert_eq!(written[0].buffer(Section::Visible)[71..73], [1, 2]);
    }

    #[test]
    fn a_block_returns_when_the_last_buffer_is_dropped() {
        let pool = Pool::new(1);
        let written = fill(pool.lease(LAYOUT).take(5), 7).unwrap();
        let buffer = written.buffer(Section::Masked);
        drop(written);
        assert_eq!(pool.free.len(), 0);
        let address = buffer.as_ptr();
        drop(buffer);
        assert_eq!(pool.free.len(), 1);
        let again = fill(pool.lease(Layout { rows: 4, ..LAYOUT }).take(4), 8).unwrap();
        assert_eq!(pool.free.len(), 0);
        assert_eq!(again.buffer(Section::Visible).len(), 4 * 36);
        drop(again);
        assert!(pool.free.pop().is_some_and(|block| block.as_ptr().cast::<u8>() <= address));
    }

    #[test]
    fn a_pool_keeps_no_more_than_its_share() {
        let pool = Pool::new(1);
        let leases = [pool.lease(LAYOUT), pool.lease(LAYOUT)];
        drop(leases);
        assert_eq!(pool.free.len(), 1);
    }

    #[test]
    #[should_panic(expected = "the batch has 5 rows")]
    fn no_row_is_handed_out_twice() {
        let mut splitter = Pool::new(1).lease(LAYOUT);
        let _rows = splitter.take(5);
        splitter.take(1);
    }
}
