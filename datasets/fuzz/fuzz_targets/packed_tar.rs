//! Tar archives that are packed by gzip or zstd.

#![no_main]

use libfuzzer_sys::fuzz_target;
use patchstream_datasets_fuzz::{forget_the_hook, read_source};

fuzz_target!(init: forget_the_hook(), |input: &[u8]| {
    let name = if input.starts_with(&[0x1f, 0x8b]) { "x.tar.gz" } else { "x.tar.zst" };
    read_source(name, input);
});
