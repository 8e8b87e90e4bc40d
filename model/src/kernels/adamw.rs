//! `AdamW` (arXiv 1711.05101), with the bias corrections as `PyTorch` applies them.

use super::VALUES_PER_TASK;
use super::simd::multiversion;
use crate::engine::AdamW;
use rayon::prelude::*;

/// The scalars of one update, worked out once in double precision.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates {
    pub(crate) beta1: f32,
    pub(crate) beta2: f32,
    /// 1 - beta1 and 1 - beta2, rounded after the subtraction.
    pub(crate) complement1: f32,
    pub(crate) complement2: f32,
    pub(crate) eps: f32,
    pub(crate) step: f32,
    pub(crate) root_correction: f32,
    pub(crate) kept: f32,
    /// What the gradient is multiplied by; exactly 1 where nothing is clipped, which changes no bit.
    pub(crate) gradient_scale: f32,
}

impl Rates {
    /// For the update after `updates` earlier ones along a gradient of this norm, of a tensor that decays or not.
    pub(crate) fn new(adamw: &AdamW, updates: u64, gradient_norm: f64, decays: bool) -> Rates {
        let power = (updates + 1) as f64;
        let decay = if decays { adamw.lr * adamw.weight_decay } else { 0.0 };
        Rates {
            beta1: adamw.beta1 as f32,
            beta2: adamw.beta2 as f32,
            complement1: (1.0 - adamw.beta1) as f32,
            complement2: (1.0 - adamw.beta2) as f32,
            eps: adamw.eps as f32,
            step: (adamw.lr / (1.0 - adamw.beta1.powf(power))) as f32,
            root_correction: (1.0 / (1.0 - adamw.beta2.powf(power)).sqrt()) as f32,
            kept: (1.0 - decay) as f32,
            gradient_scale: adamw.clip_norm.map_or(1.0, |clip_norm| (clip_norm / gradient_norm).min(1.0)) as f32,
        }
    }
}

/// One update of a tensor and its moments.
pub(crate) fn update(rates: Rates, weights: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32]) {
    weights
        .par_chunks_mut(VALUES_PER_TASK)
        .zip(gradient.par_chunks(VALUES_PER_TASK))
        .zip(first.par_chunks_mut(VALUES_PER_TASK).zip(second.par_chunks_mut(VALUES_PER_TASK)))
        .for_each(|((weights, gradient), (first, second))| update_chunk(rates, weights, gradient, first, second));
}

/// The sum of squares of a gradient.
pub(crate) fn square_sum(gradient: &[f32]) -> f64 {
    let sums: Vec<f64> = gradient.par_chunks(VALUES_PER_TASK).map(square_sum_chunk).collect();
    sums.iter().sum()
}

multiversion! {
    fn update_chunk(rates: Rates, weights: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32]) {
        let _ = FMA;
        let Rates { beta1, beta2, complement1, complement2, eps, step, root_correction, kept, gradient_scale } = rates;
        let values = weights.iter_mut().zip(gradient).zip(first.iter_mut().zip(second.iter_mut()));
        for ((weight, &gradient), (first, second)) in values {
            let gradient = gradient * gradient_scale;
            *first = beta1 * *first + complement1 * gradient;
            *second = beta2 * *second + complement2 * gradient * gradient;
            *weight = *weight * kept - step * *first / (second.sqrt() * root_correction + eps);
        }
    }
}

multiversion! {
    fn square_sum_chunk(gradient: &[f32]) -> f64 {
        let _ = FMA;
        let mut lanes = [0.0f64; 8];
        let chunks = gradient.chunks_exact(8);
        let rest: f64 = chunks.remainder().iter().map(|&g| f64::from(g) * f64::from(g)).sum();
        for chunk in chunks {
            for (lane, &g) in lanes.iter_mut().zip(chunk) {
                *lane += f64::from(g) * f64::from(g);
            }
        }
        lanes.iter().sum::<f64>() + rest
    }
}
