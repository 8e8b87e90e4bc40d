//! The masked autoencoder itself: an encoder over visible patches, a light decoder over all of them (section 3).

use crate::backend::{Backend, Done, Index, Raw};
use crate::config::{EncoderInput, MaeConfig, Target, TransformerConfig};
use crate::graph::{Graph, Value};
use crate::kernels::attention::Shape;
use crate::operations::{Linear, Norm};

/// Finds a tensor by its name in the parameter table.
pub(crate) trait Weights<B: Backend> {
    /// Panics if the table has no such name, which only a mistake in this file can bring about.
    fn get(&self, name: &str) -> Value<B>;

    fn linear(&self, name: &str) -> Linear<B> {
        Linear { weight: self.get(&format!("{name}.weight")), bias: self.get(&format!("{name}.bias")) }
    }

    fn norm(&self, name: &str) -> Norm<B> {
        Norm { weight: self.get(&format!("{name}.weight")), bias: self.get(&format!("{name}.bias")) }
    }
}

struct Attention<B: Backend> {
    qkv: Linear<B>,
    proj: Linear<B>,
    heads: usize,
}

impl<B: Backend> Attention<B> {
    fn new(weights: &impl Weights<B>, name: &str, heads: usize) -> Attention<B> {
        let [qkv, proj] = ["qkv", "proj"].map(|layer| weights.linear(&format!("{name}.{layer}")));
        Attention { qkv, proj, heads }
    }

    /// residual + attention over x, (B, N, D) each.
    fn forward(&self, graph: &mut Graph<B>, residual: &Value<B>, x: &Value<B>, tokens: usize) -> Done<B, Value<B>> {
        let width = self.proj.bias.values();
        let qkv = graph.linear(x, &self.qkv)?; // (B, N, 3, H, D / H)
        let x = graph.attention(&qkv, Shape { tokens, heads: self.heads, width })?; // (B, N, D)
        graph.linear_onto(residual, &x, &self.proj) // (B, N, D)
    }
}

struct Mlp<B: Backend> {
    fc1: Linear<B>,
    fc2: Linear<B>,
}

impl<B: Backend> Mlp<B> {
    fn new(weights: &impl Weights<B>, name: &str) -> Mlp<B> {
        let [fc1, fc2] = ["fc1", "fc2"].map(|layer| weights.linear(&format!("{name}.{layer}")));
        Mlp { fc1, fc2 }
    }

    /// residual + MLP over x, (B, N, D) each.
    fn forward(&self, graph: &mut Graph<B>, residual: &Value<B>, x: &Value<B>) -> Done<B, Value<B>> {
        let x = graph.linear(x, &self.fc1)?; // (B, N, hidden)
        let x = graph.gelu(&x)?; // (B, N, hidden)
        graph.linear_onto(residual, &x, &self.fc2) // (B, N, D)
    }
}

struct Block<B: Backend> {
    norm1: Norm<B>,
    attn: Attention<B>,
    norm2: Norm<B>,
    mlp: Mlp<B>,
}

impl<B: Backend> Block<B> {
    fn new(weights: &impl Weights<B>, name: &str, heads: usize) -> Block<B> {
        Block {
            norm1: weights.norm(&format!("{name}.norm1")),
            attn: Attention::new(weights, &format!("{name}.attn"), heads),
            norm2: weights.norm(&format!("{name}.norm2")),
            mlp: Mlp::new(weights, &format!("{name}.mlp")),
        }
    }

    /// (B, N, D) to (B, N, D).
    fn forward(&self, graph: &mut Graph<B>, x: &Value<B>, tokens: usize) -> Done<B, Value<B>> {
        let normed = graph.layer_norm(x, &self.norm1)?;
        let x = self.attn.forward(graph, x, &normed, tokens)?;
        let normed = graph.layer_norm(&x, &self.norm2)?;
        self.mlp.forward(graph, &x, &normed)
    }
}

fn blocks<B: Backend>(weights: &impl Weights<B>, name: &str, config: &TransformerConfig) -> Vec<Block<B>> {
    (0..config.depth).map(|block| Block::new(weights, &format!("{name}.{block}"), config.heads)).collect()
}

/// A batch on the device, normalised, its indices checked.
pub(crate) struct Batch<B: Backend> {
    /// (B, V, P)
    pub(crate) visible: Value<B>,
    /// (B, M, P)
    pub(crate) masked: Value<B>,
    pub(crate) index: Index<B>,
}

/// The model of one pass. It shares its tensors with the engine that owns them.
pub(crate) struct Mae<B: Backend> {
    patch_embed: Linear<B>,
    cls_token: Value<B>,
    pos_embed: Value<B>,
    blocks: Vec<Block<B>>,
    norm: Norm<B>,
    decoder_embed: Linear<B>,
    mask_token: Value<B>,
    decoder_pos_embed: Value<B>,
    decoder_blocks: Vec<Block<B>>,
    decoder_norm: Norm<B>,
    decoder_pred: Linear<B>,
    target: Target,
    encoder_input: EncoderInput,
}

impl<B: Backend> Mae<B> {
    pub(crate) fn new(config: &MaeConfig, weights: &impl Weights<B>) -> Mae<B> {
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
            encoder_input: config.encoder_input,
        }
    }

    /// The latent (B, 1 + V, D) of visible patches (B, V, P). Nothing else comes in. With mask tokens in the encoder it is
    /// (B, 1 + L, D), in the order of the grid.
    pub(crate) fn encode(&self, graph: &mut Graph<B>, visible: &Value<B>, index: &Index<B>) -> Done<B, Value<B>> {
        let x = graph.linear_of_constant(visible, &self.patch_embed)?; // (B, V, D)
        let mut x = if self.masks_in_encoder(index) {
            let nowhere = graph.zeros(self.pos_embed.values())?;
            let x = graph.embed(&x, &self.cls_token, &nowhere, index)?; // (B, 1 + V, D)
            graph.unshuffle(&x, &self.mask_token, &self.pos_embed, index)? // (B, 1 + L, D)
        } else {
            graph.embed(&x, &self.cls_token, &self.pos_embed, index)? // (B, 1 + V, D)
        };
        let tokens = x.values() / self.cls_token.values() / index.images;
        for block in &self.blocks {
            x = block.forward(graph, &x, tokens)?;
        }
        graph.layer_norm(&x, &self.norm)
    }

    /// The decoder's tokens (B, 1 + L, D'), before its norm, which works on each alone.
    pub(crate) fn decode(&self, graph: &mut Graph<B>, latent: &Value<B>, index: &Index<B>) -> Done<B, Value<B>> {
        let tokens = self.decoder_pos_embed.values() / self.decoder_embed.bias.values();
        let x = graph.linear(latent, &self.decoder_embed)?; // (B, 1 + V, D')
        let mut x = if self.masks_in_encoder(index) {
            graph.add_positions(&x, &self.decoder_pos_embed)? // (B, 1 + L, D')
        } else {
            graph.unshuffle(&x, &self.mask_token, &self.decoder_pos_embed, index)? // (B, 1 + L, D')
        };
        for block in &self.decoder_blocks {
            x = block.forward(graph, &x, tokens)?;
        }
        Ok(x)
    }

    /// Whether mask tokens pass through the encoder, which they cannot where nothing is masked.
    fn masks_in_encoder(&self, index: &Index<B>) -> bool {
        self.encoder_input == EncoderInput::WithMaskTokens && index.masked_patches > 0
    }

    /// What is predicted of the patches of these tokens, (N, D') to (N, P).
    pub(crate) fn predict(&self, graph: &mut Graph<B>, tokens: &Value<B>) -> Done<B, Value<B>> {
        let x = graph.layer_norm(tokens, &self.decoder_norm)?; // (N, D')
        graph.linear(&x, &self.decoder_pred) // (N, P)
    }

    /// Adds `weight` times the loss to `loss`; the backward pass gives that much of its gradient. Nothing but masked
    /// patches bears any, so nothing else is predicted.
    pub(crate) fn loss(
        &self,
        graph: &mut Graph<B>,
        decoded: &Value<B>,
        batch: &Batch<B>,
        (loss, weight): (&mut Raw<B>, f32),
    ) -> Done<B> {
        let tokens = graph.pick_masked(decoded, self.decoder_embed.bias.values(), &batch.index)?; // (B, M, D')
        let predicted = self.predict(graph, &tokens)?; // (B, M, P)
        let patch_values = self.decoder_pred.bias.values();
        graph.masked_error(self.target, patch_values, &predicted, &batch.masked, (loss, weight))
    }
}
