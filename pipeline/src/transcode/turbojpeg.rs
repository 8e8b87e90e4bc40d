//! Writing JPEGs through libjpeg-turbo 3: compressing pixels, and transcoding without loss.
//!
//! This file is a boundary to C. Every call is in one of the small methods of [`Handle`] and [`Output`], and each of them
//! hands over slices with their true lengths.

use std::ffi::{CStr, c_int, c_uchar};
use std::num::{NonZeroU8, NonZeroU16};
use std::ptr::{self, NonNull};

use turbojpeg_sys as tj;

use crate::decode::MAX_IMAGE_PX;
use crate::error::PipelineError;
use crate::geometry::Size;
use crate::jpeg::Planes;

/// Scans of a progressive picture, and memory for its coefficients, as the decoder has them.
const MAX_SCANS: c_int = 100;
const MAX_COEFFICIENTS_MIB: c_int = 512;

/// Compresses pixels.
#[derive(Debug)]
pub(super) struct Compressor(Handle);

impl Default for Compressor {
    fn default() -> Self {
        let mut handle = Handle::new(tj::TJINIT_TJINIT_COMPRESS);
        // Huffman tables made for each picture would save 2% of the bytes and take longer than all the rest of compressing
        // (1.7 ms instead of 0.7 for 500 x 375 pixels).
        handle.set(tj::TJPARAM_TJPARAM_SUBSAMP, tj::TJSAMP_TJSAMP_420 as c_int);
        Self(handle)
    }
}

impl Compressor {
    /// What comes next is of this quality, with a restart marker after every `interval` MCUs.
    pub(super) fn configure(&mut self, quality: NonZeroU8, interval: Option<NonZeroU16>) {
        self.0.set(tj::TJPARAM_TJPARAM_QUALITY, c_int::from(quality.get()));
        self.0.set(tj::TJPARAM_TJPARAM_RESTARTBLOCKS, interval.map_or(0, |mcus| c_int::from(mcus.get())));
    }

    /// Compresses `uint8 [height, width, 3]` to a baseline JPEG, 4:2:0.
    pub(super) fn compress(&mut self, pixels: &[u8], size: Size) -> Result<Vec<u8>, PipelineError> {
        finished(|output| self.0.compress(pixels, size, output))
    }

    /// Compresses the planes of a whole picture of this size, which must be 4:2:0.
    pub(super) fn compress_planes(&mut self, planes: &Planes<'_>, size: Size) -> Result<Vec<u8>, PipelineError> {
        finished(|output| self.0.compress_planes(planes, size, output))
    }
}

fn finished(compress: impl FnOnce(&mut Output) -> Result<(), String>) -> Result<Vec<u8>, PipelineError> {
    let mut output = Output::new();
    compress(&mut output)
        .map(|()| output.bytes().to_vec())
        .map_err(|reason| PipelineError::Undecodable { format: "JPEG encoder", reason })
}

/// Transcodes JPEGs without decoding them.
#[derive(Debug)]
pub(super) struct Transformer(Handle);

impl Default for Transformer {
    fn default() -> Self {
        let mut handle = Handle::new(tj::TJINIT_TJINIT_TRANSFORM);
        handle.set(tj::TJPARAM_TJPARAM_SCANLIMIT, MAX_SCANS);
        handle.set(tj::TJPARAM_TJPARAM_MAXMEMORY, MAX_COEFFICIENTS_MIB);
        handle.set(tj::TJPARAM_TJPARAM_MAXPIXELS, MAX_IMAGE_PX as c_int);
        Self(handle)
    }
}

impl Transformer {
    /// The same coefficients as one baseline scan with Huffman tables made for it, and a restart marker after every
    /// `interval` MCUs. Application segments (EXIF, ICC, Adobe) and comments are kept.
    ///
    /// Nothing if libjpeg-turbo had anything to say against the file, were it a mere warning.
    pub(super) fn add_restarts(&mut self, jpeg: &[u8], interval: NonZeroU16) -> Option<Vec<u8>> {
        self.transform(jpeg, c_int::from(interval.get()))
    }

    /// The same without restart markers.
    pub(super) fn baseline_of(&mut self, jpeg: &[u8]) -> Option<Vec<u8>> {
        self.transform(jpeg, 0)
    }

    fn transform(&mut self, jpeg: &[u8], restart_mcus: c_int) -> Option<Vec<u8>> {
        self.0.set(tj::TJPARAM_TJPARAM_RESTARTBLOCKS, restart_mcus);
        let mut output = Output::new();
        self.0.transform(jpeg, &mut output).ok()?;
        Some(output.bytes().to_vec())
    }
}

/// A file that libjpeg-turbo writes, in memory of its own.
struct Output {
    start: *mut c_uchar,
    length: usize,
}

impl Output {
    fn new() -> Self {
        Self { start: ptr::null_mut(), length: 0 }
    }

    fn bytes(&self) -> &[u8] {
        if self.start.is_null() {
            return &[];
        }
        // SAFETY: the call that succeeded before has set both, to its buffer and how many bytes of it are written.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // SAFETY: the buffer is libjpeg-turbo's, or null, which is allowed; this is its last use.
        unsafe { tj::tj3Free(self.start.cast()) };
    }
}

/// An instance of the `TurboJPEG` compressor or transformer.
#[derive(Debug)]
struct Handle(NonNull<std::ffi::c_void>);

// SAFETY: an instance has no ties to the thread that made it; only one thread at a time can use it, since every method
// takes it exclusively. The text of an error is per instance, and is read right after the call that failed.
unsafe impl Send for Handle {}

impl Handle {
    fn new(kind: tj::TJINIT) -> Self {
        // SAFETY: no precondition.
        let handle = unsafe { tj::tj3Init(kind as c_int) };
        // It fails only when a few hundred bytes cannot be allocated, where Rust would abort.
        Self(NonNull::new(handle).expect("memory for an instance"))
    }

    fn set(&mut self, parameter: tj::TJPARAM, value: c_int) {
        // SAFETY: the handle is valid until dropped.
        let status = unsafe { tj::tj3Set(self.0.as_ptr(), parameter as c_int, value) };
        assert_eq!(status, 0, "parameter {parameter} takes {value}");
    }

    fn compress(&mut self, pixels: &[u8], size: Size, output: &mut Output) -> Result<(), String> {
        assert_eq!(pixels.len(), size.rgb_bytes(), "pixels fill the picture");
        // SAFETY: the pixels are as many as the size tells, with rows next to each other (pitch 0). The output begins as
        // null, so that the call allocates, and both of its fields outlive the call.
        let status = unsafe {
            tj::tj3Compress8(
                self.0.as_ptr(),
                pixels.as_ptr(),
                size.width as c_int,
                0,
                size.height as c_int,
                tj::TJPF_TJPF_RGB as c_int,
                &raw mut output.start,
                (&raw mut output.length).cast(),
            )
        };
        self.check(status)
    }

    fn compress_planes(&mut self, planes: &Planes<'_>, size: Size, output: &mut Output) -> Result<(), String> {
        assert!(planes.is_quartered(), "planes are 4:2:0");
        // libjpeg-turbo rounds a size that is odd up, in luma, too.
        let rounded = [size.width, size.height].map(|px| px.next_multiple_of(2) as usize);
        for (plane, density) in planes.components.iter().zip([1, 2, 2]) {
            let [width, height] = rounded.map(|px| px / density);
            let samples = plane.row(0, 0).len();
            assert!(width <= plane.stride && plane.stride * height <= samples, "planes hold the picture");
        }
        let starts = planes.components.map(|plane| plane.row(0, 0).as_ptr());
        let strides = planes.components.map(|plane| plane.stride as c_int);
        // SAFETY: each plane has as many rows and columns, so far apart, as are read of it, by the assertions. The output begins
        // as null, so that the call allocates, and both of its fields outlive the call.
        let status = unsafe {
            tj::tj3CompressFromYUVPlanes8(
                self.0.as_ptr(),
                starts.as_ptr(),
                size.width as c_int,
                strides.as_ptr(),
                size.height as c_int,
                &raw mut output.start,
                (&raw mut output.length).cast(),
            )
        };
        self.check(status)
    }

    fn transform(&mut self, jpeg: &[u8], output: &mut Output) -> Result<(), String> {
        let transform = tj::tjtransform {
            r: tj::tjregion { x: 0, y: 0, w: 0, h: 0 },
            op: tj::TJXOP_TJXOP_NONE as c_int,
            options: tj::TJXOPT_OPTIMIZE as c_int,
            data: ptr::null_mut(),
            customFilter: None,
        };
        // SAFETY: pointer and length are those of one slice. There is one transform and one output, which begins as null,
        // so that the call allocates; all of it outlives the call.
        let status = unsafe {
            tj::tj3Transform(
                self.0.as_ptr(),
                jpeg.as_ptr(),
                jpeg.len() as _,
                1,
                &raw mut output.start,
                (&raw mut output.length).cast(),
                &raw const transform,
            )
        };
        self.check(status)
    }

    fn check(&mut self, status: c_int) -> Result<(), String> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: the handle is valid until dropped, and the text is a C string that stays until the next call.
        let message = unsafe { CStr::from_ptr(tj::tj3GetErrorStr(self.0.as_ptr())) };
        Err(message.to_string_lossy().replace('\n', " "))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the handle is valid, and this is its last use.
        unsafe { tj::tj3Destroy(self.0.as_ptr()) };
    }
}
