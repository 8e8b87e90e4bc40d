//! EXIF orientation: how a stored picture must be turned to stand upright (EXIF 2.32, tag 274).
//!
//! Decoding and resizing work on the stored picture; a [`View`](crate::transform::View) chosen on the upright one is
//! carried over beforehand, and the small resized picture is turned at the end.

use crate::geometry::{PixelBox, Rect, Size};
use crate::transform::View;

/// The steps from the stored to the upright picture: transpose, then mirror left to right, then top to bottom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Orientation {
    transpose: bool,
    mirror_x: bool,
    mirror_y: bool,
}

impl Orientation {
    /// From the value of the EXIF tag, 1 to 8; anything else counts as upright, as viewers treat it.
    pub fn from_exif(value: u8) -> Self {
        let (transpose, mirror_x, mirror_y) = match value {
            2 => (false, true, false),
            3 => (false, true, true),
            4 => (false, false, true),
            5 => (true, false, false),
            6 => (true, true, false),
            7 => (true, true, true),
            8 => (true, false, true),
            _ => (false, false, false),
        };
        Self { transpose, mirror_x, mirror_y }
    }

    /// From an EXIF block (a TIFF header and its directories).
    pub(crate) fn from_exif_chunk(chunk: &[u8]) -> Self {
        image::metadata::Orientation::from_exif_chunk(chunk).map_or_else(Self::default, Into::into)
    }

    /// Whether the stored picture is upright already.
    pub fn is_upright(self) -> bool {
        self == Self::default()
    }

    /// The same, followed by a mirroring left to right where that is wanted.
    pub(crate) fn followed_by_flip(self, flip: bool) -> Self {
        Self { mirror_x: self.mirror_x != flip, ..self }
    }

    /// The size of the upright picture, from that of the stored one, or the other way round.
    pub fn turn(self, size: Size) -> Size {
        if self.transpose { size.transposed() } else { size }
    }

    /// The view of the stored picture that becomes `view` of the upright one, whose size is `upright`.
    pub(crate) fn stored_view(self, view: View, upright: Size) -> View {
        let View { mut source, mut bounds, flip } = view;
        if self.mirror_x {
            source.x = f64::from(upright.width) - source.x - source.width;
            bounds.x = upright.width - bounds.right();
        }
        if self.mirror_y {
            source.y = f64::from(upright.height) - source.y - source.height;
            bounds.y = upright.height - bounds.bottom();
        }
        if self.transpose {
            source = Rect { x: source.y, y: source.x, width: source.height, height: source.width };
            bounds = PixelBox { x: bounds.y, y: bounds.x, width: bounds.height, height: bounds.width };
        }
        View { source, bounds, flip }
    }

    /// Turns the RGB picture `stored` of size `size` upright, into `upright`, which has as many bytes.
    pub(crate) fn apply(self, stored: &[u8], size: Size, upright: &mut [u8]) {
        let width = self.turn(size).width as usize;
        let (pixels, _) = stored.as_chunks::<3>();
        let (upright, _) = upright.as_chunks_mut::<3>();
        for (y, row) in upright.chunks_exact_mut(width).enumerate() {
            for (x, pixel) in row.iter_mut().enumerate() {
                *pixel = pixels[self.stored_index(x, y, size)];
            }
        }
    }

    /// The same in the memory of the stored picture, so that a large one is not held twice. It is slower, since pixels are followed
    /// from place to place.
    pub(crate) fn apply_in_place(self, pixels: &mut [u8], size: Size) {
        let width = self.turn(size).width as usize;
        let (pixels, _) = pixels.as_chunks_mut::<3>();
        let mut is_done = vec![0_u64; pixels.len().div_ceil(64)];
        for first in 0..pixels.len() {
            let (first_pixel, mut at) = (pixels[first], first);
            while is_done[at / 64] >> (at % 64) & 1 == 0 {
                is_done[at / 64] |= 1 << (at % 64);
                let from = self.stored_index(at % width, at / width, size);
                pixels[at] = if from == first { first_pixel } else { pixels[from] };
                at = from;
            }
        }
    }

    /// Which pixel of a stored picture of this size stands at a place of the upright one.
    fn stored_index(self, x: usize, y: usize, size: Size) -> usize {
        let Size { width, height } = self.turn(size);
        let y = if self.mirror_y { height as usize - 1 - y } else { y };
        let x = if self.mirror_x { width as usize - 1 - x } else { x };
        let (from_x, from_y) = if self.transpose { (y, x) } else { (x, y) };
        from_y * size.width as usize + from_x
    }
}

impl From<image::metadata::Orientation> for Orientation {
    fn from(orientation: image::metadata::Orientation) -> Self {
        Self::from_exif(orientation.to_exif())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_turn_as_the_image_crate_turns_them() {
        let size = Size { width: 3, height: 2 };
        let stored: Vec<u8> = (0..18).collect();
        for exif in 1..=8 {
            let mut expected = image::DynamicImage::from(image::RgbImage::from_raw(3, 2, stored.clone()).unwrap());
            expected.apply_orientation(image::metadata::Orientation::from_exif(exif).unwrap());
            let orientation = Orientation::from_exif(exif);
            let mut upright = vec![0; 18];
            orientation.apply(&stored, size, &mut upright);
            assert_eq!(upright, expected.as_bytes(), "orientation {exif}");
            assert_eq!(orientation.turn(size).width, expected.width());
            orientation.followed_by_flip(true).apply(&stored, size, &mut upright);
            assert_eq!(upright, expected.fliph().as_bytes(), "orientation {exif}, mirrored");
        }
    }

    #[test]
    fn turning_in_place_gives_the_same_pixels() {
        for (width, height) in [(1, 1), (1, 4), (3, 2), (5, 7), (16, 9), (8, 8)] {
            let size = Size { width, height };
            let stored: Vec<u8> = (0..size.rgb_bytes()).map(|byte| (byte * 7 % 251) as u8).collect();
            for exif in 1..=8 {
                let orientation = Orientation::from_exif(exif);
                let (mut upright, mut turned) = (vec![0; stored.len()], stored.clone());
                orientation.apply(&stored, size, &mut upright);
                orientation.apply_in_place(&mut turned, size);
                assert_eq!(turned, upright, "orientation {exif} of {width} x {height}");
            }
        }
    }

    #[test]
    fn a_view_shows_the_same_pixels_before_and_after_turning() {
        let size = Size { width: 5, height: 4 };
        let stored: Vec<u8> = (0..60).collect();
        let crop = |pixels: &[u8], width: u32, region: PixelBox| -> Vec<u8> {
            let rows = region.y..region.bottom();
            rows.flat_map(|y| {
                let start = (y * width + region.x) as usize * 3;
                pixels[start..start + region.width as usize * 3].to_vec()
            })
            .collect()
        };
        for exif in 1..=8 {
            let orientation = Orientation::from_exif(exif);
            let mut upright = vec![0; 60];
            orientation.apply(&stored, size, &mut upright);
            let bounds = PixelBox { x: 1, y: 0, width: 2, height: 3 };
            let view = View { source: bounds.into(), bounds, flip: false };
            let there = orientation.stored_view(view, orientation.turn(size));
            assert_eq!(there.source, Rect::from(there.bounds));
            let cut = crop(&stored, 5, there.bounds);
            let mut turned = vec![0; cut.len()];
            let cut_size = Size { width: there.bounds.width, height: there.bounds.height };
            orientation.apply(&cut, cut_size, &mut turned);
            assert_eq!(turned, crop(&upright, orientation.turn(size).width, bounds), "orientation {exif}");
        }
    }
}
