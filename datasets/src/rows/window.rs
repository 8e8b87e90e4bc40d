//! The window whose rows are being given out.

use std::sync::Arc;

use super::PlannedRow;
use crate::fetch::Room;
use crate::group::EncodedGroup;
use crate::plan::{Batches, Taken, WindowOrder};

/// A window, whose row groups arrive in the order of its slots and leave when their last row is given out.
#[derive(Debug)]
pub(super) struct Window {
    order: WindowOrder,
    slots: Vec<Slot>,
    next_position: u64,
    /// Whether rows that are left are copied together, so that the next window finds room before this one ends.
    is_compacted: bool,
}

#[derive(Debug)]
struct Slot {
    /// Rows of this rank that were not given out yet.
    rows_left: u32,
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    group: Arc<EncodedGroup>,
    /// Rows whose images are in memory.
    rows: u32,
    room: Room,
}

impl Window {
    /// A window of which so many rows of each slot are taken, from a position on.
    pub(super) fn new(order: WindowOrder, from: u64, rows_wanted: Vec<u32>, is_compacted: bool) -> Window {
        let slots = rows_wanted.into_iter().map(|rows_left| Slot { rows_left, held: None }).collect();
        Window { order, slots, next_position: from, is_compacted }
    }

    /// The next place that this rank takes; nothing at the end of the window.
    pub(super) fn next_place(&self, batches: &Batches) -> Option<Taken> {
        batches.next_from(self.next_position).filter(|place| place.position < self.order.positions.end)
    }

    /// Whether the row group for a place has arrived.
    pub(super) fn is_there(&self, place: Taken) -> bool {
        self.slots[self.order.place_at(place.position).slot as usize].held.is_some()
    }

    /// Takes a row group in.
    pub(super) fn put(&mut self, slot: u32, group: Arc<EncodedGroup>, mut room: Room, batches: &Batches) {
        room.enter_window();
        self.slots[slot as usize].held = Some(Held { rows: group.rows(), group, room });
        // Of a row group that is shared with other ranks most is never needed here.
        self.compact(slot, batches);
    }

    /// The row at the place that came next; its row group is there.
    pub(super) fn take(&mut self, place: Taken, batches: &Batches) -> PlannedRow {
        self.next_position = place.position + 1;
        let at = self.order.place_at(place.position);
        let slot = &mut self.slots[at.slot as usize];
        let row = slot.held.as_ref().and_then(|held| held.group.row(at.row));
        let row = row.expect("the row group is there, and the plan knows how many rows it has");
        slot.rows_left -= 1;
        if slot.rows_left == 0 {
            slot.held = None;
        } else {
            self.compact(at.slot, batches);
        }
        PlannedRow {
            epoch: self.order.epoch,
            batch: place.batch,
            place: place.place as usize,
            global_place: place.global_place as usize,
            rows_in_batch: place.rows_in_batch as usize,
            row,
        }
    }

    /// Copies the rows that are left of a slot together once they are no more than half of those in memory. Going by
    /// halves, an image is copied once on average.
    fn compact(&mut self, slot: u32, batches: &Batches) {
        let Slot { rows_left, held: Some(held) } = &mut self.slots[slot as usize] else { return };
        if !self.is_compacted || *rows_left > held.rows / 2 {
            return;
        }
        let mut rows = Vec::with_capacity(*rows_left as usize);
        let mut position = self.next_position;
        while let Some(place) = batches.next_from(position).filter(|place| place.position < self.order.positions.end) {
            let at = self.order.place_at(place.position);
            if at.slot == slot {
                rows.push(at.row);
            }
            position = place.position + 1;
        }
        let Some((group, bytes)) = held.group.copy_of(&rows) else { return };
        (held.group, held.rows) = (Arc::new(group), *rows_left);
        held.room.shrink(bytes);
    }
}
