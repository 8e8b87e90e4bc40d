//! The operations on CUDA, each a launch or two.

use super::context::{Argument, CudaBackend, Scratch, address};
use crate::backend::{Backend, Done, Factor, Gradient, Index, Normed, Raw, Start};
use crate::config::Target;
use crate::engine::{PixelScale, Pixels};
use crate::error::ModelError;
use crate::kernels::Write;
use crate::kernels::adamw::Rates;
use crate::kernels::attention::Shape;
use crate::kernels::pixels;
use cudarc::driver::sys::{CUdeviceptr, CUresult};
use cudarc::driver::{CudaSlice, DevicePtr as _, DeviceSlice as _, result};
use dfdx::prelude::{Cuda, CudaError};
use std::sync::Arc;

/// Rows of a chunk of a sum over rows.
const ROWS_PER_CHUNK: usize = 256;
/// Blocks that sum up the squares of one tensor.
const SQUARE_BLOCKS: usize = 128;

/// A loss on its way: the sum of squared errors of so many values, in scratch memory.
pub(crate) struct Loss {
    sum: CUdeviceptr,
    values: usize,
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
    fn sum_of_doubles(&self, sums: CUdeviceptr, count: usize) -> Done<Self, CUdeviceptr> {
        let total = sums + 8 * count as u64;
        self.launch("sum_doubles", (1, 1), (256, 1), arguments![sums, total, count])?;
        Ok(total)
    }

    /// Waits for a double.
    fn read_double(&self, at: CUdeviceptr) -> Done<Self, f64> {
        self.driver.bind_to_thread()?;
        let mut read = [0.0f64];
        // SAFETY: there is a double at the end of scratch memory; the copy waits for the kernels before it, and ends before it
        // returns.
        unsafe { result::memcpy_dtoh_sync(&mut read, at) }?;
        Ok(read[0])
    }
}

impl Backend for CudaBackend {
    type Device = Cuda;
    type Indices = Arc<CudaSlice<u16>>;
    type Loss = Loss;

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

    fn indices(&self, indices: &[u16]) -> Done<Self, Arc<CudaSlice<u16>>> {
        // Of the masked patches of a whole image there are none, and the driver takes no empty copy.
        Ok(Arc::new(self.driver.htod_sync_copy(if indices.is_empty() { &[0] } else { indices })?))
    }

    fn fill_zero(&self, values: &mut Raw<Self>) -> Done<Self> {
        self.each("fill", values.len(), arguments![address(values), 0.0f32, values.len()])
    }

    fn normalise(&self, pixels: Pixels<'_>, scale: &PixelScale, out: &mut Raw<Self>) -> Done<Self> {
        let bytes = match pixels {
            Pixels::Floats(values) => return self.write(values, out),
            Pixels::Bytes(bytes) => bytes,
        };
        let staged = self.scratch(Scratch::Bytes, bytes.len())?;
        self.driver.bind_to_thread()?;
        // SAFETY: the scratch memory is as long. The copy is on the stream of the kernels, after all that reads the bytes
        // before these.
        unsafe { result::memcpy_htod_sync(staged, bytes) }?;
        let (factor, offset) = pixels::factor_and_offset(scale);
        self.each(
            "normalise",
            out.len(),
            arguments![
                staged,
                address(out),
                factor[0],
                factor[1],
                factor[2],
                offset[0],
                offset[1],
                offset[2],
                out.len(),
            ],
        )
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
        let places = *index.visible.device_ptr();
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
                *index.visible.device_ptr(),
                *index.masked.device_ptr(),
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
        let places = *index.visible.device_ptr();
        let (visible, columns) = (visible_patches as u32, width as u32);
        let arguments = arguments![address(d_out), places, address(dx), visible, tokens as u32, columns, dx.len()];
        self.each("unshuffle_backward", dx.len(), arguments)?;

        let count = images * masked_patches * width;
        let picked = self.scratch(Scratch::Picked, count * 4)?;
        let (places, masked) = (*index.masked.device_ptr(), masked_patches as u32);
        self.each("pick", count, arguments![address(d_out), places, picked, masked, tokens as u32, columns, count])?;
        self.sum_of_rows(picked, (images * masked_patches, width), (d_mask_token, write))
    }

    fn add_positions(&self, x: &Raw<Self>, positions: &Raw<Self>, out: &mut Raw<Self>) -> Done<Self> {
        let arguments = arguments![address(x), address(positions), address(out), positions.len(), out.len()];
        self.each("add_positions", out.len(), arguments)
    }

    fn pick_masked(&self, index: &Index<Self>, x: &Raw<Self>, out: &mut Raw<Self>) -> Done<Self> {
        let (picked, tokens, width) = picking(index, out.len());
        let arguments =
            arguments![address(x), *index.masked.device_ptr(), address(out), picked, tokens, width, out.len()];
        self.each("pick", out.len(), arguments)
    }

    fn pick_masked_backward(&self, index: &Index<Self>, d_out: &Raw<Self>, dx: &mut Raw<Self>) -> Done<Self> {
        self.fill_zero(dx)?;
        let (picked, tokens, width) = picking(index, d_out.len());
        let arguments =
            arguments![address(d_out), *index.masked.device_ptr(), address(dx), picked, tokens, width, d_out.len()];
        self.each("pick_backward", d_out.len(), arguments)
    }

    fn masked_error(
        &self,
        target: Target,
        patch_values: usize,
        predicted: &Raw<Self>,
        pixels: &Raw<Self>,
        gradient: Option<(&mut Raw<Self>, f32)>,
    ) -> Done<Self, Loss> {
        let (rows, values) = (predicted.len() / patch_values, predicted.len());
        let sums = self.scratch(Scratch::Doubles, (rows + 1) * 8)?;
        let normalised = u32::from(target == Target::NormalizedPatches);
        let (gradient, weight) = gradient.map_or((0, 0.0), |(gradient, weight)| (address(gradient), weight));
        let factor = 2.0 * weight / values as f32;
        let (predicted, pixels, width) = (address(predicted), address(pixels), patch_values as u32);
        let arguments = arguments![predicted, pixels, gradient, sums, normalised, factor, width, rows];
        self.each_row("masked_error", rows, arguments)?;
        Ok(Loss { sum: self.sum_of_doubles(sums, rows)?, values })
    }

    fn read_loss(&self, loss: Loss) -> Done<Self, f32> {
        Ok((self.read_double(loss.sum)? / loss.values as f64) as f32)
    }

    fn square_sum<'a>(&self, gradients: impl Iterator<Item = &'a Raw<Self>>) -> Done<Self, f64> {
        let gradients: Vec<_> = gradients.collect();
        let count = gradients.len() * SQUARE_BLOCKS;
        let sums = self.scratch(Scratch::Doubles, (count + 1) * 8)?;
        for (tensor, gradient) in gradients.into_iter().enumerate() {
            let own = sums + (8 * tensor * SQUARE_BLOCKS) as u64;
            let arguments = arguments![address(gradient), own, gradient.len()];
            self.launch("square_sums", (SQUARE_BLOCKS as u64, 1), (256, 1), arguments)?;
        }
        self.read_double(self.sum_of_doubles(sums, count)?)
    }

    fn adamw(
        &self,
        rates: Rates,
        weights: &mut Raw<Self>,
        gradient: &Raw<Self>,
        first: &mut Raw<Self>,
        second: &mut Raw<Self>,
    ) -> Done<Self> {
        let Rates { beta1, beta2, complement1, complement2, eps, step, root_correction, kept, gradient_scale } = rates;
        self.each(
            "adamw",
            weights.len(),
            arguments![
                address(weights),
                address(gradient),
                address(first),
                address(second),
                beta1,
                beta2,
                complement1,
                complement2,
                eps,
                step,
                root_correction,
                kept,
                gradient_scale,
                weights.len(),
            ],
        )
    }
}

/// Masked patches and tokens of an image, and the width of a token where all masked patches have so many values.
fn picking(index: &Index<CudaBackend>, values: usize) -> (u32, u32, u32) {
    let Index { images, visible_patches, masked_patches, .. } = *index;
    let tokens = 1 + visible_patches + masked_patches;
    (masked_patches as u32, tokens as u32, (values / (images * masked_patches)) as u32)
}
