//! Masked autoencoders (MAE, [arXiv 2111.06377](https://arxiv.org/abs/2111.06377)): what they are made of, and the
//! engines that train them.
//!
//! - [`config`]: sizes, presets and their checks.
//! - [`parameters`]: the table of every tensor; names, shapes, initialisation and weight decay have no other source.
//! - [`engine`]: the [`Engine`] trait, all that a trainer sees, and what passes through it.
//! - [`golden`]: how far an engine is from the numbers of another implementation.
//! - [`profile`]: where the time of a step goes.
//! - [`upload`]: bringing batches to a device while it computes.
//! - [`device`]: where a model computes. The engine behind the trait is on dfdx's tape, whatever the device.
//!
//! Patches are numbered row by row over the grid, and the pixels of a patch are ordered row, column, channel. No thread
//! pool is made here: work runs on the rayon pool that the caller is in, and its results do not depend on its size.

pub mod config;
pub mod device;
pub mod engine;
pub mod error;
pub mod golden;
pub mod parameters;
pub mod profile;
pub mod upload;

mod backend;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod dfdx_engine;
mod graph;
mod input;
mod kernels;
mod mae;
mod memory;
mod operations;
#[cfg(test)]
mod operations_tests;
mod state;

pub use config::{EncoderInput, MaeConfig, Preset, Target, TransformerConfig};
pub use device::{Bandwidth, Device, MatmulPrecision};
pub use engine::{AdamW, Engine, NamedTensor, PatchInput, PixelScale, Pixels, Prediction, StatePart, StepReport};
pub use error::{Mismatch, ModelError};
pub use parameters::{Init, Parameter};
pub use profile::OperationTime;
pub use upload::{Uploaded, UploadedRows, Uploader};
