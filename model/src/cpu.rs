//! The CPU as a backend: dfdx's memory, our kernels on the rayon pool of the caller.

use crate::backend::{Backend, Done, Factor, Gradient, Index, Normed, Patches, Raw, Start, Updates};
use crate::config::Target;
use crate::engine::{AdamW, PatchInput, PixelScale, StepReport};
use crate::error::ModelError;
use crate::kernels::adamw::{self, Rates};
use crate::kernels::attention::{self, Shape};
use crate::kernels::gemm::{self, Matrix};
use crate::kernels::tokens::{self, Places};
use crate::kernels::{columns, gelu, layer_norm, loss, pixels};
use crate::upload::Uploaded;
use dfdx::prelude::{Cpu, CpuError};
use std::convert::Infallible;
use std::sync::Arc;

/// dfdx's CPU.
#[derive(Clone, Default)]
pub(crate) struct CpuBackend {
    device: Cpu,
}

/// A step's numbers, known at once.
pub(crate) struct Verdict {
    adamw: AdamW,
    report: StepReport,
    /// Updates that counted before.
    updates: u64,
}

impl Verdict {
    fn updates_after(&self) -> u64 {
        self.updates + u64::from(self.report.is_finite())
    }
}

impl<'a> From<Factor<'a, CpuBackend>> for Matrix<'a> {
    fn from(factor: Factor<'a, CpuBackend>) -> Matrix<'a> {
        let matrix = Matrix::new(factor.data, factor.rows, factor.columns);
        if factor.transposed { matrix.transposed() } else { matrix }
    }
}

impl Index<CpuBackend> {
    fn places(&self) -> Places<'_> {
        Places { visible: &self.visible, masked: &self.masked, images: self.images }
    }
}

impl Backend for CpuBackend {
    type Device = Cpu;
    type Indices = Arc<[u16]>;
    type Verdict = Verdict;
    type Uploader = Infallible;

    fn device(&self) -> &Cpu {
        &self.device
    }

    fn error(error: &CpuError) -> Option<ModelError> {
        match error {
            CpuError::OutOfMemory => None,
            CpuError::WrongNumElements => Some(ModelError::Device { reason: error.to_string() }),
        }
    }

    fn memory_bytes(&self) -> Option<u64> {
        None
    }

    fn wait(&self) -> Done<Self> {
        Ok(())
    }

    fn write(&self, values: &[f32], into: &mut Raw<Self>) -> Done<Self> {
        into.copy_from_slice(values);
        Ok(())
    }

    fn read(&self, from: &Raw<Self>) -> Done<Self, Vec<f32>> {
        Ok(from.to_vec())
    }

    fn fill_zero(&self, values: &mut Raw<Self>) -> Done<Self> {
        values.fill(0.0);
        Ok(())
    }

    fn uploader(&self) -> Done<Self, Option<Infallible>> {
        Ok(None)
    }

    fn upload(&self, uploader: &mut Infallible, _: &PatchInput<'_>) -> Done<Self, Uploaded> {
        match *uploader {}
    }

    fn index(&self, input: &PatchInput<'_>) -> Done<Self, Index<Self>> {
        Ok(Index {
            images: input.rows,
            visible_patches: input.visible_index.len() / input.rows,
            masked_patches: input.masked_index.len() / input.rows,
            visible: input.visible_index.into(),
            masked: input.masked_index.into(),
        })
    }

    fn normalise(
        &self,
        input: &PatchInput<'_>,
        patches: Patches,
        scale: &PixelScale,
        out: &mut Raw<Self>,
    ) -> Done<Self> {
        pixels::normalise(input.pixels(patches), scale, out);
        Ok(())
    }

    fn add(&self, into: &mut Raw<Self>, values: &Raw<Self>) -> Done<Self> {
        columns::add(into, values);
        Ok(())
    }

    fn multiply(
        &self,
        a: Factor<'_, Self>,
        b: Factor<'_, Self>,
        start: Start<'_, Self>,
        c: &mut Raw<Self>,
    ) -> Done<Self> {
        let start = match start {
            Start::Zero => gemm::Start::Zero,
            Start::Accumulate => gemm::Start::Accumulate,
            Start::Bias(bias) => gemm::Start::Bias(bias),
            Start::BiasAndResidual(bias, residual) => gemm::Start::BiasAndResidual(bias, residual),
        };
        gemm::multiply(a.into(), b.into(), start, c);
        Ok(())
    }

    fn sum_rows(&self, rows: &Raw<Self>, (sums, write): Gradient<'_, Self>) -> Done<Self> {
        columns::sum_rows(rows, sums, write);
        Ok(())
    }

    fn gelu(&self, x: &Raw<Self>, y: &mut Raw<Self>) -> Done<Self> {
        gelu::forward(x, y);
        Ok(())
    }

    fn gelu_backward(&self, x: &Raw<Self>, gradient: &mut Raw<Self>) -> Done<Self> {
        gelu::backward(x, gradient);
        Ok(())
    }

    fn layer_norm(
        &self,
        x: &Raw<Self>,
        weight: &Raw<Self>,
        bias: &Raw<Self>,
        y: &mut Raw<Self>,
        statistics: &mut Raw<Self>,
    ) -> Done<Self> {
        layer_norm::forward(x, weight, bias, y, statistics);
        Ok(())
    }

    fn layer_norm_backward(
        &self,
        saved: Normed<'_, Self>,
        dy: &Raw<Self>,
        (dx, dx_write): Gradient<'_, Self>,
        (d_weight, d_weight_write): Gradient<'_, Self>,
        (d_bias, d_bias_write): Gradient<'_, Self>,
    ) -> Done<Self> {
        let Normed { x, weight, statistics } = saved;
        let saved = layer_norm::Saved { x, weight, statistics };
        layer_norm::backward(saved, dy, (dx, dx_write), (d_weight, d_weight_write), (d_bias, d_bias_write));
        Ok(())
    }

    fn attention(&self, shape: Shape, qkv: &Raw<Self>, out: &mut Raw<Self>) -> Done<Self> {
        attention::forward(shape, qkv, out);
        Ok(())
    }

    fn attention_backward(
        &self,
        shape: Shape,
        qkv: &Raw<Self>,
        d_out: &Raw<Self>,
        d_qkv: &mut Raw<Self>,
    ) -> Done<Self> {
        attention::backward(shape, qkv, d_out, d_qkv);
        Ok(())
    }

    fn embed(
        &self,
        index: &Index<Self>,
        patches: &Raw<Self>,
        class_token: &Raw<Self>,
        positions: &Raw<Self>,
        out: &mut Raw<Self>,
    ) -> Done<Self> {
        tokens::embed(patches, class_token, positions, &index.visible, out);
        Ok(())
    }

    fn embed_backward(
        &self,
        _: &Index<Self>,
        d_out: &Raw<Self>,
        d_patches: &mut Raw<Self>,
        (d_class_token, write): Gradient<'_, Self>,
    ) -> Done<Self> {
        tokens::embed_backward(d_out, d_patches, (d_class_token, write));
        Ok(())
    }

    fn unshuffle(
        &self,
        index: &Index<Self>,
        x: &Raw<Self>,
        mask_token: &Raw<Self>,
        positions: &Raw<Self>,
        out: &mut Raw<Self>,
    ) -> Done<Self> {
        tokens::unshuffle(index.places(), x, mask_token, positions, out);
        Ok(())
    }

    fn unshuffle_backward(
        &self,
        index: &Index<Self>,
        d_out: &Raw<Self>,
        dx: &mut Raw<Self>,
        (d_mask_token, write): Gradient<'_, Self>,
    ) -> Done<Self> {
        tokens::unshuffle_backward(index.places(), d_out, dx, (d_mask_token, write));
        Ok(())
    }

    fn add_positions(&self, x: &Raw<Self>, positions: &Raw<Self>, out: &mut Raw<Self>) -> Done<Self> {
        tokens::add_positions(x, positions, out);
        Ok(())
    }

    fn pick_masked(&self, index: &Index<Self>, x: &Raw<Self>, out: &mut Raw<Self>) -> Done<Self> {
        tokens::pick(x, &index.masked, index.images, out);
        Ok(())
    }

    fn pick_masked_backward(&self, index: &Index<Self>, d_out: &Raw<Self>, dx: &mut Raw<Self>) -> Done<Self> {
        tokens::pick_backward(d_out, &index.masked, index.images, dx);
        Ok(())
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
        let gradient = gradient.map(|gradient| (gradient.as_mut_slice(), weight));
        loss[0] += weight * loss::masked_error(target, patch_values, predicted, pixels, gradient);
        Ok(())
    }

    fn judge<'a>(
        &self,
        adamw: &AdamW,
        updates: &Updates<'_, Self>,
        loss: &Raw<Self>,
        gradients: impl Iterator<Item = &'a Raw<Self>>,
    ) -> Done<Self, Verdict> {
        let loss = loss[0];
        let gradient_norm = if loss.is_finite() {
            gradients.map(|gradient| adamw::square_sum(gradient)).sum::<f64>().sqrt()
        } else {
            f64::NAN
        };
        let updates = match updates {
            Updates::Known(updates) => *updates,
            Updates::After(verdict) => verdict.updates_after(),
        };
        Ok(Verdict { adamw: *adamw, report: StepReport { loss, gradient_norm }, updates })
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
        if verdict.report.is_finite() {
            let rates = Rates::new(&verdict.adamw, verdict.updates, verdict.report.gradient_norm, decays);
            adamw::update(rates, weights, gradient, first, second);
        }
        Ok(())
    }

    fn read_verdict(&self, verdict: &Verdict) -> Done<Self, (StepReport, u64)> {
        Ok((verdict.report, verdict.updates_after()))
    }
}
