//! Sizes of a masked autoencoder, the presets, and the checks that every engine relies on.

use crate::error::ModelError;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// No axis of an image is longer, so that arithmetic on sizes cannot overflow.
const IMAGE_PX_MAX: usize = 1 << 16;
/// Patch indices are `u16`.
const PATCHES_MAX: usize = 1 << 16;
const WIDTH_MAX: usize = 1 << 16;
const DEPTH_MAX: usize = 1 << 10;
/// Six times `vit_huge`; weights, gradients and moments of more would not fit a machine's memory.
const PARAMETERS_MAX: usize = 1 << 32;

/// Depth and width of one transformer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransformerConfig {
    /// Channels of a token; a multiple of `heads` and of 4.
    pub width: usize,
    /// Blocks.
    pub depth: usize,
    /// Attention heads of a block.
    pub heads: usize,
}

/// What the decoder predicts for a masked patch (section 3, "Reconstruction target").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The patch's pixels, as normalised for the encoder.
    Pixels,
    /// The same, less the patch's mean and over its deviation (unbiased variance + 1e-6).
    #[default]
    NormalizedPatches,
}

/// Which tokens the encoder works on (section 4.1, Table 1c).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EncoderInput {
    /// Those of visible patches.
    #[default]
    Visible,
    /// Those of all patches, a learnt mask token in the place of what is masked. It exists to be compared with: it costs
    /// several times as much and learns less.
    WithMaskTokens,
}

/// All sizes of a masked autoencoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaeConfig {
    /// Height of an image, a multiple of `patch_px`.
    pub image_height_px: usize,
    /// Width of an image, a multiple of `patch_px`.
    pub image_width_px: usize,
    /// Side of a patch.
    pub patch_px: usize,
    /// Channels of a pixel; 3 where batches are bytes.
    pub channels: usize,
    /// The transformer over the visible patches and the class token.
    pub encoder: TransformerConfig,
    /// The transformer over all patches and the class token.
    pub decoder: TransformerConfig,
    /// Width of an MLP's hidden layer over the transformer's; rounded down.
    pub mlp_ratio: f64,
    /// What is predicted.
    pub target: Target,
    /// What the encoder sees; configurations from before there was a choice are read as they were meant.
    #[serde(default)]
    pub encoder_input: EncoderInput,
}

/// Models by name. The `vit_` sizes from base up are the paper's, with its decoder of 8 blocks, 512 wide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// 32 px, patch 4; trains in minutes on two cores.
    VitMicro,
    /// 224 px, patch 16, 192 wide.
    VitTiny,
    /// 224 px, patch 16, 384 wide.
    VitSmall,
    /// 224 px, patch 16, 768 wide.
    VitBase,
    /// 224 px, patch 16, 1024 wide.
    VitLarge,
    /// 224 px, patch 14, 1280 wide.
    VitHuge,
}

impl Preset {
    const ALL: [(Preset, &'static str); 6] = [
        (Preset::VitMicro, "vit_micro"),
        (Preset::VitTiny, "vit_tiny"),
        (Preset::VitSmall, "vit_small"),
        (Preset::VitBase, "vit_base"),
        (Preset::VitLarge, "vit_large"),
        (Preset::VitHuge, "vit_huge"),
    ];

    /// Every preset's name, smallest model first.
    pub fn names() -> Vec<&'static str> {
        Preset::ALL.iter().map(|(_, name)| *name).collect()
    }

    /// The preset's sizes.
    pub fn config(self) -> MaeConfig {
        let (image_px, patch_px, (width, depth, heads), (decoder_width, decoder_depth, decoder_heads)) = match self {
            Preset::VitMicro => (32, 4, (192, 4, 3), (96, 2, 3)),
            Preset::VitTiny => (224, 16, (192, 12, 3), (128, 4, 4)),
            Preset::VitSmall => (224, 16, (384, 12, 6), (256, 4, 8)),
            Preset::VitBase => (224, 16, (768, 12, 12), (512, 8, 16)),
            Preset::VitLarge => (224, 16, (1024, 24, 16), (512, 8, 16)),
            Preset::VitHuge => (224, 14, (1280, 32, 16), (512, 8, 16)),
        };
        MaeConfig {
            image_height_px: image_px,
            image_width_px: image_px,
            patch_px,
            channels: 3,
            encoder: TransformerConfig { width, depth, heads },
            decoder: TransformerConfig { width: decoder_width, depth: decoder_depth, heads: decoder_heads },
            mlp_ratio: 4.0,
            target: Target::default(),
            encoder_input: EncoderInput::default(),
        }
    }
}

impl FromStr for Preset {
    type Err = ModelError;

    fn from_str(name: &str) -> Result<Preset, ModelError> {
        let found = Preset::ALL.iter().find(|(_, known)| *known == name);
        found.map(|(preset, _)| *preset).ok_or_else(|| ModelError::UnknownPreset { name: name.to_owned() })
    }
}

impl MaeConfig {
    /// Checks every size.
    ///
    /// # Errors
    /// The first size that is wrong, with what would do.
    pub fn validate(&self) -> Result<(), ModelError> {
        let patch_px = self.patch_px;
        for (what, size) in [("patch_px", patch_px), ("channels", self.channels)] {
            in_range(what, size, IMAGE_PX_MAX)?;
        }
        for (axis, image_px) in [("image_height_px", self.image_height_px), ("image_width_px", self.image_width_px)] {
            in_range(axis, image_px, IMAGE_PX_MAX)?;
            if image_px % patch_px != 0 {
                return Err(ModelError::ImageNotMultipleOfPatch { axis, image_px, patch_px });
            }
        }
        in_range("patches of an image", self.patches(), PATCHES_MAX)?;
        in_range("values of a patch", self.patch_values(), 1 << 24)?;
        if self.target == Target::NormalizedPatches && self.patch_values() < 2 {
            return Err(ModelError::PatchWithoutVariance);
        }
        self.validate_transformer("encoder", &self.encoder)?;
        self.validate_transformer("decoder", &self.decoder)?;
        in_range("the number of trained values", self.parameter_count(), PARAMETERS_MAX)
    }

    fn validate_transformer(&self, part: &'static str, config: &TransformerConfig) -> Result<(), ModelError> {
        let &TransformerConfig { width, depth, heads } = config;
        in_range("width", width, WIDTH_MAX)?;
        in_range("depth", depth, DEPTH_MAX)?;
        in_range("heads", heads, WIDTH_MAX)?;
        for (divisor, reason) in [(heads, "its heads"), (4, "sine and cosine of two axes")] {
            if width % divisor != 0 {
                return Err(ModelError::WidthNotDivisible { part, width, divisor, reason });
            }
        }
        if (1..=8 * WIDTH_MAX).contains(&self.hidden_width(config)) && self.mlp_ratio.is_finite() {
            Ok(())
        } else {
            Err(ModelError::MlpRatio { part, ratio: self.mlp_ratio, max: 8 * WIDTH_MAX })
        }
    }

    /// Rows of the patch grid.
    pub fn grid_rows(&self) -> usize {
        self.image_height_px / self.patch_px
    }

    /// Columns of the patch grid.
    pub fn grid_columns(&self) -> usize {
        self.image_width_px / self.patch_px
    }

    /// Patches of an image, L.
    pub fn patches(&self) -> usize {
        self.grid_rows() * self.grid_columns()
    }

    /// Values of a patch, P = p * p * c.
    pub fn patch_values(&self) -> usize {
        self.patch_px * self.patch_px * self.channels
    }

    /// Width of the hidden layer of a transformer's MLPs.
    pub fn hidden_width(&self, transformer: &TransformerConfig) -> usize {
        (transformer.width as f64 * self.mlp_ratio) as usize
    }

    /// Tokens of an image in the encoder, the class token's included.
    pub fn encoder_tokens(&self, visible: usize) -> usize {
        match self.encoder_input {
            EncoderInput::Visible => 1 + visible,
            EncoderInput::WithMaskTokens => 1 + self.patches(),
        }
    }

    /// Width of the mask token, which is one of the decoder's unless the encoder sees it, too.
    pub(crate) fn mask_token_width(&self) -> usize {
        match self.encoder_input {
            EncoderInput::Visible => self.decoder.width,
            EncoderInput::WithMaskTokens => self.encoder.width,
        }
    }

    /// Trained values, fixed position tables not counted.
    pub fn parameter_count(&self) -> usize {
        self.parameters().iter().filter(|parameter| parameter.trained).map(crate::Parameter::len).sum()
    }

    /// Floating-point operations of one training step for one image of which `visible` patches are shown: two for a
    /// multiply-add of the matrix products, forward and backward (three times forward). The prediction layer is counted
    /// on masked patches alone, as it runs.
    pub fn flops_per_image(&self, visible: usize) -> u64 {
        let (tokens, all_tokens) = (self.encoder_tokens(visible), self.patches() + 1);
        let masked = self.patches().saturating_sub(visible);
        let block = |config: &TransformerConfig, tokens: usize| {
            let &TransformerConfig { width, depth, .. } = config;
            let linear = width * (4 * width + 2 * self.hidden_width(config));
            depth * (tokens * linear + 2 * tokens * tokens * width)
        };
        let multiply_adds = visible * self.patch_values() * self.encoder.width
            + block(&self.encoder, tokens)
            + tokens * self.encoder.width * self.decoder.width
            + block(&self.decoder, all_tokens)
            + masked * self.decoder.width * self.patch_values();
        6 * multiply_adds as u64
    }

    /// Bytes of weights, gradients and both moments.
    pub fn state_bytes(&self) -> u64 {
        4 * 4 * self.parameter_count() as u64
    }

    /// Images that training can compute at once in so much memory, about: activations and state, and a third more for
    /// gradients on their way and for what kernels need.
    pub(crate) fn rows_that_fit(&self, memory_bytes: u64, visible: usize) -> usize {
        let each = self.activation_bytes_per_image(visible) / 3 * 4;
        (memory_bytes.saturating_sub(self.state_bytes()) / each.max(1)) as usize
    }

    /// Bytes that the forward pass of one training step keeps for the backward pass, for one image of which `visible`
    /// patches are shown. Weights, gradients and moments come once, not for each image.
    pub fn activation_bytes_per_image(&self, visible: usize) -> u64 {
        let (tokens, all_tokens) = (self.encoder_tokens(visible), self.patches() + 1);
        let masked = self.patches().saturating_sub(visible);
        let block = |config: &TransformerConfig, tokens: usize| {
            // Two norms with two statistics each, queries, keys and values, attention, the two sums, and the MLP twice.
            config.depth * tokens * (8 * config.width + 4 + 2 * self.hidden_width(config))
        };
        let encoder = visible * (self.patch_values() + self.encoder.width)
            + 2 * tokens * (self.encoder.width + 1)
            + (tokens - visible - 1).min(1) * (visible + 1) * self.encoder.width
            + block(&self.encoder, tokens);
        let decoder = (tokens + all_tokens) * self.decoder.width
            + block(&self.decoder, all_tokens)
            + masked * (2 * self.decoder.width + 2 + 3 * self.patch_values());
        4 * (encoder + decoder) as u64
    }
}

fn in_range(what: &'static str, got: usize, max: usize) -> Result<(), ModelError> {
    match got {
        0 => Err(ModelError::Zero { what }),
        _ if got > max => Err(ModelError::TooLarge { what, got, max }),
        _ => Ok(()),
    }
}
