//! The JPEG decoder on any bytes, with the address sanitizer and overflow checks; portable and detected must agree.
//!
//!     cargo +nightly fuzz run jpeg CORPUS -- -max_total_time=3600
//!
//! in `pipeline/`, where CORPUS is a folder of small JPEGs. The first bytes choose crop and index of segments; the rest is
//! the file. The module is compiled from its source, so that no other dependency has to be built for the sanitizer.

#![no_main]

#[allow(unused_imports, dead_code, reason = "the crate's users need more of it")]
#[path = "../../src/jpeg/mod.rs"]
mod jpeg;

#[allow(dead_code, reason = "the crate's users need more of it")]
#[path = "../../src/simd.rs"]
mod simd;

/// What the module takes from the crate's `geometry`, which needs the whole crate.
mod geometry {
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Size {
        pub width: u32,
        pub height: u32,
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct PixelBox {
        pub x: u32,
        pub y: u32,
        pub width: u32,
        pub height: u32,
    }
}

use geometry::{PixelBox, Size};
use jpeg::{Decoder, Instructions, image_size};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&[x, y, width, height, is_indexed, shift], bytes)) = input.split_first_chunk() else {
        return;
    };
    let Ok(Size { width: image_width, height: image_height }) = image_size(bytes) else { return };
    if u64::from(image_width) * u64::from(image_height) > 1 << 22 {
        return;
    }
    let part = |share: u8, whole: u32| (u64::from(share) * u64::from(whole) / 256) as u32;
    let (x, y) = (part(x, image_width), part(y, image_height));
    let crop = PixelBox { x, y, width: part(width, image_width - x) + 1, height: part(height, image_height - y) + 1 };
    let index: Vec<u32> = (1..bytes.len())
        .filter(|&at| bytes[at - 1] == 0xFF && matches!(bytes[at], 0xD0..=0xD7 | 0xDA))
        .map(|at| at as u32 + 1 + u32::from(shift == 1))
        .collect();
    let index = (is_indexed & 1 == 1).then_some(&index[..]);
    let results = [Instructions::Detected, Instructions::Portable].map(|instructions| {
        let mut decoder = Decoder::new(instructions);
        decoder.decode(bytes, crop, index).map(|()| {
            let planes = decoder.planes();
            planes.components.iter().take(planes.count).map(|plane| plane.samples.to_vec()).collect::<Vec<_>>()
        })
    });
    assert!(results[0] == results[1]);
});
