//! CIFAR-10 and CIFAR-100; the first byte chooses the name.

#![no_main]

use libfuzzer_sys::fuzz_target;
use patchstream_datasets_fuzz::{forget_the_hook, read_source};

fuzz_target!(init: forget_the_hook(), |input: &[u8]| {
    let Some((choice, content)) = input.split_first() else { return };
    read_source(if choice & 1 == 0 { "data_batch_1.bin" } else { "train.bin" }, content);
});
