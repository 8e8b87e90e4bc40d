//! PNG, WebP, GIF, BMP and TIFF through the `image` crate: always the whole picture.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::{ColorType, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::turbo::grow;
use super::{MAX_IMAGE_PX, check_size, png};
use crate::error::{PipelineError, panic_message};
use crate::geometry::Size;
use crate::orientation::Orientation;

/// What the tags and packed strips of a TIFF and the metadata of a WebP may take, less the pixels of that TIFF. So it leaves
/// room for tags even where [`check_memory`] refuses the pixels, and only the header is asked for.
const MAX_METADATA_BYTES: u64 = MAX_IMAGE_PX * 8;
/// What a picture may take in all while it is decoded whole, so that a conversion stays below 500 MiB.
const MAX_DECODING_BYTES: u64 = 350_000_000;

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
        if format == ImageFormat::Png && color != ColorType::Rgb8 {
            drop(decoder);
            grow(pixels, size.rgb_bytes());
            return png::decode(bytes, size, &mut pixels[..size.rgb_bytes()]);
        }
        check_memory(format, color, size)?;
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

/// Refuses pictures that would take too much memory together with what their decoder holds: that of WebP four bytes a pixel,
/// that of TIFF all samples once more.
fn check_memory(format: ImageFormat, color: ColorType, size: Size) -> Result<(), PipelineError> {
    let raw_bytes = u64::from(color.bytes_per_pixel());
    let bytes_a_pixel = match (format, color) {
        (ImageFormat::Png, _) => return Ok(()),
        (ImageFormat::Tiff, ColorType::Rgb8) => 6,
        (ImageFormat::Tiff, _) => 2 * raw_bytes + 3,
        _ => raw_bytes.max(4) + 3,
    };
    let bytes = size.pixels() * bytes_a_pixel;
    if bytes <= MAX_DECODING_BYTES {
        return Ok(());
    }
    let Size { width, height } = size;
    let reason = format!(
        "{width} x {height} pixels of {color:?} would take too much memory: expected at most {MAX_DECODING_BYTES} bytes, got \
         {bytes}"
    );
    Err(PipelineError::Undecodable { format: name(format), reason })
}

/// What Pillow's `convert("RGB")` does: gray is repeated, alpha dropped, 16 bits keep the high byte. Nothing for
/// colours that have no such meaning (floating point).
fn to_rgb(color: ColorType, raw: &[u8], pixels: &mut [u8]) -> Option<()> {
    // The `image` crate puts 16-bit samples out in the machine's own byte order.
    let high = usize::from(cfg!(target_endian = "little"));
    match color {
        ColorType::L8 => pick::<1>(raw, pixels, 1, [0; 3]),
        ColorType::La8 => pick::<2>(raw, pixels, 1, [0; 3]),
        ColorType::Rgb8 => pick::<3>(raw, pixels, 1, [0, 1, 2]),
        ColorType::Rgba8 => pick::<4>(raw, pixels, 1, [0, 1, 2]),
        ColorType::L16 => pick::<2>(raw, pixels, 1, [high; 3]),
        ColorType::La16 => pick::<4>(raw, pixels, 1, [high; 3]),
        ColorType::Rgb16 => pick::<6>(raw, pixels, 1, [high, 2 + high, 4 + high]),
        ColorType::Rgba16 => pick::<8>(raw, pixels, 1, [high, 2 + high, 4 + high]),
        _ => return None,
    }
    Some(())
}

/// Takes from each pixel of `N` bytes those at three offsets, to every `step`-th pixel.
pub(super) fn pick<const N: usize>(raw: &[u8], pixels: &mut [u8], step: usize, offsets: [usize; 3]) {
    let (raw, _) = raw.as_chunks::<N>();
    let (pixels, _) = pixels.as_chunks_mut::<3>();
    for (from, to) in raw.iter().zip(pixels.iter_mut().step_by(step)) {
        *to = offsets.map(|offset| from[offset]);
    }
}

fn open(bytes: &[u8], format: ImageFormat) -> Result<impl ImageDecoder + '_, PipelineError> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    // The profile of a PNG is unpacked with the header, so a small file may hold a large one.
    let is_png = format == ImageFormat::Png;
    limits.max_alloc = Some(if is_png { png::MAX_ALLOCATION_BYTES as u64 } else { MAX_METADATA_BYTES });
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

pub(super) fn undecodable(format: ImageFormat, error: &image::ImageError) -> PipelineError {
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
    fn pictures_that_take_too_much_memory_are_refused() {
        let check = |format, color, width| check_memory(format, color, Size { width, height: 10_000 });
        check(ImageFormat::Png, ColorType::Rgb8, 10_000).unwrap();
        check(ImageFormat::WebP, ColorType::Rgba8, 5_000).unwrap();
        check(ImageFormat::Tiff, ColorType::Rgba16, 1_842).unwrap();
        let message = check(ImageFormat::WebP, ColorType::Rgb8, 5_001).unwrap_err().to_string();
        assert_eq!(
            message,
            "WebP: 5001 x 10000 pixels of Rgb8 would take too much memory: expected at most 350000000 bytes, got 350070000"
        );
        check(ImageFormat::Tiff, ColorType::Rgba16, 1_843).unwrap_err();
        // A header is enough to know it.
        let mut bmp = b"BM".to_vec();
        bmp.extend([54_u32 + 3 * 60_000_000, 0, 54, 40, 10_000, 6_000].map(u32::to_le_bytes).concat());
        bmp.extend([1, 0, 24, 0]);
        bmp.extend([0; 24]);
        let refused = decode(&bmp, ImageFormat::Bmp, &mut Vec::new(), &mut Vec::new()).unwrap_err().to_string();
        assert!(refused.starts_with("BMP: 10000 x 6000 pixels of Rgb8 would take"), "{refused}");
    }

    #[test]
    fn packed_profiles_of_any_size_take_no_memory() {
        let picture = |profile_bytes: usize| {
            let mut bytes = Vec::new();
            let mut info = ::png::Info::with_size(1, 1);
            info.color_type = ::png::ColorType::Rgb;
            info.icc_profile = Some(vec![0; profile_bytes].into());
            let mut writer = ::png::Encoder::with_info(&mut bytes, info).unwrap().write_header().unwrap();
            writer.write_image_data(&[1, 2, 3]).unwrap();
            writer.finish().unwrap();
            bytes
        };
        let profile_bytes =
            |bytes: &[u8]| open(bytes, ImageFormat::Png).unwrap().icc_profile().unwrap().map(|icc| icc.len());
        assert_eq!(profile_bytes(&picture(3000)), Some(3000));
        let bomb = picture(100 << 20);
        assert!(bomb.len() < 1 << 20);
        assert_eq!(profile_bytes(&bomb), None);
        let mut pixels = Vec::new();
        decode(&bomb, ImageFormat::Png, &mut Vec::new(), &mut pixels).unwrap();
        assert_eq!(pixels, [1, 2, 3]);
    }

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
