//! The inner loops that exist twice, portable and in AVX2, with the same bytes as result.

use super::weights::{AxisWeights, WEIGHT_BITS};

/// Rows that are resized horizontally, and places that are computed, at a time: the lanes of a vector of 16-bit values.
pub(super) const LANES: usize = 16;
/// Fraction bits of values between the vertical pass and the bytes of the result.
pub(super) const FRACTION_BITS: u32 = 6;

/// Weights of JFIF's YCbCr to RGB in 1/32768: red from Cr beyond one, green from Cb and Cr, blue from Cb beyond one.
pub(super) const RED_CR: i16 = 13173;
pub(super) const GREEN_CB: i16 = 11277;
pub(super) const GREEN_CR: i16 = 23401;
pub(super) const BLUE_CB: i16 = 25297;
/// What Cb and Cr are centred on.
pub(super) const CHROMA_ZERO: i16 = 128 << FRACTION_BITS;

/// The same in 1/65536 as libjpeg has them for whole numbers: red from Cr beyond one, green from Cb, green from Cr beyond
/// minus one, blue from Cb beyond two.
pub(super) const FULL_RED_CR: i32 = 26345;
pub(super) const FULL_GREEN_CB: i32 = -22554;
pub(super) const FULL_GREEN_CR: i32 = 18734;
pub(super) const FULL_BLUE_CB: i32 = -14942;

/// A column of [`LANES`] rows, which never lies across two lines of the cache.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(32))]
pub(super) struct Column(pub(super) [i16; LANES]);

/// The inner loops of one instruction set.
pub(super) trait Kernels: Copy {
    /// Makes columns of rows: `columns[i][r]` is byte `i` of row `r`. All rows have at least `columns.len()` bytes, and
    /// at least [`LANES`].
    fn transpose(self, rows: [&[u8]; LANES], columns: &mut [Column]);

    /// Resizes [`LANES`] rows horizontally. A place is made of every `step`-th column from `step` times its start on; the
    /// result goes to rows of `target`, `stride` apart, in bytes.
    fn horizontal(self, columns: &[Column], step: usize, weights: &AxisWeights, target: &mut [u8], stride: usize);

    /// Brings rows that are read soon into the cache meanwhile, if the processor can be told to.
    fn prefetch(self, rows: [&[u8]; LANES]);

    /// One row: `target` is the weighted sum of the rows of `source`, `stride` apart, with [`FRACTION_BITS`].
    /// The target's length is a multiple of [`LANES`].
    fn vertical(self, source: &[u8], stride: usize, weights: &[i32], target: &mut [i16]);

    /// One row of YCbCr with [`FRACTION_BITS`] to interleaved RGB (JFIF 1.02), as many pixels as `target` holds.
    fn ycc_to_rgb(self, ycc: [&[i16]; 3], target: &mut [u8]);

    /// One row of R, G, B with [`FRACTION_BITS`] to interleaved RGB.
    fn interleave(self, rgb: [&[i16]; 3], target: &mut [u8]);

    /// Bytes to 16 bits.
    fn widen(self, samples: &[u8], target: &mut [i16]);

    /// `sums[i]` is three times `near` and once `far`.
    fn near_and_far(self, near: &[u8], far: &[u8], sums: &mut [i16]);

    /// Doubles a row of chroma as libjpeg's triangle filter does. `sums` begins with the neighbour of the first sample
    /// and goes on for one beyond the last; `SHIFT` is 4 for [`Kernels::near_and_far`] sums and 2 for plain samples.
    /// The target's length is a multiple of [`LANES`].
    fn double<const SHIFT: i32>(self, sums: &[i16], target: &mut [i16]);

    /// One row of whole YCbCr values to R, G, B, exactly as libjpeg. The lengths are multiples of [`LANES`].
    fn whole_ycc_to_rgb(self, luma: &[u8], cb: &[i16], cr: &[i16], rgb: [&mut [u8]; 3]);
}

/// Rust without intrinsics.
#[derive(Debug, Clone, Copy)]
pub(super) struct Portable;

impl Kernels for Portable {
    fn transpose(self, rows: [&[u8]; LANES], columns: &mut [Column]) {
        for (index, column) in columns.iter_mut().enumerate() {
            column.0 = std::array::from_fn(|row| i16::from(rows[row][index]));
        }
    }

    fn horizontal(self, columns: &[Column], step: usize, weights: &AxisWeights, target: &mut [u8], stride: usize) {
        for place in 0..weights.starts.len() {
            let (start, pairs) = weights.place(place);
            let mut sums = [1 << (WEIGHT_BITS - 1); LANES];
            for (index, weight) in pairs.iter().copied().flat_map(both).enumerate() {
                let column = &columns[(start + index) * step];
                for (sum, value) in sums.iter_mut().zip(&column.0) {
                    *sum += i32::from(*value) * weight;
                }
            }
            for (row, sum) in sums.into_iter().enumerate() {
                target[row * stride + place] = (sum >> WEIGHT_BITS).clamp(0, 255) as u8;
            }
        }
    }

    fn prefetch(self, _: [&[u8]; LANES]) {}

    fn vertical(self, source: &[u8], stride: usize, weights: &[i32], target: &mut [i16]) {
        const SHIFT: u32 = WEIGHT_BITS - FRACTION_BITS;
        for (block, target) in target.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            let mut sums = [1 << (SHIFT - 1); LANES];
            for (row, weight) in weights.iter().copied().flat_map(both).enumerate() {
                let source = &source[row * stride + block * LANES..][..LANES];
                for (sum, value) in sums.iter_mut().zip(source) {
                    *sum += i32::from(*value) * weight;
                }
            }
            *target = sums.map(|sum| (sum >> SHIFT) as i16);
        }
    }

    fn ycc_to_rgb(self, [luma, cb, cr]: [&[i16]; 3], target: &mut [u8]) {
        let scale = |value: i16, weight: i16| ((i32::from(value) * i32::from(weight) + (1 << 14)) >> 15) as i16;
        for (pixel, ((&luma, cb), cr)) in target.as_chunks_mut::<3>().0.iter_mut().zip(luma.iter().zip(cb).zip(cr)) {
            let cb = cb.saturating_sub(CHROMA_ZERO);
            let cr = cr.saturating_sub(CHROMA_ZERO);
            pixel[0] = to_byte(luma.saturating_add(cr).saturating_add(scale(cr, RED_CR)));
            pixel[1] = to_byte(luma.saturating_sub(scale(cb, GREEN_CB)).saturating_sub(scale(cr, GREEN_CR)));
            pixel[2] = to_byte(luma.saturating_add(cb).saturating_add(scale(cb, BLUE_CB)));
        }
    }

    fn interleave(self, [red, green, blue]: [&[i16]; 3], target: &mut [u8]) {
        for (index, pixel) in target.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            *pixel = [red[index], green[index], blue[index]].map(to_byte);
        }
    }

    fn widen(self, samples: &[u8], target: &mut [i16]) {
        for (target, sample) in target.iter_mut().zip(samples) {
            *target = i16::from(*sample);
        }
    }

    fn near_and_far(self, near: &[u8], far: &[u8], sums: &mut [i16]) {
        for (sum, (near, far)) in sums.iter_mut().zip(near.iter().zip(far)) {
            *sum = 3 * i16::from(*near) + i16::from(*far);
        }
    }

    fn double<const SHIFT: i32>(self, sums: &[i16], target: &mut [i16]) {
        let [round_left, round_right] = doubling_rounds(SHIFT);
        for (sums, target) in sums.windows(3).zip(target.as_chunks_mut::<2>().0) {
            target[0] = (3 * sums[1] + sums[0] + round_left) >> SHIFT;
            target[1] = (3 * sums[1] + sums[2] + round_right) >> SHIFT;
        }
    }

    fn whole_ycc_to_rgb(self, luma: &[u8], cb: &[i16], cr: &[i16], [red, green, blue]: [&mut [u8]; 3]) {
        const HALF: i32 = 1 << 15;
        for (index, luma) in luma.iter().enumerate().take(red.len()) {
            let [luma, cb, cr] = [i32::from(*luma), i32::from(cb[index]) - 128, i32::from(cr[index]) - 128];
            let clamp = |value: i32| value.clamp(0, 255) as u8;
            red[index] = clamp(luma + cr + ((cr * FULL_RED_CR + HALF) >> 16));
            green[index] = clamp(luma - cr + ((cb * FULL_GREEN_CB + cr * FULL_GREEN_CR + HALF) >> 16));
            blue[index] = clamp(luma + 2 * cb + ((cb * FULL_BLUE_CB + HALF) >> 16));
        }
    }
}

/// What is added before the shift to the left and to the right of two doubled samples: libjpeg alternates so that the
/// errors of rounding cancel.
pub(super) const fn doubling_rounds(shift: i32) -> [i16; 2] {
    if shift == 4 { [8, 7] } else { [1, 2] }
}

/// The two weights of a pair.
fn both(pair: i32) -> [i32; 2] {
    [i32::from(pair as i16), pair >> 16]
}

/// A value with [`FRACTION_BITS`] to a byte, rounded and clamped.
fn to_byte(value: i16) -> u8 {
    (value.saturating_add(1 << (FRACTION_BITS - 1)) >> FRACTION_BITS).clamp(0, 255) as u8
}
