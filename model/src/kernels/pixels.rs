//! Bytes to normalised floats.

use super::VALUES_PER_TASK;
use super::simd::multiversion;
use crate::engine::{PixelScale, Pixels};
use rayon::prelude::*;

/// Normalises `pixels`, whose last axis is the channel, into `out`; floats are copied as they are.
pub(crate) fn normalise(pixels: Pixels<'_>, scale: &PixelScale, out: &mut [f32]) {
    match pixels {
        Pixels::Floats(values) => out.copy_from_slice(values),
        Pixels::Bytes(bytes) => {
            let (factor, offset) = factor_and_offset(scale);
            let values = VALUES_PER_TASK * 3;
            out.par_chunks_mut(values).zip(bytes.par_chunks(values)).for_each(|(out, bytes)| {
                normalise_chunk(bytes, factor, offset, out);
            });
        }
    }
}

/// What bytes of each channel are multiplied by, and what is added then.
pub(crate) fn factor_and_offset(scale: &PixelScale) -> ([f32; 3], [f32; 3]) {
    let factor = std::array::from_fn(|c| (1.0 / (255.0 * scale.std[c])) as f32);
    (factor, std::array::from_fn(|c| (-scale.mean[c] / scale.std[c]) as f32))
}

multiversion! {
    fn normalise_chunk(bytes: &[u8], factor: [f32; 3], offset: [f32; 3], out: &mut [f32]) {
        let _ = FMA;
        for (out, bytes) in out.chunks_exact_mut(3).zip(bytes.chunks_exact(3)) {
            for c in 0..3 {
                out[c] = f32::from(bytes[c]) * factor[c] + offset[c];
            }
        }
    }
}
