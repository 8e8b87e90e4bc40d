//! The inner loops that exist twice, portable and in AVX2, with the same bytes as result.

use super::entropy::Block;
use super::idct::idct_portable;
use super::refusal::Damage;
use super::scan::{PlaneSink, Scan, decode_scan};
use super::segments::Segments;

/// The inner loops of one instruction set.
pub(super) trait Kernels: Copy {
    /// Dequantises a block, transforms it back and writes 8 x 8 samples to `out`, rows `stride` apart.
    fn idct(self, block: &Block, steps: &[i16; 64], out: &mut [u8], stride: usize);

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

    fn decode_scan(self, scan: &Scan<'_>, segments: &Segments, sink: &mut PlaneSink<'_, Self>) -> Result<(), Damage> {
        decode_scan(scan, segments, sink)
    }
}
