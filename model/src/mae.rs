//! The masked autoencoder itself: an encoder over visible patches, a light decoder over all of them (section 3).

use crate::config::{MaeConfig, Target, TransformerConfig};
use crate::graph::{Graph, Value};
use crate::kernels::attention::Shape;
use crate::operations::{Index, Linear, Norm};
use dfdx::prelude::CpuError;

/// Finds a tensor by its name in the parameter table.
pub(crate) trait Weights {
    /// Panics if the table has no such name, which only a mistake in this file can bring about.
    fn get(&self, name: &str) -> Value;

    fn linear(&self, name: &str) -> Linear {
        Linear { weight: self.get(&format!("{name}.weight")), bias: self.get(&format!("{name}.bias")) }
    }

    fn norm(&self, name: &str) -> Norm {
        Norm { weight: self.get(&format!("{name}.weight")), bias: self.get(&format!("{name}.bias")) }
    }
}

struct Attention {
    qkv: Linear,
    proj: Linear,
    heads: usize,
}

impl Attention {
    fn new(weights: &impl Weights, name: &str, heads: usize) -> Attention {
        let [qkv, proj] = ["qkv", "proj"].map(|layer| weights.linear(&format!("{name}.{layer}")));
        Attention { qkv, proj, heads }
    }

    /// residual + attention over x, (B, N, D) each.
    fn forward(&self, graph: &mut Graph, residual: &Value, x: &Value, tokens: usize) -> Result<Value, CpuError> {
        let width = self.proj.bias.len();
        let qkv = graph.linear(x, &self.qkv)?; // (B, N, 3, H, D / H)
        let x = graph.attention(&qkv, Shape { tokens, heads: self.heads, width })?; // (B, N, D)
        graph.linear_onto(residual, &x, &self.proj) // (B, N, D)
    }
}

struct Mlp {
    fc1: Linear,
    fc2: Linear,
}

impl Mlp {
    fn new(weights: &impl Weights, name: &str) -> Mlp {
        let [fc1, fc2] = ["fc1", "fc2"].map(|layer| weights.linear(&format!("{name}.{layer}")));
        Mlp { fc1, fc2 }
    }

    /// residual + MLP over x, (B, N, D) each.
    fn forward(&self, graph: &mut Graph, residual: &Value, x: &Value) -> Result<Value, CpuError> {
        let x = graph.linear(x, &self.fc1)?; // (B, N, hidden)
        let x = graph.gelu(&x)?; // (B, N, hidden)
        graph.linear_onto(residual, &x, &self.fc2) // (B, N, D)
    }
}

struct Block {
    norm1: Norm,
    attn: Attention,
    norm2: Norm,
    mlp: Mlp,
}

impl Block {
    fn new(weights: &impl Weights, name: &str, heads: usize) -> Block {
        Block {
            norm1: weights.norm(&format!("{name}.norm1")),
            attn: Attention::new(weights, &format!("{name}.attn"), heads),
            norm2: weights.norm(&format!("{name}.norm2")),
            mlp: Mlp::new(weights, &format!("{name}.mlp")),
        }
    }

    /// (B, N, D) to (B, N, D).
    fn forward(&self, graph: &mut Graph, x: &Value, tokens: usize) -> Result<Value, CpuError> {
        let normed = graph.layer_norm(x, &self.norm1)?;
        let x = self.attn.forward(graph, x, &normed, tokens)?;
        let normed = graph.layer_norm(&x, &self.norm2)?;
        self.mlp.forward(graph, &x, &normed)
    }
}

fn blocks(weights: &impl Weights, name: &str, config: &TransformerConfig) -> Vec<Block> {
    (0..config.depth).map(|block| Block::new(weights, &format!("{name}.{block}"), config.heads)).collect()
}

/// A batch on the device, normalised, its indices checked.
pub(crate) struct Batch {
    /// (B, V, P)
    pub(crate) visible: Value,
    /// (B, M, P)
    pub(crate) masked: Value,
    pub(crate) index: Index,
}

/// The model of one pass. It shares its tensors with the engine that owns them.
pub(crate) struct Mae {
    patch_embed: Linear,
    cls_token: Value,
    pos_embed: Value,
    blocks: Vec<Block>,
    norm: Norm,
    decoder_embed: Linear,
    mask_token: Value,
    decoder_pos_embed: Value,
    decoder_blocks: Vec<Block>,
    decoder_norm: Norm,
    decoder_pred: Linear,
    target: Target,
}

impl Mae {
    pub(crate) fn new(config: &MaeConfig, weights: &impl Weights) -> Mae {
        Mae {
            patch_embed: weights.linear("patch_embed.proj"),
            cls_token: weights.get("cls_token"),
            pos_embed: weights.get("pos_embed"),
            blocks: blocks(weights, "blocks", &config.encoder),
            norm: weights.norm("norm"),
            decoder_embed: weights.linear("decoder_embed"),
            mask_token: weights.get("mask_token"),
            decoder_pos_embed: weights.get("decoder_pos_embed"),
            decoder_blocks: blocks(weights, "decoder_blocks", &config.decoder),
            decoder_norm: weights.norm("decoder_norm"),
            decoder_pred: weights.linear("decoder_pred"),
            target: config.target,
        }
    }

    /// The latent (B, 1 + V, D) of visible patches (B, V, P). Nothing else comes in.
    pub(crate) fn encode(&self, graph: &mut Graph, visible: &Value, index: &Index) -> Result<Value, CpuError> {
        let tokens = 1 + index.visible.len() / index.images;
        let x = graph.linear_of_constant(visible, &self.patch_embed)?; // (B, V, D)
        let mut x = graph.embed(&x, &self.cls_token, &self.pos_embed, index)?; // (B, 1 + V, D)
        for block in &self.blocks {
            x = block.forward(graph, &x, tokens)?;
        }
        graph.layer_norm(&x, &self.norm)
    }

    /// The decoder's tokens (B, 1 + L, D'), before its norm, which works on each alone.
    pub(crate) fn decode(&self, graph: &mut Graph, latent: &Value, index: &Index) -> Result<Value, CpuError> {
        let tokens = self.decoder_pos_embed.len() / self.mask_token.len();
        let x = graph.linear(latent, &self.decoder_embed)?; // (B, 1 + V, D')
        let mut x = graph.unshuffle(&x, &self.mask_token, &self.decoder_pos_embed, index)?; // (B, 1 + L, D')
        for block in &self.decoder_blocks {
            x = block.forward(graph, &x, tokens)?;
        }
        Ok(x)
    }

    /// What is predicted of the patches of these tokens, (N, D') to (N, P).
    pub(crate) fn predict(&self, graph: &mut Graph, tokens: &Value) -> Result<Value, CpuError> {
        let x = graph.layer_norm(tokens, &self.decoder_norm)?; // (N, D')
        graph.linear(&x, &self.decoder_pred) // (N, P)
    }

    /// The loss, `weight` of whose gradient the backward pass gives. Nothing but masked patches bears any, so nothing
    /// else is predicted.
    pub(crate) fn loss(&self, graph: &mut Graph, decoded: &Value, batch: &Batch, weight: f32) -> Result<f32, CpuError> {
        let tokens = graph.pick_masked(decoded, self.mask_token.len(), &batch.index)?; // (B, M, D')
        let predicted = self.predict(graph, &tokens)?; // (B, M, P)
        graph.masked_error(self.target, self.decoder_pred.bias.len(), &predicted, &batch.masked, weight)
    }
}
