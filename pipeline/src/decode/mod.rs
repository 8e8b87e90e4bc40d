//! Decoding: from the bytes of a file to samples, of the part of the picture that is needed.
//!
//! Puts out a [`Decoded`]: planes of Y, Cb and Cr from [`jpeg`](crate::jpeg), our own decoder, which takes nearly all
//! photographs; `uint8 [height, width, 3]` from the others. The content decides the format, never a file's name. What our
//! own decoder refuses goes to libjpeg-turbo, which skips most of the work for what lies outside of the region; binary PPM
//! is lent as it is; all else goes to the `image` crate, whole.

mod generic;
mod jpeg_markers;
mod png;
mod ppm;
mod turbo;

use image::ImageFormat;
use serde::{Deserialize, Serialize};

use crate::error::PipelineError;
use crate::geometry::{PixelBox, Size};
use crate::jpeg::{self, Planes};
use crate::orientation::Orientation;
use turbo::{TurboDecoder, TurboHeader};

/// The most pixels that a picture may declare; beyond, a few bytes of input could ask for gigabytes of memory.
pub const MAX_IMAGE_PX: u64 = 100_000_000;

/// How planes of a JPEG become pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecodeMode {
    /// Chroma is enlarged and becomes RGB before resizing, as Pillow does it: the pixels of a full decode by libjpeg.
    Exact,
    /// Y, Cb and Cr are resized before they become RGB. On 2,000 photographs the PSNR to a full decode and resize was
    /// 51.5 dB in the median and 39.7 dB at worst, where saturated colours meet. Files that are not decoded into planes
    /// are not affected.
    Fast,
}

/// What the header of a picture says.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    /// Size of the stored picture.
    pub size: Size,
    /// How the stored picture must be turned; upright where that was not asked for.
    pub orientation: Orientation,
    codec: Codec,
}

#[derive(Debug, Clone, Copy)]
enum Codec {
    /// For our own decoder.
    Jpeg,
    Turbo(TurboHeader),
    /// The offset of its pixels.
    Ppm(usize),
    Generic(ImageFormat),
}

/// A part of a picture.
#[derive(Debug, Clone, Copy)]
pub struct Decoded<'a> {
    /// The samples.
    pub pixels: Pixels<'a>,
    /// Which box of the picture was decoded; planes may hold more.
    pub region: PixelBox,
}

/// Samples as decoders leave them.
#[derive(Debug, Clone, Copy)]
pub enum Pixels<'a> {
    /// `uint8 [region.height, region.width, 3]`.
    Rgb(&'a [u8]),
    /// Planes of a JPEG.
    Ycc(Planes<'a>),
}

/// A decoder for one thread; it keeps its memory from picture to picture.
#[derive(Debug)]
pub struct Decoder {
    jpeg: jpeg::Decoder,
    turbo: TurboDecoder,
    /// What codecs put out before it becomes RGB.
    raw: Vec<u8>,
    pixels: Vec<u8>,
}

impl Default for Decoder {
    fn default() -> Self {
        let jpeg = jpeg::Decoder::new(jpeg::Instructions::Detected);
        Self { jpeg, turbo: TurboDecoder::new(), raw: Vec::new(), pixels: Vec::new() }
    }
}

impl Decoder {
    /// Reads size and, if asked for, orientation.
    ///
    /// # Errors
    /// A bad sample ([`PipelineError::is_bad_sample`]): unknown format, damaged header, too many pixels, or a JPEG file
    /// that is cut off.
    pub fn header(&mut self, bytes: &[u8], read_orientation: bool) -> Result<Header, PipelineError> {
        let (codec, size, orientation) = if bytes.starts_with(&[0xff, 0xd8, 0xff]) {
            let (codec, size) = if let Ok(size) = jpeg::image_size(bytes) {
                (Codec::Jpeg, size)
            } else {
                let header = self.turbo.header(bytes)?;
                (Codec::Turbo(header), header.size)
            };
            turbo::check_end(bytes)?;
            let orientation = if read_orientation { jpeg_markers::orientation(bytes) } else { Orientation::default() };
            (codec, size, orientation)
        } else if ppm::is_ppm(bytes) {
            let (size, pixels) = ppm::header(bytes)?;
            (Codec::Ppm(pixels), size, Orientation::default())
        } else {
            let format = generic_format(bytes)?;
            let (size, orientation) = generic::header(bytes, format, read_orientation)?;
            (Codec::Generic(format), size, orientation)
        };
        check_size(size)?;
        Ok(Header { size, orientation, codec })
    }

    /// Decodes at least the pixels of `wanted`, a box within the stored picture.
    ///
    /// `bytes` must be those that `header` was read from just before. `segments` may give the offsets of the restart
    /// segments of a JPEG, so that those that are not wanted are not even read.
    ///
    /// # Errors
    /// A bad sample: the data are damaged or cut off. Of a JPEG only what was decoded is known to be sound.
    pub fn region<'a>(
        &'a mut self,
        bytes: &'a [u8],
        header: &Header,
        wanted: PixelBox,
        segments: Option<&[u32]>,
    ) -> Result<Decoded<'a>, PipelineError> {
        if let Codec::Jpeg = header.codec
            // What our decoder calls damaged, libjpeg-turbo judges: it knows what is harmless.
            && self.jpeg.decode(bytes, wanted, segments).is_ok()
        {
            return Ok(Decoded { pixels: Pixels::Ycc(self.jpeg.planes()), region: wanted });
        }
        let (pixels, region) = self.rgb(bytes, header, wanted)?;
        Ok(Decoded { pixels: Pixels::Rgb(pixels), region })
    }

    /// The planes of a whole JPEG whose chroma has half the width and height; nothing for all else, and what our decoder refuses.
    /// `header` was read from `bytes` just before.
    pub(crate) fn quartered_planes(&mut self, bytes: &[u8], header: &Header) -> Option<Planes<'_>> {
        if !jpeg::is_quartered(bytes) {
            return None;
        }
        self.jpeg.decode(bytes, PixelBox::whole(header.size), None).ok()?;
        Some(self.jpeg.planes())
    }

    /// Decodes the whole stored picture by the complete decoders: `uint8 [height, width, 3]` and its size.
    ///
    /// # Errors
    /// A bad sample: of no known format, damaged, cut off, or too large.
    pub fn whole<'a>(&'a mut self, bytes: &'a [u8]) -> Result<(&'a [u8], Size), PipelineError> {
        let header = self.header(bytes, false)?;
        let (pixels, _) = self.rgb(bytes, &header, PixelBox::whole(header.size))?;
        Ok((pixels, header.size))
    }

    /// The same, and turned upright, in the memory of the stored picture. `header` was read from `bytes` just before.
    pub(crate) fn whole_upright<'a>(&'a mut self, bytes: &'a [u8], header: &Header) -> Result<&'a [u8], PipelineError> {
        if header.orientation.is_upright() {
            return Ok(self.whole(bytes)?.0);
        }
        // Raw pixels of a file, which are only lent, have no orientation.
        let (_, size) = self.whole(bytes)?;
        let pixels = &mut self.pixels[..size.rgb_bytes()];
        header.orientation.apply_in_place(pixels, size);
        Ok(pixels)
    }

    /// Decodes at least the pixels of `wanted` to RGB, and gives back which box of the picture that is.
    fn rgb<'a>(
        &'a mut self,
        bytes: &'a [u8],
        header: &Header,
        wanted: PixelBox,
    ) -> Result<(&'a [u8], PixelBox), PipelineError> {
        let region = match header.codec {
            Codec::Jpeg => {
                let turbo = self.turbo.header(bytes)?;
                self.turbo.decode(bytes, &turbo, wanted, &mut self.pixels)?
            }
            Codec::Turbo(turbo) => self.turbo.decode(bytes, &turbo, wanted, &mut self.pixels)?,
            Codec::Ppm(offset) => {
                return Ok((&bytes[offset..][..header.size.rgb_bytes()], PixelBox::whole(header.size)));
            }
            Codec::Generic(format) => {
                generic::decode(bytes, format, &mut self.raw, &mut self.pixels)?;
                PixelBox::whole(header.size)
            }
        };
        let size = Size { width: region.width, height: region.height };
        Ok((&self.pixels[..size.rgb_bytes()], region))
    }
}

/// Refuses pictures without pixels, and such that would take too much memory.
fn check_size(size: Size) -> Result<(), PipelineError> {
    if (1..=MAX_IMAGE_PX).contains(&size.pixels()) {
        return Ok(());
    }
    Err(PipelineError::TooLarge { width: size.width, height: size.height, max_px: MAX_IMAGE_PX })
}

/// Whether a JPEG is progressive.
pub(crate) fn is_progressive(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xd8, 0xff]) && jpeg_markers::is_progressive(bytes)
}

fn generic_format(bytes: &[u8]) -> Result<ImageFormat, PipelineError> {
    use ImageFormat::{Bmp, Gif, Png, Tiff, WebP};
    match image::guess_format(bytes) {
        Ok(format @ (Bmp | Gif | Png | Tiff | WebP)) => Ok(format),
        _ => Err(PipelineError::UnknownFormat { first_bytes: bytes[..bytes.len().min(8)].to_vec() }),
    }
}
