//! Reading one file and looking at it: what a conversion's reader threads do.

use std::panic::{AssertUnwindSafe, catch_unwind};

use xxhash_rust::xxh3::xxh3_64;

use super::Check;
use crate::error::DatasetError;
use crate::examine::{ImageExaminer, PixelSums};
use crate::header::image_size;
use crate::sources::{ImageSource, ReadFailure};

/// Larger files go to the ledger, so that a few readers cannot use up the memory.
pub(super) const IMAGE_BYTES_MAX: u64 = 128 << 20;

/// A file that was read and looked at.
pub(super) struct Looked {
    /// The size of the file, by which row groups and shards are cut.
    pub(super) source_bytes: u64,
    pub(super) outcome: Result<GoodImage, BadImage>,
}

pub(super) struct GoodImage {
    pub(super) bytes: Vec<u8>,
    pub(super) width_px: u32,
    pub(super) height_px: u32,
    /// There where the image was to be measured.
    pub(super) sums: Option<PixelSums>,
}

pub(super) struct BadImage {
    pub(super) reason: String,
    /// XXH3-64 of the image, unless it could not be read or was too large to be.
    pub(super) xxh3: Option<u64>,
}

/// Reads an image and looks at it.
///
/// # Errors
///
/// If the source cannot be read; a bad image is no error here.
pub(super) fn look(
    source: &dyn ImageSource,
    image: usize,
    check: Check,
    measure: bool,
    examiner: &dyn ImageExaminer,
) -> Result<Looked, DatasetError> {
    let source_bytes = source.bytes(image);
    let bad = |reason, xxh3| Looked { source_bytes, outcome: Err(BadImage { reason, xxh3 }) };
    if source_bytes > IMAGE_BYTES_MAX {
        let reason = format!("the file is too large: expected at most {IMAGE_BYTES_MAX} bytes, got {source_bytes}");
        return Ok(bad(reason, None));
    }
    let mut bytes = Vec::with_capacity(source_bytes as usize);
    match source.read(image, &mut bytes) {
        Ok(()) => {}
        Err(ReadFailure::Bad(reason)) => return Ok(bad(reason, None)),
        Err(ReadFailure::Failed(error)) => return Err(error),
    }
    Ok(match examine(&bytes, check, measure, examiner) {
        Ok(((width_px, height_px), sums)) => {
            Looked { source_bytes, outcome: Ok(GoodImage { bytes, width_px, height_px, sums }) }
        }
        Err(reason) => bad(reason, Some(xxh3_64(&bytes))),
    })
}

impl Looked {
    /// How much memory reading it took, the same number as [`bytes_to_read`] gave before.
    pub(super) fn bytes_read(&self) -> u64 {
        bytes_to_read(self.source_bytes)
    }
}

/// How much memory reading an image takes.
pub(super) fn bytes_to_read(file_bytes: u64) -> u64 {
    if file_bytes > IMAGE_BYTES_MAX { 0 } else { file_bytes }
}

type Examined = ((u32, u32), Option<PixelSums>);

fn examine(bytes: &[u8], check: Check, measure: bool, examiner: &dyn ImageExaminer) -> Result<Examined, String> {
    // Code that panics over one image must not end a conversion of a million.
    let guarded = catch_unwind(AssertUnwindSafe(|| {
        let size = image_size(bytes)?;
        if check == Check::Decode {
            examiner.check(bytes)?;
        }
        let mut sums = None;
        if measure {
            examiner.measure(bytes, sums.insert(PixelSums::default()))?;
        }
        Ok((size, sums))
    }));
    guarded.unwrap_or_else(|_| Err("the decoder panicked".to_owned()))
}
