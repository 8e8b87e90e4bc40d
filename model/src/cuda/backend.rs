//! The operations on CUDA, each a launch or two.

use super::context::{Argument, CudaBackend, Scratch, address};
use super::upload::{CopyLane, Part};
use super::verdict::Verdict;
use crate::backend::{Backend, Done, Factor, Gradient, Index, Normed, Patches, Raw, Start, Updates};
use crate::config::Target;
use crate::engine::{AdamW, PatchInput, PixelScale, Pixels, StepReport};
use crate::error::ModelError;
use crate::kernels::Write;
use crate::kernels::attention::Shape;
use crate::kernels::pixels;
use crate::upload::Uploaded;
use cudarc::driver::sys::{CUdeviceptr, CUresult};
use cudarc::driver::{DevicePtr as _, DeviceSlice as _, result};
use dfdx::prelude::{Cuda, CudaError};
use std::any::Any;
use std::sync::Arc;

/// Rows of a chunk of a sum over rows.
const ROWS_PER_CHUNK: usize = 256;

/// Places of patches, and the memory that they are in.
#[derive(Clone)]
pub(crate) struct Places {
    at: CUdeviceptr,
    _memory: Arc<dyn Any + Send + Sync>,
}

/// The arguments of a kernel, in its order.
macro_rules! arguments {
    ($($argument:expr),* $(,)?) => { &[$(Argument::from($argument)),*] };
}

fn accumulates(write: Write) -> u32 {
    u32::from(write == Write::Add)
}

impl CudaBackend {
    /// sums = or += the column sums of `rows` rows that lie `row_stride` values apart.
    fn sum_of_rows(
        &self,
        values: CUdeviceptr,
        (rows, row_stride): (usize, usize),
        (sums, write): Gradient<'_, Self>,
    ) -> Done<Self> {
        let width = sums.len();
        let chunks = rows.div_ceil(ROWS_PER_CHUNK);
        let partial = self.scratch(Scratch::Partial, chunks * width * 4)?;
        let blocks = (width.div_ceil(32) as u64, chunks as u64);
        let chunk = ROWS_PER_CHUNK as u32;
        self.launch("sum_rows", blocks, (32, 8), arguments![values, partial, width as u32, row_stride, chunk, rows])?;
        self.add_partial(partial, chunks, (sums, write))
    }

    fn add_partial(&self, partial: CUdeviceptr, chunks: usize, (sums, write): Gradient<'_, Self>) -> Done<Self> {
        let width = sums.len();
        let arguments = arguments![partial, address(sums), accumulates(write), chunks as u32, width];
        self.each("add_partial", width, arguments)
    }

    /// Adds up doubles on the device, and says where the sum will be: behind them.
    pub(super) fn sum_of_doubles(&self, sums: CUdeviceptr, count: usize) -> Done<Self, CUdeviceptr> {
        let total = sums + 8 * count as u64;
        self.launch("sum_doubles", (1, 1), (256, 1), arguments![sums, total, count])?;
        Ok(total)
    }

    fn places(&self, places: &[u16]) -> Done<Self, Places> {
        // Of the masked patches of a whole image there are none, and the driver takes no empty copy.
        let memory = self.driver.htod_sync_copy(if places.is_empty() { &[0] } else { places })?;
        Ok(Places { at: *memory.device_ptr(), _memory: Arc::new(memory) })
    }

    /// Where the bytes of these pixels are on the device.
    fn bytes(&self, bytes: &[u8]) -> Done<Self, CUdeviceptr> {
        let scratch = self.scratch(Scratch::Bytes, bytes.len())?;
        self.driver.bind_to_thread()?;
        // SAFETY: the scratch memory is as long. The copy is on the stream of the kernels, after all that reads the bytes
        // before these.
        unsafe { result::memcpy_htod_sync(scratch, bytes) }?;
        Ok(scratch)
    }
}

impl Backend for CudaBackend {
    type Device = Cuda;
    type Indices = Places;
    type Verdict = Verdict;
    type Uploader = CopyLane;

    fn device(&self) -> &Cuda {
        &self.dfdx
    }

    fn error(error: &CudaError) -> Option<ModelError> {
        match error {
            CudaError::Driver(error) if error.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY => None,
            other => Some(ModelError::Device { reason: other.to_string() }),
        }
    }

    fn memory_bytes(&self) -> Option<u64> {
        Some(self.memory_bytes)
    }

    fn wait(&self) -> Done<Self> {
        Ok(self.driver.synchronize()?)
    }

    fn write(&self, values: &[f32], into: &mut Raw<Self>) -> Done<Self> {
        if !values.is_empty() {
            self.driver.htod_sync_copy_into(values, &mut **into)?;
        }
        Ok(())
    }

    fn read(&self, from: &Raw<Self>) -> Done<Self, Vec<f32>> {
        if from.is_empty() { Ok(Vec::new()) } else { Ok(self.driver.dtoh_sync_copy(&**from)?) }
    }

    fn fill_zero(&self, values: &mut Raw<Self>) -> Done<Self> {
        self.each("fill", values.len(), arguments![address(values), 0.0f32, values.len()])
    }

    fn uploader(&self) -> Done<Self, Option<CopyLane>> {
        Ok(Some(CopyLane::new(&self.driver)?))
    }

    fn upload(&self, lane: &mut CopyLane, input: &PatchInput<'_>) -> Done<Self, Uploaded> {
        self.stage(lane, input)
    }

    fn index(&self, input: &PatchInput<'_>) -> Done<Self, Index<Self>> {
        let (visible, masked) = if let Some((staged, first)) = self.staged(input)? {
            let places = |part| Places { at: staged.address(part, first), _memory: Arc::clone(&staged) as _ };
            (places(Part::VisibleIndex), places(Part::MaskedIndex))
        } else {
            (self.places(input.visible_index)?, self.places(input.masked_index)?)
        };
        let (images, visible_patches) = (input.rows, input.visible_index.len() / input.rows);
        Ok(Index { images, visible_patches, masked_patches: input.masked_index.len() / images, visible, masked })
    }

    fn normalise(
        &self,
        input: &PatchInput<'_>,
        patches: Patches,
        scale: &PixelScale,
        out: &mut Raw<Self>,
    ) -> Done<Self> {
        let part = if patches == Patches::Visible { Part::Visible } else { Part::Masked };
        let bytes = match (self.staged(input)?, input.pixels(patches)) {
            (Some((staged, first)), _) => staged.address(part, first),
            (None, Pixels::Bytes(bytes)) => self.bytes(bytes)?,
            (None, Pixels::Floats(values)) => return self.write(values, out),
        };
        let (factor, offset) = pixels::factor_and_offset(scale);
        let ([red, green, blue], [red_offset, green_offset, blue_offset]) = (factor, offset);
        let (out, count) = (address(out), out.len());
        let arguments = arguments![bytes, out, red, green, blue, red_offset, green_offset, blue_offset, count];
        self.each("normalise", count, arguments)
    }

    fn add(&self, into: &mut Raw<Self>, values: &Raw<Self>) -> Done<Self> {
        self.each("add", into.len(), arguments![address(into), address(values), into.len()])
    }

    fn multiply(
        &self,
        a: Factor<'_, Self>,
        b: Factor<'_, Self>,
        start: Start<'_, Self>,
        c: &mut Raw<Self>,
    ) -> Done<Self> {
        self.product(&a, &b, &start, c)
    }

    fn sum_rows(&self, rows: &Raw<Self>, (sums, write): Gradient<'_, Self>) -> Done<Self> {
        let width = sums.len();
        self.sum_of_rows(address(rows), (rows.len() / width, width), (sums, write))
    }

    fn gelu(&self, x: &Raw<Self>, y: &mut Raw<Self>) -> Done<Self> {
        self.each("gelu", x.len(), arguments![address(x), address(y), x.len()])
    }

    fn gelu_backward(&self, x: &Raw<Self>, gradient: &mut Raw<Self>) -> Done<Self> {
        self.each("gelu_backward", x.len(), arguments![address(x), address(gradient), x.len()])
    }

    fn layer_norm(
        &self,
        x: &Raw<Self>,
        weight: &Raw<Self>,
        bias: &Raw<Self>,
        y: &mut Raw<Self>,
        statistics: &mut Raw<Self>,
    ) -> Done<Self> {
        let rows = x.len() / weight.len();
        let (width, statistics) = (weight.len() as u32, address(statistics));
        let arguments = arguments![address(x), address(weight), address(bias), address(y), statistics, width, rows];
        self.each_row("layer_norm", rows, arguments)
    }

    fn layer_norm_backward(
        &self,
        saved: Normed<'_, Self>,
        dy: &Raw<Self>,
        (dx, dx_write): Gradient<'_, Self>,
        d_weight: Gradient<'_, Self>,
        d_bias: Gradient<'_, Self>,
    ) -> Done<Self> {
        let Normed { x, weight, statistics } = saved;
        let (width, rows) = (weight.len(), x.len() / weight.len());
        let (x, weight, statistics, dy) = (address(x), address(weight), address(statistics), address(dy));
        let write = accumulates(dx_write);
        let arguments = arguments![x, weight, statistics, dy, address(dx), write, width as u32, rows];
        self.each_row("layer_norm_backward", rows, arguments)?;

        let chunks = rows.div_ceil(ROWS_PER_CHUNK);
        let weights = self.scratch(Scratch::Partial, chunks * width * 4)?;
        let biases = self.scratch(Scratch::FurtherPartial, chunks * width * 4)?;
        let blocks = (width.div_ceil(32) as u64, chunks as u64);
        let chunk = ROWS_PER_CHUNK as u32;
        let arguments = arguments![x, statistics, dy, weights, biases, width as u32, chunk, rows];
        self.launch("layer_norm_parameters", blocks, (32, 8), arguments)?;
        self.add_partial(weights, chunks, d_weight)?;
        self.add_partial(biases, chunks, d_bias)
    }

    fn attention(&self, shape: Shape, qkv: &Raw<Self>, out: &mut Raw<Self>) -> Done<Self> {
        self.attention_forward(shape, qkv, out)
    }

    fn attention_backward(
        &self,
        shape: Shape,
        qkv: &Raw<Self>,
        d_out: &Raw<Self>,
        d_qkv: &mut Raw<Self>,
    ) -> Done<Self> {
        self.attention_gradient(shape, qkv, d_out, d_qkv)
    }

    fn embed(
        &self,
        index: &Index<Self>,
        patches: &Raw<Self>,
        class_token: &Raw<Self>,
        positions: &Raw<Self>,
        out: &mut Raw<Self>,
    ) -> Done<Self> {
        let (visible, width) = (index.visible_patches as u32, class_token.len() as u32);
        let (patches, class_token, positions) = (address(patches), address(class_token), address(positions));
        let places = index.visible.at;
        let arguments = arguments![patches, class_token, positions, places, address(out), visible, width, out.len()];
        self.each("embed", out.len(), arguments)
    }

    fn embed_backward(
        &self,
        index: &Index<Self>,
        d_out: &Raw<Self>,
        d_patches: &mut Raw<Self>,
        (d_class_token, write): Gradient<'_, Self>,
    ) -> Done<Self> {
        let (visible, width) = (index.visible_patches, d_class_token.len());
        let count = d_patches.len();
        let arguments = arguments![address(d_out), address(d_patches), visible as u32, width as u32, count];
        self.each("embed_backward", count, arguments)?;
        self.sum_of_rows(address(d_out), (index.images, (1 + visible) * width), (d_class_token, write))
    }

    fn unshuffle(
        &self,
        index: &Index<Self>,
        x: &Raw<Self>,
        mask_token: &Raw<Self>,
        positions: &Raw<Self>,
        out: &mut Raw<Self>,
    ) -> Done<Self> {
        let (visible, masked) = (index.visible_patches as u32, index.masked_patches as u32);
        self.each(
            "unshuffle",
            out.len(),
            arguments![
                address(x),
                address(mask_token),
                address(positions),
                index.visible.at,
                index.masked.at,
                address(out),
                visible,
                masked,
                mask_token.len() as u32,
                out.len(),
            ],
        )
    }

    fn unshuffle_backward(
        &self,
        index: &Index<Self>,
        d_out: &Raw<Self>,
        dx: &mut Raw<Self>,
        (d_mask_token, write): Gradient<'_, Self>,
    ) -> Done<Self> {
        let Index { images, visible_patches, masked_patches, .. } = *index;
        let (tokens, width) = (1 + visible_patches + masked_patches, d_mask_token.len());
        let places = index.visible.at;
        let (visible, columns) = (visible_patches as u32, width as u32);
        let arguments = arguments![address(d_out), places, address(dx), visible, tokens as u32, columns, dx.len()];
        self.each("unshuffle_backward", dx.len(), arguments)?;

        let count = images * masked_patches * width;
        let picked = self.scratch(Scratch::Picked, count * 4)?;
        let (places, masked) = (index.masked.at, masked_patches as u32);
        self.each("pick", count, arguments![address(d_out), places, picked, masked, tokens as u32, columns, count])?;
        self.sum_of_rows(picked, (images * masked_patches, width), (d_mask_token, write))
    }

    fn add_positions(&self, x: &Raw<Self>, positions: &Raw<Self>, out: &mut Raw<Self>) -> Done<Self> {
        let arguments = arguments![address(x), address(positions), address(out), positions.len(), out.len()];
        self.each("add_positions", out.len(), arguments)
    }

    fn pick_masked(&self, index: &Index<Self>, x: &Raw<Self>, out: &mut Raw<Self>) -> Done<Self> {
        let (picked, tokens, width) = picking(index, out.len());
        let arguments = arguments![address(x), index.masked.at, address(out), picked, tokens, width, out.len()];
        self.each("pick", out.len(), arguments)
    }

    fn pick_masked_backward(&self, index: &Index<Self>, d_out: &Raw<Self>, dx: &mut Raw<Self>) -> Done<Self> {
        self.fill_zero(dx)?;
        let (picked, tokens, width) = picking(index, d_out.len());
        let arguments = arguments![address(d_out), index.masked.at, address(dx), picked, tokens, width, d_out.len()];
        self.each("pick_backward", d_out.len(), arguments)
    }

    fn masked_error(
        &self,
        target: Target,
        patch_values: usize,
        predicted: &Raw<Self>,
        pixels: &Raw<Self>,
        (loss, weight): (&mut Raw<Self>, f32),
        gradient: Option<&mut Raw<Self>>,
    ) -> Done<Self> {
        let (rows, values) = (predicted.len() / patch_values, predicted.len());
        let sums = self.scratch(Scratch::Doubles, (rows + 1) * 8)?;
        let normalised = u32::from(target == Target::NormalizedPatches);
        let gradient = gradient.map_or(0, |gradient| address(gradient));
        let factor = 2.0 * weight / values as f32;
        let (predicted, pixels, width) = (address(predicted), address(pixels), patch_values as u32);
        let arguments = arguments![predicted, pixels, gradient, sums, normalised, factor, width, rows];
        self.each_row("masked_error", rows, arguments)?;
        let sum = self.sum_of_doubles(sums, rows)?;
        self.each("add_loss", 1, arguments![sum, address(loss), weight, values as f64])
    }

    fn judge<'a>(
        &self,
        adamw: &AdamW,
        updates: &Updates<'_, Self>,
        loss: &Raw<Self>,
        gradients: impl Iterator<Item = &'a Raw<Self>>,
    ) -> Done<Self, Verdict> {
        let sum = self.square_sum(&gradients.collect::<Vec<_>>())?;
        self.verdict(adamw, updates, loss, sum)
    }

    fn adamw(
        &self,
        verdict: &Verdict,
        decays: bool,
        weights: &mut Raw<Self>,
        gradient: &Raw<Self>,
        first: &mut Raw<Self>,
        second: &mut Raw<Self>,
    ) -> Done<Self> {
        self.move_weights(verdict, decays, weights, gradient, first, second)
    }

    fn read_verdict(&self, verdict: &Verdict) -> Done<Self, (StepReport, u64)> {
        verdict.read()
    }
}

/// Masked patches and tokens of an image, and the width of a token where all masked patches have so many values.
fn picking(index: &Index<CudaBackend>, values: usize) -> (u32, u32, u32) {
    let Index { images, visible_patches, masked_patches, .. } = *index;
    let tokens = 1 + visible_patches + masked_patches;
    (masked_patches as u32, tokens as u32, (values / (images * masked_patches)) as u32)
}
