//! The seam between the model and what computes it. A [`Backend`] is a device of dfdx with the kernels of every operation;
//! operations record them on dfdx's tape, and know nothing else of the device.

use crate::config::Target;
use crate::engine::{AdamW, PatchInput, PixelScale, StepReport};
use crate::error::ModelError;
use crate::kernels::Write;
use crate::kernels::attention::Shape;
use crate::upload::Uploaded;
use dfdx::prelude::{Device, HasErr, Storage};

/// Memory of a backend's device.
pub(crate) type Raw<B> = <<B as Backend>::Device as Storage<f32>>::Vec;
/// What a backend's device fails with.
pub(crate) type Failure<B> = <<B as Backend>::Device as HasErr>::Err;
/// Something that a device may fail to do.
pub(crate) type Done<B, T = ()> = Result<T, Failure<B>>;

/// A matrix in memory, its rows one after another, and whether a product reads it the other way round.
pub(crate) struct Factor<'a, B: Backend> {
    pub(crate) data: &'a Raw<B>,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) transposed: bool,
}

impl<'a, B: Backend> Factor<'a, B> {
    pub(crate) fn new(data: &'a Raw<B>, rows: usize, columns: usize) -> Factor<'a, B> {
        Factor { data, rows, columns, transposed: false }
    }

    pub(crate) fn transposed(self) -> Factor<'a, B> {
        Factor { transposed: !self.transposed, ..self }
    }
}

/// What a product is added to.
pub(crate) enum Start<'a, B: Backend> {
    /// Nothing.
    Zero,
    /// What is in C.
    Accumulate,
    /// A row for every row of C.
    Bias(&'a Raw<B>),
    /// A row for every row of C, and a matrix laid out as C.
    BiasAndResidual(&'a Raw<B>, &'a Raw<B>),
}

/// Which patches of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patches {
    Visible,
    Masked,
}

/// How many updates counted before a step.
pub(crate) enum Updates<'a, B: Backend> {
    Known(u64),
    /// As many as after another step, which the device may not have done yet.
    After(&'a B::Verdict),
}

/// A gradient to write, and how.
pub(crate) type Gradient<'a, B> = (&'a mut Raw<B>, Write);

/// What the backward pass of a layer normalisation reads.
pub(crate) struct Normed<'a, B: Backend> {
    pub(crate) x: &'a Raw<B>,
    pub(crate) weight: &'a Raw<B>,
    /// (N, 2): mean and reciprocal deviation of each row.
    pub(crate) statistics: &'a Raw<B>,
}

/// Which patches of each image are where, on the device. Shared by the operations that move tokens.
pub(crate) struct Index<B: Backend> {
    /// B
    pub(crate) images: usize,
    /// V
    #[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "the CPU's slices know it themselves"))]
    pub(crate) visible_patches: usize,
    /// M
    pub(crate) masked_patches: usize,
    /// (B, V)
    pub(crate) visible: B::Indices,
    /// (B, M)
    pub(crate) masked: B::Indices,
}

impl<B: Backend> Clone for Index<B> {
    fn clone(&self) -> Self {
        Index { visible: self.visible.clone(), masked: self.masked.clone(), ..*self }
    }
}

/// A device and its kernels. Lengths of slices are the caller's to get right; shapes stand beside each kernel in
/// [`crate::kernels`], which every backend follows. An output is written whole unless a [`Write`] says that it is added to.
pub(crate) trait Backend: Clone + Send + Sync + 'static {
    /// dfdx's device, whose memory and tape are used.
    type Device: Device<f32>;
    /// Patch indices on the device.
    type Indices: Clone + 'static;
    /// What a step came to and whether it counts, which the device may not know yet.
    type Verdict: Send + 'static;
    /// A way to the device beside its work.
    type Uploader: Send + 'static;

    fn device(&self) -> &Self::Device;

    /// Memory for `len` values.
    fn alloc(&self, len: usize) -> Done<Self, Raw<Self>> {
        Storage::<f32>::try_alloc_len(self.device(), len)
    }

    /// Values in a piece of memory.
    fn values(&self, raw: &Raw<Self>) -> usize {
        Storage::<f32>::len(self.device(), raw)
    }

    /// An error of the device as the crate's; `None` where it is that there is no memory left.
    fn error(error: &Failure<Self>) -> Option<ModelError>;

    /// All memory that the device has, where there is a limit of its own.
    fn memory_bytes(&self) -> Option<u64>;

    /// Waits until everything asked for is done.
    fn wait(&self) -> Done<Self>;

    fn write(&self, values: &[f32], into: &mut Raw<Self>) -> Done<Self>;
    fn read(&self, from: &Raw<Self>) -> Done<Self, Vec<f32>>;
    fn fill_zero(&self, values: &mut Raw<Self>) -> Done<Self>;

    /// Nothing where batches are read from where they are.
    fn uploader(&self) -> Done<Self, Option<Self::Uploader>>;
    fn upload(&self, uploader: &mut Self::Uploader, input: &PatchInput<'_>) -> Done<Self, Uploaded>;
    /// The places of a batch's patches, taken from where it was uploaded, if it was.
    fn index(&self, input: &PatchInput<'_>) -> Done<Self, Index<Self>>;
    /// Pixels as the model sees them, taken as above.
    fn normalise(
        &self,
        input: &PatchInput<'_>,
        patches: Patches,
        scale: &PixelScale,
        out: &mut Raw<Self>,
    ) -> Done<Self>;

    fn add(&self, into: &mut Raw<Self>, values: &Raw<Self>) -> Done<Self>;
    fn multiply(
        &self,
        a: Factor<'_, Self>,
        b: Factor<'_, Self>,
        start: Start<'_, Self>,
        c: &mut Raw<Self>,
    ) -> Done<Self>;
    fn sum_rows(&self, rows: &Raw<Self>, sums: Gradient<'_, Self>) -> Done<Self>;

    fn gelu(&self, x: &Raw<Self>, y: &mut Raw<Self>) -> Done<Self>;
    fn gelu_backward(&self, x: &Raw<Self>, gradient: &mut Raw<Self>) -> Done<Self>;

    fn layer_norm(
        &self,
        x: &Raw<Self>,
        weight: &Raw<Self>,
        bias: &Raw<Self>,
        y: &mut Raw<Self>,
        statistics: &mut Raw<Self>,
    ) -> Done<Self>;
    fn layer_norm_backward(
        &self,
        saved: Normed<'_, Self>,
        dy: &Raw<Self>,
        dx: Gradient<'_, Self>,
        d_weight: Gradient<'_, Self>,
        d_bias: Gradient<'_, Self>,
    ) -> Done<Self>;

    fn attention(&self, shape: Shape, qkv: &Raw<Self>, out: &mut Raw<Self>) -> Done<Self>;
    fn attention_backward(&self, shape: Shape, qkv: &Raw<Self>, d_out: &Raw<Self>, d_qkv: &mut Raw<Self>)
    -> Done<Self>;

    fn embed(
        &self,
        index: &Index<Self>,
        patches: &Raw<Self>,
        class_token: &Raw<Self>,
        positions: &Raw<Self>,
        out: &mut Raw<Self>,
    ) -> Done<Self>;
    fn embed_backward(
        &self,
        index: &Index<Self>,
        d_out: &Raw<Self>,
        d_patches: &mut Raw<Self>,
        d_class_token: Gradient<'_, Self>,
    ) -> Done<Self>;
    fn unshuffle(
        &self,
        index: &Index<Self>,
        x: &Raw<Self>,
        mask_token: &Raw<Self>,
        positions: &Raw<Self>,
        out: &mut Raw<Self>,
    ) -> Done<Self>;
    fn unshuffle_backward(
        &self,
        index: &Index<Self>,
        d_out: &Raw<Self>,
        dx: &mut Raw<Self>,
        d_mask_token: Gradient<'_, Self>,
    ) -> Done<Self>;
    fn add_positions(&self, x: &Raw<Self>, positions: &Raw<Self>, out: &mut Raw<Self>) -> Done<Self>;
    fn pick_masked(&self, index: &Index<Self>, x: &Raw<Self>, out: &mut Raw<Self>) -> Done<Self>;
    fn pick_masked_backward(&self, index: &Index<Self>, d_out: &Raw<Self>, dx: &mut Raw<Self>) -> Done<Self>;

    /// Adds a weight times the mean squared error to a loss; to a gradient, that much of the mean's is written.
    fn masked_error(
        &self,
        target: Target,
        patch_values: usize,
        predicted: &Raw<Self>,
        pixels: &Raw<Self>,
        loss: (&mut Raw<Self>, f32),
        gradient: Option<&mut Raw<Self>>,
    ) -> Done<Self>;

    /// Decides whether a step counts, by its loss and all of its gradient.
    fn judge<'a>(
        &self,
        adamw: &AdamW,
        updates: &Updates<'_, Self>,
        loss: &Raw<Self>,
        gradients: impl Iterator<Item = &'a Raw<Self>>,
    ) -> Done<Self, Self::Verdict>;
    /// Moves a tensor that decays or not, unless the step does not count.
    fn adamw(
        &self,
        verdict: &Self::Verdict,
        decays: bool,
        weights: &mut Raw<Self>,
        gradient: &Raw<Self>,
        first: &mut Raw<Self>,
        second: &mut Raw<Self>,
    ) -> Done<Self>;
    /// Waits for a verdict: what the step came to, and how many updates have counted with it.
    fn read_verdict(&self, verdict: &Self::Verdict) -> Done<Self, (StepReport, u64)>;
}
