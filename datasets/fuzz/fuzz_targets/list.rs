//! Lists; the first byte chooses the syntax.

#![no_main]

use libfuzzer_sys::fuzz_target;
use patchstream_datasets_fuzz::{forget_the_hook, read_source};

fuzz_target!(init: forget_the_hook(), |input: &[u8]| {
    let Some((choice, content)) = input.split_first() else { return };
    read_source(["x.csv", "x.tsv", "x.jsonl"][usize::from(*choice) % 3], content);
});
