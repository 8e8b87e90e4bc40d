//! Panels of B: its columns in groups as wide as a tile, each group's rows one after another.

use super::gemm::{DEPTH_PER_BLOCK, Matrix};
#[cfg(target_arch = "x86_64")]
use super::simd::InstructionSet;

/// Packs all of B, by blocks of the inner dimension, each by panels of NR columns, the last padded with zeros.
pub(super) fn pack<const NR: usize>(b: Matrix<'_>, packed: &mut [[f32; NR]]) {
    let panels = b.columns.div_ceil(NR);
    for (block, packed) in packed.chunks_mut(DEPTH_PER_BLOCK * panels).enumerate() {
        let depth = packed.len() / panels;
        for (panel, packed) in packed.chunks_exact_mut(depth).enumerate() {
            pack_panel(b, block * DEPTH_PER_BLOCK, panel * NR, packed);
        }
    }
}

/// Packs as many rows of B as the panel has, from `row` and `column` on.
pub(super) fn pack_panel<const NR: usize>(b: Matrix<'_>, row: usize, column: usize, panel: &mut [[f32; NR]]) {
    let width = NR.min(b.columns - column);
    let data = &b.data[row * b.row_stride + column * b.column_stride..];
    if width < NR {
        panel.fill([0.0; NR]);
    }
    if b.row_stride == 1 {
        pack_columns(data, b.column_stride, width, panel);
    } else if width == NR {
        // The same as below, without a call of memcpy for each row.
        for (p, packed) in panel.iter_mut().enumerate() {
            packed.copy_from_slice(&data[p * b.row_stride..][..NR]);
        }
    } else {
        for (p, packed) in panel.iter_mut().enumerate() {
            packed[..width].copy_from_slice(&data[p * b.row_stride..][..width]);
        }
    }
}

/// Rows and columns of what is transposed in registers.
const SQUARE: usize = 8;

/// Packs a B whose columns lie `stride` values apart, each one value after another.
fn pack_columns<const NR: usize>(data: &[f32], stride: usize, width: usize, panel: &mut [[f32; NR]]) {
    let depth = panel.len();
    // What whole squares cover.
    #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut, reason = "there are none"))]
    let (mut deep, mut wide) = (0, 0);
    #[cfg(target_arch = "x86_64")]
    if InstructionSet::Avx2.is_available() {
        (deep, wide) = (depth - depth % SQUARE, width - width % SQUARE);
        // SAFETY: the CPU has AVX2.
        unsafe { x86::pack_squares(data, stride, wide, &mut panel[..deep]) };
    }
    for j in 0..width {
        let from = if j < wide { deep } else { 0 };
        for (packed, &value) in panel[from..].iter_mut().zip(&data[j * stride + from..][..depth - from]) {
            packed[j] = value;
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::SQUARE;
    use std::arch::x86_64::{
        __m256, _mm256_loadu_ps, _mm256_permute2f128_ps, _mm256_setzero_ps, _mm256_shuffle_ps, _mm256_storeu_ps,
        _mm256_unpackhi_ps, _mm256_unpacklo_ps,
    };

    /// Packs `width` columns of as many values as the panel has rows; both are multiples of [`SQUARE`].
    #[target_feature(enable = "avx2")]
    pub(super) fn pack_squares<const NR: usize>(data: &[f32], stride: usize, width: usize, panel: &mut [[f32; NR]]) {
        for (square, rows) in panel.as_chunks_mut::<SQUARE>().0.iter_mut().enumerate() {
            for j in (0..width).step_by(SQUARE) {
                let mut columns = [_mm256_setzero_ps(); SQUARE];
                for i in 0..SQUARE {
                    let from = &data[(j + i) * stride + square * SQUARE..][..SQUARE];
                    // SAFETY: the slice holds a vector.
                    columns[i] = unsafe { _mm256_loadu_ps(from.as_ptr()) };
                }
                let values = transposed(columns);
                for i in 0..SQUARE {
                    let into = &mut rows[i][j..j + SQUARE];
                    // SAFETY: the slice holds a vector.
                    unsafe { _mm256_storeu_ps(into.as_mut_ptr(), values[i]) };
                }
            }
        }
    }

    /// Eight rows as eight columns: pairs of values, then fours, then halves change places.
    #[target_feature(enable = "avx2")]
    fn transposed(r: [__m256; SQUARE]) -> [__m256; SQUARE] {
        let mut pairs = r;
        for i in [0, 2, 4, 6] {
            pairs[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
            pairs[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
        }
        let mut fours = pairs;
        for i in [0, 4] {
            fours[i] = _mm256_shuffle_ps::<0x44>(pairs[i], pairs[i + 2]);
            fours[i + 1] = _mm256_shuffle_ps::<0xee>(pairs[i], pairs[i + 2]);
            fours[i + 2] = _mm256_shuffle_ps::<0x44>(pairs[i + 1], pairs[i + 3]);
            fours[i + 3] = _mm256_shuffle_ps::<0xee>(pairs[i + 1], pairs[i + 3]);
        }
        let mut out = fours;
        for i in 0..4 {
            out[i] = _mm256_permute2f128_ps::<0x20>(fours[i], fours[i + 4]);
            out[i + 4] = _mm256_permute2f128_ps::<0x31>(fours[i], fours[i + 4]);
        }
        out
    }
}
