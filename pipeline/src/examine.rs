//! Whole images on behalf of conversion and verification, which have no codec of their own.

use std::num::NonZeroU16;
use std::sync::{Mutex, PoisonError};

use patchstream_datasets::convert::Encode;
use patchstream_datasets::{ImageExaminer, PixelSums, Transcoded};

use crate::error::PipelineError;
use crate::geometry::Size;
use crate::memory::give_back_memory;
use crate::transcode::Transcoder;

/// What images of so many pixels took is given back, since every thread meets one at some time.
const LARGE_PX: u64 = 16_000_000;

/// Checks and measures images with the decoder that training uses, so both agree on what is a bad sample.
#[derive(Debug, Default)]
pub struct Examiner {
    /// Transcoders that no thread is using; nobody holds the lock while decoding.
    idle: Mutex<Vec<Transcoder>>,
}

impl Examiner {
    fn with_transcoder<T>(
        &self,
        bytes: &[u8],
        work: impl FnOnce(&mut Transcoder) -> Result<T, PipelineError>,
    ) -> Result<T, String> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let transcoder = idle().pop();
        let mut transcoder = transcoder.unwrap_or_default();
        let result = work(&mut transcoder);
        let is_large = transcoder.decoder.header(bytes, false).is_ok_and(|header| header.size.pixels() >= LARGE_PX);
        if is_large {
            drop(transcoder);
            give_back_memory();
        } else {
            idle().push(transcoder);
        }
        result.map_err(|error| error.to_string())
    }

    fn with_pixels<T>(&self, bytes: &[u8], look: impl FnOnce(&[u8], Size) -> T) -> Result<T, String> {
        self.with_transcoder(bytes, |transcoder| transcoder.whole(bytes, look))
    }
}

impl ImageExaminer for Examiner {
    fn check(&self, bytes: &[u8]) -> Result<(), String> {
        self.with_pixels(bytes, |_, _| ())
    }

    fn measure(&self, bytes: &[u8], sums: &mut PixelSums) -> Result<(), String> {
        self.with_pixels(bytes, |pixels, size| {
            // Whole numbers first: 255^2 times the most pixels fits 64 bits, and no rounding depends on the order.
            let (mut sum, mut squares) = ([0u64; 3], [0u64; 3]);
            for pixel in pixels.as_chunks::<3>().0 {
                for channel in 0..3 {
                    let value = u64::from(pixel[channel]);
                    sum[channel] += value;
                    squares[channel] += value * value;
                }
            }
            sums.pixels += size.pixels();
            for channel in 0..3 {
                sums.sum[channel] += sum[channel] as f64 / 255.0;
                sums.sum_of_squares[channel] += squares[channel] as f64 / (255.0 * 255.0);
            }
        })
    }

    fn transcode(
        &self,
        bytes: &[u8],
        encode: Encode,
        tile_index: Option<NonZeroU16>,
    ) -> Result<Option<Transcoded>, String> {
        self.with_transcoder(bytes, |transcoder| transcoder.transcode(bytes, encode, tile_index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_summed_and_damage_is_named() {
        let mut png = std::io::Cursor::new(Vec::new());
        let picture = image::RgbImage::from_raw(2, 1, vec![255, 0, 51, 255, 0, 0]).unwrap();
        picture.write_to(&mut png, image::ImageFormat::Png).unwrap();
        let png = png.into_inner();
        let examiner = Examiner::default();
        let mut sums = PixelSums::default();
        examiner.measure(&png, &mut sums).unwrap();
        assert_eq!(sums.pixels, 2);
        let near =
            |got: [f64; 3], expected: [f64; 3]| got.iter().zip(expected).all(|(got, want)| (got - want).abs() < 1e-12);
        assert!(near(sums.sum, [2.0, 0.0, 0.2]) && near(sums.sum_of_squares, [2.0, 0.0, 0.04]));
        examiner.check(&png).unwrap();
        assert!(examiner.check(&png[..png.len() - 20]).unwrap_err().starts_with("PNG: "));
        assert!(examiner.check(b"no image").unwrap_err().starts_with("not an image of a known format"));
    }
}
