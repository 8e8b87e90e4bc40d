//! Reading one file and looking at it: what a conversion's reader threads do.

use std::panic::{AssertUnwindSafe, catch_unwind};

use xxhash_rust::xxh3::xxh3_64;

use super::{Check, ConvertOptions, Encode};
use crate::error::DatasetError;
use crate::examine::{ImageExaminer, PixelSums, Transcoded};
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
    /// Where the restart segments of the image begin, if it was given any.
    pub(super) segments: Option<Vec<u32>>,
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
    options: &ConvertOptions,
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
    // Code that panics over one image must not end a conversion of a million.
    let examined = catch_unwind(AssertUnwindSafe(|| examine(&bytes, options, measure, examiner)))
        .unwrap_or_else(|_| Err("the decoder panicked".to_owned()));
    let good = match examined {
        Ok(Examined { transcoded: Some(new), sums, .. }) => GoodImage {
            bytes: new.bytes,
            width_px: new.width_px,
            height_px: new.height_px,
            segments: new.segments,
            sums,
        },
        Ok(Examined { size: (width_px, height_px), transcoded: None, sums }) => {
            GoodImage { bytes, width_px, height_px, segments: None, sums }
        }
        Err(reason) => return Ok(bad(reason, Some(xxh3_64(&bytes)))),
    };
    Ok(Looked { source_bytes, outcome: Ok(good) })
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

struct Examined {
    size: (u32, u32),
    /// There where the image is stored in another form.
    transcoded: Option<Transcoded>,
    sums: Option<PixelSums>,
}

fn examine(
    bytes: &[u8],
    options: &ConvertOptions,
    measure: bool,
    examiner: &dyn ImageExaminer,
) -> Result<Examined, String> {
    let size = image_size(bytes)?;
    if options.check == Check::Decode {
        examiner.check(bytes)?;
    }
    let transcoded = if options.encode == Encode::Keep && options.tile_index.is_none() {
        None
    } else {
        examiner.transcode(bytes, options.encode, options.tile_index)?
    };
    let mut sums = None;
    if measure {
        let stored = transcoded.as_ref().map_or(bytes, |new| &new.bytes);
        examiner.measure(stored, sums.insert(PixelSums::default()))?;
    }
    Ok(Examined { size, transcoded, sums })
}
