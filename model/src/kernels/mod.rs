//! What the CPU computes, one operation a file, forward beside backward: functions over slices that know nothing of
//! tapes or models.
//!
//! Work is cut into chunks of a fixed size, and sums are taken chunk by chunk in order, so that no result depends on the
//! number of threads.
#![allow(
    clippy::inline_always,
    reason = "a body must be part of each function that compiles it for an instruction set"
)]

pub(crate) mod adamw;
pub(crate) mod attention;
pub(crate) mod columns;
pub(crate) mod gelu;
pub(crate) mod gemm;
pub(crate) mod layer_norm;
pub(crate) mod loss;
mod pack;
pub(crate) mod pixels;
pub(crate) mod simd;
#[cfg(test)]
pub(crate) mod testing;
mod tile;
pub(crate) mod tokens;

/// Rows that a task works on: enough for a task to be worth its scheduling, few enough to balance threads.
const ROWS_PER_TASK: usize = 32;
/// Values that a task works on where rows mean nothing.
const VALUES_PER_TASK: usize = 8192;

/// What a backward kernel does with a gradient that may already hold another user's share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Write {
    /// There is none yet: every value is overwritten.
    Set,
    /// Add to it.
    Add,
}
