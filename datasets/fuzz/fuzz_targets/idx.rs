//! MNIST's files, packed or not.

#![no_main]

use libfuzzer_sys::fuzz_target;
use patchstream_datasets_fuzz::{forget_the_hook, read_source};

fuzz_target!(init: forget_the_hook(), |input: &[u8]| {
    let name = if input.starts_with(&[0x1f, 0x8b]) { "x-images-idx3-ubyte.gz" } else { "x-images-idx3-ubyte" };
    read_source(name, input);
});
