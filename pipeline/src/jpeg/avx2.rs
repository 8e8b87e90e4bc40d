//! The inner loops in AVX2.

#![allow(clippy::wildcard_imports, reason = "the names of intrinsics carry their prefix")]

use std::arch::x86_64::*;

use super::entropy::Block;
use super::idct::{EVEN, FIRST_SHIFT, MATRIX_BITS, ODD, SECOND_SHIFT};
use super::kernels::Kernels;
use super::refusal::Damage;
use super::scan::{PlaneSink, Scan, decode_scan};
use super::segments::Segments;
use crate::simd::Avx2;
use crate::simd::memory::load_8;

impl Kernels for Avx2 {
    #[inline(always)]
    fn idct(self, block: &Block, steps: &[i16; 64], out: &mut [u8], stride: usize) {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { idct(block, steps, out, stride) }
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
