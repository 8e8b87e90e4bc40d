//! PNG with alpha, gray or 16 bits a sample, row by row: beside RGB no more than a row is held, whatever the size.
//!
//! The rows are those of the `png` crate, which the `image` crate uses as well, asked for in the same way.

use std::io::Cursor;

use image::error::DecodingError;
use image::{ImageError, ImageFormat};
use png::{BitDepth, ColorType, Decoder, Limits, Transformations};

use super::generic::{pick, undecodable};
use crate::error::PipelineError;
use crate::geometry::Size;

/// What the decoder may take for rows, tables and metadata.
pub(super) const MAX_ALLOCATION_BYTES: usize = 64 << 20;

/// Which pixels an interlaced picture has in each of its seven parts: first column and step, first row and step
/// (Adam7, PNG specification, section 8.2).
const PASSES: [[u32; 4]; 7] =
    [[0, 8, 0, 8], [4, 8, 0, 8], [0, 4, 4, 8], [2, 4, 0, 4], [0, 2, 2, 4], [1, 2, 0, 2], [0, 1, 1, 2]];

/// Decodes a picture of a size that is known from its header: `uint8 [height, width, 3]` into `pixels`.
pub(super) fn decode(bytes: &[u8], size: Size, pixels: &mut [u8]) -> Result<(), PipelineError> {
    let failed = |error: png::DecodingError| {
        let error = match error {
            png::DecodingError::IoError(error) => ImageError::IoError(error),
            error => ImageError::Decoding(DecodingError::new(ImageFormat::Png.into(), error)),
        };
        undecodable(ImageFormat::Png, &error)
    };
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: MAX_ALLOCATION_BYTES });
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(Transformations::EXPAND);
    let mut reader = decoder.read_info().map_err(failed)?;
    let colors = reader.output_color_type();
    let passes = if reader.info().interlaced { &PASSES[..] } else { &[[0, 1, 0, 1]] };
    for &[left, columns_step, top, rows_step] in passes {
        // A part of a picture that is too narrow for it has no rows.
        if left >= size.width {
            continue;
        }
        for y in (top..size.height).step_by(rows_step as usize) {
            let Some(row) = reader.next_row().map_err(failed)? else { return Err(unsupported("too few rows")) };
            let start = (y as usize * size.width as usize + left as usize) * 3;
            let end = (y as usize + 1) * size.width as usize * 3;
            to_rgb(colors, row.data(), &mut pixels[start..end], columns_step as usize)?;
        }
    }
    // Reads what is behind the last row, so that data which are cut off there are found.
    reader.next_row().map_err(failed)?;
    Ok(())
}

/// What Pillow's `convert("RGB")` does: gray is repeated, alpha dropped, 16 bits keep the high byte, which comes first.
fn to_rgb(colors: (ColorType, BitDepth), row: &[u8], pixels: &mut [u8], step: usize) -> Result<(), PipelineError> {
    use BitDepth::{Eight, Sixteen};
    match colors {
        (ColorType::Grayscale, Eight) => pick::<1>(row, pixels, step, [0; 3]),
        (ColorType::GrayscaleAlpha, Eight) | (ColorType::Grayscale, Sixteen) => pick::<2>(row, pixels, step, [0; 3]),
        (ColorType::Rgb, Eight) => pick::<3>(row, pixels, step, [0, 1, 2]),
        (ColorType::Rgba, Eight) => pick::<4>(row, pixels, step, [0, 1, 2]),
        (ColorType::GrayscaleAlpha, Sixteen) => pick::<4>(row, pixels, step, [0; 3]),
        (ColorType::Rgb, Sixteen) => pick::<6>(row, pixels, step, [0, 2, 4]),
        (ColorType::Rgba, Sixteen) => pick::<8>(row, pixels, step, [0, 2, 4]),
        _ => return Err(unsupported("colours that were not expanded")),
    }
    Ok(())
}

fn unsupported(reason: &str) -> PipelineError {
    PipelineError::Undecodable { format: "PNG", reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::write::ZlibEncoder;
    use flate2::{Compression, Crc};
    use image::{DynamicImage, ImageReader};

    use super::*;

    /// A picture of noise that is the same in every run. It is put together here because no encoder at hand interlaces.
    fn png_of((colors, depth): (ColorType, BitDepth), width: u32, height: u32, interlaced: bool) -> Vec<u8> {
        let mut state = 7_u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let mut rows = ZlibEncoder::new(Vec::new(), Compression::fast());
        for &[left, columns_step, top, rows_step] in if interlaced { &PASSES[..] } else { &[[0, 1, 0, 1]] } {
            let columns = width.saturating_sub(left).div_ceil(columns_step) as usize;
            for _ in (top..height).step_by(rows_step as usize).filter(|_| columns > 0) {
                let row_bytes = (columns * colors.samples() * depth as usize).div_ceil(8);
                rows.write_all(&[0]).unwrap();
                rows.write_all(&(0..row_bytes).map(|_| noise()).collect::<Vec<u8>>()).unwrap();
            }
        }
        let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
        header.extend([depth as u8, colors as u8, 0, 0, u8::from(interlaced)]);
        let mut chunks = vec![(b"IHDR", header)];
        if colors == ColorType::Indexed {
            chunks.push((b"PLTE", (0..3 << depth as u8).map(|_| noise()).collect()));
            chunks.push((b"tRNS", vec![0, 128, 255]));
        }
        chunks.extend([(b"IDAT", rows.finish().unwrap()), (b"IEND", Vec::new())]);
        let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
        for (name, content) in chunks {
            let mut checksum = Crc::new();
            checksum.update(name);
            checksum.update(&content);
            bytes.extend((content.len() as u32).to_be_bytes());
            bytes.extend(name);
            bytes.extend(content);
            bytes.extend(checksum.sum().to_be_bytes());
        }
        bytes
    }

    /// What the picture is when the `image` crate decodes all of it.
    fn whole(bytes: &[u8]) -> (Size, Vec<u8>) {
        let image = ImageReader::with_format(Cursor::new(bytes), ImageFormat::Png).decode().unwrap();
        let size = Size { width: image.width(), height: image.height() };
        let high = |sample: &u16| (sample >> 8) as u8;
        let pixels = match image {
            DynamicImage::ImageLuma16(gray) => gray.iter().flat_map(|sample| [high(sample); 3]).collect(),
            DynamicImage::ImageLumaA16(gray) => gray.pixels().flat_map(|pixel| [high(&pixel.0[0]); 3]).collect(),
            DynamicImage::ImageRgb16(rgb) => rgb.iter().map(high).collect(),
            DynamicImage::ImageRgba16(rgba) => {
                rgba.pixels().flat_map(|pixel| [0, 1, 2].map(|at| high(&pixel.0[at]))).collect()
            }
            DynamicImage::ImageRgba8(rgba) => rgba.pixels().flat_map(|pixel| [0, 1, 2].map(|at| pixel.0[at])).collect(),
            DynamicImage::ImageLumaA8(gray) => gray.pixels().flat_map(|pixel| [pixel.0[0]; 3]).collect(),
            other => other.into_rgb8().into_raw(),
        };
        (size, pixels)
    }

    fn check(bytes: &[u8], name: &str) {
        let (size, expected) = whole(bytes);
        let mut pixels = vec![0; expected.len()];
        decode(bytes, size, &mut pixels).unwrap();
        assert!(pixels == expected, "{name} of {} by {}", size.width, size.height);
        let cut = &bytes[..bytes.len() * 2 / 3];
        let reason = decode(cut, size, &mut pixels).unwrap_err().to_string();
        let theirs = ImageReader::with_format(Cursor::new(cut), ImageFormat::Png).decode().unwrap_err().to_string();
        assert!(reason.ends_with(&theirs), "{reason}, not {theirs}");
    }

    #[test]
    fn rows_are_those_of_the_whole_picture() {
        use BitDepth::{Eight, Four, One, Sixteen, Two};
        use ColorType::{Grayscale, GrayscaleAlpha, Indexed, Rgb, Rgba};
        let kinds = [(Grayscale, One), (Grayscale, Two), (Grayscale, Four), (Grayscale, Eight), (Grayscale, Sixteen)]
            .into_iter()
            .chain([(GrayscaleAlpha, Eight), (GrayscaleAlpha, Sixteen), (Rgb, Eight), (Rgb, Sixteen)])
            .chain([(Rgba, Eight), (Rgba, Sixteen), (Indexed, Two), (Indexed, Eight)]);
        for kind in kinds {
            for (width, height, interlaced) in [(37, 23, false), (37, 23, true), (1, 9, true), (3, 2, true)] {
                check(&png_of(kind, width, height, interlaced), &format!("{kind:?}, interlaced: {interlaced}"));
            }
        }
    }
}
