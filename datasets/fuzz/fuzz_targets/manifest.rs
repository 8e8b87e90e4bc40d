//! The manifest of a data set.

#![no_main]

use libfuzzer_sys::fuzz_target;
use patchstream_datasets::fuzzing::read_manifest;
use patchstream_datasets_fuzz::forget_the_hook;

fuzz_target!(init: forget_the_hook(), |input: &[u8]| read_manifest(input));
