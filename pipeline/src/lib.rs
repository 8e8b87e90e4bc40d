//! Decode, augment, patchify and mask images.

pub mod jpeg;
