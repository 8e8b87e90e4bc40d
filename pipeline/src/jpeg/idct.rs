//! Dequantisation and inverse DCT of 8 x 8 blocks (T.81 A.3.3, A.3.4), portable.
//!
//! One dimension after the other, each as the product with the cosine matrix in 13-bit fixed point. The matrix entries are
//! sums of the rounded constants of the factorisation by Loeffler, Ligtenberg and Moschytz (ICASSP 1989), which the
//! reference "slow integer" IDCT of the Independent JPEG Group uses too; integer arithmetic being exact, all its results
//! come out the same, bit by bit, as long as no intermediate leaves 16 bits (and none does for coefficients that came from
//! 8-bit samples). Where one would, this code saturates, the AVX2 one in the same way.

/// Fraction bits of the matrix.
pub(super) const MATRIX_BITS: u32 = 13;
/// Fraction bits kept after the first dimension. The second one takes off these, and a factor of 8.
pub(super) const BETWEEN_BITS: u32 = 2;
pub(super) const FIRST_SHIFT: u32 = MATRIX_BITS - BETWEEN_BITS;
pub(super) const SECOND_SHIFT: u32 = MATRIX_BITS + BETWEEN_BITS + 3;

/// Rows of the matrix for the even outputs' halves: weights of inputs 2 and 6.
pub(super) const EVEN: [[i16; 2]; 2] = [[10703, 4433], [4433, -10704]];

/// Weights of inputs 1, 3, 5, 7 in the odd parts of outputs 0, 1, 2, 3.
pub(super) const ODD: [[i16; 4]; 4] =
    [[11363, 9633, 6437, 2260], [9633, -2259, -11362, -6436], [6437, -11362, 2261, 9633], [2260, -6436, 9633, -11363]];

/// Writes the 8 x 8 samples of a block to `out`, whose rows are `stride` apart.
///
/// `coefficients` and `steps` are in natural order. Products wrap at 16 bits.
pub(super) fn idct_portable(coefficients: &[i16; 64], steps: &[i16; 64], out: &mut [u8], stride: usize) {
    let mut work = [0_i16; 64];
    for (work, (coefficient, step)) in work.iter_mut().zip(coefficients.iter().zip(steps)) {
        *work = coefficient.wrapping_mul(*step);
    }
    for column in 0..8 {
        let input: [i16; 8] = std::array::from_fn(|row| work[row * 8 + column]);
        let output = transform::<FIRST_SHIFT>(input);
        for (row, value) in output.into_iter().enumerate() {
            work[row * 8 + column] = value;
        }
    }
    for (row, input) in work.as_chunks::<8>().0.iter().enumerate() {
        let output = transform::<SECOND_SHIFT>(*input);
        let samples = output.map(|value| (i32::from(value) + 128).clamp(0, 255) as u8);
        out[row * stride..][..8].copy_from_slice(&samples);
    }
}

/// The same for a block whose only coefficient is the first.
#[inline(always)]
pub(super) fn idct_flat(coefficient: i16, step: i16, out: &mut [u8], stride: usize) {
    // Both dimensions only scale it: by 1 << BETWEEN_BITS, saturated, and back by as much and a factor of 8.
    let once = (i32::from(coefficient.wrapping_mul(step)) << BETWEEN_BITS).clamp(i16::MIN.into(), i16::MAX.into());
    let twice = (once + (1 << (BETWEEN_BITS + 2))) >> (BETWEEN_BITS + 3);
    let samples = [(twice + 128).clamp(0, 255) as u8; 8];
    for row in 0..8 {
        out[row * stride..][..8].copy_from_slice(&samples);
    }
}

/// One dimension: eight inputs to eight outputs, rounded by `SHIFT` bits.
fn transform<const SHIFT: u32>(input: [i16; 8]) -> [i16; 8] {
    let x = input.map(i32::from);
    let pair = |weights: [i16; 2], a: i32, b: i32| i32::from(weights[0]) * a + i32::from(weights[1]) * b;
    let sum = (x[0] + x[4]) << MATRIX_BITS;
    let difference = (x[0] - x[4]) << MATRIX_BITS;
    let (outer, inner) = (pair(EVEN[0], x[2], x[6]), pair(EVEN[1], x[2], x[6]));
    let even = [
        sum.wrapping_add(outer),
        difference.wrapping_add(inner),
        difference.wrapping_sub(inner),
        sum.wrapping_sub(outer),
    ];
    let mut output = [0; 8];
    for (index, weights) in ODD.iter().enumerate() {
        let odd = pair([weights[0], weights[1]], x[1], x[3]).wrapping_add(pair([weights[2], weights[3]], x[5], x[7]));
        let half = 1 << (SHIFT - 1);
        let round = |value: i32| (value.wrapping_add(half) >> SHIFT).clamp(i16::MIN.into(), i16::MAX.into()) as i16;
        output[index] = round(even[index].wrapping_add(odd));
        output[7 - index] = round(even[index].wrapping_sub(odd));
    }
    output
}
