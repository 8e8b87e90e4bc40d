//! Multi-head self-attention over short sequences. One image is one task; the scores of one head at a time stay in the
//! cache of the core that computes them, and the backward pass computes them again rather than reading them back.

use super::gemm::{Matrix, Start, multiply_local};
use super::simd::{exp, multiversion, sum};
use rayon::prelude::*;
use std::cell::RefCell;

/// Sizes of an attention: N tokens an image, H heads, D channels, D / H of them a head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) tokens: usize,
    pub(crate) heads: usize,
    pub(crate) width: usize,
}

/// out (B, N, D) = softmax(Q Kᵀ / sqrt(D / H)) V, from `qkv` (B, N, 3, H, D / H).
pub(crate) fn forward(shape: Shape, qkv: &[f32], out: &mut [f32]) {
    let Shape { tokens, width, .. } = shape;
    let images = out.par_chunks_exact_mut(tokens * width).zip(qkv.par_chunks_exact(tokens * 3 * width));
    images.for_each(|(out, qkv)| {
        with_scratch(tokens, |probabilities, _| {
            for head in Head::all(shape, qkv) {
                head.probabilities(probabilities);
                let p = Matrix::new(probabilities, tokens, tokens);
                multiply_local(p, head.part(2), Start::Zero, &mut out[head.first..], width);
            }
        });
    });
}

/// From the gradient of the output (B, N, D), that of `qkv`, overwritten whole.
pub(crate) fn backward(shape: Shape, qkv: &[f32], d_out: &[f32], d_qkv: &mut [f32]) {
    let Shape { tokens, width, .. } = shape;
    let images = d_qkv.par_chunks_exact_mut(tokens * 3 * width).zip(qkv.par_chunks_exact(tokens * 3 * width));
    images.zip(d_out.par_chunks_exact(tokens * width)).for_each(|((d_qkv, qkv), d_out)| {
        with_scratch(tokens, |probabilities, d_scores| {
            for head in Head::all(shape, qkv) {
                backward_head(&head, d_out, d_qkv, probabilities, d_scores);
            }
        });
    });
}

fn backward_head(head: &Head<'_>, d_out: &[f32], d_qkv: &mut [f32], probabilities: &mut [f32], d_scores: &mut [f32]) {
    let Shape { tokens, width, .. } = head.shape;
    let d_out = Matrix::strided(&d_out[head.first..], tokens, head.channels, width);
    head.probabilities(probabilities);
    multiply_local(d_out, head.part(2).transposed(), Start::Zero, d_scores, tokens);
    softmax_backward(probabilities, d_scores, tokens, head.scale());

    let p = Matrix::new(probabilities, tokens, tokens);
    let s = Matrix::new(d_scores, tokens, tokens);
    let mut store = |part: usize, a: Matrix<'_>, b: Matrix<'_>| {
        multiply_local(a, b, Start::Zero, &mut d_qkv[part * width + head.first..], 3 * width);
    };
    store(0, s, head.part(1));
    store(1, s.transposed(), head.part(0));
    store(2, p.transposed(), d_out);
}

/// One head of one image.
struct Head<'a> {
    shape: Shape,
    qkv: &'a [f32],
    /// First of the head's channels.
    first: usize,
    channels: usize,
}

impl<'a> Head<'a> {
    fn all(shape: Shape, qkv: &'a [f32]) -> impl Iterator<Item = Head<'a>> {
        let channels = shape.width / shape.heads;
        (0..shape.heads).map(move |head| Head { shape, qkv, first: head * channels, channels })
    }

    /// Queries (0), keys (1) or values (2), (N, D / H).
    fn part(&self, part: usize) -> Matrix<'a> {
        let Shape { tokens, width, .. } = self.shape;
        Matrix::strided(&self.qkv[part * width + self.first..], tokens, self.channels, 3 * width)
    }

    fn scale(&self) -> f32 {
        1.0 / (self.channels as f32).sqrt()
    }

    /// softmax(Q Kᵀ / sqrt(D / H)), (N, N).
    fn probabilities(&self, scores: &mut [f32]) {
        let tokens = self.shape.tokens;
        multiply_local(self.part(0), self.part(1).transposed(), Start::Zero, scores, tokens);
        softmax(scores, tokens, self.scale());
    }
}

/// Lends two (N, N) matrices that a thread keeps from call to call.
fn with_scratch(tokens: usize, run: impl FnOnce(&mut [f32], &mut [f32])) {
    thread_local! {
        static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    }
    SCRATCH.with_borrow_mut(|scratch| {
        let values = tokens * tokens;
        if scratch.len() < 2 * values {
            scratch.resize(2 * values, 0.0);
        }
        let (first, second) = scratch[..2 * values].split_at_mut(values);
        run(first, second);
    });
}

multiversion! {
    /// Each row of `width` scores becomes softmax(scale * row). A NaN makes its whole row NaN.
    fn softmax(scores: &mut [f32], width: usize, scale: f32) {
        for row in scores.chunks_exact_mut(width) {
            let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            for score in row.iter_mut() {
                *score = exp::<FMA>((*score - highest) * scale);
            }
            let share = 1.0 / sum(width, |i| row[i]);
            for score in row.iter_mut() {
                *score *= share;
            }
        }
    }
}

multiversion! {
    /// Turns the gradient of probabilities into that of unscaled scores, in place.
    fn softmax_backward(probabilities: &[f32], gradient: &mut [f32], width: usize, scale: f32) {
        for (gradient, p) in gradient.chunks_exact_mut(width).zip(probabilities.chunks_exact(width)) {
            let mean = sum(width, |i| p[i] * gradient[i]);
            for (gradient, &p) in gradient.iter_mut().zip(p) {
                *gradient = p * (*gradient - mean) * scale;
            }
        }
    }
}
