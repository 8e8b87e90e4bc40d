//! The operations of a masked autoencoder, each with its own backward pass. This is the seam between the model and what
//! computes it: the model is written in these, and only they know the kernels.

use crate::backend::{Backend, Done, Factor, Index, Normed, Raw, Start};
use crate::config::Target;
use crate::graph::{Grads, Graph, Value};
use crate::kernels::Write;
use crate::kernels::attention::Shape;

/// Weight (out, in) and bias (out) of a linear layer.
pub(crate) struct Linear<B: Backend> {
    pub(crate) weight: Value<B>,
    pub(crate) bias: Value<B>,
}

impl<B: Backend> Clone for Linear<B> {
    fn clone(&self) -> Self {
        Linear { weight: self.weight.clone(), bias: self.bias.clone() }
    }
}

/// Weight and bias (D) of a layer normalisation.
pub(crate) struct Norm<B: Backend> {
    pub(crate) weight: Value<B>,
    pub(crate) bias: Value<B>,
}

impl<B: Backend> Clone for Norm<B> {
    fn clone(&self) -> Self {
        Norm { weight: self.weight.clone(), bias: self.bias.clone() }
    }
}

fn start_of<'a, B: Backend>(write: Write) -> Start<'a, B> {
    match write {
        Write::Set => Start::Zero,
        Write::Add => Start::Accumulate,
    }
}

impl<B: Backend> Graph<B> {
    /// y (N, out) = x (N, in) Wᵀ + b.
    pub(crate) fn linear(&mut self, x: &Value<B>, layer: &Linear<B>) -> Done<B, Value<B>> {
        let y = self.linear_forward("linear", x, layer, Start::<B>::Bias(&layer.bias))?;
        let (x, layer, key) = (x.clone(), layer.clone(), y.key().clone());
        self.record("linear", 2 * flops(&x, &layer), move |backend, grads| {
            let dy = key.take(grads)?;
            layer_backward(backend, grads, &x, &layer, &dy)?;
            input_backward(backend, grads, &x, &layer, &dy)
        });
        Ok(y)
    }

    /// As [`Graph::linear`], of an input that no gradient is wanted of.
    pub(crate) fn linear_of_constant(&mut self, x: &Value<B>, layer: &Linear<B>) -> Done<B, Value<B>> {
        let y = self.linear_forward("patch embedding", x, layer, Start::<B>::Bias(&layer.bias))?;
        let (x, layer, key) = (x.clone(), layer.clone(), y.key().clone());
        self.record("patch embedding", flops(&x, &layer), move |backend, grads| {
            let dy = key.take(grads)?;
            layer_backward(backend, grads, &x, &layer, &dy)
        });
        Ok(y)
    }

    /// y = residual + x Wᵀ + b.
    pub(crate) fn linear_onto(&mut self, residual: &Value<B>, x: &Value<B>, layer: &Linear<B>) -> Done<B, Value<B>> {
        let start = Start::<B>::BiasAndResidual(&layer.bias, residual);
        let y = self.linear_forward("linear + residual", x, layer, start)?;
        let (residual, x, layer, key) = (residual.clone(), x.clone(), layer.clone(), y.key().clone());
        self.record("linear + residual", 2 * flops(&x, &layer), move |backend, grads| {
            let dy = key.take(grads)?;
            layer_backward(backend, grads, &x, &layer, &dy)?;
            input_backward(backend, grads, &x, &layer, &dy)?;
            residual.give_gradient(grads, dy)
        });
        Ok(y)
    }

    fn linear_forward(
        &self,
        operation: &'static str,
        x: &Value<B>,
        layer: &Linear<B>,
        start: Start<'_, B>,
    ) -> Done<B, Value<B>> {
        let _timer = self.time(operation, flops(x, layer));
        let (rows, inputs, outputs) = sizes(x, layer);
        let mut y = self.alloc(rows * outputs)?;
        let weight = Factor::<B>::new(&layer.weight, outputs, inputs);
        self.backend().multiply(Factor::<B>::new(x, rows, inputs), weight.transposed(), start, &mut y)?;
        Value::new(y)
    }

    /// The exact GELU.
    pub(crate) fn gelu(&mut self, x: &Value<B>) -> Done<B, Value<B>> {
        let timer = self.time("GELU", 0);
        let mut y = self.alloc(x.values())?;
        self.backend().gelu(x, &mut y)?;
        let y = Value::new(y)?;
        drop(timer);
        let (x, key) = (x.clone(), y.key().clone());
        self.record("GELU", 0, move |backend, grads| {
            let mut gradient = key.take(grads)?;
            backend.gelu_backward(&x, &mut gradient)?;
            x.give_gradient(grads, gradient)
        });
        Ok(y)
    }

    /// Layer normalisation of each row.
    pub(crate) fn layer_norm(&mut self, x: &Value<B>, norm: &Norm<B>) -> Done<B, Value<B>> {
        let timer = self.time("layer norm", 0);
        let mut y = self.alloc(x.values())?;
        let mut statistics = self.alloc(x.values() / norm.weight.values() * 2)?;
        self.backend().layer_norm(x, &norm.weight, &norm.bias, &mut y, &mut statistics)?;
        let y = Value::new(y)?;
        drop(timer);
        let (x, norm, key) = (x.clone(), norm.clone(), y.key().clone());
        self.record("layer norm", 0, move |backend, grads| {
            let dy = key.take(grads)?;
            let (mut dx, dx_write) = x.gradient_slot(grads)?;
            let (mut d_weight, weight_write) = norm.weight.gradient_slot(grads)?;
            let (mut d_bias, bias_write) = norm.bias.gradient_slot(grads)?;
            backend.layer_norm_backward(
                Normed::<B> { x: &x, weight: &norm.weight, statistics: &statistics },
                &dy,
                (&mut dx, dx_write),
                (&mut d_weight, weight_write),
                (&mut d_bias, bias_write),
            )?;
            x.put_gradient(grads, dx)?;
            norm.weight.put_gradient(grads, d_weight)?;
            norm.bias.put_gradient(grads, d_bias)
        });
        Ok(y)
    }

    /// (B, N, D) from queries, keys and values (B, N, 3, H, D / H).
    pub(crate) fn attention(&mut self, qkv: &Value<B>, shape: Shape) -> Done<B, Value<B>> {
        // Queries by keys, and probabilities by values.
        let flops = 4 * (shape.tokens * qkv.values() / 3) as u64;
        let timer = self.time("attention", flops);
        let mut y = self.alloc(qkv.values() / 3)?;
        self.backend().attention(shape, qkv, &mut y)?;
        let y = Value::new(y)?;
        drop(timer);
        let (qkv, key) = (qkv.clone(), y.key().clone());
        self.record("attention", 2 * flops, move |backend, grads| {
            let dy = key.take(grads)?;
            let mut d_qkv = qkv.alloc_gradient()?;
            backend.attention_backward(shape, &qkv, &dy, &mut d_qkv)?;
            qkv.give_gradient(grads, d_qkv)
        });
        Ok(y)
    }

    /// (B, 1 + V, D): class token, then `patches` (B, V, D), positions added.
    pub(crate) fn embed(
        &mut self,
        patches: &Value<B>,
        class_token: &Value<B>,
        positions: &Value<B>,
        index: &Index<B>,
    ) -> Done<B, Value<B>> {
        let timer = self.time("embed", 0);
        let mut y = self.alloc(patches.values() + index.images * class_token.values())?;
        self.backend().embed(index, patches, class_token, positions, &mut y)?;
        let y = Value::new(y)?;
        drop(timer);
        let (patches, class_token) = (patches.clone(), class_token.clone());
        let (index, key) = (index.clone(), y.key().clone());
        self.record("embed", 0, move |backend, grads| {
            let dy = key.take(grads)?;
            let mut d_patches = patches.alloc_gradient()?;
            let (mut d_class, write) = class_token.gradient_slot(grads)?;
            backend.embed_backward(&index, &dy, &mut d_patches, (&mut d_class, write))?;
            patches.give_gradient(grads, d_patches)?;
            class_token.put_gradient(grads, d_class)
        });
        Ok(y)
    }

    /// (B, 1 + L, D): each token of `x` (B, 1 + V, D) at its place, mask tokens elsewhere, positions added.
    pub(crate) fn unshuffle(
        &mut self,
        x: &Value<B>,
        mask_token: &Value<B>,
        positions: &Value<B>,
        index: &Index<B>,
    ) -> Done<B, Value<B>> {
        let timer = self.time("unshuffle", 0);
        let mut y = self.alloc(index.images * positions.values())?;
        self.backend().unshuffle(index, x, mask_token, positions, &mut y)?;
        let y = Value::new(y)?;
        drop(timer);
        let (x, mask_token, index, key) = (x.clone(), mask_token.clone(), index.clone(), y.key().clone());
        self.record("unshuffle", 0, move |backend, grads| {
            let dy = key.take(grads)?;
            let mut dx = x.alloc_gradient()?;
            let (mut d_mask, write) = mask_token.gradient_slot(grads)?;
            backend.unshuffle_backward(&index, &dy, &mut dx, (&mut d_mask, write))?;
            x.give_gradient(grads, dx)?;
            mask_token.put_gradient(grads, d_mask)
        });
        Ok(y)
    }

    /// y (B, N, D) = x + `positions` (N, D) of every image.
    pub(crate) fn add_positions(&mut self, x: &Value<B>, positions: &Value<B>) -> Done<B, Value<B>> {
        let timer = self.time("add positions", 0);
        let mut y = self.alloc(x.values())?;
        self.backend().add_positions(x, positions, &mut y)?;
        let y = Value::new(y)?;
        drop(timer);
        let (x, key) = (x.clone(), y.key().clone());
        self.record("add positions", 0, move |_, grads| {
            let dy = key.take(grads)?;
            x.give_gradient(grads, dy)
        });
        Ok(y)
    }

    /// (B, M, D): the masked patches of `x` (B, 1 + L, D).
    pub(crate) fn pick_masked(&mut self, x: &Value<B>, width: usize, index: &Index<B>) -> Done<B, Value<B>> {
        let timer = self.time("pick masked", 0);
        let mut y = self.alloc(index.images * index.masked_patches * width)?;
        self.backend().pick_masked(index, x, &mut y)?;
        let y = Value::new(y)?;
        drop(timer);
        let (x, index, key) = (x.clone(), index.clone(), y.key().clone());
        self.record("pick masked", 0, move |backend, grads| {
            let dy = key.take(grads)?;
            let mut dx = x.alloc_gradient()?;
            backend.pick_masked_backward(&index, &dy, &mut dx)?;
            x.give_gradient(grads, dx)
        });
        Ok(y)
    }

    /// Adds `weight` times the mean squared error of `predicted` against what `target` makes of `pixels`, both (B, M, P),
    /// to `loss`. The backward pass starts from `weight`.
    pub(crate) fn masked_error(
        &mut self,
        target: Target,
        patch_values: usize,
        predicted: &Value<B>,
        pixels: &Value<B>,
        (loss, weight): (&mut Raw<B>, f32),
    ) -> Done<B> {
        let timer = self.time("loss", 0);
        if !self.is_recording() {
            return self.backend().masked_error(target, patch_values, predicted, pixels, (loss, weight), None);
        }
        let mut gradient = self.alloc(predicted.values())?;
        let wanted = Some(&mut *gradient);
        self.backend().masked_error(target, patch_values, predicted, pixels, (loss, weight), wanted)?;
        drop(timer);
        let predicted = predicted.clone();
        self.record("loss", 0, move |_, grads| predicted.give_gradient(grads, gradient));
        Ok(())
    }
}

/// Of a linear layer's product; its backward pass takes as many for the weights and as many for the input.
fn flops<B: Backend>(x: &Value<B>, layer: &Linear<B>) -> u64 {
    2 * (x.values() * layer.bias.values()) as u64
}

/// Rows, inputs and outputs of a linear layer's product.
fn sizes<B: Backend>(x: &Value<B>, layer: &Linear<B>) -> (usize, usize, usize) {
    let outputs = layer.bias.values();
    let inputs = layer.weight.values() / outputs;
    (x.values() / inputs, inputs, outputs)
}

/// dW += dyᵀ x and db += the sum of dy's rows.
fn layer_backward<B: Backend>(
    backend: &B,
    grads: &mut Grads<B>,
    x: &Value<B>,
    layer: &Linear<B>,
    dy: &Raw<B>,
) -> Done<B> {
    let (rows, inputs, outputs) = sizes(x, layer);
    let (mut d_weight, write) = layer.weight.gradient_slot(grads)?;
    let dy_matrix = Factor::<B>::new(dy, rows, outputs);
    backend.multiply(dy_matrix.transposed(), Factor::<B>::new(x, rows, inputs), start_of(write), &mut d_weight)?;
    layer.weight.put_gradient(grads, d_weight)?;
    let (mut d_bias, write) = layer.bias.gradient_slot(grads)?;
    backend.sum_rows(dy, (&mut d_bias, write))?;
    layer.bias.put_gradient(grads, d_bias)
}

/// dx += dy W.
fn input_backward<B: Backend>(
    backend: &B,
    grads: &mut Grads<B>,
    x: &Value<B>,
    layer: &Linear<B>,
    dy: &Raw<B>,
) -> Done<B> {
    let (rows, inputs, outputs) = sizes(x, layer);
    let (mut dx, write) = x.gradient_slot(grads)?;
    let weight = Factor::<B>::new(&layer.weight, outputs, inputs);
    backend.multiply(Factor::<B>::new(dy, rows, outputs), weight, start_of(write), &mut dx)?;
    x.put_gradient(grads, dx)
}
