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

use crate::decode::{DecodeMode, Decoder, Header, is_progressive};
use crate::error::PipelineError;
use crate::geometry::{PixelBox, Size};
use crate::memory::give_back_memory;
use crate::resize::Resizer;
use crate::transform::View;
use turbojpeg::{Compressor, Transformer};

/// Progressive pictures of so many pixels take 100 MB as coefficients, and as much as pixels.
const LARGE_PX: u64 = 32_000_000;

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
        let baseline = self.baseline(bytes);
        let bytes = baseline.as_deref().unwrap_or(bytes);
        let Self { decoder, resizer, compressor, resized, upright, .. } = self;
        let header = decoder.header(bytes, true)?;
        let size = shrunk(header.size, encode.max_side_px());
        let turned = header.orientation.turn(size);
        let keeps_pixels = size == header.size && header.orientation.is_upright();
        let buffers = [resized, upright];
        let bytes = if let Encode::Jpeg { quality, .. } = encode {
            compressor.configure(quality, tile_index);
            // Colours that stay where they are need not become RGB and YCbCr again, which takes time and rounds twice.
            let planes = if keeps_pixels { decoder.quartered_planes(bytes, &header) } else { None };
            match planes {
                Some(planes) => compressor.compress_planes(&planes, size)?,
                None => compressor.compress(upright_rgb(decoder, resizer, buffers, bytes, &header, size)?, turned)?,
            }
        } else {
            let header_line = format!("P6 {} {} 255\n", turned.width, turned.height);
            let pixels = upright_rgb(decoder, resizer, buffers, bytes, &header, size)?;
            [header_line.as_bytes(), pixels].concat()
        };
        let segments = tile_index.and_then(|_| segments::offsets(&bytes));
        Ok(Some(Transcoded { bytes, width_px: turned.width, height_px: turned.height, segments }))
    }

    /// Decodes a whole image, as it is stored, to RGB.
    pub(crate) fn whole<T>(&mut self, bytes: &[u8], look: impl FnOnce(&[u8], Size) -> T) -> Result<T, PipelineError> {
        let baseline = self.baseline(bytes);
        let (pixels, size) = self.decoder.whole(baseline.as_deref().unwrap_or(bytes))?;
        Ok(look(pixels, size))
    }

    /// A large progressive JPEG as a baseline one of the same coefficients, so of the same pixels; nothing for all others.
    /// Coefficients and pixels of such a picture are so not in memory together.
    fn baseline(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        if !is_progressive(bytes) || self.decoder.header(bytes, false).ok()?.size.pixels() < LARGE_PX {
            return None;
        }
        let baseline = self.transformer.baseline_of(bytes);
        // The coefficients, before the pixels come.
        give_back_memory();
        baseline
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
}

/// Decodes an image, shrinks it to `size`, and turns it upright: `uint8 [height, width, 3]`. `buffers` are for what comes
/// between, and for the outcome where that is not what was decoded.
fn upright_rgb<'a>(
    decoder: &'a mut Decoder,
    resizer: &mut Resizer,
    [resized, upright]: [&'a mut Vec<u8>; 2],
    bytes: &'a [u8],
    header: &Header,
    size: Size,
) -> Result<&'a [u8], PipelineError> {
    if size == header.size {
        // What keeps its size has the very pixels that every other program sees.
        return decoder.whole_upright(bytes, header);
    }
    let whole = PixelBox::whole(header.size);
    let decoded = decoder.region(bytes, header, whole, None)?;
    let view = View { source: whole.into(), bounds: whole, flip: false };
    resized.resize(size.rgb_bytes(), 0);
    resizer.resize(&decoded, &view, size, DecodeMode::Exact, resized);
    if header.orientation.is_upright() {
        return Ok(resized);
    }
    upright.resize(size.rgb_bytes(), 0);
    header.orientation.apply(resized, size, upright);
    Ok(upright)
}

/// The size of the same shape whose longer side is `max_side_px`, unless it is that small already.
fn shrunk(size: Size, max_side_px: Option<NonZeroU32>) -> Size {
    let longer = size.width.max(size.height);
    let Some(side) = max_side_px.map(NonZeroU32::get).filter(|&side| side < longer) else { return size };
    // Rounded to the nearest pixel, but never to none.
    let scale = |px: u32| ((2 * u64::from(px) * u64::from(side) + u64::from(longer)) / (2 * u64::from(longer))).max(1);
    Size { width: scale(size.width) as u32, height: scale(size.height) as u32 }
}
