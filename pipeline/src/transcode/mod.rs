//! Images in another form, on behalf of conversion: shrunk and encoded anew, or given restart markers.
//!
//! Shrinking is antialiased bicubic, as in training in exact mode.

mod segments;
#[cfg(test)]
mod tests;
mod turbojpeg;

use std::num::{NonZeroU16, NonZeroU32};

use patchstream_datasets::Transcoded;
use patchstream_datasets::convert::Encode;

use crate::decode::{DecodeMode, Decoder};
use crate::error::PipelineError;
use crate::geometry::{PixelBox, Size};
use crate::resize::Resizer;
use crate::transform::View;
use turbojpeg::{Compressor, Transformer};

/// Decoders and encoders of one thread, with all the memory that they need.
#[derive(Debug, Default)]
pub(crate) struct Transcoder {
    pub(crate) decoder: Decoder,
    resizer: Resizer,
    compressor: Compressor,
    transformer: Transformer,
    resized: Vec<u8>,
    upright: Vec<u8>,
}

impl Transcoder {
    /// Makes an image what shall be stored; nothing if it stays as it is.
    pub(crate) fn transcode(
        &mut self,
        bytes: &[u8],
        encode: Encode,
        tile_index: Option<NonZeroU16>,
    ) -> Result<Option<Transcoded>, PipelineError> {
        if encode == Encode::Keep {
            return Ok(tile_index.and_then(|interval| self.index(bytes, interval)));
        }
        let size = self.pixels(bytes, encode.max_side_px())?;
        let (width_px, height_px) = (size.width, size.height);
        let (bytes, segments) = match encode {
            Encode::Jpeg { quality, .. } => {
                let jpeg = self.compressor.compress(&self.upright, size, quality, tile_index)?;
                let segments = tile_index.and_then(|_| segments::offsets(&jpeg));
                (jpeg, segments)
            }
            Encode::Raw { .. } | Encode::Keep => {
                let header = format!("P6 {width_px} {height_px} 255\n");
                ([header.as_bytes(), &self.upright].concat(), None)
            }
        };
        Ok(Some(Transcoded { bytes, width_px, height_px, segments }))
    }

    /// The same JPEG with restart markers; nothing for what is no JPEG, or one that cannot be transcoded without loss.
    fn index(&mut self, bytes: &[u8], interval: NonZeroU16) -> Option<Transcoded> {
        if !bytes.starts_with(&[0xff, 0xd8, 0xff]) {
            return None;
        }
        let size = self.decoder.header(bytes, false).ok()?.size;
        let jpeg = self.transformer.add_restarts(bytes, interval)?;
        let segments = segments::offsets(&jpeg)?;
        Some(Transcoded { bytes: jpeg, width_px: size.width, height_px: size.height, segments: Some(segments) })
    }

    /// Decodes an image, shrinks it so that no side is longer than `max_side_px`, turns it upright; `uint8 [height, width,
    /// 3]` is then in `self.upright`.
    fn pixels(&mut self, bytes: &[u8], max_side_px: Option<NonZeroU32>) -> Result<Size, PipelineError> {
        let header = self.decoder.header(bytes, true)?;
        let whole = PixelBox::whole(header.size);
        let size = shrunk(header.size, max_side_px);
        if size == header.size {
            // What keeps its size has the very pixels that every other program sees.
            let (pixels, _) = self.decoder.whole(bytes)?;
            self.upright.resize(size.rgb_bytes(), 0);
            if header.orientation.is_upright() {
                self.upright.copy_from_slice(pixels);
            } else {
                header.orientation.apply(pixels, size, &mut self.upright);
            }
            return Ok(header.orientation.turn(size));
        }
        let decoded = self.decoder.region(bytes, &header, whole, None)?;
        let view = View { source: whole.into(), bounds: whole, flip: false };
        self.upright.resize(size.rgb_bytes(), 0);
        if header.orientation.is_upright() {
            self.resizer.resize(&decoded, &view, size, DecodeMode::Exact, &mut self.upright);
        } else {
            self.resized.resize(size.rgb_bytes(), 0);
            self.resizer.resize(&decoded, &view, size, DecodeMode::Exact, &mut self.resized);
            header.orientation.apply(&self.resized, size, &mut self.upright);
        }
        Ok(header.orientation.turn(size))
    }
}

/// The size of the same shape whose longer side is `max_side_px`, unless it is that small already.
fn shrunk(size: Size, max_side_px: Option<NonZeroU32>) -> Size {
    let longer = size.width.max(size.height);
    let Some(side) = max_side_px.map(NonZeroU32::get).filter(|&side| side < longer) else { return size };
    // Rounded to the nearest pixel, but never to none.
    let scale = |px: u32| ((2 * u64::from(px) * u64::from(side) + u64::from(longer)) / (2 * u64::from(longer))).max(1);
    Size { width: scale(size.width) as u32, height: scale(size.height) as u32 }
}
