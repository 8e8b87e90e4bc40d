//! L-BFGS (Nocedal and Wright, *Numerical Optimization*, algorithm 7.5) for smooth convex functions.

use std::collections::VecDeque;

/// Pairs of steps and gradient changes that the curvature is estimated from.
const HISTORY: usize = 10;
/// Share of the decrease that the gradient promises which a step must bring.
const ENOUGH: f64 = 1e-4;
const HALVINGS_MAX: u32 = 30;

/// How a minimisation ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Minimum {
    pub(crate) value: f64,
    pub(crate) iterations: u32,
    /// Whether the gradient's largest part fell below the tolerance.
    pub(crate) converged: bool,
}

/// Moves `x` to a minimum of `function`, which writes the gradient at a place and gives back the value.
///
/// A step is halved until the value falls enough. For a convex function that keeps the estimate of the curvature
/// positive, so nothing more is asked of a step.
pub(crate) fn minimise(
    x: &mut [f64],
    mut function: impl FnMut(&[f64], &mut [f64]) -> f64,
    tolerance: f64,
    iterations_max: u32,
) -> Minimum {
    let mut gradient = vec![0.0; x.len()];
    let mut value = function(x, &mut gradient);
    let mut history: VecDeque<(Vec<f64>, Vec<f64>)> = VecDeque::new();
    let (mut next, mut next_gradient) = (x.to_vec(), gradient.clone());
    for iterations in 0..iterations_max {
        if gradient.iter().all(|part| part.abs() <= tolerance) {
            return Minimum { value, iterations, converged: true };
        }
        let direction = descent(&gradient, &history);
        let slope = dot(&gradient, &direction);
        // Nothing is known of the curvature at first: a step of length one at most is a safe guess.
        let mut step = if history.is_empty() { 1.0 / dot(&gradient, &gradient).sqrt().max(1.0) } else { 1.0 };
        let mut halvings = 0;
        let next_value = loop {
            for ((next, x), direction) in next.iter_mut().zip(&*x).zip(&direction) {
                *next = x + step * direction;
            }
            let reached = function(&next, &mut next_gradient);
            if reached <= value + ENOUGH * step * slope {
                break reached;
            }
            halvings += 1;
            if halvings == HALVINGS_MAX {
                // Rounding hides any further decrease.
                return Minimum { value, iterations, converged: false };
            }
            step *= 0.5;
        };
        let moved: Vec<f64> = next.iter().zip(&*x).map(|(next, x)| next - x).collect();
        let changed: Vec<f64> = next_gradient.iter().zip(&gradient).map(|(next, old)| next - old).collect();
        if dot(&moved, &changed) > f64::EPSILON * dot(&changed, &changed) {
            if history.len() == HISTORY {
                history.pop_front();
            }
            history.push_back((moved, changed));
        }
        x.copy_from_slice(&next);
        std::mem::swap(&mut gradient, &mut next_gradient);
        value = next_value;
    }
    Minimum { value, iterations: iterations_max, converged: false }
}

/// The two loops: minus the estimated inverse Hessian times the gradient.
fn descent(gradient: &[f64], history: &VecDeque<(Vec<f64>, Vec<f64>)>) -> Vec<f64> {
    let mut direction: Vec<f64> = gradient.iter().map(|part| -part).collect();
    let mut shares = Vec::with_capacity(history.len());
    for (moved, changed) in history.iter().rev() {
        let share = dot(moved, &direction) / dot(moved, changed);
        add(&mut direction, -share, changed);
        shares.push(share);
    }
    if let Some((moved, changed)) = history.back() {
        let scale = dot(moved, changed) / dot(changed, changed);
        for part in &mut direction {
            *part *= scale;
        }
    }
    for ((moved, changed), share) in history.iter().zip(shares.into_iter().rev()) {
        let correction = dot(changed, &direction) / dot(moved, changed);
        add(&mut direction, share - correction, moved);
    }
    direction
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], factor: f64, what: &[f64]) {
    to.iter_mut().zip(what).for_each(|(to, what)| *to += factor * what);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_badly_scaled_quadratic_is_solved() {
        let scales: Vec<f64> = (0..30).map(|i| 10_f64.powf(f64::from(i) / 10.0)).collect();
        let mut x = vec![0.0; scales.len()];
        let function = |x: &[f64], gradient: &mut [f64]| {
            let mut value = 0.0;
            for ((x, gradient), scale) in x.iter().zip(gradient).zip(&scales) {
                *gradient = scale * (x - 1.0);
                value += 0.5 * scale * (x - 1.0).powi(2);
            }
            value
        };
        let minimum = minimise(&mut x, function, 1e-9, 500);
        assert!(minimum.converged && minimum.iterations < 300, "{minimum:?}");
        assert!(x.iter().all(|x| (x - 1.0).abs() < 1e-6), "{x:?}");
    }

    #[test]
    fn a_function_that_is_not_a_number_ends_at_once() {
        let mut x = vec![1.0];
        let minimum = minimise(
            &mut x,
            |_, gradient| {
                gradient[0] = f64::NAN;
                f64::NAN
            },
            1e-6,
            100,
        );
        assert!(!minimum.converged && minimum.iterations == 0);
    }
}
