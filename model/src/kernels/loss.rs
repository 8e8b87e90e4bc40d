//! Mean squared error over masked patches (section 3, "Reconstruction target").

use super::ROWS_PER_TASK;
use super::simd::{multiversion, sum};
use crate::config::Target;
use rayon::prelude::*;

/// Added to a patch's variance before its root divides.
const EPS: f32 = 1e-6;

/// Mean squared error of `predicted` against what `target` makes of `pixels`, both (N, `patch_values`), N the masked
/// patches of the batch. Where `gradient` is given, it takes `weight` times the gradient of that mean by `predicted`.
pub(crate) fn masked_error(
    target: Target,
    patch_values: usize,
    predicted: &[f32],
    pixels: &[f32],
    gradient: Option<(&mut [f32], f32)>,
) -> f32 {
    let values = ROWS_PER_TASK * patch_values;
    let tasks = predicted.par_chunks(values).zip(pixels.par_chunks(values));
    let sums: Vec<f64> = match gradient {
        Some((gradient, weight)) => {
            let scale = 2.0 * weight / predicted.len() as f32;
            let tasks = tasks.zip(gradient.par_chunks_mut(values));
            tasks
                .map(|((predicted, pixels), gradient)| {
                    rows_error(target, patch_values, predicted, pixels, Some((gradient, scale)))
                })
                .collect()
        }
        None => tasks.map(|(predicted, pixels)| rows_error(target, patch_values, predicted, pixels, None)).collect(),
    };
    (sums.iter().sum::<f64>() / predicted.len() as f64) as f32
}

multiversion! {
    /// The sum of squared errors of some rows, and their gradient where it is asked for.
    fn rows_error(
        target: Target,
        width: usize,
        predicted: &[f32],
        pixels: &[f32],
        gradient: Option<(&mut [f32], f32)>,
    ) -> f64 {
        let _ = FMA;
        let statistics = |row: &[f32]| match target {
            Target::Pixels => (0.0, 1.0),
            Target::NormalizedPatches => {
                let mean = sum(width, |i| row[i]) / width as f32;
                let variance = sum(width, |i| (row[i] - mean) * (row[i] - mean)) / (width - 1) as f32;
                (mean, 1.0 / (variance + EPS).sqrt())
            }
        };
        let mut total = 0.0;
        for (predicted, pixels) in predicted.chunks_exact(width).zip(pixels.chunks_exact(width)) {
            let (mean, scale) = statistics(pixels);
            let error = |i: usize| predicted[i] - (pixels[i] - mean) * scale;
            total += f64::from(sum(width, |i| error(i) * error(i)));
        }
        if let Some((gradient, factor)) = gradient {
            let rows = predicted.chunks_exact(width).zip(pixels.chunks_exact(width));
            for ((predicted, pixels), gradient) in rows.zip(gradient.chunks_exact_mut(width)) {
                let (mean, scale) = statistics(pixels);
                for i in 0..width {
                    gradient[i] = factor * (predicted[i] - (pixels[i] - mean) * scale);
                }
            }
        }
        total
    }
}
