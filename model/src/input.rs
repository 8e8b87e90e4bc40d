//! Checks of a batch, which every engine makes before it touches one.

use crate::config::MaeConfig;
use crate::engine::{PatchInput, Pixels};
use crate::error::ModelError;

/// Checks that a batch fits the model: lengths, and that the indices of each image name every patch once.
pub(crate) fn check(config: &MaeConfig, input: &PatchInput<'_>) -> Result<(), ModelError> {
    let &PatchInput { rows, visible, visible_index, masked, masked_index, .. } = input;
    let (visible_patches, masked_patches) = (visible_index.len(), masked_index.len());
    let even = |indices: usize| rows > 0 && indices >= rows && indices.is_multiple_of(rows);
    if !even(visible_patches) || !even(masked_patches) {
        return Err(ModelError::InputShape { rows, visible: visible_patches, masked: masked_patches });
    }
    let (got, expected) = (visible_patches + masked_patches, rows.saturating_mul(config.patches()));
    if got != expected {
        return Err(ModelError::InputLength { what: "the list of visible and masked indices", expected, got });
    }
    check_pixels(config, "visible", visible, visible_patches)?;
    check_pixels(config, "masked", masked, masked_patches)?;
    check_indices(config.patches(), input)
}

/// Checks that pixels are those of `rows` whole images.
pub(crate) fn check_whole(config: &MaeConfig, rows: usize, pixels: Pixels<'_>) -> Result<(), ModelError> {
    if rows == 0 {
        return Err(ModelError::Zero { what: "the number of images" });
    }
    check_pixels(config, "the batch", pixels, rows.saturating_mul(config.patches()))
}

fn check_pixels(config: &MaeConfig, what: &'static str, pixels: Pixels<'_>, patches: usize) -> Result<(), ModelError> {
    let expected = patches.saturating_mul(config.patch_values());
    if pixels.len() != expected {
        return Err(ModelError::InputLength { what, expected, got: pixels.len() });
    }
    if matches!(pixels, Pixels::Bytes(_)) && config.channels != 3 {
        return Err(ModelError::BytesNeedRgb { channels: config.channels });
    }
    Ok(())
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
