//! Reading one image and looking at it: what a conversion's reader threads do.

use std::panic::{AssertUnwindSafe, catch_unwind};

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::options::{Check, ConvertOptions, Encode};
use super::record::LeftOutKind;
use super::room::DecodeRoom;
use crate::error::DatasetError;
use crate::examine::{ImageExaminer, PixelSums, Transcoded};
use crate::header::image_size;
use crate::sources::{ImageSource, ReadFailure};

/// Larger files go to the ledger, so that memory stays below 500 MiB: up to four copies of one are there at a time, in flight, in
/// its row group, and encoded as a page.
const IMAGE_BYTES_MAX: u64 = 100 << 20;

/// An image that was read and looked at.
pub(super) struct Looked {
    /// XXH3-128 of its bytes, where the options ask for it and it could be read.
    pub(super) content: Option<u128>,
    pub(super) outcome: Result<GoodImage, UnfitImage>,
}

pub(super) struct GoodImage {
    pub(super) bytes: Vec<u8>,
    pub(super) width_px: u32,
    pub(super) height_px: u32,
    /// Where the restart segments of the image begin, if it was given any.
    pub(super) segments: Option<Vec<u32>>,
    /// There where the image was to be measured.
    pub(super) sums: Option<PixelSums>,
    /// XXH3-64 of the source's bytes, where it may turn out to be a duplicate.
    pub(super) xxh3: Option<u64>,
}

/// An image that is left out.
pub(super) struct UnfitImage {
    pub(super) kind: LeftOutKind,
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
    with: &Examining,
) -> Result<Looked, DatasetError> {
    let unread = |reason| {
        let outcome = Err(UnfitImage { kind: LeftOutKind::Bad, reason, xxh3: None });
        Ok(Looked { content: None, outcome })
    };
    let source_bytes = source.bytes(image);
    if source_bytes > IMAGE_BYTES_MAX {
        return unread(format!("the file is too large: expected at most {IMAGE_BYTES_MAX} bytes, got {source_bytes}"));
    }
    let mut bytes = Vec::with_capacity(source_bytes as usize);
    match source.read(image, &mut bytes) {
        Ok(()) => {}
        Err(ReadFailure::Bad(reason)) => return unread(reason),
        Err(ReadFailure::Failed(error)) => return Err(error),
    }
    let content = options.needs_content().then(|| xxh3_128(&bytes));
    // Code that panics over one image must not end a conversion of a million.
    let examined = catch_unwind(AssertUnwindSafe(|| examine(&bytes, options, measure, with)))
        .unwrap_or_else(|_| Err((LeftOutKind::Bad, "the decoder panicked".to_owned())));
    let xxh3 = options.dedupe.then(|| xxh3_64(&bytes));
    let outcome = match examined {
        Ok(Examined { transcoded: Some(Transcoded { bytes, width_px, height_px, segments }), sums, .. }) => {
            Ok(GoodImage { bytes, width_px, height_px, segments, sums, xxh3 })
        }
        Ok(Examined { size: (width_px, height_px), transcoded: None, sums }) => {
            Ok(GoodImage { bytes, width_px, height_px, segments: None, sums, xxh3 })
        }
        Err((kind, reason)) => Err(UnfitImage { kind, reason, xxh3: Some(xxh3_64(&bytes)) }),
    };
    Ok(Looked { content, outcome })
}

/// How much memory an image takes from before it is read until it is written.
pub(super) fn bytes_in_flight(source_bytes: u64, encode: Encode) -> u64 {
    match encode {
        _ if source_bytes > IMAGE_BYTES_MAX => 0,
        Encode::Keep => source_bytes,
        Encode::Jpeg { .. } | Encode::Raw { .. } => source_bytes.saturating_add(encode.planned_bytes(source_bytes)),
    }
}

/// What looking at images needs.
pub(super) struct Examining<'a> {
    pub(super) examiner: &'a dyn ImageExaminer,
    pub(super) room: DecodeRoom,
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
    Examining { examiner, room }: &Examining,
) -> Result<Examined, (LeftOutKind, String)> {
    let bad = |reason: String| (LeftOutKind::Bad, reason);
    let size = image_size(bytes).map_err(bad)?;
    let is_decoded = options.check == Check::Decode || options.encode != Encode::Keep || measure;
    let _place = is_decoded.then(|| room.enter(bytes, size));
    if options.check == Check::Decode {
        examiner.check(bytes).map_err(bad)?;
    }
    let side_px = size.0.min(size.1);
    if let Some(min) = options.min_side_px.filter(|min| side_px < min.get()) {
        return Err((LeftOutKind::Small, format!("a side has {side_px} pixels: expected at least {min}")));
    }
    let transcoded = if options.encode == Encode::Keep && options.tile_index.is_none() {
        None
    } else {
        examiner.transcode(bytes, options.encode, options.tile_index).map_err(bad)?
    };
    let mut sums = None;
    if measure {
        let stored = transcoded.as_ref().map_or(bytes, |new| &new.bytes);
        examiner.measure(stored, sums.insert(PixelSums::default())).map_err(bad)?;
    }
    Ok(Examined { size, transcoded, sums })
}
