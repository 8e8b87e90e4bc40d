//! Batches that are brought to a device ahead of the step that uses them.

use crate::engine::PatchInput;
use crate::error::ModelError;
use std::any::Any;
use std::sync::Arc;

/// Brings batches to an engine's device from a thread of its own, while the engine is at work on others.
pub trait Uploader: Send {
    /// Starts to copy a batch. There is memory for two: while both are held, or the device still reads the older one, this
    /// waits. What the engine would not take from bytes stays where it is.
    ///
    /// # Errors
    /// A batch that does not fit the model, or a device that failed.
    fn upload(&mut self, input: &PatchInput<'_>) -> Result<Uploaded, ModelError>;
}

/// A batch on a device, or on its way there. When it is dropped, its memory is used again as soon as the device has done
/// all that it was asked to do with it.
#[derive(Debug, Clone)]
pub struct Uploaded(
    #[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "the CPU reads batches from where they are"))]
    pub(crate) Arc<dyn Any + Send + Sync>,
);

/// Images of an [`Uploaded`] batch, from this one on.
#[derive(Debug, Clone, Copy)]
pub struct UploadedRows<'a> {
    /// The batch.
    pub batch: &'a Uploaded,
    /// Place of the first image in it.
    pub first: usize,
}
