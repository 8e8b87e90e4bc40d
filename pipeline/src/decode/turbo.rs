//! JPEG through libjpeg-turbo 3: a region of the picture, of any kind of JPEG.
//!
//! This file is the boundary to C. Every call is in one of the small methods of [`Handle`], and each of them hands
//! over slices with their true lengths.

use std::ffi::{CStr, c_int};
use std::ptr::NonNull;

use turbojpeg_sys as tj;

use super::{MAX_IMAGE_PX, jpeg_markers};
use crate::error::PipelineError;
use crate::geometry::{PixelBox, Size};

/// Scans of a progressive picture; encoders write about ten, and each costs a pass over the whole picture.
const MAX_SCANS: c_int = 100;
/// Memory for the coefficients of a progressive picture.
const MAX_COEFFICIENTS_MIB: c_int = 512;
/// Fancy upsampling looks at most one chroma sample, two pixels, beyond the pixels that it makes; at the edges of the
/// decoded region it has to make something up.
const UPSAMPLING_MARGIN_PX: u32 = 2;

/// What the header says.
#[derive(Debug, Clone, Copy)]
pub(super) struct TurboHeader {
    pub(super) size: Size,
    /// Four components: CMYK, or YCCK, which libjpeg-turbo makes CMYK of.
    is_cmyk: bool,
    /// Width of an iMCU in pixels, or nothing where libjpeg-turbo cannot decode a part (lossless, odd sampling).
    imcu_width: Option<u32>,
}

/// A decoder that keeps its memory from image to image.
#[derive(Debug)]
pub(super) struct TurboDecoder {
    handle: Handle,
    cmyk: Vec<u8>,
}

impl TurboDecoder {
    pub(super) fn new() -> Self {
        let mut handle = Handle::new();
        handle.set(tj::TJPARAM_TJPARAM_SCANLIMIT, MAX_SCANS);
        handle.set(tj::TJPARAM_TJPARAM_MAXMEMORY, MAX_COEFFICIENTS_MIB);
        handle.set(tj::TJPARAM_TJPARAM_MAXPIXELS, MAX_IMAGE_PX as c_int);
        // Fast upsampling must stay off: in 3.1.0 `read_and_discard_scanlines`, which decoding a region goes through, then
        // writes to the colour converter of the picture before, whose memory is free by then.
        handle.set(tj::TJPARAM_TJPARAM_FASTUPSAMPLE, 0);
        Self { handle, cmyk: Vec::new() }
    }

    pub(super) fn header(&mut self, bytes: &[u8]) -> Result<TurboHeader, PipelineError> {
        if let Err(error) = self.handle.read_header(bytes) {
            // libjpeg-turbo stops in the midst of this picture, and would take the next one for its continuation.
            *self = Self::new();
            return Err(error);
        }
        let get = |parameter| self.handle.get(parameter);
        let size = Size {
            width: get(tj::TJPARAM_TJPARAM_JPEGWIDTH) as u32,
            height: get(tj::TJPARAM_TJPARAM_JPEGHEIGHT) as u32,
        };
        let color_space = get(tj::TJPARAM_TJPARAM_COLORSPACE) as u32;
        let imcu_width = match get(tj::TJPARAM_TJPARAM_SUBSAMP) {
            _ if get(tj::TJPARAM_TJPARAM_LOSSLESS) != 0 => None,
            tj::TJSAMP_TJSAMP_444 | tj::TJSAMP_TJSAMP_GRAY | tj::TJSAMP_TJSAMP_440 | tj::TJSAMP_TJSAMP_441 => Some(8),
            tj::TJSAMP_TJSAMP_422 | tj::TJSAMP_TJSAMP_420 => Some(16),
            tj::TJSAMP_TJSAMP_411 => Some(32),
            _ => None,
        };
        let is_cmyk = color_space == tj::TJCS_TJCS_CMYK || color_space == tj::TJCS_TJCS_YCCK;
        Ok(TurboHeader { size, is_cmyk, imcu_width })
    }

    /// Decodes at least the pixels of `wanted` to RGB, into the front of `pixels`; gives back which box they are.
    ///
    /// `bytes` must be those that `header` was read from last.
    pub(super) fn decode(
        &mut self,
        bytes: &[u8],
        header: &TurboHeader,
        wanted: PixelBox,
        pixels: &mut Vec<u8>,
    ) -> Result<PixelBox, PipelineError> {
        let region = match header.imcu_width {
            Some(imcu_width) => decodable_region(wanted, header.size, imcu_width),
            None => PixelBox::whole(header.size),
        };
        self.handle.set_region(region, header.size)?;

        let pixel_count = region.width as usize * region.height as usize;
        grow(pixels, pixel_count * 3);
        let outcome = if header.is_cmyk {
            grow(&mut self.cmyk, pixel_count * 4);
            let cmyk = &mut self.cmyk[..pixel_count * 4];
            let outcome = self.handle.decompress(bytes, cmyk, tj::TJPF_TJPF_CMYK);
            inverted_cmyk_to_rgb(cmyk, pixels);
            outcome
        } else {
            self.handle.decompress(bytes, &mut pixels[..pixel_count * 3], tj::TJPF_TJPF_RGB)
        };
        outcome.map(|()| region)
    }
}

/// The box to decode: `wanted` and the margin of upsampling, from a whole iMCU on.
fn decodable_region(wanted: PixelBox, size: Size, imcu_width: u32) -> PixelBox {
    let x = wanted.x.saturating_sub(UPSAMPLING_MARGIN_PX) / imcu_width * imcu_width;
    let y = wanted.y.saturating_sub(UPSAMPLING_MARGIN_PX);
    let right = (wanted.right() + UPSAMPLING_MARGIN_PX).min(size.width);
    let bottom = (wanted.bottom() + UPSAMPLING_MARGIN_PX).min(size.height);
    PixelBox { x, y, width: right - x, height: bottom - y }
}

/// Refuses a file that is cut off.
pub(super) fn check_end(bytes: &[u8]) -> Result<(), PipelineError> {
    if jpeg_markers::has_end(bytes) {
        return Ok(());
    }
    Err(undecodable("no end-of-image marker: the file is cut off".to_owned()))
}

/// Makes room without touching what is there already, since every byte is written afterwards.
pub(super) fn grow(buffer: &mut Vec<u8>, bytes: usize) {
    if buffer.len() < bytes {
        buffer.resize(bytes, 0);
    }
}

/// CMYK as Adobe stores it, inverted, to RGB by the formula of Pillow's `convert("RGB")`; Pillow, too, takes every
/// JPEG of four components for an inverted one.
fn inverted_cmyk_to_rgb(cmyk: &[u8], rgb: &mut [u8]) {
    let (cmyk, _) = cmyk.as_chunks::<4>();
    let (rgb, _) = rgb.as_chunks_mut::<3>();
    for ([c, m, y, k], pixel) in cmyk.iter().zip(rgb) {
        let light = u32::from(*k);
        *pixel = [c, m, y].map(|ink| {
            let product = u32::from(255 - ink) * light + 128;
            light.saturating_sub(((product >> 8) + product) >> 8) as u8
        });
    }
}

/// Whether the pixels are sound although libjpeg-turbo warned.
///
/// Unknown versions, and surplus bytes before a marker, which cameras and editors leave, do not change a pixel (Pillow
/// and browsers show such files). Surplus bytes before a restart marker are different: an interval's data end exactly
/// there, so the decoder has lost its place. Everything else libjpeg-turbo warns of is damaged or missing data.
///
/// libjpeg keeps the text of the first warning only, so damage that follows a harmless warning goes unnoticed.
fn is_harmless(warning: &str) -> bool {
    if let Some(rest) = warning.strip_prefix("Corrupt JPEG data: ")
        && let Some((_, marker)) = rest.split_once(" extraneous bytes before marker 0x")
    {
        return !u8::from_str_radix(marker, 16).is_ok_and(|marker| (0xd0..=0xd7).contains(&marker));
    }
    ["Unknown Adobe color transform code", "Warning: unknown JFIF revision", "Invalid SOS parameters for sequential"]
        .iter()
        .any(|harmless| warning.starts_with(harmless))
}

fn undecodable(reason: String) -> PipelineError {
    PipelineError::Undecodable { format: "JPEG", reason }
}

/// An instance of the `TurboJPEG` decompressor.
#[derive(Debug)]
struct Handle(NonNull<std::ffi::c_void>);

// SAFETY: an instance has no ties to the thread that made it; only one thread at a time can use it, since every method
// takes it exclusively. The text of an error is per thread, and is read right after the call that failed.
unsafe impl Send for Handle {}

impl Handle {
    fn new() -> Self {
        // SAFETY: no precondition.
        let handle = unsafe { tj::tj3Init(tj::TJINIT_TJINIT_DECOMPRESS as c_int) };
        // It fails only when a few hundred bytes cannot be allocated, where Rust would abort.
        Self(NonNull::new(handle).expect("memory for a decompressor"))
    }

    fn set(&mut self, parameter: tj::TJPARAM, value: c_int) {
        // SAFETY: the handle is valid until dropped.
        let status = unsafe { tj::tj3Set(self.0.as_ptr(), parameter as c_int, value) };
        assert_eq!(status, 0, "parameter {parameter} takes {value}");
    }

    fn get(&self, parameter: tj::TJPARAM) -> c_int {
        // SAFETY: the handle is valid until dropped.
        unsafe { tj::tj3Get(self.0.as_ptr(), parameter as c_int) }
    }

    fn read_header(&mut self, bytes: &[u8]) -> Result<(), PipelineError> {
        // SAFETY: pointer and length are those of one slice, and the call does not keep them.
        let status = unsafe { tj::tj3DecompressHeader(self.0.as_ptr(), bytes.as_ptr(), bytes.len() as _) };
        self.check(status)
    }

    fn set_region(&mut self, region: PixelBox, size: Size) -> Result<(), PipelineError> {
        // All zeros mean the whole picture, the one region that every kind of JPEG can be decoded by.
        let PixelBox { x, y, width, height } =
            if region == PixelBox::whole(size) { PixelBox { x: 0, y: 0, width: 0, height: 0 } } else { region };
        let region = tj::tjregion { x: x as c_int, y: y as c_int, w: width as c_int, h: height as c_int };
        // SAFETY: the handle is valid until dropped; the call checks the region.
        let status = unsafe { tj::tj3SetCroppingRegion(self.0.as_ptr(), region) };
        self.check(status)
    }

    /// Decodes the region set before into `pixels`, whose size must be that of the region.
    fn decompress(&mut self, bytes: &[u8], pixels: &mut [u8], format: tj::TJPF) -> Result<(), PipelineError> {
        // SAFETY: `bytes` are described by their true length. `pixels` has as many bytes as the region times the
        // pixel's size, with rows next to each other (pitch 0): header and region were set on this handle from the
        // same bytes, so libjpeg-turbo writes no more than that.
        let status = unsafe {
            tj::tj3Decompress8(
                self.0.as_ptr(),
                bytes.as_ptr(),
                bytes.len() as _,
                pixels.as_mut_ptr(),
                0,
                format as c_int,
            )
        };
        self.check(status)
    }

    /// Makes a `Result` of a status: harmless warnings are none.
    fn check(&mut self, status: c_int) -> Result<(), PipelineError> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: the handle is valid until dropped, and the text is a C string that stays until the next call.
        let (message, code) = unsafe {
            let message = CStr::from_ptr(tj::tj3GetErrorStr(self.0.as_ptr())).to_string_lossy().replace('\n', " ");
            (message, tj::tj3GetErrorCode(self.0.as_ptr()))
        };
        if code == tj::TJERR_TJERR_WARNING as c_int && is_harmless(&message) {
            return Ok(());
        }
        Err(undecodable(message))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the handle is valid, and this is its last use.
        unsafe { tj::tj3Destroy(self.0.as_ptr()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Random, SampleKey};

    #[test]
    fn surplus_bytes_are_harmless_except_before_a_restart_marker() {
        assert!(is_harmless("Corrupt JPEG data: 5 extraneous bytes before marker 0xd9"));
        assert!(!is_harmless("Corrupt JPEG data: 5 extraneous bytes before marker 0xd3"));
        assert!(!is_harmless("Corrupt JPEG data: bad Huffman code"));
        assert!(!is_harmless("Premature end of JPEG file"));
    }

    #[test]
    fn regions_begin_at_an_imcu_and_keep_the_margin() {
        let size = Size { width: 100, height: 80 };
        let wanted = PixelBox { x: 32, y: 33, width: 20, height: 47 };
        let region = decodable_region(wanted, size, 16);
        assert_eq!(region, PixelBox { x: 16, y: 31, width: 38, height: 49 });
    }

    fn photos() -> Vec<(std::path::PathBuf, Vec<u8>)> {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/photos");
        let files = |path: std::path::PathBuf| fs_err::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        let directories = files(root).filter(|path| path.is_dir());
        let photos = directories.flat_map(files).map(|path| (path.clone(), fs_err::read(path).unwrap()));
        photos.filter(|(_, bytes)| bytes.starts_with(&[0xff, 0xd8])).collect()
    }

    /// Every variant of JPEG among the photographs: wherever a region lies, it has the same pixels as the full decode,
    /// at its edges too.
    #[test]
    fn regions_equal_the_full_decode() {
        let mut random =
            Random::new(SampleKey { seed: 0, epoch: 0, sample_id: 0, repeat: 0 }, crate::random::Purpose::Crop);
        let mut decoder = TurboDecoder::new();
        for (path, bytes) in &photos() {
            let header = decoder.header(bytes).unwrap();
            let (w, h) = (header.size.width, header.size.height);
            let (mut whole, mut part) = (Vec::new(), Vec::new());
            decoder.decode(bytes, &header, PixelBox::whole(header.size), &mut whole).unwrap();
            for round in 0..60 {
                let (x, y) = (random.below(w), random.below(h));
                // Small regions are mostly edge, and every third begins where an iMCU does.
                let limit = if round % 2 == 0 { 24 } else { w.max(h) };
                let (x, y) = if round % 3 == 0 { (x / 16 * 16, y / 16 * 16) } else { (x, y) };
                let (width, height) = (1 + random.below((w - x).min(limit)), 1 + random.below((h - y).min(limit)));
                let wanted = PixelBox { x, y, width, height };
                let region = decoder.decode(bytes, &header, wanted, &mut part).unwrap();
                for row in y..wanted.bottom() {
                    let start = |row: u32, stride: u32, x: u32| (row * stride + x) as usize * 3;
                    let bytes = width as usize * 3;
                    let expected = &whole[start(row, w, x)..][..bytes];
                    let got = &part[start(row - region.y, region.width, x - region.x)..][..bytes];
                    assert!(expected == got, "{}: {wanted:?}, row {row}", path.display());
                }
            }
        }
    }
}
