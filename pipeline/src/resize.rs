//! Resizing: antialiased bicubic, as Pillow's `resize(..., BICUBIC)` (a = -0.5).
//!
//! Puts out `uint8 [height, width, 3]`.

use fast_image_resize::images::{TypedCroppedImage, TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions};

use crate::decode::Decoded;
use crate::geometry::{PixelBox, Rect, Size};
use crate::transform::View;

/// Reach of the bicubic filter in pixels, times the factor by which it shrinks.
const SUPPORT_PX: f64 = 2.0;

/// A resizer for one thread; it keeps its memory from picture to picture.
#[derive(Debug, Default)]
pub struct Resizer {
    inner: fast_image_resize::Resizer,
}

impl Resizer {
    /// Resizes what `view` shows of a decoded picture to `size`, into `out`, which must have as many bytes.
    ///
    /// The filter never reads a pixel outside of `view.bounds`, so a crop's neighbourhood has no influence.
    ///
    /// # Panics
    /// When `out` is too small, or what was decoded lies apart from the view.
    pub fn resize(&mut self, decoded: &Decoded<'_>, view: &View, size: Size, out: &mut [u8]) {
        let local = decoded.locate(view.bounds.into());
        let bounds = outer_box(local, Size { width: decoded.region.width, height: decoded.region.height });
        let source = decoded.locate(view.source);
        // Rounding must not push the source a hair beyond the bounds, which would be refused.
        let left = (source.x - f64::from(bounds.x)).max(0.0);
        let top = (source.y - f64::from(bounds.y)).max(0.0);
        let width = source.width.min(f64::from(bounds.width) - left);
        let height = source.height.min(f64::from(bounds.height) - top);
        let options = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom))
            .crop(left, top, width, height);

        let region = decoded.region;
        // The typed interface, because the other one is compiled for every kind of pixel, which takes minutes.
        let pixels = TypedImageRef::<U8x3>::from_buffer(region.width, region.height, decoded.pixels)
            .expect("decoded pixels fill their region");
        let cropped = TypedCroppedImage::new(pixels, bounds.x, bounds.y, bounds.width, bounds.height)
            .expect("bounds lie within what was decoded");
        let mut out = TypedImage::<U8x3>::from_buffer(size.width, size.height, out)
            .expect("the caller gives room for the result");
        self.inner.resize_typed(&cropped, &mut out, &options).expect("the source lies within its bounds");
    }
}

/// The whole pixels that `rect` touches, within a picture of size `limit`.
fn outer_box(rect: Rect, limit: Size) -> PixelBox {
    // A tolerance, so that an edge that is whole but for rounding does not count as touching the next pixel.
    const EDGE_PX: f64 = 1e-6;
    let x = (rect.x + EDGE_PX).floor().clamp(0.0, f64::from(limit.width - 1)) as u32;
    let y = (rect.y + EDGE_PX).floor().clamp(0.0, f64::from(limit.height - 1)) as u32;
    let right = ((rect.x + rect.width - EDGE_PX).ceil() as u32).clamp(x + 1, limit.width);
    let bottom = ((rect.y + rect.height - EDGE_PX).ceil() as u32).clamp(y + 1, limit.height);
    PixelBox { x, y, width: right - x, height: bottom - y }
}

/// The pixels of the stored picture that resizing `view` to `size` reads.
pub fn needed_pixels(view: &View, size: Size) -> PixelBox {
    let View { source, bounds, .. } = *view;
    // One pixel more, for what scaled decoding rounds away.
    let reach_x = (source.width / f64::from(size.width)).max(1.0) * (SUPPORT_PX + 1.0);
    let reach_y = (source.height / f64::from(size.height)).max(1.0) * (SUPPORT_PX + 1.0);
    let x = ((source.x - reach_x).floor().max(0.0) as u32).max(bounds.x);
    let y = ((source.y - reach_y).floor().max(0.0) as u32).max(bounds.y);
    let right = ((source.x + source.width + reach_x).ceil() as u32).min(bounds.right());
    let bottom = ((source.y + source.height + reach_y).ceil() as u32).min(bounds.bottom());
    PixelBox { x, y, width: right - x, height: bottom - y }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view_of(region: PixelBox) -> View {
        View { source: region.into(), bounds: region, flip: false }
    }

    #[test]
    fn pixels_outside_of_the_bounds_have_no_influence() {
        let size = Size { width: 40, height: 30 };
        let region = PixelBox::whole(size);
        let inner = PixelBox { x: 8, y: 6, width: 20, height: 18 };
        let mut pictures = [0u8, 255].map(|outside| vec![outside; size.rgb_bytes()]);
        for pixels in &mut pictures {
            for y in inner.y..inner.bottom() {
                let row = (y * size.width + inner.x) as usize * 3;
                pixels[row..row + inner.width as usize * 3].fill(100 + y as u8);
            }
        }
        let out_size = Size { width: 8, height: 8 };
        let [dark, bright] = pictures.map(|pixels| {
            let mut out = vec![0; out_size.rgb_bytes()];
            let decoded = Decoded { pixels: &pixels, region, scale: 1.0 };
            Resizer::default().resize(&decoded, &view_of(inner), out_size, &mut out);
            out
        });
        assert_eq!(dark, bright);
    }

    #[test]
    fn evaluation_reads_beyond_its_source_but_not_beyond_the_picture() {
        let source = Rect { x: 10.0, y: 0.5, width: 448.0, height: 448.0 };
        let bounds = PixelBox { x: 0, y: 0, width: 500, height: 449 };
        let needed = needed_pixels(&View { source, bounds, flip: false }, Size { width: 224, height: 224 });
        assert_eq!(needed, PixelBox { x: 4, y: 0, width: 460, height: 449 });
    }

    #[test]
    fn a_picture_of_one_pixel_can_be_enlarged() {
        let whole = PixelBox { x: 0, y: 0, width: 1, height: 1 };
        let mut out = vec![0; 48];
        let decoded = Decoded { pixels: &[1, 2, 3], region: whole, scale: 1.0 };
        Resizer::default().resize(&decoded, &view_of(whole), Size { width: 4, height: 4 }, &mut out);
        assert_eq!(out, [1, 2, 3].repeat(16));
    }
}
