//! Sums over the rows of a matrix, which is what the gradient of a bias is.

use super::simd::multiversion;
use super::{ROWS_PER_TASK, Write};
use rayon::prelude::*;

/// Sums of the columns of `rows` (N, `sums.len()`), into `sums`.
pub(crate) fn sum_rows(rows: &[f32], sums: &mut [f32], write: Write) {
    let width = sums.len();
    let rows_per_task = ROWS_PER_TASK * 4;
    let mut partial = vec![0.0; rows.len().div_ceil(rows_per_task * width) * width];
    partial.par_chunks_exact_mut(width).zip(rows.par_chunks(rows_per_task * width)).for_each(|(partial, rows)| {
        add_rows(partial, rows);
    });
    add_partial(&partial, sums, write);
}

/// Adds tasks' sums up, in the order of the tasks.
pub(super) fn add_partial(partial: &[f32], sums: &mut [f32], write: Write) {
    if write == Write::Set {
        sums.fill(0.0);
    }
    add_rows(sums, partial);
}

multiversion! {
    /// Adds each of `rows`, as wide as `sums`, to `sums`.
    pub(super) fn add_rows(sums: &mut [f32], rows: &[f32]) {
        for row in rows.chunks_exact(sums.len()) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += value;
            }
        }
    }
}

multiversion! {
    /// `into[i] += values[i]`, on the calling thread.
    pub(super) fn add_slice(into: &mut [f32], values: &[f32]) {
        for (into, &value) in into.iter_mut().zip(values) {
            *into += value;
        }
    }
}

/// `into[i] += values[i]`.
pub(crate) fn add(into: &mut [f32], values: &[f32]) {
    let size = super::VALUES_PER_TASK;
    into.par_chunks_mut(size).zip(values.par_chunks(size)).for_each(|(into, values)| add_slice(into, values));
}
