//! The inner loops that exist twice, portable and in AVX2, with the same bytes as result.

use super::entropy::Block;
use super::idct::idct_portable;
use super::refusal::Damage;
use super::resize;
use super::scan::{PlaneSink, Scan, decode_scan};
use super::segments::Segments;

/// The inner loops of one instruction set.
pub(super) trait Kernels: Copy {
    /// Dequantises a block, transforms it back and writes 8 x 8 samples to `out`, rows `stride` apart.
    fn idct(self, block: &Block, steps: &[i16; 64], out: &mut [u8], stride: usize);

    /// See [`resize::horizontal_portable`].
    fn horizontal(self, source: [&[u8]; 2], starts: &[u32], weights: &[i16], target: [&mut [i16]; 2]);

    /// See [`resize::vertical_portable`].
    fn vertical(self, source: &[i16], stride: usize, weights: &[i16], target: &mut [i16]);

    /// See [`resize::to_rgb_portable`].
    fn to_rgb(self, ycc: [&[i16]; 3], target: &mut [u8]);

    /// [`decode_scan`] compiled for the instruction set.
    fn decode_scan(self, scan: &Scan<'_>, segments: &Segments, sink: &mut PlaneSink<'_, Self>) -> Result<(), Damage>;
}

/// Rust without intrinsics.
#[derive(Debug, Clone, Copy)]
pub(super) struct Portable;

impl Kernels for Portable {
    #[inline(always)]
    fn idct(self, block: &Block, steps: &[i16; 64], out: &mut [u8], stride: usize) {
        idct_portable(block.coefficients(), steps, out, stride);
    }

    fn horizontal(self, source: [&[u8]; 2], starts: &[u32], weights: &[i16], [first, second]: [&mut [i16]; 2]) {
        resize::horizontal_portable(source[0], starts, weights, first);
        resize::horizontal_portable(source[1], starts, weights, second);
    }

    fn vertical(self, source: &[i16], stride: usize, weights: &[i16], target: &mut [i16]) {
        resize::vertical_portable(source, stride, weights, target);
    }

    fn to_rgb(self, ycc: [&[i16]; 3], target: &mut [u8]) {
        resize::to_rgb_portable(ycc, target);
    }

    fn decode_scan(self, scan: &Scan<'_>, segments: &Segments, sink: &mut PlaneSink<'_, Self>) -> Result<(), Damage> {
        decode_scan(scan, segments, sink)
    }
}
