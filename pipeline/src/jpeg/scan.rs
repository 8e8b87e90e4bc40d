//! Walking through the MCUs of the scan (T.81 A.2, F.2.1, E.2.4).

use super::PlaneBuffer;
use super::bits::Bits;
use super::entropy::{Block, BlockTables, Source, decode_block, skip_block};
use super::idct::idct_flat;
use super::kernels::Kernels;
use super::lanes::decode_interleaved;
use super::markers::Header;
use super::refusal::Damage;
use super::region::Region;
use super::segments::Segments;

/// What decoding a scan needs besides the bits.
pub(super) struct Scan<'a> {
    pub(super) region: &'a Region,
    pub(super) tables: [BlockTables<'a>; 3],
}

/// Receives the blocks that the crop needs.
pub(super) trait BlockSink {
    /// A needed block, and the zigzag index of the last coefficient that the stream mentions.
    fn put(&mut self, place: Place, block: &Block, last: usize);
}

/// Transforms blocks into planes.
pub(super) struct PlaneSink<'a, K> {
    pub(super) kernels: K,
    pub(super) region: &'a Region,
    pub(super) header: &'a Header<'a>,
    pub(super) planes: &'a mut [PlaneBuffer; 3],
}

impl<K: Kernels> BlockSink for PlaneSink<'_, K> {
    #[inline(always)]
    fn put(&mut self, Place { component, x, y, .. }: Place, block: &Block, last: usize) {
        let region = &self.region.components[component];
        let plane = &mut self.planes[component];
        let (column, row) = (x - region.x.blocks.start, y - region.y.blocks.start);
        let start = 8 * (row as usize * plane.stride + column as usize);
        let steps = &self.header.components[component].quantization;
        let samples = &mut plane.samples[start..];
        if last == 0 {
            idct_flat(block.coefficients()[0], steps[0], samples, plane.stride);
        } else {
            self.kernels.idct(block, steps, samples, plane.stride);
        }
    }
}

/// Decodes the needed blocks of all segments.
#[inline(always)]
pub(super) fn decode_scan(scan: &Scan<'_>, segments: &Segments, sink: &mut impl BlockSink) -> Result<(), Damage> {
    let mut all = segments.iter();
    if segments.count() > 1 {
        return decode_interleaved(scan, segments.data(), &mut all, sink);
    }
    let Some((number, bytes)) = all.next() else { return Ok(()) };
    decode_segment(scan, number, Source { data: segments.data(), end: bytes.end }, Bits::new(bytes.start), sink)
}

/// A walk through the blocks of a segment, in the order in which they come.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Walk {
    /// MCUs up to and without the present one's, of those that are needed.
    mcus_left: u32,
    /// Whether the walk goes through to the end of the segment.
    pub(super) is_complete: bool,
    column: u32,
    row: u32,
    /// Which block of the MCU comes next.
    slot: usize,
}

/// A block of the walk.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    pub(super) component: usize,
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) is_needed: bool,
}

impl Walk {
    pub(super) fn new(region: &Region, segment: u32) -> Walk {
        let mcus = region.segment_mcus(segment);
        let end = mcus.end.min(region.last_mcu() + 1);
        Walk {
            mcus_left: end - mcus.start,
            is_complete: end == mcus.end,
            column: mcus.start % region.mcus_per_row,
            row: mcus.start / region.mcus_per_row,
            slot: 0,
        }
    }

    /// The next block (T.81 A.2.3), if the segment has one that is still needed, or behind which one is.
    #[inline(always)]
    pub(super) fn next(&mut self, region: &Region) -> Option<Place> {
        if self.mcus_left == 0 {
            return None;
        }
        let slot = &region.slots[self.slot];
        let (x, y) = (self.column * slot.columns + slot.column, self.row * slot.rows + slot.row);
        let component = &region.components[slot.component];
        let is_needed = component.x.blocks.contains(&x) && component.y.blocks.contains(&y);
        self.slot += 1;
        if self.slot == region.slots.len() {
            self.slot = 0;
            self.mcus_left -= 1;
            self.column += 1;
            if self.column == region.mcus_per_row {
                (self.column, self.row) = (0, self.row + 1);
            }
        }
        Some(Place { component: slot.component, x, y, is_needed })
    }
}

/// Checks what there is to check behind the last block of a walk, after so many bits of data that end at the byte `end`.
pub(super) fn finish_segment(walk: &Walk, position: usize, end: usize) -> Result<(), Damage> {
    if position > end * 8 {
        return Err(Damage::Truncated);
    }
    // The bits that fill the last byte should be ones (T.81 F.1.2.3), but some cameras make them zeros.
    if walk.is_complete && end * 8 - position >= 8 {
        return Err(Damage::Leftover);
    }
    Ok(())
}

#[inline(always)]
fn decode_segment(
    scan: &Scan<'_>,
    number: u32,
    source: Source<'_>,
    mut bits: Bits,
    sink: &mut impl BlockSink,
) -> Result<(), Damage> {
    let mut block = Block::new();
    let mut predictions = [0; 3];
    let mut walk = Walk::new(scan.region, number);
    while let Some(place) = walk.next(scan.region) {
        let (tables, prediction) = (scan.tables[place.component], &mut predictions[place.component]);
        if place.is_needed {
            block.clear();
            let last = decode_block(&mut bits, source, tables, prediction, &mut block)?;
            sink.put(place, &block, last);
        } else {
            skip_block(&mut bits, source, tables, prediction)?;
        }
    }
    finish_segment(&walk, bits.position(), source.end)
}
