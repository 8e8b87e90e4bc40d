//! The exact GELU, x Φ(x) with Φ the normal distribution function.

use super::VALUES_PER_TASK;
use super::simd::{exp, mul_add, multiversion};
use rayon::prelude::*;

/// 1 / sqrt(2 pi)
const DENSITY_AT_ZERO: f32 = 0.398_942_3;

/// y = x Φ(x).
pub(crate) fn forward(x: &[f32], y: &mut [f32]) {
    y.par_chunks_mut(VALUES_PER_TASK).zip(x.par_chunks(VALUES_PER_TASK)).for_each(|(y, x)| forward_chunk(x, y));
}

/// Turns the gradient of y into that of x, in place: dx = dy (Φ(x) + x φ(x)), φ the normal density.
pub(crate) fn backward(x: &[f32], gradient: &mut [f32]) {
    gradient.par_chunks_mut(VALUES_PER_TASK).zip(x.par_chunks(VALUES_PER_TASK)).for_each(|(gradient, x)| {
        backward_chunk(x, gradient);
    });
}

multiversion! {
    fn forward_chunk(x: &[f32], y: &mut [f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = x * normal::<FMA>(x).0;
        }
    }
}

multiversion! {
    fn backward_chunk(x: &[f32], gradient: &mut [f32]) {
        for (gradient, &x) in gradient.iter_mut().zip(x) {
            let (distribution, bell) = normal::<FMA>(x);
            *gradient *= mul_add::<FMA>(x * DENSITY_AT_ZERO, bell, distribution);
        }
    }
}

/// Φ(x) to 1.5e-7 and exp(-x²/2), of which Φ is made: formula 7.1.26 of Abramowitz and Stegun, "Handbook of
/// Mathematical Functions" (1964).
#[inline(always)]
fn normal<const FMA: bool>(x: f32) -> (f32, f32) {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let bell = exp::<FMA>(-z * z);
    let t = 1.0 / mul_add::<FMA>(0.327_591_1, z, 1.0);
    let mut p = 1.061_405_4;
    for coefficient in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        p = mul_add::<FMA>(p, t, coefficient);
    }
    let upper_tail = 0.5 * p * t * bell;
    (if x < 0.0 { upper_tail } else { 1.0 - upper_tail }, bell)
}

#[cfg(test)]
mod tests {
    use super::super::testing::in_pools;
    use super::*;

    /// Φ by its power series, in double precision.
    fn exact(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..400 {
            term *= x * x / f64::from(2 * n + 1);
            sum += term;
        }
        0.5 + sum * (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt()
    }

    #[test]
    fn gelu_and_its_gradient_match_the_exact_function() {
        let x: Vec<f32> = (-1200..=1200).map(|i| i as f32 * 0.005).collect();
        let y = in_pools(|| {
            let mut y = vec![0.0; x.len()];
            forward(&x, &mut y);
            y
        });
        let mut dx = vec![1.0; x.len()];
        backward(&x, &mut dx);
        for ((&x, &y), &dx) in x.iter().zip(&y).zip(&dx) {
            let x = f64::from(x);
            assert!((f64::from(y) - x * exact(x)).abs() < 1e-6, "gelu({x}) = {y}");
            let density = (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt();
            assert!((f64::from(dx) - (exact(x) + x * density)).abs() < 1e-6, "gelu'({x}) = {dx}");
            let step = 1e-4;
            let difference = ((x + step) * exact(x + step) - (x - step) * exact(x - step)) / (2.0 * step);
            assert!((f64::from(dx) - difference).abs() < 1e-5, "gelu'({x}) = {dx}, by differences {difference}");
        }
    }

    #[test]
    fn extremes_and_nan_pass_through() {
        let x = [-200.0, 200.0, f32::NAN, 0.0];
        let mut y = [1.0; 4];
        forward(&x, &mut y);
        assert!(y[0].abs() < 1e-6 && y[1] > 199.9 && y[2].is_nan() && y[3].abs() < 1e-6);
    }
}
