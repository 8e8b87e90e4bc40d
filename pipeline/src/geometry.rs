//! Sizes and rectangles in pixels, and the grid of patches.

use serde::{Deserialize, Serialize};

use crate::error::PipelineError;

/// Width and height in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl Size {
    /// Number of pixels.
    pub fn pixels(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

    /// Bytes of an RGB image of this size.
    pub fn rgb_bytes(self) -> usize {
        self.pixels() as usize * 3
    }

    /// Width and height exchanged.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self { width: self.height, height: self.width }
    }
}

/// A rectangle of whole pixels; `x` and `y` count from the upper left corner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PixelBox {
    /// First column.
    pub x: u32,
    /// First row.
    pub y: u32,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl PixelBox {
    /// The whole of an image.
    pub fn whole(size: Size) -> Self {
        Self { x: 0, y: 0, width: size.width, height: size.height }
    }

    /// The smallest box that holds this one and another.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        let (x, y) = (self.x.min(other.x), self.y.min(other.y));
        let (right, bottom) = (self.right().max(other.right()), self.bottom().max(other.bottom()));
        Self { x, y, width: right - x, height: bottom - y }
    }

    /// One past the last column.
    pub fn right(self) -> u32 {
        self.x + self.width
    }

    /// One past the last row.
    pub fn bottom(self) -> u32 {
        self.y + self.height
    }
}

impl From<PixelBox> for Rect {
    fn from(region: PixelBox) -> Self {
        Self {
            x: f64::from(region.x),
            y: f64::from(region.y),
            width: f64::from(region.width),
            height: f64::from(region.height),
        }
    }
}

/// A rectangle in pixels whose edges may lie within a pixel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rect {
    /// Left edge.
    pub x: f64,
    /// Upper edge.
    pub y: f64,
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
}

/// The image's size in pixels and its division into square patches, which count row by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatchGrid {
    /// Height of the image, a multiple of the patch.
    pub height_px: u32,
    /// Width of the image, a multiple of the patch.
    pub width_px: u32,
    /// Side of a patch.
    pub patch_px: u32,
}

impl PatchGrid {
    /// A grid whose sides are multiples of the patch.
    ///
    /// # Errors
    /// See [`PatchGrid::validate`].
    pub fn new(height_px: u32, width_px: u32, patch_px: u32) -> Result<Self, PipelineError> {
        let grid = Self { height_px, width_px, patch_px };
        grid.validate()?;
        Ok(grid)
    }

    /// Checks what [`PatchGrid::new`] promises, for grids that came from a file.
    ///
    /// # Errors
    /// [`PipelineError::Config`] when a side is zero or no multiple of the patch, when there are more patches than
    /// a `uint16` index counts, or when a row of the batch would not fit Arrow's 32-bit list size.
    pub fn validate(&self) -> Result<(), PipelineError> {
        let Self { height_px, width_px, patch_px } = *self;
        let got = format!("{height_px} x {width_px} pixels in patches of {patch_px}");
        if patch_px == 0 || height_px == 0 || width_px == 0 || height_px % patch_px != 0 || width_px % patch_px != 0 {
            return Err(PipelineError::config("grid", "a height and width that are multiples of the patch", got));
        }
        if self.patches() > 1 << 16 {
            return Err(PipelineError::config("grid", "at most 65536 patches", got));
        }
        if self.size().pixels() * 3 > i32::MAX as u64 {
            return Err(PipelineError::config("grid", "at most 2^31 bytes an image", got));
        }
        Ok(())
    }

    /// Rows of patches.
    pub fn rows(&self) -> usize {
        (self.height_px / self.patch_px) as usize
    }

    /// Columns of patches.
    pub fn columns(&self) -> usize {
        (self.width_px / self.patch_px) as usize
    }

    /// Number of patches, L.
    pub fn patches(&self) -> usize {
        self.rows() * self.columns()
    }

    /// Bytes of one RGB patch, p * p * 3.
    pub fn patch_bytes(&self) -> usize {
        (self.patch_px * self.patch_px * 3) as usize
    }

    /// The image's size.
    pub fn size(&self) -> Size {
        Size { width: self.width_px, height: self.height_px }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oblong_grids_count_rows_and_columns_apart() {
        let grid = PatchGrid::new(32, 64, 16).unwrap();
        assert_eq!((grid.rows(), grid.columns(), grid.patches(), grid.patch_bytes()), (2, 4, 8, 768));
    }

    #[test]
    fn grids_that_cannot_be_are_refused() {
        for (height, width, patch) in
            [(0, 16, 16), (16, 16, 0), (20, 16, 16), (257, 256, 1), (1 << 16, 1 << 16, 1 << 14)]
        {
            assert!(PatchGrid::new(height, width, patch).is_err(), "{height} x {width} / {patch}");
        }
        PatchGrid::new(256, 256, 1).unwrap();
    }
}
