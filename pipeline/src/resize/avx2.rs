//! The inner loops in AVX2.

#![allow(clippy::wildcard_imports, reason = "the names of intrinsics carry their prefix")]

use std::arch::x86_64::*;

use super::kernels::{
    BLUE_CB, CHROMA_ZERO, Column, FRACTION_BITS, FULL_BLUE_CB, FULL_GREEN_CB, FULL_GREEN_CR, FULL_RED_CR, GREEN_CB,
    GREEN_CR, Kernels, LANES, RED_CR, doubling_rounds,
};
use super::weights::{AxisWeights, WEIGHT_BITS};
use crate::simd::Avx2;
use crate::simd::memory::{self, load_8, load_16, load_16_bytes, load_places, store_16, store_16_bytes};

/// Defines the methods of [`Kernels`] as calls of the functions of this file of the same name.
macro_rules! kernels {
    ($(fn $name:ident $(<const $shift:ident: i32>)? ($($argument:ident: $kind:ty),* $(,)?);)*) => {
        impl Kernels for Avx2 {
            $(#[inline(always)]
            fn $name $(<const $shift: i32>)? (self, $($argument: $kind),*) {
                // SAFETY: `self` proves that the processor has the instructions.
                unsafe { $name $(::<$shift>)? ($($argument),*) }
            })*
        }
    };
}

kernels! {
    fn transpose(rows: [&[u8]; LANES], columns: &mut [Column]);
    fn horizontal(columns: &[Column], step: usize, weights: &AxisWeights, target: &mut [u8], stride: usize);
    fn prefetch(rows: [&[u8]; LANES]);
    fn vertical(source: &[u8], stride: usize, weights: &[i32], target: &mut [i16]);
    fn ycc_to_rgb(ycc: [&[i16]; 3], target: &mut [u8]);
    fn interleave(rgb: [&[i16]; 3], target: &mut [u8]);
    fn widen(samples: &[u8], target: &mut [i16]);
    fn near_and_far(near: &[u8], far: &[u8], sums: &mut [i16]);
    fn double<const SHIFT: i32>(sums: &[i16], target: &mut [i16]);
    fn whole_ycc_to_rgb(luma: &[u8], cb: &[i16], cr: &[i16], rgb: [&mut [u8]; 3]);
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn transpose(rows: [&[u8]; LANES], columns: &mut [Column]) {
    let count = columns.len();
    let mut start = 0;
    while start < count {
        // The last block begins earlier where it would reach beyond the rows.
        start = start.min(count.max(LANES) - LANES);
        let mut x = [_mm256_setzero_si256(); 8];
        for row in 0..8 {
            let (upper, lower) = (load_16_bytes(&rows[row][start..]), load_16_bytes(&rows[row + 8][start..]));
            x[row] = _mm256_set_m128i(lower, upper);
        }
        // Each half of a vector holds 16 columns of a row; after three rounds, two columns of eight rows.
        let x = interleave_rows(interleave_rows(interleave_rows(x)));
        let zero = _mm256_setzero_si256();
        for (pair, x) in x.into_iter().enumerate() {
            let even = _mm256_unpacklo_epi8(x, zero);
            let odd = _mm256_unpackhi_epi8(x, zero);
            if let Some(column) = columns.get_mut(start + 2 * pair) {
                store_16(&mut column.0, even);
            }
            if let Some(column) = columns.get_mut(start + 2 * pair + 1) {
                store_16(&mut column.0, odd);
            }
        }
        start += LANES;
    }
}

/// One round of a transposition of bytes: interleaves each vector with the one four further on.
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
#[inline]
fn interleave_rows(x: [__m256i; 8]) -> [__m256i; 8] {
    [
        _mm256_unpacklo_epi8(x[0], x[4]),
        _mm256_unpackhi_epi8(x[0], x[4]),
        _mm256_unpacklo_epi8(x[1], x[5]),
        _mm256_unpackhi_epi8(x[1], x[5]),
        _mm256_unpacklo_epi8(x[2], x[6]),
        _mm256_unpackhi_epi8(x[2], x[6]),
        _mm256_unpacklo_epi8(x[3], x[7]),
        _mm256_unpackhi_epi8(x[3], x[7]),
    ]
}

/// The steps of planes and of interleaved pixels, and the usual numbers of taps, get loops of their own.
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn horizontal(columns: &[Column], step: usize, weights: &AxisWeights, target: &mut [u8], stride: usize) {
    match (step, weights.pairs) {
        (1, 2) => horizontal_of::<1, 2>(columns, step, weights, target, stride),
        (1, 3) => horizontal_of::<1, 3>(columns, step, weights, target, stride),
        (1, 4) => horizontal_of::<1, 4>(columns, step, weights, target, stride),
        (1, 5) => horizontal_of::<1, 5>(columns, step, weights, target, stride),
        (3, 2) => horizontal_of::<3, 2>(columns, step, weights, target, stride),
        (3, 3) => horizontal_of::<3, 3>(columns, step, weights, target, stride),
        (3, 4) => horizontal_of::<3, 4>(columns, step, weights, target, stride),
        (3, 5) => horizontal_of::<3, 5>(columns, step, weights, target, stride),
        _ => horizontal_of::<0, 0>(columns, step, weights, target, stride),
    }
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
#[inline]
fn horizontal_of<const STEP: usize, const PAIRS: usize>(
    columns: &[Column],
    step: usize,
    weights: &AxisWeights,
    target: &mut [u8],
    stride: usize,
) {
    let step = if STEP == 0 { step } else { STEP };
    let pairs = if PAIRS == 0 { weights.pairs } else { PAIRS };
    for (block, starts) in weights.starts.as_chunks::<LANES>().0.iter().enumerate() {
        let weights = &weights.weights[block * LANES * pairs..][..LANES * pairs];
        let mut places = [_mm256_setzero_si256(); LANES];
        for (place, start) in starts.iter().enumerate() {
            let columns = &columns[*start as usize * step..][..=(2 * pairs - 1) * step];
            let mut low = _mm256_set1_epi32(1 << (WEIGHT_BITS - 1));
            let mut high = low;
            for pair in 0..pairs {
                let first = load_16(&columns[2 * pair * step].0);
                let second = load_16(&columns[(2 * pair + 1) * step].0);
                let weights = _mm256_set1_epi32(weights[place * pairs + pair]);
                low = _mm256_add_epi32(low, _mm256_madd_epi16(_mm256_unpacklo_epi16(first, second), weights));
                high = _mm256_add_epi32(high, _mm256_madd_epi16(_mm256_unpackhi_epi16(first, second), weights));
            }
            let (low, high) =
                (_mm256_srai_epi32::<{ WEIGHT_BITS as i32 }>(low), _mm256_srai_epi32::<{ WEIGHT_BITS as i32 }>(high));
            places[place] = _mm256_packs_epi32(low, high);
        }
        store_rows(&places, &mut target[block * LANES..], stride);
    }
}

/// Writes 16 columns of 16 values to rows of bytes, clamped.
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
#[inline]
fn store_rows(columns: &[__m256i; LANES], target: &mut [u8], stride: usize) {
    let mut x = [_mm256_setzero_si256(); 8];
    for column in 0..8 {
        // In each half eight rows of this column, then of the one eight further on.
        x[column] = _mm256_packus_epi16(columns[column], columns[column + 8]);
    }
    // After one round, the columns up to eight stand apart from those beyond; two more rounds each give two whole rows.
    let x = interleave_rows(x);
    let near = interleave_four(interleave_four([x[0], x[2], x[4], x[6]]));
    let far = interleave_four(interleave_four([x[1], x[3], x[5], x[7]]));
    for pair in 0..4 {
        let even = _mm256_unpacklo_epi64(near[pair], far[pair]);
        let odd = _mm256_unpackhi_epi64(near[pair], far[pair]);
        for (row, pixels) in [(2 * pair, even), (2 * pair + 1, odd)] {
            store_16_bytes(&mut target[row * stride..], _mm256_castsi256_si128(pixels));
            store_16_bytes(&mut target[(row + 8) * stride..], _mm256_extracti128_si256::<1>(pixels));
        }
    }
}

/// As [`interleave_rows`], with the vector two further on.
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
#[inline]
fn interleave_four(x: [__m256i; 4]) -> [__m256i; 4] {
    [
        _mm256_unpacklo_epi8(x[0], x[2]),
        _mm256_unpackhi_epi8(x[0], x[2]),
        _mm256_unpacklo_epi8(x[1], x[3]),
        _mm256_unpackhi_epi8(x[1], x[3]),
    ]
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn prefetch(rows: [&[u8]; LANES]) {
    for row in rows {
        memory::prefetch(row);
    }
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn vertical(source: &[u8], stride: usize, weights: &[i32], target: &mut [i16]) {
    const SHIFT: i32 = (WEIGHT_BITS - FRACTION_BITS) as i32;
    for (block, target) in target.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        let mut low = _mm256_set1_epi32(1 << (SHIFT - 1));
        let mut high = low;
        let mut start = block * LANES;
        for pair in weights {
            let first = _mm256_cvtepu8_epi16(load_16_bytes(&source[start..]));
            let second = _mm256_cvtepu8_epi16(load_16_bytes(&source[start + stride..]));
            let weights = _mm256_set1_epi32(*pair);
            low = _mm256_add_epi32(low, _mm256_madd_epi16(_mm256_unpacklo_epi16(first, second), weights));
            high = _mm256_add_epi32(high, _mm256_madd_epi16(_mm256_unpackhi_epi16(first, second), weights));
            start += 2 * stride;
        }
        let packed = _mm256_packs_epi32(_mm256_srai_epi32::<SHIFT>(low), _mm256_srai_epi32::<SHIFT>(high));
        store_16(target, packed);
    }
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn ycc_to_rgb([luma, cb, cr]: [&[i16]; 3], target: &mut [u8]) {
    let zero = _mm256_set1_epi16(CHROMA_ZERO);
    for (block, target) in target.chunks_mut(3 * LANES).enumerate() {
        let luma = load_16(&luma[block * LANES..]);
        let cb = _mm256_subs_epi16(load_16(&cb[block * LANES..]), zero);
        let cr = _mm256_subs_epi16(load_16(&cr[block * LANES..]), zero);
        let red = _mm256_adds_epi16(_mm256_adds_epi16(luma, cr), scale(cr, RED_CR));
        let green = _mm256_subs_epi16(_mm256_subs_epi16(luma, scale(cb, GREEN_CB)), scale(cr, GREEN_CR));
        let blue = _mm256_adds_epi16(_mm256_adds_epi16(luma, cb), scale(cb, BLUE_CB));
        store_rgb(to_bytes(red), to_bytes(green), to_bytes(blue), target);
    }
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn interleave([red, green, blue]: [&[i16]; 3], target: &mut [u8]) {
    for (block, target) in target.chunks_mut(3 * LANES).enumerate() {
        let start = block * LANES;
        let [red, green, blue] = [red, green, blue].map(|row| to_bytes(load_16(&row[start..])));
        store_rgb(red, green, blue, target);
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
    pack(_mm256_srai_epi16::<{ FRACTION_BITS as i32 }>(_mm256_adds_epi16(value, half)))
}

/// Sixteen values to bytes, clamped.
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
#[inline]
fn pack(value: __m256i) -> __m128i {
    _mm_packus_epi16(_mm256_castsi256_si128(value), _mm256_extracti128_si256::<1>(value))
}

/// Writes up to sixteen pixels, as many as `target` holds, as interleaved RGB.
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
#[inline]
fn store_rgb(red: __m128i, green: __m128i, blue: __m128i, target: &mut [u8]) {
    let parts = interleave_rgb(red, green, blue);
    if target.len() == 3 * LANES {
        for (part, target) in parts.into_iter().zip(target.as_chunks_mut::<16>().0) {
            store_16_bytes(target, part);
        }
        return;
    }
    let mut whole = [0; 3 * LANES];
    for (part, whole) in parts.into_iter().zip(whole.as_chunks_mut::<16>().0) {
        store_16_bytes(whole, part);
    }
    let bytes = target.len();
    target.copy_from_slice(&whole[..bytes]);
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

/// Simple enough for the compiler to find the instructions.
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn widen(samples: &[u8], target: &mut [i16]) {
    for (target, sample) in target.iter_mut().zip(samples) {
        *target = i16::from(*sample);
    }
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn near_and_far(near: &[u8], far: &[u8], sums: &mut [i16]) {
    for (sum, (near, far)) in sums.iter_mut().zip(near.iter().zip(far)) {
        *sum = 3 * i16::from(*near) + i16::from(*far);
    }
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn double<const SHIFT: i32>(sums: &[i16], target: &mut [i16]) {
    let [round_left, round_right] = doubling_rounds(SHIFT).map(|round| _mm_set1_epi16(round));
    for (block, target) in target.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        let start = block * LANES / 2;
        let (left, this, right) = (load_8(&sums[start..]), load_8(&sums[start + 1..]), load_8(&sums[start + 2..]));
        let thrice = _mm_add_epi16(_mm_add_epi16(this, this), this);
        let left = _mm_srai_epi16::<SHIFT>(_mm_add_epi16(_mm_add_epi16(thrice, left), round_left));
        let right = _mm_srai_epi16::<SHIFT>(_mm_add_epi16(_mm_add_epi16(thrice, right), round_right));
        store_16(target, _mm256_set_m128i(_mm_unpackhi_epi16(left, right), _mm_unpacklo_epi16(left, right)));
    }
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn whole_ycc_to_rgb(luma: &[u8], cb: &[i16], cr: &[i16], [red, green, blue]: [&mut [u8]; 3]) {
    let center = _mm256_set1_epi16(128);
    let (red_weight, blue_weight) = (_mm256_set1_epi16(FULL_RED_CR as i16), _mm256_set1_epi16(FULL_BLUE_CB as i16));
    let green_weights = _mm256_set1_epi32(FULL_GREEN_CB & 0xFFFF | FULL_GREEN_CR << 16);
    let (one, half) = (_mm256_set1_epi16(1), _mm256_set1_epi32(1 << 15));
    // The product of the doubled value keeps one bit more than it should; it rounds.
    let times = |value, weight| {
        let product = _mm256_mulhi_epi16(_mm256_add_epi16(value, value), weight);
        _mm256_srai_epi16::<1>(_mm256_add_epi16(product, one))
    };
    let mut start = 0;
    while start < red.len() {
        let luma = _mm256_cvtepu8_epi16(load_16_bytes(&luma[start..]));
        let cb = _mm256_sub_epi16(load_16(&cb[start..]), center);
        let cr = _mm256_sub_epi16(load_16(&cr[start..]), center);
        let weigh = |pairs| _mm256_srai_epi32::<16>(_mm256_add_epi32(_mm256_madd_epi16(pairs, green_weights), half));
        let green_part = _mm256_packs_epi32(weigh(_mm256_unpacklo_epi16(cb, cr)), weigh(_mm256_unpackhi_epi16(cb, cr)));
        let red_value = _mm256_add_epi16(_mm256_add_epi16(luma, cr), times(cr, red_weight));
        let green_value = _mm256_add_epi16(_mm256_sub_epi16(luma, cr), green_part);
        let blue_value = _mm256_add_epi16(_mm256_add_epi16(luma, _mm256_add_epi16(cb, cb)), times(cb, blue_weight));
        store_16_bytes(&mut red[start..], pack(red_value));
        store_16_bytes(&mut green[start..], pack(green_value));
        store_16_bytes(&mut blue[start..], pack(blue_value));
        start += LANES;
    }
}
