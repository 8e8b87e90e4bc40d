//! The JPEG decoder on any bytes, with the address sanitizer and overflow checks; portable and detected must agree.
//!
//!     cargo +nightly fuzz run jpeg CORPUS -- -max_total_time=3600
//!
//! in `pipeline/`, where CORPUS is a folder of small JPEGs. The first bytes choose crop, target and index of segments; the
//! rest is the file. The module is compiled from its source, so that no other dependency has to be built for the sanitizer.

#![no_main]

#[allow(unused_imports, reason = "the crate's users need more of it")]
#[path = "../../src/jpeg/mod.rs"]
mod jpeg;

use std::num::NonZeroU32;

use jpeg::{CropBox, Decoder, Instructions, TargetSize, image_size};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&[x, y, width, height, columns, rows, is_indexed, shift], bytes)) = input.split_first_chunk() else {
        return;
    };
    let Ok((image_width, image_height)) = image_size(bytes) else { return };
    if u64::from(image_width) * u64::from(image_height) > 1 << 22 {
        return;
    }
    let part = |share: u8, whole: u32| (u64::from(share) * u64::from(whole) / 256) as u32;
    let (x, y) = (part(x, image_width), part(y, image_height));
    let crop = CropBox { x, y, width: part(width, image_width - x) + 1, height: part(height, image_height - y) + 1 };
    let side = |value: u8| NonZeroU32::new(u32::from(value) + 1).expect("not zero");
    let target = TargetSize { height: side(rows), width: side(columns) };
    let index: Vec<u32> = (1..bytes.len())
        .filter(|&at| bytes[at - 1] == 0xFF && matches!(bytes[at], 0xD0..=0xD7 | 0xDA))
        .map(|at| at as u32 + 1 + u32::from(shift == 1))
        .collect();
    let index = (is_indexed & 1 == 1).then_some(&index[..]);
    let results = [Instructions::Detected, Instructions::Portable].map(|instructions| {
        let mut out = vec![0; 3 * target.width.get() as usize * target.height.get() as usize];
        Decoder::new(instructions).decode(bytes, crop, target, index, &mut out).map(|()| out)
    });
    assert!(results[0] == results[1]);
});
