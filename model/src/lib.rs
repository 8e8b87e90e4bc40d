//! Masked autoencoders (MAE, [arXiv 2111.06377](https://arxiv.org/abs/2111.06377)): what they are made of, and the
//! engines that train them.
//!
//! - [`config`]: sizes, presets and their checks.
//! - [`parameters`]: the table of every tensor; names, shapes, initialisation and weight decay have no other source.
//! - [`engine`]: the [`Engine`] trait, all that a trainer sees, and what passes through it.
//! - [`dfdx_engine`]: the engine on dfdx's tape, on the CPU.
//!
//! Patches are numbered row by row over the grid, and the pixels of a patch are ordered row, column, channel. No thread
//! pool is made here: work runs on the rayon pool that the caller is in, and its results do not depend on its size.

pub mod config;
pub mod dfdx_engine;
pub mod engine;
pub mod error;
pub mod parameters;

mod graph;
mod input;
mod kernels;
mod mae;
mod operations;
#[cfg(test)]
mod operations_tests;
mod state;

pub use config::{MaeConfig, Preset, Target, TransformerConfig};
pub use dfdx_engine::DfdxEngine;
pub use engine::{AdamW, Engine, NamedTensor, PatchInput, PixelScale, Pixels, Prediction, StatePart, UpdateReport};
pub use error::{Mismatch, ModelError};
pub use parameters::{Init, Parameter};
