//! Tar archives as WebDataset has them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use patchstream_datasets_fuzz::{forget_the_hook, read_source};

fuzz_target!(init: forget_the_hook(), |input: &[u8]| read_source("x.tar", input));
