//! The inner loops in AVX2.
//!
//! Loads and stores go through the few functions at the end, which take slices and so check their bounds; all other
//! intrinsics are safe in functions that are compiled for the instruction set.

use std::arch::x86_64::*;

use super::entropy::Block;
use super::idct::{EVEN, FIRST_SHIFT, MATRIX_BITS, ODD, SECOND_SHIFT};
use super::kernels::Kernels;
use super::resize::{BLUE_CB, CHROMA_ZERO, FRACTION_BITS, GREEN_CB, GREEN_CR, RED_CR};
use super::weights::WEIGHT_BITS;

/// Proof that the processor has AVX2 and BMI: there is no other way to one than [`Avx2::detect`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Avx2(());

impl Avx2 {
    pub(super) fn detect() -> Option<Avx2> {
        let is_there = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt");
        is_there.then_some(Avx2(()))
    }
}

impl Kernels for Avx2 {
    #[inline(always)]
    fn idct(self, block: &Block, steps: &[i16; 64], out: &mut [u8], stride: usize) {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { idct(block, steps, out, stride) }
    }

    #[inline(always)]
    fn horizontal(self, source: [&[u8]; 2], starts: &[u32], weights: &[i16], target: [&mut [i16]; 2]) {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { horizontal(source, starts, weights, target) }
    }

    #[inline(always)]
    fn vertical(self, source: &[i16], stride: usize, weights: &[i16], target: &mut [i16]) {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { vertical(source, stride, weights, target) }
    }

    #[inline(always)]
    fn to_rgb(self, ycc: [&[i16]; 3], target: &mut [u8]) {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { to_rgb(ycc, target) }
    }

    #[inline(always)]
    fn run<R>(self, work: impl FnOnce(Self) -> R) -> R {
        #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
        fn compiled<R>(token: Avx2, work: impl FnOnce(Avx2) -> R) -> R {
            work(token)
        }
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { compiled(self, work) }
    }
}

/// See [`idct_portable`](super::idct::idct_portable).
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn idct(block: &Block, steps: &[i16; 64], out: &mut [u8], stride: usize) {
    let coefficients = block.coefficients();
    let mut rows = [_mm_setzero_si128(); 8];
    for (index, row) in rows.iter_mut().enumerate() {
        *row = _mm_mullo_epi16(load_8(&coefficients[index * 8..]), load_8(&steps[index * 8..]));
    }
    let columns = transpose(transform::<{ FIRST_SHIFT as i32 }>(rows));
    let columns = transform::<{ SECOND_SHIFT as i32 }>(columns);
    let rows = transpose(columns);
    let center = _mm_set1_epi16(128);
    for pair in 0..4 {
        let first = _mm_adds_epi16(rows[2 * pair], center);
        let second = _mm_adds_epi16(rows[2 * pair + 1], center);
        let samples = _mm_packus_epi16(first, second);
        let start = 2 * pair * stride;
        out[start..start + 8].copy_from_slice(&_mm_cvtsi128_si64(samples).to_le_bytes());
        out[start + stride..start + stride + 8].copy_from_slice(&_mm_extract_epi64::<1>(samples).to_le_bytes());
    }
}

/// One dimension of the inverse DCT: eight inputs to eight outputs, for eight columns at once.
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
#[inline]
fn transform<const SHIFT: i32>(x: [__m128i; 8]) -> [__m128i; 8] {
    let (x04, x26) = (interleave(x[0], x[4]), interleave(x[2], x[6]));
    let (x13, x57) = (interleave(x[1], x[3]), interleave(x[5], x[7]));
    let one = 1 << MATRIX_BITS;
    let (sum, difference) = (weigh(x04, [one, one]), weigh(x04, [one, -one]));
    let (outer, inner) = (weigh(x26, EVEN[0]), weigh(x26, EVEN[1]));
    let half = _mm256_set1_epi32(1 << (SHIFT - 1));
    let (sum, difference) = (_mm256_add_epi32(sum, half), _mm256_add_epi32(difference, half));
    let even = [
        _mm256_add_epi32(sum, outer),
        _mm256_add_epi32(difference, inner),
        _mm256_sub_epi32(difference, inner),
        _mm256_sub_epi32(sum, outer),
    ];
    let mut output = [_mm_setzero_si128(); 8];
    for index in 0..4 {
        let [w1, w3, w5, w7] = ODD[index];
        let odd = _mm256_add_epi32(weigh(x13, [w1, w3]), weigh(x57, [w5, w7]));
        let upper = _mm256_srai_epi32::<SHIFT>(_mm256_add_epi32(even[index], odd));
        let lower = _mm256_srai_epi32::<SHIFT>(_mm256_sub_epi32(even[index], odd));
        // The pack works on halves: upper 0..4, lower 0..4, upper 4..8, lower 4..8.
        let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(upper, lower));
        output[index] = _mm256_castsi256_si128(packed);
        output[7 - index] = _mm256_extracti128_si256::<1>(packed);
    }
    output
}

/// Pairs of (a, b), the first four in the lower half.
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
#[inline]
fn interleave(a: __m128i, b: __m128i) -> __m256i {
    _mm256_set_m128i(_mm_unpackhi_epi16(a, b), _mm_unpacklo_epi16(a, b))
}

/// The weighted sum of each pair.
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
#[inline]
fn weigh(pairs: __m256i, weights: [i16; 2]) -> __m256i {
    let both = i32::from(weights[0]) & 0xFFFF | i32::from(weights[1]) << 16;
    _mm256_madd_epi16(pairs, _mm256_set1_epi32(both))
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
#[inline]
fn transpose(x: [__m128i; 8]) -> [__m128i; 8] {
    let a: [__m128i; 4] = std::array::from_fn(|i| _mm_unpacklo_epi16(x[2 * i], x[2 * i + 1]));
    let b: [__m128i; 4] = std::array::from_fn(|i| _mm_unpackhi_epi16(x[2 * i], x[2 * i + 1]));
    let c = [
        _mm_unpacklo_epi32(a[0], a[1]),
        _mm_unpackhi_epi32(a[0], a[1]),
        _mm_unpacklo_epi32(b[0], b[1]),
        _mm_unpackhi_epi32(b[0], b[1]),
    ];
    let d = [
        _mm_unpacklo_epi32(a[2], a[3]),
        _mm_unpackhi_epi32(a[2], a[3]),
        _mm_unpacklo_epi32(b[2], b[3]),
        _mm_unpackhi_epi32(b[2], b[3]),
    ];
    std::array::from_fn(|i| {
        if i % 2 == 0 { _mm_unpacklo_epi64(c[i / 2], d[i / 2]) } else { _mm_unpackhi_epi64(c[i / 2], d[i / 2]) }
    })
}

/// See [`horizontal_portable`](super::resize::horizontal_portable); two rows, the one in the lower halves, the other in
/// the upper ones. Target columns are a multiple of four, taps of eight.
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn horizontal([first, second]: [&[u8]; 2], starts: &[u32], weights: &[i16], [to_first, to_second]: [&mut [i16]; 2]) {
    const SHIFT: i32 = (WEIGHT_BITS - FRACTION_BITS) as i32;
    let taps = weights.len() / to_first.len();
    let half = _mm256_set1_epi32(1 << (SHIFT - 1));
    let targets = to_first.as_chunks_mut::<4>().0.iter_mut().zip(to_second.as_chunks_mut::<4>().0);
    let groups = starts.as_chunks::<4>().0.iter().zip(weights.chunks_exact(4 * taps));
    for ((to_first, to_second), (starts, weights)) in targets.zip(groups) {
        let sums: [__m256i; 4] = std::array::from_fn(|place| {
            let start = starts[place] as usize;
            let mut sum = _mm256_setzero_si256();
            for (group, weights) in weights[place * taps..][..taps].as_chunks::<8>().0.iter().enumerate() {
                let samples = load_8_and_8(&first[start + 8 * group..], &second[start + 8 * group..]);
                let weights = _mm256_broadcastsi128_si256(load_8(weights));
                sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_cvtepu8_epi16(samples), weights));
            }
            sum
        });
        let total = _mm256_hadd_epi32(_mm256_hadd_epi32(sums[0], sums[1]), _mm256_hadd_epi32(sums[2], sums[3]));
        let rounded = _mm256_srai_epi32::<SHIFT>(_mm256_add_epi32(total, half));
        let packed = _mm256_packs_epi32(rounded, rounded);
        store_4(to_first, _mm256_castsi256_si128(packed));
        store_4(to_second, _mm256_extracti128_si256::<1>(packed));
    }
}

/// See [`vertical_portable`](super::resize::vertical_portable). Columns are a multiple of sixteen, taps of two.
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn vertical(source: &[i16], stride: usize, weights: &[i16], target: &mut [i16]) {
    let half = _mm256_set1_epi32(1 << (WEIGHT_BITS - 1));
    let weights = weights.as_chunks::<2>().0;
    for (column, target) in target.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let (mut low, mut high) = (half, half);
        for (pair, weights) in weights.iter().enumerate() {
            let start = 2 * pair * stride + 16 * column;
            let (first, second) = (load_16(&source[start..]), load_16(&source[start + stride..]));
            low = _mm256_add_epi32(low, weigh(_mm256_unpacklo_epi16(first, second), *weights));
            high = _mm256_add_epi32(high, weigh(_mm256_unpackhi_epi16(first, second), *weights));
        }
        const SHIFT: i32 = WEIGHT_BITS as i32;
        store_16(target, _mm256_packs_epi32(_mm256_srai_epi32::<SHIFT>(low), _mm256_srai_epi32::<SHIFT>(high)));
    }
}

/// See [`to_rgb_portable`](super::resize::to_rgb_portable).
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn to_rgb([luma, cb, cr]: [&[i16]; 3], target: &mut [u8]) {
    let zero = _mm256_set1_epi16(CHROMA_ZERO);
    let half = _mm256_set1_epi16(1 << (FRACTION_BITS - 1));
    for (column, target) in target.chunks_mut(48).enumerate() {
        let luma = load_16(&luma[16 * column..]);
        let cb = _mm256_subs_epi16(load_16(&cb[16 * column..]), zero);
        let cr = _mm256_subs_epi16(load_16(&cr[16 * column..]), zero);
        let scale = |value, weight| _mm256_mulhrs_epi16(value, _mm256_set1_epi16(weight));
        let red = _mm256_adds_epi16(_mm256_adds_epi16(luma, cr), scale(cr, RED_CR));
        let green = _mm256_subs_epi16(_mm256_subs_epi16(luma, scale(cb, GREEN_CB)), scale(cr, GREEN_CR));
        let blue = _mm256_adds_epi16(_mm256_adds_epi16(luma, cb), scale(cb, BLUE_CB));
        let finish = |value| {
            let value = _mm256_srai_epi16::<{ FRACTION_BITS as i32 }>(_mm256_adds_epi16(value, half));
            _mm_packus_epi16(_mm256_castsi256_si128(value), _mm256_extracti128_si256::<1>(value))
        };
        let parts = interleave_rgb(finish(red), finish(green), finish(blue));
        if let Some(target) = target.as_chunks_mut::<16>().0.as_mut_array::<3>() {
            for (target, part) in target.iter_mut().zip(parts) {
                store_bytes(target, part);
            }
        } else {
            let mut bytes = [[0; 16]; 3];
            for (bytes, part) in bytes.iter_mut().zip(parts) {
                store_bytes(bytes, part);
            }
            target.copy_from_slice(&bytes.as_flattened()[..target.len()]);
        }
    }
}

/// Sixteen pixels, colour by colour, to 48 bytes of interleaved RGB.
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
#[inline]
fn interleave_rgb(red: __m128i, green: __m128i, blue: __m128i) -> [__m128i; 3] {
    /// For part `part`, where byte `i` comes from in the vector of `color`; the top bit gives zero.
    const fn places(part: usize, color: usize) -> [i8; 16] {
        let mut places = [-1; 16];
        let mut byte = 0;
        while byte < 16 {
            if (16 * part + byte) % 3 == color {
                places[byte] = ((16 * part + byte) / 3) as i8;
            }
            byte += 1;
        }
        places
    }
    const PLACES: [[[i8; 16]; 3]; 3] = {
        let mut all = [[[0; 16]; 3]; 3];
        let mut index = 0;
        while index < 9 {
            all[index / 3][index % 3] = places(index / 3, index % 3);
            index += 1;
        }
        all
    };
    std::array::from_fn(|part| {
        let [from_red, from_green, from_blue] = PLACES[part].map(|places| load_places(&places));
        let red_green = _mm_or_si128(_mm_shuffle_epi8(red, from_red), _mm_shuffle_epi8(green, from_green));
        _mm_or_si128(red_green, _mm_shuffle_epi8(blue, from_blue))
    })
}

#[target_feature(enable = "avx2")]
#[inline]
fn load_8(values: &[i16]) -> __m128i {
    // SAFETY: the slice holds the eight values; unaligned loads are allowed.
    unsafe { _mm_loadu_si128(values[..8].as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load_16(values: &[i16]) -> __m256i {
    // SAFETY: the slice holds the sixteen values; unaligned loads are allowed.
    unsafe { _mm256_loadu_si256(values[..16].as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load_places(places: &[i8; 16]) -> __m128i {
    // SAFETY: the array holds sixteen bytes; unaligned loads are allowed.
    unsafe { _mm_loadu_si128(places.as_ptr().cast()) }
}

/// Eight bytes of each slice.
#[target_feature(enable = "avx2")]
#[inline]
fn load_8_and_8(low: &[u8], high: &[u8]) -> __m128i {
    let low = i64::from_le_bytes(*low.first_chunk().expect("planes are padded"));
    let high = i64::from_le_bytes(*high.first_chunk().expect("planes are padded"));
    _mm_set_epi64x(high, low)
}

#[target_feature(enable = "avx2")]
#[inline]
fn store_4(target: &mut [i16; 4], values: __m128i) {
    // SAFETY: the array holds the four values; this store needs no alignment.
    unsafe { _mm_storel_epi64(target.as_mut_ptr().cast(), values) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn store_16(target: &mut [i16; 16], values: __m256i) {
    // SAFETY: the array holds the sixteen values; unaligned stores are allowed.
    unsafe { _mm256_storeu_si256(target.as_mut_ptr().cast(), values) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn store_bytes(target: &mut [u8; 16], bytes: __m128i) {
    // SAFETY: the array holds sixteen bytes; unaligned stores are allowed.
    unsafe { _mm_storeu_si128(target.as_mut_ptr().cast(), bytes) }
}
