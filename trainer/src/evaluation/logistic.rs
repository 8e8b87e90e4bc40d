//! A linear classifier on frozen features: batch norm without affine parameters, then softmax regression by L-BFGS.

use rayon::prelude::*;

use super::lbfgs::{self, Minimum};
use super::{Accuracy, place_of};
use crate::evaluation::features::Labelled;

/// Added to variances, as PyTorch's batch norm does.
const EPS: f64 = 1e-5;
/// Parts of the data whose gradients are summed apart. Their number is fixed, so that the sum does not depend on threads.
const PARTS: usize = 16;
/// Rows that share a pass over the weights.
const ROWS_AT_ONCE: usize = 8;
/// Of the gradient's largest part.
const TOLERANCE: f64 = 1e-5;
/// Strengths tried when none is given, strongest first, so that of equals the simplest model wins.
const STRENGTHS: [f64; 5] = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5];
const HELD_OUT_EVERY: usize = 10;

/// Normalised features and their classes.
struct Rows<'a> {
    /// (N, D)
    values: Vec<f32>,
    labels: Vec<usize>,
    width: usize,
    normalise: &'a Normalise,
}

/// Mean and inverse deviation of each feature over the training set.
struct Normalise {
    mean: Vec<f64>,
    scale: Vec<f64>,
}

/// What a probe came to.
pub(crate) struct Probe {
    pub(crate) train: Accuracy,
    pub(crate) test: Accuracy,
    pub(crate) l2: f64,
    pub(crate) minimum: Minimum,
}

/// Fits a linear classifier to `train` and measures it on `test`. Without `l2` its strength is chosen on training rows
/// that are held out, and then all are fitted; the test set has no part in it.
pub(crate) fn probe(train: &Labelled, test: &Labelled, classes: usize, l2: Option<f64>, iterations_max: u32) -> Probe {
    let normalise = Normalise::of(train);
    let all: Vec<usize> = (0..train.rows()).collect();
    let rows = Rows::select(train, &all, &normalise);
    let l2 = l2.unwrap_or_else(|| choose_strength(train, classes, &normalise, iterations_max));
    let (weights, minimum) = fit(&rows, classes, l2, iterations_max);
    let test_rows: Vec<usize> = (0..test.rows()).collect();
    let test = measure(&weights, classes, &Rows::select(test, &test_rows, rows.normalise));
    Probe { train: measure(&weights, classes, &rows), test, l2, minimum }
}

fn choose_strength(train: &Labelled, classes: usize, normalise: &Normalise, iterations_max: u32) -> f64 {
    let (held, kept): (Vec<usize>, Vec<usize>) = (0..train.rows()).partition(|row| row % HELD_OUT_EVERY == 0);
    if kept.is_empty() {
        return STRENGTHS[0];
    }
    let (held, kept) = (Rows::select(train, &held, normalise), Rows::select(train, &kept, normalise));
    let mut best = (f64::NEG_INFINITY, STRENGTHS[0]);
    for l2 in STRENGTHS {
        let accuracy = measure(&fit(&kept, classes, l2, iterations_max).0, classes, &held);
        tracing::info!(l2, held_out_top1 = accuracy.top1, "strength tried");
        if accuracy.top1 > best.0 {
            best = (accuracy.top1, l2);
        }
    }
    best.1
}

impl Normalise {
    fn of(train: &Labelled) -> Self {
        let (width, count) = (train.width, train.rows() as f64);
        let mut mean = vec![0.0; width];
        for row in train.values.chunks_exact(width) {
            mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += f64::from(*value) / count);
        }
        let mut variance = vec![0.0; width];
        for row in train.values.chunks_exact(width) {
            for ((variance, value), mean) in variance.iter_mut().zip(row).zip(&mean) {
                *variance += (f64::from(*value) - mean).powi(2) / count;
            }
        }
        Self { mean, scale: variance.into_iter().map(|variance| 1.0 / (variance + EPS).sqrt()).collect() }
    }
}

impl<'a> Rows<'a> {
    fn select(set: &Labelled, rows: &[usize], normalise: &'a Normalise) -> Self {
        let mut values = Vec::with_capacity(rows.len() * set.width);
        for &row in rows {
            let parts = set.row(row).iter().zip(&normalise.mean).zip(&normalise.scale);
            values.extend(parts.map(|((value, mean), scale)| ((f64::from(*value) - mean) * scale) as f32));
        }
        let labels = rows.iter().map(|&row| set.labels[row]).collect();
        Self { values, labels, width: set.width, normalise }
    }
}

/// Weights (D + 1, K), the last row being the biases: minimum of mean cross-entropy + l2 / 2 of the squared weights.
fn fit(rows: &Rows<'_>, classes: usize, l2: f64, iterations_max: u32) -> (Vec<f32>, Minimum) {
    let mut weights = vec![0.0; (rows.width + 1) * classes];
    let decaying = rows.width * classes;
    let function = |weights: &[f64], gradient: &mut [f64]| {
        let single: Vec<f32> = weights.iter().map(|weight| *weight as f32).collect();
        let per_part = rows.labels.len().div_ceil(PARTS);
        let parts = rows.values.par_chunks(per_part * rows.width).zip(rows.labels.par_chunks(per_part));
        let sums: Vec<(f64, Vec<f32>)> =
            parts.map(|(values, labels)| part_gradient(&single, classes, rows.width, values, labels)).collect();
        let count = rows.labels.len() as f64;
        gradient.fill(0.0);
        for (_, sum) in &sums {
            gradient.iter_mut().zip(sum).for_each(|(gradient, part)| *gradient += f64::from(*part) / count);
        }
        for (gradient, weight) in gradient[..decaying].iter_mut().zip(weights) {
            *gradient += l2 * weight;
        }
        let squares: f64 = weights[..decaying].iter().map(|weight| weight * weight).sum();
        sums.iter().map(|(loss, _)| loss).sum::<f64>() / count + 0.5 * l2 * squares
    };
    let minimum = lbfgs::minimise(&mut weights, function, TOLERANCE, iterations_max);
    (weights.into_iter().map(|weight| weight as f32).collect(), minimum)
}

/// Cross-entropy of some rows and its gradient, both summed.
fn part_gradient(weights: &[f32], classes: usize, width: usize, values: &[f32], labels: &[usize]) -> (f64, Vec<f32>) {
    let mut gradient = vec![0.0; weights.len()];
    let mut loss = 0.0;
    for (values, labels) in values.chunks(ROWS_AT_ONCE * width).zip(labels.chunks(ROWS_AT_ONCE)) {
        let mut scores = scores(weights, classes, width, values);
        for (scores, label) in scores.chunks_exact_mut(classes).zip(labels) {
            loss += softmax_less_label(scores, *label);
        }
        for (feature, gradient) in gradient.chunks_exact_mut(classes).enumerate() {
            for (row, difference) in values.chunks_exact(width).zip(scores.chunks_exact(classes)) {
                let value = row.get(feature).copied().unwrap_or(1.0);
                gradient.iter_mut().zip(difference).for_each(|(gradient, part)| *gradient += value * part);
            }
        }
    }
    (loss, gradient)
}

/// (rows, K)
fn scores(weights: &[f32], classes: usize, width: usize, values: &[f32]) -> Vec<f32> {
    let (weights, bias) = weights.split_at(width * classes);
    let mut scores = bias.repeat(values.len() / width);
    for (feature, weights) in weights.chunks_exact(classes).enumerate() {
        for (scores, row) in scores.chunks_exact_mut(classes).zip(values.chunks_exact(width)) {
            scores.iter_mut().zip(weights).for_each(|(score, weight)| *score += row[feature] * weight);
        }
    }
    scores
}

/// Turns scores into probabilities less one for the right class, which is the gradient, and gives back the loss.
fn softmax_less_label(scores: &mut [f32], label: usize) -> f64 {
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let right = scores[label] - highest;
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - highest).exp();
        sum += *score;
    }
    for score in scores.iter_mut() {
        *score /= sum;
    }
    scores[label] -= 1.0;
    f64::from(sum.ln() - right)
}

fn measure(weights: &[f32], classes: usize, rows: &Rows<'_>) -> Accuracy {
    let places: Vec<usize> = rows
        .values
        .par_chunks(rows.width)
        .zip(&rows.labels)
        .map(|(row, label)| {
            let scores: Vec<f64> = scores(weights, classes, rows.width, row).into_iter().map(f64::from).collect();
            place_of(*label, &scores)
        })
        .collect();
    Accuracy::of_places(&places)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three clouds that a line between each two of them separates, on a badly scaled plane.
    fn clouds(rows: usize, salt: usize) -> Labelled {
        let mut set = Labelled { width: 2, values: Vec::new(), labels: Vec::new(), class_names: Vec::new() };
        for row in 0..rows {
            let class = row % 3;
            let noise = |by: usize| ((row * by + salt) % 17) as f32 / 17.0 - 0.5;
            let (x, y) = [(0.0, 0.0), (2.0, 0.0), (0.0, 2.0)][class];
            set.values.extend([1000.0 * (x + noise(5)), 0.01 * (y + noise(7))]);
            set.labels.push(class);
        }
        set
    }

    #[test]
    fn separable_classes_are_separated() {
        let probe = probe(&clouds(300, 1), &clouds(60, 4), 3, None, 500);
        assert!(probe.minimum.converged, "{:?}", probe.minimum);
        assert_eq!((probe.train.top1, probe.test.top1), (1.0, 1.0));
    }

    #[test]
    fn the_gradient_is_that_of_the_loss() {
        let set = clouds(30, 2);
        let normalise = Normalise::of(&set);
        let rows = Rows::select(&set, &(0..30).collect::<Vec<_>>(), &normalise);
        let at: Vec<f32> = (0..9).map(|i| 0.1 * i as f32 - 0.3).collect();
        let (_, gradient) = part_gradient(&at, 3, 2, &rows.values, &rows.labels);
        for place in 0..at.len() {
            let loss = |shift: f32| {
                let mut moved = at.clone();
                moved[place] += shift;
                part_gradient(&moved, 3, 2, &rows.values, &rows.labels).0
            };
            let expected = (loss(1e-2) - loss(-1e-2)) / 2e-2;
            assert!((f64::from(gradient[place]) - expected).abs() < 1e-2, "{place}: {} {expected}", gradient[place]);
        }
    }

    #[test]
    fn more_regularisation_gives_smaller_weights() {
        let set = clouds(90, 3);
        let normalise = Normalise::of(&set);
        let rows = Rows::select(&set, &(0..90).collect::<Vec<_>>(), &normalise);
        let size = |l2: f64| fit(&rows, 3, l2, 500).0[..6].iter().map(|weight| weight * weight).sum::<f32>();
        assert!(size(1.0) < 0.5 * size(1e-3), "{} {}", size(1.0), size(1e-3));
    }
}
