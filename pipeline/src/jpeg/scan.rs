//! Walking through the MCUs of the scan (T.81 A.2, F.2.1, E.2.4).

use std::ops::Range;

use super::bits::BitReader;
use super::entropy::{Block, BlockTables, decode_block, skip_block};
use super::kernels::Kernels;
use super::markers::Header;
use super::refusal::Damage;
use super::region::Region;
use super::resize::Plane;
use super::segments::Segments;

/// What decoding a scan needs besides the bits.
pub(super) struct Scan<'a> {
    pub(super) region: &'a Region,
    pub(super) tables: [BlockTables<'a>; 3],
}

/// Receives the blocks that the crop needs.
pub(super) trait BlockSink {
    /// A block of `component` at these coordinates of its block grid, in natural order, and the zigzag index of its last
    /// coefficient that the stream mentions.
    fn put(&mut self, component: usize, x: u32, y: u32, block: &Block, last: usize);
}

/// Transforms blocks into planes.
pub(super) struct PlaneSink<'a, K> {
    pub(super) kernels: K,
    pub(super) region: &'a Region,
    pub(super) header: &'a Header<'a>,
    pub(super) planes: &'a mut [Plane; 3],
}

impl<K: Kernels> BlockSink for PlaneSink<'_, K> {
    #[inline(always)]
    fn put(&mut self, component: usize, x: u32, y: u32, block: &Block, _last: usize) {
        let region = &self.region.components[component];
        let plane = &mut self.planes[component];
        let (column, row) = (x - region.x.blocks.start, y - region.y.blocks.start);
        let start = 8 * (row as usize * plane.stride + column as usize);
        let steps = &self.header.components[component].quantization;
        self.kernels.idct(block, steps, &mut plane.samples[start..], plane.stride);
    }
}

/// Decodes the needed blocks of all segments.
#[inline(always)]
pub(super) fn decode_scan(scan: &Scan<'_>, segments: &Segments, sink: &mut impl BlockSink) -> Result<(), Damage> {
    for (number, data, length) in segments.iter() {
        let mut reader = BitReader::new(data, length);
        decode_segment(scan, scan.region.segment_mcus(number), &mut reader, sink)?;
    }
    Ok(())
}

#[inline(always)]
fn decode_segment(
    scan: &Scan<'_>,
    mcus: Range<u32>,
    reader: &mut BitReader<'_>,
    sink: &mut impl BlockSink,
) -> Result<(), Damage> {
    let region = scan.region;
    let mut block = Block::new();
    let mut predictions = [0; 3];
    let end = mcus.end.min(region.last_mcu() + 1);
    let (mut column, mut row) = (mcus.start % region.mcus_per_row, mcus.start / region.mcus_per_row);
    for _ in mcus.start..end {
        for component in 0..region.component_count {
            let (tables, prediction) = (scan.tables[component], &mut predictions[component]);
            let blocks = &region.components[component];
            for y in row * blocks.y.blocks_per_mcu..(row + 1) * blocks.y.blocks_per_mcu {
                for x in column * blocks.x.blocks_per_mcu..(column + 1) * blocks.x.blocks_per_mcu {
                    if blocks.x.blocks.contains(&x) && blocks.y.blocks.contains(&y) {
                        block.clear();
                        let last = decode_block(reader, tables, prediction, &mut block)?;
                        sink.put(component, x, y, &block, last);
                    } else {
                        skip_block(reader, tables, prediction)?;
                    }
                }
            }
        }
        column += 1;
        if column == region.mcus_per_row {
            (column, row) = (0, row + 1);
        }
    }
    if reader.is_past_end() {
        return Err(Damage::Truncated);
    }
    if end == mcus.end && !reader.is_at_end() {
        return Err(Damage::Leftover);
    }
    Ok(())
}
