//! Footer and row groups of a shard, without the checksum that would refuse nearly everything.

#![no_main]

use libfuzzer_sys::fuzz_target;
use patchstream_datasets::fuzzing::read_shard;
use patchstream_datasets_fuzz::forget_the_hook;

fuzz_target!(init: forget_the_hook(), |input: &[u8]| read_shard(input));
