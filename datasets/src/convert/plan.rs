//! Which image goes where, known from the listing alone.
//!
//! Images are put in order, and the order is cut into units of about a shard: at the ends of row groups, which are cut by
//! what the images count for ([`Encode::planned_bytes`](super::Encode)). A unit is a function of its own images, so units
//! can be made on any machine and made again after a crash.

use std::ops::Range;

use super::options::{ConvertOptions, Order, Part};
use crate::random::RandomStream;
use crate::sources::ImageSource;

/// No row group has more rows, however small the images are, so that a shuffle window's indices stay small.
const GROUP_ROWS_MAX: u32 = 1 << 16;

/// Parquet numbers the row groups of a file with 16 bits, and every reader of one parses the footer of all.
const SHARD_GROUPS_MAX: u32 = 10_000;

/// The order of the images, and the units that it is cut into. Eight bytes an image.
pub(super) struct Plan {
    order: Vec<usize>,
    /// Where each unit ends, as a position in the order.
    ends: Vec<u64>,
}

impl Plan {
    pub(super) fn new(source: &dyn ImageSource, options: &ConvertOptions) -> Plan {
        let mut order: Vec<usize> = (0..source.len()).collect();
        if options.order == Order::Shuffled {
            RandomStream::new(&[options.seed, u64::from_le_bytes(*b"convert\0")]).shuffle(&mut order);
        }
        if let Some(limit) = options.limit {
            order.truncate(usize::try_from(limit.get()).unwrap_or(usize::MAX));
        }
        let sizes = order.iter().map(|&image| options.encode.planned_bytes(source.bytes(image)));
        let ends = cut_units(sizes, options);
        Plan { order, ends }
    }

    /// How many images there are.
    pub(super) fn images(&self) -> u64 {
        self.order.len() as u64
    }

    /// The number in the listing of the image at a position.
    pub(super) fn image(&self, position: u64) -> usize {
        self.order[position as usize]
    }

    pub(super) fn units(&self) -> u32 {
        self.ends.len() as u32
    }

    /// The positions of a run of units.
    pub(super) fn positions(&self, units: Range<u32>) -> Range<u64> {
        let start = |unit: u32| if unit == 0 { 0 } else { self.ends[unit as usize - 1] };
        start(units.start)..start(units.end)
    }

    /// The units that a machine makes.
    pub(super) fn units_of(&self, part: Option<Part>) -> Range<u32> {
        part.map_or(0..self.units(), |part| part.units(self.units()))
    }
}

/// Where units end: each has row groups of at most so many bytes in all, or a single one.
fn cut_units(sizes: impl Iterator<Item = u64>, options: &ConvertOptions) -> Vec<u64> {
    let mut ends = Vec::new();
    let mut groups = GroupCutter::new(options);
    let (mut unit_groups, mut unit_bytes, mut group_start) = (0, 0_u64, 0);
    let mut close_group = |start: u64, bytes: u64| {
        let full = unit_bytes.saturating_add(bytes) > options.shard_bytes.get() || unit_groups == SHARD_GROUPS_MAX;
        if full && unit_groups > 0 {
            ends.push(start);
            (unit_groups, unit_bytes) = (0, 0);
        }
        unit_groups += 1;
        unit_bytes += bytes;
    };
    let mut images = 0;
    for size in sizes {
        if let Some(bytes) = groups.add(size) {
            close_group(group_start, bytes);
            group_start = images;
        }
        images += 1;
    }
    if images > 0 {
        close_group(group_start, groups.bytes);
        ends.push(images);
    }
    ends
}

/// Cuts row groups, image by image.
pub(super) struct GroupCutter {
    bytes_max: u64,
    bytes: u64,
    images: u32,
}

impl GroupCutter {
    pub(super) fn new(options: &ConvertOptions) -> GroupCutter {
        GroupCutter { bytes_max: options.row_group_bytes.get(), bytes: 0, images: 0 }
    }

    /// Adds an image; if a new row group begins with it, gives the bytes of the one that has ended.
    pub(super) fn add(&mut self, bytes: u64) -> Option<u64> {
        let full = self.bytes.saturating_add(bytes) > self.bytes_max || self.images == GROUP_ROWS_MAX;
        let ended = (full && self.images > 0).then(|| std::mem::take(&mut self.bytes));
        if ended.is_some() {
            self.images = 0;
        }
        self.bytes += bytes;
        self.images += 1;
        ended
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    #[test]
    fn units_end_with_row_groups() {
        let bytes = |bytes| NonZeroU64::new(bytes).unwrap();
        let options =
            ConvertOptions { row_group_bytes: bytes(10), shard_bytes: bytes(25), ..ConvertOptions::default() };
        let check = |sizes: &[u64], ends: &[u64]| assert_eq!(cut_units(sizes.iter().copied(), &options), ends);
        check(&[], &[]);
        check(&[5, 5, 5, 5, 5, 5], &[4, 6]);
        check(&[9, 9, 9], &[2, 3]);
        check(&[1, 100, 1, 100], &[1, 2, 3, 4]);
        check(&vec![0; 70_000], &[70_000]);
        check(&[u64::MAX, u64::MAX], &[1, 2]);
    }
}
