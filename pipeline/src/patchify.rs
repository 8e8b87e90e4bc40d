//! Patchify: from the resized picture straight into the slots of the batch.
//!
//! Puts out, for a list of n patch indices, `uint8 [n, p, p, 3]`: pixels of a patch ordered row, column, channel, as the
//! paper's authors order them.

use crate::geometry::PatchGrid;

/// Copies the patches of `pixels` (`uint8 [height, width, 3]`, the grid's size) that `indices` name into `patches`.
///
/// # Panics
/// When pixels or patches have another size, or an index lies beyond the grid.
pub fn patchify(grid: &PatchGrid, pixels: &[u8], indices: &[u16], patches: &mut [u8]) {
    let (patch_px, columns) = (grid.patch_px as usize, grid.columns());
    let (patch_row_bytes, row_bytes) = (patch_px * 3, grid.width_px as usize * 3);
    assert_eq!(pixels.len(), grid.size().rgb_bytes(), "pixels have the grid's size");
    assert_eq!(patches.len(), indices.len() * grid.patch_bytes(), "slots have the patches' size");
    for (&index, patch) in indices.iter().zip(patches.chunks_exact_mut(grid.patch_bytes())) {
        let (row, column) = (index as usize / columns, index as usize % columns);
        let mut start = row * patch_px * row_bytes + column * patch_row_bytes;
        for patch_row in patch.chunks_exact_mut(patch_row_bytes) {
            patch_row.copy_from_slice(&pixels[start..start + patch_row_bytes]);
            start += row_bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of 4 x 6 pixels whose value tells row and column.
    fn picture() -> (PatchGrid, Vec<u8>) {
        let pixels = (0..4u8).flat_map(|y| (0..6u8).flat_map(move |x| [10 * y + x, 100 + x, 200 + y])).collect();
        (PatchGrid::new(4, 6, 2).unwrap(), pixels)
    }

    #[test]
    fn patches_hold_row_column_channel() {
        let (grid, pixels) = picture();
        let mut patches = vec![0; 2 * 12];
        patchify(&grid, &pixels, &[1, 3], &mut patches);
        assert_eq!(patches[..12], [2, 102, 200, 3, 103, 200, 12, 102, 201, 13, 103, 201]);
        assert_eq!(patches[12..], [20, 100, 202, 21, 101, 202, 30, 100, 203, 31, 101, 203]);
    }
}
