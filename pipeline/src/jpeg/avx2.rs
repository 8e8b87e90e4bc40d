//! The inner loops in AVX2.
//!
//! Loads and stores go through the few functions at the end, which take slices and so check their bounds; all other
//! intrinsics are safe in functions that are compiled for the instruction set.

#![allow(clippy::wildcard_imports, reason = "the names of intrinsics carry their prefix")]

use std::arch::x86_64::*;

use super::entropy::Block;
use super::idct::{EVEN, FIRST_SHIFT, MATRIX_BITS, ODD, SECOND_SHIFT};
use super::kernels::Kernels;
use super::refusal::Damage;
use super::resize::{BLUE_CB, CHROMA_ZERO, FRACTION_BITS, GREEN_CB, GREEN_CR, RED_CR};
use super::scan::{PlaneSink, Scan, decode_scan};
use super::segments::Segments;
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

    fn decode_scan(self, scan: &Scan<'_>, segments: &Segments, sink: &mut PlaneSink<'_, Self>) -> Result<(), Damage> {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { decode_scan_avx2(scan, segments, sink) }
    }
}

/// Nothing but [`decode_scan`]; what gets inlined here is compiled with the shifts of BMI2, which matter to it.
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn decode_scan_avx2(scan: &Scan<'_>, segments: &Segments, sink: &mut PlaneSink<'_, Avx2>) -> Result<(), Damage> {
    decode_scan(scan, segments, sink)
}

/// See [`idct_portable`](super::idct::idct_portable).
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn idct(block: &Block, steps: &[i16; 64], out: &mut [u8], stride: usize) {
    let coefficients = block.coefficients();
    let mut rows = [_mm_setzero_si128(); 8];
    for index in 0..8 {
        rows[index] = _mm_mullo_epi16(load_8(&coefficients[index * 8..]), load_8(&steps[index * 8..]));
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
    let (a0, b0) = (_mm_unpacklo_epi16(x[0], x[1]), _mm_unpackhi_epi16(x[0], x[1]));
    let (a1, b1) = (_mm_unpacklo_epi16(x[2], x[3]), _mm_unpackhi_epi16(x[2], x[3]));
    let (a2, b2) = (_mm_unpacklo_epi16(x[4], x[5]), _mm_unpackhi_epi16(x[4], x[5]));
    let (a3, b3) = (_mm_unpacklo_epi16(x[6], x[7]), _mm_unpackhi_epi16(x[6], x[7]));
    let (c0, c1) = (_mm_unpacklo_epi32(a0, a1), _mm_unpackhi_epi32(a0, a1));
    let (c2, c3) = (_mm_unpacklo_epi32(b0, b1), _mm_unpackhi_epi32(b0, b1));
    let (d0, d1) = (_mm_unpacklo_epi32(a2, a3), _mm_unpackhi_epi32(a2, a3));
    let (d2, d3) = (_mm_unpacklo_epi32(b2, b3), _mm_unpackhi_epi32(b2, b3));
    [
        _mm_unpacklo_epi64(c0, d0),
        _mm_unpackhi_epi64(c0, d0),
        _mm_unpacklo_epi64(c1, d1),
        _mm_unpackhi_epi64(c1, d1),
        _mm_unpacklo_epi64(c2, d2),
        _mm_unpackhi_epi64(c2, d2),
        _mm_unpacklo_epi64(c3, d3),
        _mm_unpackhi_epi64(c3, d3),
    ]
}

/// See [`horizontal_portable`](super::resize::horizontal_portable); two rows at once. Target columns are a multiple of
/// four, taps of eight. Up to sixteen taps, which is a scale of four, get a loop of their own.
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn horizontal(source: [&[u8]; 2], starts: &[u32], weights: &[i16], target: [&mut [i16]; 2]) {
    match weights.len() / target[0].len() {
        8 => horizontal_taps::<8>(source, starts, weights, target),
        16 => horizontal_taps::<16>(source, starts, weights, target),
        _ => horizontal_taps::<0>(source, starts, weights, target),
    }
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
#[inline]
fn horizontal_taps<const TAPS: usize>(
    source: [&[u8]; 2],
    starts: &[u32],
    weights: &[i16],
    [to_first, to_second]: [&mut [i16]; 2],
) {
    const SHIFT: i32 = (WEIGHT_BITS - FRACTION_BITS) as i32;
    let taps = if TAPS == 0 { weights.len() / to_first.len() } else { TAPS };
    let half = _mm256_set1_epi32(1 << (SHIFT - 1));
    let mut column = 0;
    while column < to_first.len() {
        let sum_0 = weighted_sum(taps, source, starts[column], &weights[column * taps..]);
        let sum_1 = weighted_sum(taps, source, starts[column + 1], &weights[(column + 1) * taps..]);
        let sum_2 = weighted_sum(taps, source, starts[column + 2], &weights[(column + 2) * taps..]);
        let sum_3 = weighted_sum(taps, source, starts[column + 3], &weights[(column + 3) * taps..]);
        let total = _mm256_hadd_epi32(_mm256_hadd_epi32(sum_0, sum_1), _mm256_hadd_epi32(sum_2, sum_3));
        let rounded = _mm256_srai_epi32::<SHIFT>(_mm256_add_epi32(total, half));
        let packed = _mm256_packs_epi32(rounded, rounded);
        store_4(&mut to_first[column..], _mm256_castsi256_si128(packed));
        store_4(&mut to_second[column..], _mm256_extracti128_si256::<1>(packed));
        column += 4;
    }
}

/// The products of one target place, added up to four sums in the lower half for the first row, in the upper for the other.
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
#[inline]
fn weighted_sum(taps: usize, [first, second]: [&[u8]; 2], start: u32, weights: &[i16]) -> __m256i {
    let mut sum = _mm256_setzero_si256();
    let mut tap = 0;
    while tap < taps {
        let at = start as usize + tap;
        let samples = _mm256_cvtepu8_epi16(_mm_unpacklo_epi64(load_8_bytes(&first[at..]), load_8_bytes(&second[at..])));
        let weights = _mm256_broadcastsi128_si256(load_8(&weights[tap..]));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(samples, weights));
        tap += 8;
    }
    sum
}

/// See [`vertical_portable`](super::resize::vertical_portable). Columns are a multiple of sixteen, taps of two.
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn vertical(source: &[i16], stride: usize, weights: &[i16], target: &mut [i16]) {
    const SHIFT: i32 = WEIGHT_BITS as i32;
    let half = _mm256_set1_epi32(1 << (SHIFT - 1));
    let mut column = 0;
    while column < target.len() {
        let (mut low, mut high) = (half, half);
        let (mut tap, mut start) = (0, column);
        while tap < weights.len() {
            let (first, second) = (load_16(&source[start..]), load_16(&source[start + stride..]));
            let weights = [weights[tap], weights[tap + 1]];
            low = _mm256_add_epi32(low, weigh(_mm256_unpacklo_epi16(first, second), weights));
            high = _mm256_add_epi32(high, weigh(_mm256_unpackhi_epi16(first, second), weights));
            tap += 2;
            start += 2 * stride;
        }
        let rounded = _mm256_packs_epi32(_mm256_srai_epi32::<SHIFT>(low), _mm256_srai_epi32::<SHIFT>(high));
        store_16(&mut target[column..], rounded);
        column += 16;
    }
}

/// See [`to_rgb_portable`](super::resize::to_rgb_portable).
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn to_rgb([luma, cb, cr]: [&[i16]; 3], target: &mut [u8]) {
    let zero = _mm256_set1_epi16(CHROMA_ZERO);
    let (mut column, mut start) = (0, 0);
    while start < target.len() {
        let luma = load_16(&luma[column..]);
        let cb = _mm256_subs_epi16(load_16(&cb[column..]), zero);
        let cr = _mm256_subs_epi16(load_16(&cr[column..]), zero);
        let red = _mm256_adds_epi16(_mm256_adds_epi16(luma, cr), scale(cr, RED_CR));
        let green = _mm256_subs_epi16(_mm256_subs_epi16(luma, scale(cb, GREEN_CB)), scale(cr, GREEN_CR));
        let blue = _mm256_adds_epi16(_mm256_adds_epi16(luma, cb), scale(cb, BLUE_CB));
        let [low, middle, high] = interleave_rgb(to_bytes(red), to_bytes(green), to_bytes(blue));
        let mut last = [0; 48];
        let left = target.len() - start;
        let pixels = if left < 48 { &mut last[..] } else { &mut target[start..start + 48] };
        store_bytes(pixels, low);
        store_bytes(&mut pixels[16..], middle);
        store_bytes(&mut pixels[32..], high);
        if left < 48 {
            target[start..].copy_from_slice(&last[..left]);
        }
        column += 16;
        start += 48;
    }
}

/// `value * weight / 32768`, rounded.
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
#[inline]
fn scale(value: __m256i, weight: i16) -> __m256i {
    _mm256_mulhrs_epi16(value, _mm256_set1_epi16(weight))
}

/// Values with [`FRACTION_BITS`] to bytes, rounded and clamped.
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
#[inline]
fn to_bytes(value: __m256i) -> __m128i {
    let half = _mm256_set1_epi16(1 << (FRACTION_BITS - 1));
    let value = _mm256_srai_epi16::<{ FRACTION_BITS as i32 }>(_mm256_adds_epi16(value, half));
    _mm_packus_epi16(_mm256_castsi256_si128(value), _mm256_extracti128_si256::<1>(value))
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
    let mut parts = [_mm_setzero_si128(); 3];
    for index in 0..3 {
        let places = &PLACES[index];
        let red = _mm_shuffle_epi8(red, load_places(&places[0]));
        let green = _mm_shuffle_epi8(green, load_places(&places[1]));
        let blue = _mm_shuffle_epi8(blue, load_places(&places[2]));
        parts[index] = _mm_or_si128(_mm_or_si128(red, green), blue);
    }
    parts
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

#[target_feature(enable = "avx2")]
#[inline]
fn load_8_bytes(bytes: &[u8]) -> __m128i {
    // SAFETY: the slice holds the eight bytes; this load needs no alignment.
    unsafe { _mm_loadl_epi64(bytes[..8].as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn store_4(target: &mut [i16], values: __m128i) {
    // SAFETY: the slice holds the four values; this store needs no alignment.
    unsafe { _mm_storel_epi64(target[..4].as_mut_ptr().cast(), values) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn store_16(target: &mut [i16], values: __m256i) {
    // SAFETY: the slice holds the sixteen values; unaligned stores are allowed.
    unsafe { _mm256_storeu_si256(target[..16].as_mut_ptr().cast(), values) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn store_bytes(target: &mut [u8], bytes: __m128i) {
    // SAFETY: the slice holds the sixteen bytes; unaligned stores are allowed.
    unsafe { _mm_storeu_si128(target[..16].as_mut_ptr().cast(), bytes) }
}
