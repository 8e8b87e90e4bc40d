//! The trait that a trainer sees, and what passes through it.

use crate::backend::Patches;
use crate::config::MaeConfig;
use crate::error::ModelError;
use crate::profile::OperationTime;
use crate::upload::{UploadedRows, Uploader};

/// Pixels of patches, in the order row, column, channel inside a patch.
#[derive(Debug, Clone, Copy)]
pub enum Pixels<'a> {
    /// RGB as decoded; the engine normalises them with its [`PixelScale`].
    Bytes(&'a [u8]),
    /// Already normalised.
    Floats(&'a [f32]),
}

impl<'a> Pixels<'a> {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Pixels::Bytes(values) => values.len(),
            Pixels::Floats(values) => values.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn part(&self, rows: usize, start: usize, end: usize) -> Pixels<'a> {
        match self {
            Pixels::Bytes(values) => Pixels::Bytes(rows_of(values, rows, start, end)),
            Pixels::Floats(values) => Pixels::Floats(rows_of(values, rows, start, end)),
        }
    }
}

/// Of `rows` rows those from `start` up to `end`.
fn rows_of<T>(values: &[T], rows: usize, start: usize, end: usize) -> &[T] {
    let each = values.len() / rows;
    &values[start * each..end * each]
}

/// A batch of B images cut into L patches each, V of them visible and M masked, V + M = L, as many for every image.
#[derive(Debug, Clone, Copy)]
pub struct PatchInput<'a> {
    /// Images, B.
    pub rows: usize,
    /// Pixels of the visible patches, (B, V, p, p, c).
    pub visible: Pixels<'a>,
    /// Their places in the grid, (B, V), in any order; the encoder keeps it.
    pub visible_index: &'a [u16],
    /// Pixels of the masked patches, (B, M, p, p, c).
    pub masked: Pixels<'a>,
    /// Their places in the grid, (B, M), in any order.
    pub masked_index: &'a [u16],
    /// The same images on the device, where they were uploaded ahead.
    pub uploaded: Option<UploadedRows<'a>>,
}

impl<'a> PatchInput<'a> {
    /// The images from `start` up to `end` of a batch whose lengths are right.
    ///
    /// # Panics
    /// The batch has fewer images.
    #[must_use]
    pub fn part(&self, start: usize, end: usize) -> PatchInput<'a> {
        let &PatchInput { rows, visible, visible_index, masked, masked_index, uploaded } = self;
        PatchInput {
            rows: end - start,
            visible: visible.part(rows, start, end),
            visible_index: rows_of(visible_index, rows, start, end),
            masked: masked.part(rows, start, end),
            masked_index: rows_of(masked_index, rows, start, end),
            uploaded: uploaded.map(|uploaded| UploadedRows { first: uploaded.first + start, ..uploaded }),
        }
    }

    pub(crate) fn pixels(&self, patches: Patches) -> Pixels<'a> {
        match patches {
            Patches::Visible => self.visible,
            Patches::Masked => self.masked,
        }
    }
}

/// Mean and deviation by which bytes are normalised, of pixels scaled to 0..1.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PixelScale {
    /// Of red, green and blue.
    pub mean: [f64; 3],
    /// Of red, green and blue.
    pub std: [f64; 3],
}

impl PixelScale {
    /// ImageNet's, as `PyTorch`'s users know them.
    pub const IMAGENET: PixelScale = PixelScale { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

    /// # Errors
    /// A mean that is not finite, or a deviation that is not positive.
    pub fn validate(&self) -> Result<(), ModelError> {
        for channel in 0..3 {
            let (mean, std) = (self.mean[channel], self.std[channel]);
            if !mean.is_finite() {
                return Err(ModelError::PixelScale { what: "mean", channel, got: mean, expected: "a finite number" });
            }
            if !std.is_finite() || std <= 0.0 {
                return Err(ModelError::PixelScale { what: "std", channel, got: std, expected: "more than 0" });
            }
        }
        Ok(())
    }
}

/// `AdamW` with decoupled weight decay. The count of updates is part of the engine's state.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Learning rate of this update.
    pub lr: f64,
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the root of the mean square.
    pub eps: f64,
    /// Share of a decaying tensor that `lr` takes away, where the table says that it decays.
    pub weight_decay: f64,
    /// A longer gradient is scaled down to this norm first; never without one.
    pub clip_norm: Option<f64>,
}

impl Default for AdamW {
    /// The paper's (table 8), at a learning rate of 1e-3.
    fn default() -> AdamW {
        AdamW { lr: 1e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.05, clip_norm: None }
    }
}

/// What a step came to. Where either number is not finite, nothing was updated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Of all batches that were accumulated, each by its weight.
    pub loss: f32,
    /// Euclidean norm of the whole accumulated gradient, before any clipping; no number where the loss is not finite.
    pub gradient_norm: f64,
}

impl StepReport {
    /// Whether the step counts.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        self.loss.is_finite() && self.gradient_norm.is_finite()
    }
}

/// What a model makes of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The encoder's output after its last norm, (B, 1 + V, D), class token first, then patches in the input's order; with
    /// mask tokens in the encoder (B, 1 + L, D), patches in grid order.
    pub latent: Vec<f32>,
    /// The decoder's prediction of every patch in grid order, (B, L, p * p * c), in the target's scale.
    pub patches: Vec<f32>,
    /// Mean squared error over the masked patches.
    pub loss: f32,
}

/// A tensor by name, as a checkpoint has it.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    /// One of the parameter table.
    pub name: String,
    /// As in the parameter table.
    pub shape: Vec<usize>,
    /// Row-major.
    pub data: Vec<f32>,
}

/// A part of what an engine carries from step to step. The count of updates is the rest of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatePart {
    /// Every tensor of the table, position tables included.
    Weights,
    /// `AdamW`'s means of gradients, of trained tensors.
    FirstMoments,
    /// `AdamW`'s means of squared gradients, of trained tensors.
    SecondMoments,
}

/// A model in training. Every method that takes a batch checks it first and changes nothing where it does not fit. Where
/// a device fails, the accumulated gradient is lost and the rest of the state stands.
///
/// A device may do what it is asked for later, in the order in which it was asked; whatever gives back numbers waits for
/// them. So a trainer that asks for a step's report when it has asked for the next step never leaves the device idle.
pub trait Engine: Send {
    /// The model's sizes.
    fn config(&self) -> &MaeConfig;

    /// What brings batches to the device ahead of their steps; nothing where batches are read from where they are.
    ///
    /// # Errors
    /// The device failed.
    fn uploader(&self) -> Result<Option<Box<dyn Uploader>>, ModelError>;

    /// Adds `weight` times the batch's loss, and as much of its gradient, to what is accumulated.
    ///
    /// # Errors
    /// A batch that does not fit the model, or a device that failed.
    fn accumulate(&mut self, input: &PatchInput<'_>, weight: f32) -> Result<(), ModelError>;

    /// One step of `AdamW` along the accumulated gradient, which it then clears. Where loss or gradient is not finite, the
    /// device leaves all weights and moments as they are, and the update does not count, whatever was asked for since.
    ///
    /// # Errors
    /// Nothing was accumulated, or the device failed.
    fn update(&mut self, adamw: &AdamW) -> Result<(), ModelError>;

    /// What the oldest update came to that has not been reported yet; waits until the device knows.
    ///
    /// # Errors
    /// All were reported, or the device failed.
    fn report(&mut self) -> Result<StepReport, ModelError>;

    /// Clears the accumulated gradient without a step.
    fn discard(&mut self);

    /// The batch's loss.
    ///
    /// # Errors
    /// As [`Engine::accumulate`].
    fn evaluate(&mut self, input: &PatchInput<'_>) -> Result<f32, ModelError>;

    /// Latent, predictions of all patches, and loss.
    ///
    /// # Errors
    /// As [`Engine::accumulate`].
    fn predict(&mut self, input: &PatchInput<'_>) -> Result<Prediction, ModelError>;

    /// The encoder's output after its last norm for whole images, nothing masked: (B, 1 + L, D), class token first, then
    /// patches in grid order. `pixels` are (B, L, p, p, c).
    ///
    /// # Errors
    /// As [`Engine::accumulate`].
    fn encode(&mut self, rows: usize, pixels: Pixels<'_>) -> Result<Vec<f32>, ModelError>;

    /// The accumulated gradient of every trained tensor.
    ///
    /// # Errors
    /// Nothing was accumulated, or the device failed.
    fn gradients(&self) -> Result<Vec<NamedTensor>, ModelError>;

    /// Updates that counted, of those reported; `AdamW`'s bias correction counts them.
    fn updates(&self) -> u64;

    /// Sets the count of updates, when continuing from a saved state; what was not reported never will be.
    fn set_updates(&mut self, updates: u64);

    /// Times every operation from now on, from nothing.
    fn start_profile(&mut self);

    /// Ends timing; what each operation took, in the order of their first calls. Nothing where no profile was started.
    fn stop_profile(&mut self) -> Vec<OperationTime>;

    /// The most bytes that the engine ever held on its device at once: state, activations, gradients.
    fn memory_bytes_max(&self) -> u64;

    /// A part of the state, in the parameter table's order.
    ///
    /// # Errors
    /// The device failed.
    fn export(&self, part: StatePart) -> Result<Vec<NamedTensor>, ModelError>;

    /// Replaces a part of the state, whole or not at all, and drops any accumulated gradient.
    ///
    /// # Errors
    /// [`ModelError::State`] listing every tensor that is missing, unknown, repeated or of another shape.
    fn import(&mut self, part: StatePart, tensors: &[NamedTensor]) -> Result<(), ModelError>;
}
