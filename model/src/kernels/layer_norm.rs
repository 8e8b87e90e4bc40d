//! Layer normalisation over the last axis, eps 1e-6.

use super::columns::add_partial;
use super::simd::{mul_add, multiversion, sum};
use super::{ROWS_PER_TASK, Write};
use rayon::prelude::*;

const EPS: f32 = 1e-6;

/// y = (x - mean) / sqrt(variance + eps) * weight + bias for each row of `x` (N, D). `statistics` (N, 2) takes each
/// row's mean and reciprocal deviation, for [`backward`].
pub(crate) fn forward(x: &[f32], weight: &[f32], bias: &[f32], y: &mut [f32], statistics: &mut [f32]) {
    let values = ROWS_PER_TASK * weight.len();
    y.par_chunks_mut(values)
        .zip(x.par_chunks(values))
        .zip(statistics.par_chunks_mut(ROWS_PER_TASK * 2))
        .for_each(|((y, x), statistics)| forward_rows(x, weight, bias, y, statistics));
}

/// What the backward pass keeps of the forward one.
#[derive(Clone, Copy)]
pub(crate) struct Saved<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) weight: &'a [f32],
    pub(crate) statistics: &'a [f32],
}

/// From the gradient of y: that of x into `dx`, and those of weight and bias into `d_weight` and `d_bias`.
pub(crate) fn backward(
    saved: Saved<'_>,
    dy: &[f32],
    (dx, dx_write): (&mut [f32], Write),
    (d_weight, d_weight_write): (&mut [f32], Write),
    (d_bias, d_bias_write): (&mut [f32], Write),
) {
    let width = saved.weight.len();
    let values = ROWS_PER_TASK * width;
    let tasks = dy.len().div_ceil(values);
    let mut weight_sums = vec![0.0; tasks * width];
    let mut bias_sums = vec![0.0; tasks * width];
    dx.par_chunks_mut(values)
        .zip(dy.par_chunks(values))
        .zip(saved.x.par_chunks(values))
        .zip(saved.statistics.par_chunks(ROWS_PER_TASK * 2))
        .zip(weight_sums.par_chunks_exact_mut(width).zip(bias_sums.par_chunks_exact_mut(width)))
        .for_each(|((((dx, dy), x), statistics), (weight_sums, bias_sums))| {
            let saved = Saved { x, weight: saved.weight, statistics };
            backward_rows(saved, dy, dx, dx_write, weight_sums, bias_sums);
        });
    add_partial(&weight_sums, d_weight, d_weight_write);
    add_partial(&bias_sums, d_bias, d_bias_write);
}

multiversion! {
    fn forward_rows(x: &[f32], weight: &[f32], bias: &[f32], y: &mut [f32], statistics: &mut [f32]) {
        let width = weight.len();
        let rows = y.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(statistics.chunks_exact_mut(2));
        for ((y, x), statistics) in rows {
            let mean = sum(width, |i| x[i]) / width as f32;
            let variance = sum(width, |i| (x[i] - mean) * (x[i] - mean)) / width as f32;
            let scale = 1.0 / (variance + EPS).sqrt();
            statistics[0] = mean;
            statistics[1] = scale;
            for (((y, &x), &weight), &bias) in y.iter_mut().zip(x).zip(weight).zip(bias) {
                *y = mul_add::<FMA>((x - mean) * scale, weight, bias);
            }
        }
    }
}

multiversion! {
    fn backward_rows(
        saved: Saved<'_>,
        dy: &[f32],
        dx: &mut [f32],
        dx_write: Write,
        weight_sums: &mut [f32],
        bias_sums: &mut [f32],
    ) {
        let Saved { x, weight, statistics } = saved;
        let width = weight.len();
        let rows = dx.chunks_exact_mut(width).zip(dy.chunks_exact(width)).zip(x.chunks_exact(width));
        for (((dx, dy), x), statistics) in rows.zip(statistics.chunks_exact(2)) {
            let (mean, scale) = (statistics[0], statistics[1]);
            let gradient_mean = sum(width, |i| dy[i] * weight[i]) / width as f32;
            let product_mean = sum(width, |i| dy[i] * weight[i] * ((x[i] - mean) * scale)) / width as f32;
            for i in 0..width {
                let normal = (x[i] - mean) * scale;
                weight_sums[i] = mul_add::<FMA>(dy[i], normal, weight_sums[i]);
                bias_sums[i] += dy[i];
                let gradient = (mul_add::<FMA>(dy[i], weight[i], -gradient_mean) - normal * product_mean) * scale;
                dx[i] = if dx_write == Write::Add { dx[i] + gradient } else { gradient };
            }
        }
    }
}
