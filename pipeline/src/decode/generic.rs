//! PNG, WebP, GIF, BMP and TIFF through the `image` crate: always the whole picture.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::{ColorType, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::turbo::grow;
use super::{MAX_IMAGE_PX, check_size};
use crate::error::{PipelineError, panic_message};
use crate::geometry::Size;
use crate::orientation::Orientation;

/// Memory that a decoder may ask for: eight bytes for each of the most pixels, which is RGBA with 16 bits.
const MAX_ALLOCATION_BYTES: u64 = MAX_IMAGE_PX * 8;

/// Size and, if asked for, orientation.
pub(super) fn header(
    bytes: &[u8],
    format: ImageFormat,
    read_orientation: bool,
) -> Result<(Size, Orientation), PipelineError> {
    guarded(format, || {
        let mut decoder = open(bytes, format)?;
        let size = size_of(&decoder);
        // Damaged metadata do not make a picture undecodable.
        let orientation = if read_orientation { decoder.orientation().ok() } else { None };
        Ok((size, orientation.map_or_else(Orientation::default, Into::into)))
    })
}

/// Decodes the whole picture to RGB, into the front of `pixels`; `raw` holds what the decoder puts out.
pub(super) fn decode(
    bytes: &[u8],
    format: ImageFormat,
    raw: &mut Vec<u8>,
    pixels: &mut Vec<u8>,
) -> Result<(), PipelineError> {
    guarded(format, || {
        let decoder = open(bytes, format)?;
        let size = size_of(&decoder);
        check_size(size)?;
        let color = decoder.color_type();
        let raw_bytes = decoder.total_bytes() as usize;
        grow(pixels, size.rgb_bytes());
        if color == ColorType::Rgb8 {
            return decoder.read_image(&mut pixels[..raw_bytes]).map_err(|error| undecodable(format, &error));
        }
        grow(raw, raw_bytes);
        let raw = &mut raw[..raw_bytes];
        decoder.read_image(raw).map_err(|error| undecodable(format, &error))?;
        to_rgb(color, raw, &mut pixels[..size.rgb_bytes()])
            .ok_or_else(|| PipelineError::Undecodable { format: name(format), reason: format!("{color:?} pixels") })
    })
}

/// What Pillow's `convert("RGB")` does: gray is repeated, alpha dropped, 16 bits keep the high byte. Nothing for
/// colours that have no such meaning (floating point).
fn to_rgb(color: ColorType, raw: &[u8], pixels: &mut [u8]) -> Option<()> {
    /// Takes from each pixel of `N` bytes those at three offsets.
    fn pick<const N: usize>(raw: &[u8], pixels: &mut [u8], offsets: [usize; 3]) {
        let (raw, _) = raw.as_chunks::<N>();
        let (pixels, _) = pixels.as_chunks_mut::<3>();
        for (from, to) in raw.iter().zip(pixels) {
            *to = offsets.map(|offset| from[offset]);
        }
    }
    // The `image` crate puts 16-bit samples out in the machine's own byte order.
    let high = usize::from(cfg!(target_endian = "little"));
    match color {
        ColorType::L8 => pick::<1>(raw, pixels, [0; 3]),
        ColorType::La8 => pick::<2>(raw, pixels, [0; 3]),
        ColorType::Rgb8 => pick::<3>(raw, pixels, [0, 1, 2]),
        ColorType::Rgba8 => pick::<4>(raw, pixels, [0, 1, 2]),
        ColorType::L16 => pick::<2>(raw, pixels, [high; 3]),
        ColorType::La16 => pick::<4>(raw, pixels, [high; 3]),
        ColorType::Rgb16 => pick::<6>(raw, pixels, [high, 2 + high, 4 + high]),
        ColorType::Rgba16 => pick::<8>(raw, pixels, [high, 2 + high, 4 + high]),
        _ => return None,
    }
    Some(())
}

fn open(bytes: &[u8], format: ImageFormat) -> Result<impl ImageDecoder + '_, PipelineError> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_ALLOCATION_BYTES);
    reader.limits(limits);
    reader.into_decoder().map_err(|error| undecodable(format, &error))
}

fn size_of(decoder: &impl ImageDecoder) -> Size {
    let (width, height) = decoder.dimensions();
    Size { width, height }
}

/// Runs a decoder of the `image` crate; a panic within, which damaged input has brought about before, is the input's
/// error and must not end the program.
fn guarded<T>(format: ImageFormat, decode: impl FnOnce() -> Result<T, PipelineError>) -> Result<T, PipelineError> {
    // Whatever a panic leaves in the buffers is overwritten by the next picture.
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|payload| {
        let reason = format!("the decoder panicked: {}", panic_message(payload.as_ref()));
        Err(PipelineError::Undecodable { format: name(format), reason })
    })
}

fn undecodable(format: ImageFormat, error: &image::ImageError) -> PipelineError {
    PipelineError::Undecodable { format: name(format), reason: error.to_string() }
}

fn name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Png => "PNG",
        ImageFormat::WebP => "WebP",
        ImageFormat::Gif => "GIF",
        ImageFormat::Bmp => "BMP",
        ImageFormat::Tiff => "TIFF",
        _ => "image",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alpha_is_dropped_and_sixteen_bits_keep_the_high_byte() {
        let mut rgb = [0; 3];
        to_rgb(ColorType::Rgba8, &[10, 20, 30, 0], &mut rgb).unwrap();
        assert_eq!(rgb, [10, 20, 30]);
        let raw: Vec<u8> = [0x12ff_u16, 0x3400, 0xff80].iter().flat_map(|sample| sample.to_ne_bytes()).collect();
        to_rgb(ColorType::Rgb16, &raw, &mut rgb).unwrap();
        assert_eq!(rgb, [0x12, 0x34, 0xff]);
        to_rgb(ColorType::La8, &[77, 0], &mut rgb).unwrap();
        assert_eq!(rgb, [77; 3]);
        assert!(to_rgb(ColorType::Rgb32F, &[0; 12], &mut rgb).is_none());
    }
}
