//! Decode, augment, cut into patches, mask: from encoded images to patch batches, on many threads, in plan order.
//!
//! # Parts
//!
//! The stages of one image, one a module, in order: [`decode`], [`transform`] (geometry only, so that no more is
//! decoded than is needed; [`orientation`] turns it), [`resize`], [`mask`], [`patchify`]. What is drawn for a sample
//! depends on nothing but its key ([`random`]).
//!
//! [`batch`] owns the memory that workers write rows to and that leaves as Arrow record batches. [`stream`] has the
//! threads and queues around all of this; [`stats`] counts what they do. [`quarantine`] keeps the ledger and the budget
//! of samples that cannot be decoded.
//!
//! [`Examiner`] decodes and transcodes whole images for the `datasets` crate, which has no codec.

pub mod batch;
pub mod config;
pub mod decode;
pub mod error;
pub mod examine;
pub mod geometry;
pub mod jpeg;
pub mod mask;
pub mod memory;
pub mod orientation;
pub mod patchify;
pub mod quarantine;
pub mod random;
pub mod resize;
mod sample;
mod simd;
pub mod stats;
pub mod stream;
mod transcode;
pub mod transform;

pub use batch::PatchBatch;
pub use config::PipelineConfig;
pub use decode::DecodeMode;
pub use error::PipelineError;
pub use examine::Examiner;
pub use geometry::PatchGrid;
pub use mask::{MaskKind, Masking};
pub use quarantine::{BadSamples, Budget};
pub use stats::PipelineSnapshot;
pub use stream::{PatchStream, Probe};
pub use transform::{EvaluateTransform, TrainTransform, Transform};
