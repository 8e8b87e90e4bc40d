//! The operations of a masked autoencoder, each with its own backward pass. This is the seam between the model and what
//! computes it: the model is written in these, and only they know the kernels.

use crate::config::Target;
use crate::graph::{Grads, Graph, Value, take};
use crate::kernels::attention::Shape;
use crate::kernels::gemm::{Matrix, Start, multiply};
use crate::kernels::tokens::Places;
use crate::kernels::{Write, attention, columns, gelu, layer_norm, loss, tokens};
use dfdx::prelude::CpuError;
use std::sync::Arc;

/// Weight (out, in) and bias (out) of a linear layer.
#[derive(Clone)]
pub(crate) struct Linear {
    pub(crate) weight: Value,
    pub(crate) bias: Value,
}

/// Weight and bias (D) of a layer normalisation.
#[derive(Clone)]
pub(crate) struct Norm {
    pub(crate) weight: Value,
    pub(crate) bias: Value,
}

/// Which patches of each image are where, shared by the operations that move tokens.
#[derive(Clone)]
pub(crate) struct Index {
    /// B
    pub(crate) images: usize,
    /// (B, V)
    pub(crate) visible: Arc<[u16]>,
    /// (B, M)
    pub(crate) masked: Arc<[u16]>,
}

impl Index {
    fn places(&self) -> Places<'_> {
        Places { visible: &self.visible, masked: &self.masked, images: self.images }
    }
}

fn start_of(write: Write) -> Start<'static> {
    match write {
        Write::Set => Start::Zero,
        Write::Add => Start::Accumulate,
    }
}

impl Graph {
    /// y (N, out) = x (N, in) Wᵀ + b.
    pub(crate) fn linear(&mut self, x: &Value, layer: &Linear) -> Result<Value, CpuError> {
        let y = self.linear_forward(x, layer, Start::Bias(&layer.bias))?;
        let (x, layer, key) = (x.clone(), layer.clone(), y.key().clone());
        self.record(move |grads| {
            let dy = take(grads, &key)?;
            layer_backward(grads, &x, &layer, &dy)?;
            input_backward(grads, &x, &layer, &dy)
        });
        Ok(y)
    }

    /// As [`Graph::linear`], of an input that no gradient is wanted of.
    pub(crate) fn linear_of_constant(&mut self, x: &Value, layer: &Linear) -> Result<Value, CpuError> {
        let y = self.linear_forward(x, layer, Start::Bias(&layer.bias))?;
        let (x, layer, key) = (x.clone(), layer.clone(), y.key().clone());
        self.record(move |grads| {
            let dy = take(grads, &key)?;
            layer_backward(grads, &x, &layer, &dy)
        });
        Ok(y)
    }

    /// y = residual + x Wᵀ + b.
    pub(crate) fn linear_onto(&mut self, residual: &Value, x: &Value, layer: &Linear) -> Result<Value, CpuError> {
        let y = self.linear_forward(x, layer, Start::BiasAndResidual(&layer.bias, residual))?;
        let (residual, x, layer, key) = (residual.clone(), x.clone(), layer.clone(), y.key().clone());
        self.record(move |grads| {
            let dy = take(grads, &key)?;
            layer_backward(grads, &x, &layer, &dy)?;
            input_backward(grads, &x, &layer, &dy)?;
            residual.give_gradient(grads, dy)
        });
        Ok(y)
    }

    fn linear_forward(&self, x: &Value, layer: &Linear, start: Start<'_>) -> Result<Value, CpuError> {
        let (rows, inputs, outputs) = sizes(x, layer);
        let mut y = self.alloc(rows * outputs)?;
        let weight = Matrix::new(&layer.weight, outputs, inputs);
        multiply(Matrix::new(x, rows, inputs), weight.transposed(), start, &mut y);
        self.value(y)
    }

    /// The exact GELU.
    pub(crate) fn gelu(&mut self, x: &Value) -> Result<Value, CpuError> {
        let mut y = self.alloc(x.len())?;
        gelu::forward(x, &mut y);
        let y = self.value(y)?;
        let (x, key) = (x.clone(), y.key().clone());
        self.record(move |grads| {
            let mut gradient = take(grads, &key)?;
            gelu::backward(&x, &mut gradient);
            x.give_gradient(grads, gradient)
        });
        Ok(y)
    }

    /// Layer normalisation of each row.
    pub(crate) fn layer_norm(&mut self, x: &Value, norm: &Norm) -> Result<Value, CpuError> {
        let mut y = self.alloc(x.len())?;
        let mut statistics = self.alloc(x.len() / norm.weight.len() * 2)?;
        layer_norm::forward(x, &norm.weight, &norm.bias, &mut y, &mut statistics);
        let y = self.value(y)?;
        let (x, norm, key) = (x.clone(), norm.clone(), y.key().clone());
        self.record(move |grads| {
            let dy = take(grads, &key)?;
            let (mut dx, dx_write) = x.gradient_slot(grads)?;
            let (mut d_weight, weight_write) = norm.weight.gradient_slot(grads)?;
            let (mut d_bias, bias_write) = norm.bias.gradient_slot(grads)?;
            layer_norm::backward(
                layer_norm::Saved { x: &x, weight: &norm.weight, statistics: &statistics },
                &dy,
                (&mut dx, dx_write),
                (&mut d_weight, weight_write),
                (&mut d_bias, bias_write),
            );
            x.put_gradient(grads, dx)?;
            norm.weight.put_gradient(grads, d_weight)?;
            norm.bias.put_gradient(grads, d_bias)
        });
        Ok(y)
    }

    /// (B, N, D) from queries, keys and values (B, N, 3, H, D / H).
    pub(crate) fn attention(&mut self, qkv: &Value, shape: Shape) -> Result<Value, CpuError> {
        let mut y = self.alloc(qkv.len() / 3)?;
        attention::forward(shape, qkv, &mut y);
        let y = self.value(y)?;
        let (qkv, key) = (qkv.clone(), y.key().clone());
        self.record(move |grads| {
            let dy = take(grads, &key)?;
            let mut d_qkv = qkv.alloc_gradient()?;
            attention::backward(shape, &qkv, &dy, &mut d_qkv);
            qkv.give_gradient(grads, d_qkv)
        });
        Ok(y)
    }

    /// (B, 1 + V, D): class token, then `patches` (B, V, D), positions added.
    pub(crate) fn embed(
        &mut self,
        patches: &Value,
        class_token: &Value,
        positions: &Value,
        index: &Index,
    ) -> Result<Value, CpuError> {
        let mut y = self.alloc(patches.len() + index.images * class_token.len())?;
        tokens::embed(patches, class_token, positions, &index.visible, &mut y);
        let y = self.value(y)?;
        let (patches, class_token, key) = (patches.clone(), class_token.clone(), y.key().clone());
        self.record(move |grads| {
            let dy = take(grads, &key)?;
            let mut d_patches = patches.alloc_gradient()?;
            let (mut d_class, write) = class_token.gradient_slot(grads)?;
            tokens::embed_backward(&dy, &mut d_patches, (&mut d_class, write));
            patches.give_gradient(grads, d_patches)?;
            class_token.put_gradient(grads, d_class)
        });
        Ok(y)
    }

    /// (B, 1 + L, D): each token of `x` (B, 1 + V, D) at its place, mask tokens elsewhere, positions added.
    pub(crate) fn unshuffle(
        &mut self,
        x: &Value,
        mask_token: &Value,
        positions: &Value,
        index: &Index,
    ) -> Result<Value, CpuError> {
        let mut y = self.alloc(index.images * positions.len())?;
        tokens::unshuffle(index.places(), x, mask_token, positions, &mut y);
        let y = self.value(y)?;
        let (x, mask_token, index, key) = (x.clone(), mask_token.clone(), index.clone(), y.key().clone());
        self.record(move |grads| {
            let dy = take(grads, &key)?;
            let mut dx = x.alloc_gradient()?;
            let (mut d_mask, write) = mask_token.gradient_slot(grads)?;
            tokens::unshuffle_backward(index.places(), &dy, &mut dx, (&mut d_mask, write));
            x.give_gradient(grads, dx)?;
            mask_token.put_gradient(grads, d_mask)
        });
        Ok(y)
    }

    /// (B, M, D): the masked patches of `x` (B, 1 + L, D).
    pub(crate) fn pick_masked(&mut self, x: &Value, width: usize, index: &Index) -> Result<Value, CpuError> {
        let mut y = self.alloc(index.masked.len() * width)?;
        tokens::pick(x, &index.masked, index.images, &mut y);
        let y = self.value(y)?;
        let (x, index, key) = (x.clone(), index.clone(), y.key().clone());
        self.record(move |grads| {
            let dy = take(grads, &key)?;
            let mut dx = x.alloc_gradient()?;
            tokens::pick_backward(&dy, &index.masked, index.images, &mut dx);
            x.give_gradient(grads, dx)
        });
        Ok(y)
    }

    /// Mean squared error of `predicted` against what `target` makes of `pixels`, both (B, M, P). The backward pass
    /// starts from `weight`.
    pub(crate) fn masked_error(
        &mut self,
        target: Target,
        patch_values: usize,
        predicted: &Value,
        pixels: &Value,
        weight: f32,
    ) -> Result<f32, CpuError> {
        if !self.is_recording() {
            return Ok(loss::masked_error(target, patch_values, predicted, pixels, None));
        }
        let mut gradient = self.alloc(predicted.len())?;
        let loss = loss::masked_error(target, patch_values, predicted, pixels, Some((&mut gradient, weight)));
        let predicted = predicted.clone();
        self.record(move |grads| predicted.give_gradient(grads, gradient));
        Ok(loss)
    }
}

/// Rows, inputs and outputs of a linear layer's product.
fn sizes(x: &Value, layer: &Linear) -> (usize, usize, usize) {
    let outputs = layer.bias.len();
    let inputs = layer.weight.len() / outputs;
    (x.len() / inputs, inputs, outputs)
}

/// dW += dyᵀ x and db += the sum of dy's rows.
fn layer_backward(grads: &mut Grads, x: &Value, layer: &Linear, dy: &[f32]) -> Result<(), CpuError> {
    let (rows, inputs, outputs) = sizes(x, layer);
    let (mut d_weight, write) = layer.weight.gradient_slot(grads)?;
    multiply(Matrix::new(dy, rows, outputs).transposed(), Matrix::new(x, rows, inputs), start_of(write), &mut d_weight);
    layer.weight.put_gradient(grads, d_weight)?;
    let (mut d_bias, write) = layer.bias.gradient_slot(grads)?;
    columns::sum_rows(dy, &mut d_bias, write);
    layer.bias.put_gradient(grads, d_bias)
}

/// dx += dy W.
fn input_backward(grads: &mut Grads, x: &Value, layer: &Linear, dy: &[f32]) -> Result<(), CpuError> {
    let (rows, inputs, outputs) = sizes(x, layer);
    let (mut dx, write) = x.gradient_slot(grads)?;
    multiply(Matrix::new(dy, rows, outputs), Matrix::new(&layer.weight, outputs, inputs), start_of(write), &mut dx);
    x.put_gradient(grads, dx)
}
