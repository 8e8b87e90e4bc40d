//! libjpeg-turbo as the judge of the decoder in `src/jpeg`, for its tests and its bench. Any failure panics.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each user of this file is a crate of its own and needs another part of it"
)]

use std::ptr::null_mut;

use turbojpeg_sys as tj;

/// The quantised coefficients of one component, block after block, in natural order.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Coefficients {
    /// Blocks in a row.
    pub columns: usize,
    pub blocks: Vec<[i16; 64]>,
}

/// A `TurboJPEG` handle that ends with its owner.
pub struct Turbo(tj::tjhandle);

impl Drop for Turbo {
    fn drop(&mut self) {
        // SAFETY: the handle came from `tj3Init` and is not used again.
        unsafe { tj::tj3Destroy(self.0) };
    }
}

unsafe extern "C" fn collect(
    coefficients: *mut libc_short,
    array: tj::tjregion,
    plane: tj::tjregion,
    component: i32,
    _transform_id: i32,
    transform: *mut tj::tjtransform,
) -> i32 {
    // SAFETY: `data` is the vector that `coefficients` below hands in, and nobody else uses it during the call.
    let all = unsafe { &mut *(*transform).data.cast::<Vec<Coefficients>>() };
    let component = component as usize;
    if all.len() <= component {
        all.resize_with(component + 1, Coefficients::default);
    }
    all[component].columns = plane.w as usize / 8;
    for block in 0..(array.w / 8 * array.h / 8) as usize {
        // SAFETY: the array holds that many blocks of 64 coefficients.
        let block = unsafe { std::slice::from_raw_parts(coefficients.add(64 * block), 64) };
        all[component].blocks.push(block.try_into().expect("64 coefficients"));
    }
    0
}

#[allow(non_camel_case_types)]
type libc_short = i16;

impl Turbo {
    pub fn decompressor() -> Turbo {
        // SAFETY: no preconditions.
        Turbo(unsafe { tj::tj3Init(tj::TJINIT_TJINIT_DECOMPRESS as i32) })
    }

    pub fn transformer() -> Turbo {
        // SAFETY: no preconditions.
        Turbo(unsafe { tj::tj3Init(tj::TJINIT_TJINIT_TRANSFORM as i32) })
    }

    fn set(&self, parameter: tj::TJPARAM, value: i32) {
        // SAFETY: the handle is alive.
        let result = unsafe { tj::tj3Set(self.0, parameter as i32, value) };
        assert_eq!(result, 0, "tj3Set");
    }

    fn get(&self, parameter: tj::TJPARAM) -> usize {
        // SAFETY: the handle is alive.
        unsafe { tj::tj3Get(self.0, parameter as i32) as usize }
    }

    /// All coefficients; None when libjpeg-turbo finds the file damaged.
    pub fn coefficients(&self, bytes: &[u8]) -> Option<Vec<Coefficients>> {
        let mut all: Vec<Coefficients> = Vec::new();
        let region = tj::tjregion { x: 0, y: 0, w: 0, h: 0 };
        let transform = tj::tjtransform {
            r: region,
            op: tj::TJXOP_TJXOP_NONE as i32,
            options: tj::TJXOPT_NOOUTPUT as i32,
            data: (&raw mut all).cast(),
            customFilter: Some(collect),
        };
        let (mut buffer, mut size) = (null_mut(), 0);
        // SAFETY: all pointers are to live values; without output, no buffer is made.
        let result = unsafe {
            tj::tj3Transform(
                self.0,
                bytes.as_ptr(),
                bytes.len() as u64,
                1,
                &raw mut buffer,
                &raw mut size,
                &raw const transform,
            )
        };
        (result == 0).then_some(all)
    }

    /// The same coefficients in a file with a restart marker every `interval` MCUs, and Huffman tables of its own.
    pub fn with_restarts(&self, bytes: &[u8], interval: i32) -> Vec<u8> {
        self.set(tj::TJPARAM_TJPARAM_RESTARTBLOCKS, interval);
        let region = tj::tjregion { x: 0, y: 0, w: 0, h: 0 };
        let transform = tj::tjtransform {
            r: region,
            op: tj::TJXOP_TJXOP_NONE as i32,
            options: tj::TJXOPT_OPTIMIZE as i32,
            data: null_mut(),
            customFilter: None,
        };
        let (mut buffer, mut size) = (null_mut(), 0);
        // SAFETY: all pointers are to live values; the library makes the buffer, which is copied and freed below.
        unsafe {
            let result = tj::tj3Transform(
                self.0,
                bytes.as_ptr(),
                bytes.len() as u64,
                1,
                &raw mut buffer,
                &raw mut size,
                &raw const transform,
            );
            assert_eq!(result, 0, "tj3Transform");
            let copy = std::slice::from_raw_parts(buffer, size as usize).to_vec();
            tj::tj3Free(buffer.cast());
            copy
        }
    }

    /// Reads the header; the image's width and height.
    pub fn read_header(&self, bytes: &[u8]) -> Option<(usize, usize)> {
        // SAFETY: the slice is alive.
        let result = unsafe { tj::tj3DecompressHeader(self.0, bytes.as_ptr(), bytes.len() as u64) };
        (result == 0).then(|| (self.get(tj::TJPARAM_TJPARAM_JPEGWIDTH), self.get(tj::TJPARAM_TJPARAM_JPEGHEIGHT)))
    }

    /// The whole image as RGB.
    pub fn decode(&self, bytes: &[u8]) -> Option<(Vec<u8>, usize, usize)> {
        let (width, height) = self.read_header(bytes)?;
        let mut rgb = Vec::new();
        self.decode_region(bytes, [0, 0, width, height], &mut rgb)?;
        Some((rgb, width, height))
    }

    /// The columns from the crop's on, with up to 31 more on the left, as RGB; gives the number of those.
    ///
    /// The crop is x, y, width, height.
    pub fn decode_region(&self, bytes: &[u8], [x, y, width, height]: [usize; 4], rgb: &mut Vec<u8>) -> Option<usize> {
        self.read_header(bytes)?;
        let mcu_px = match self.get(tj::TJPARAM_TJPARAM_SUBSAMP) as i32 {
            tj::TJSAMP_TJSAMP_444 | tj::TJSAMP_TJSAMP_GRAY => 8,
            _ => 16,
        };
        let margin = x % mcu_px;
        let region = tj::tjregion { x: (x - margin) as i32, y: y as i32, w: (width + margin) as i32, h: height as i32 };
        let row_bytes = 3 * (width + margin);
        rgb.resize(row_bytes * height, 0);
        // SAFETY: the slices are alive, and `rgb` has room for the region.
        unsafe {
            assert_eq!(tj::tj3SetCroppingRegion(self.0, region), 0, "tj3SetCroppingRegion");
            let format = tj::TJPF_TJPF_RGB;
            let result = tj::tj3Decompress8(
                self.0,
                bytes.as_ptr(),
                bytes.len() as u64,
                rgb.as_mut_ptr(),
                row_bytes as i32,
                format,
            );
            tj::tj3SetCroppingRegion(self.0, tj::tjregion { x: 0, y: 0, w: 0, h: 0 });
            (result == 0).then_some(margin)
        }
    }

    /// The planes before chroma is enlarged: (samples, width, height) of each.
    pub fn planes(&self, bytes: &[u8]) -> Option<Vec<(Vec<u8>, usize, usize)>> {
        let (width, height) = self.read_header(bytes)?;
        let sampling = self.get(tj::TJPARAM_TJPARAM_SUBSAMP) as i32;
        let count = if sampling == tj::TJSAMP_TJSAMP_GRAY { 1 } else { 3 };
        let mut planes: Vec<_> = (0..count)
            .map(|component| {
                // SAFETY: no preconditions.
                let (width, height) = unsafe {
                    (
                        tj::tj3YUVPlaneWidth(component, width as i32, sampling) as usize,
                        tj::tj3YUVPlaneHeight(component, height as i32, sampling) as usize,
                    )
                };
                (vec![0; width * height], width, height)
            })
            .collect();
        let mut pointers = [null_mut(); 3];
        for (pointer, plane) in pointers.iter_mut().zip(&mut planes) {
            *pointer = plane.0.as_mut_ptr();
        }
        // SAFETY: every plane has the size that the library asks for; no strides mean rows without gaps.
        let result = unsafe {
            tj::tj3DecompressToYUVPlanes8(self.0, bytes.as_ptr(), bytes.len() as u64, pointers.as_mut_ptr(), null_mut())
        };
        (result == 0).then_some(planes)
    }
}
