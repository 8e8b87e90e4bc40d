//! What several files of tests need.

use patchstream_model::{EncoderInput, MaeConfig, Target, TransformerConfig};

/// 24 x 16 px in patches of 8: three rows, two columns.
pub(crate) fn config() -> MaeConfig {
    MaeConfig {
        image_height_px: 24,
        image_width_px: 16,
        patch_px: 8,
        channels: 3,
        encoder: TransformerConfig { width: 24, depth: 2, heads: 3 },
        decoder: TransformerConfig { width: 16, depth: 1, heads: 2 },
        mlp_ratio: 2.5,
        target: Target::NormalizedPatches,
        encoder_input: EncoderInput::Visible,
    }
}
