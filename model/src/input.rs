//! Checks of a batch, which every engine makes before it touches one.

use crate::config::MaeConfig;
use crate::engine::{PatchInput, Pixels};
use crate::error::ModelError;

/// Checks that a batch fits the model: lengths, and that the indices of each image name every patch once.
pub(crate) fn check(config: &MaeConfig, input: &PatchInput<'_>) -> Result<(), ModelError> {
    let &PatchInput { rows, visible, visible_index, masked, masked_index } = input;
    let (visible_patches, masked_patches) = (visible_index.len(), masked_index.len());
    let even = |indices: usize| rows > 0 && indices >= rows && indices.is_multiple_of(rows);
    if !even(visible_patches) || !even(masked_patches) {
        return Err(ModelError::InputShape { rows, visible: visible_patches, masked: masked_patches });
    }
    let (got, expected) = (visible_patches + masked_patches, rows.saturating_mul(config.patches()));
    if got != expected {
        return Err(ModelError::InputLength { what: "the list of visible and masked indices", expected, got });
    }
    for (what, pixels, patches) in [("visible", visible, visible_patches), ("masked", masked, masked_patches)] {
        let expected = patches.saturating_mul(config.patch_values());
        if pixels.len() != expected {
            return Err(ModelError::InputLength { what, expected, got: pixels.len() });
        }
        if matches!(pixels, Pixels::Bytes(_)) && config.channels != 3 {
            return Err(ModelError::BytesNeedRgb { channels: config.channels });
        }
    }
    check_indices(config.patches(), input)
}

fn check_indices(patches: usize, input: &PatchInput<'_>) -> Result<(), ModelError> {
    let (visible, masked) = (input.visible_index.len() / input.rows, input.masked_index.len() / input.rows);
    let images = input.visible_index.chunks_exact(visible).zip(input.masked_index.chunks_exact(masked));
    let mut last_seen = vec![usize::MAX; patches];
    for (row, (visible, masked)) in images.enumerate() {
        for index in visible.iter().chain(masked).map(|&index| usize::from(index)) {
            let problem = match last_seen.get_mut(index) {
                None => "out of range",
                Some(seen) if *seen == row => "there twice",
                Some(seen) => {
                    *seen = row;
                    continue;
                }
            };
            return Err(ModelError::PatchIndex { row, index, problem, patches });
        }
    }
    Ok(())
}
