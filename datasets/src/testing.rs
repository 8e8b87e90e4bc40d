//! What the unit tests of several modules need.

use std::num::{NonZeroU16, NonZeroU64, NonZeroUsize};
use std::path::Path;
use std::sync::Arc;

use crate::convert::{ConvertOptions, Encode, convert};
use crate::dataset::Dataset;
use crate::examine::{ImageExaminer, PixelSums, Transcoded};
use crate::sources::FolderSource;

/// An examiner for PPM images: bad are those whose first pixel value is 13, and 14 makes it panic.
pub(crate) struct PpmExaminer;

impl ImageExaminer for PpmExaminer {
    fn check(&self, bytes: &[u8]) -> Result<(), String> {
        match bytes.get(PPM_HEADER.len()) {
            Some(13) => Err("unlucky".to_owned()),
            Some(14) => panic!("an examiner that panics, as the test wants"),
            _ => Ok(()),
        }
    }

    fn measure(&self, bytes: &[u8], sums: &mut PixelSums) -> Result<(), String> {
        let value = f64::from(*bytes.get(PPM_HEADER.len()).ok_or("no pixels")?) / 255.0;
        *sums = PixelSums { pixels: 1, sum: [value; 3], sum_of_squares: [value * value; 3] };
        Ok(())
    }

    /// Turns the bytes round; every second gets an index as long as it has tens of bytes.
    fn transcode(&self, bytes: &[u8], _: Encode, tile_index: Option<NonZeroU16>) -> Result<Option<Transcoded>, String> {
        let is_indexed = tile_index.is_some() && (bytes.len() / 10).is_multiple_of(2);
        let segments = is_indexed.then(|| (0..bytes.len() as u32 / 10).map(|segment| segment * 10).collect());
        let bytes = bytes.iter().rev().copied().collect();
        Ok(Some(Transcoded { bytes, width_px: 20, height_px: 30, segments }))
    }
}

const PPM_HEADER: &[u8] = b"P6 2 3 255\n";

/// A PPM image with bytes behind it, to make images of any size.
pub(crate) fn ppm(value: u8, tail_bytes: usize) -> Vec<u8> {
    let mut bytes = PPM_HEADER.to_vec();
    bytes.resize(bytes.len() + 18 + tail_bytes, value);
    bytes
}

/// A folder of `images` PPM images of growing size in three classes.
pub(crate) fn source(images: usize) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for image in 0..images {
        let folder = root.path().join(["ant", "bee", "cow"][image % 3]);
        fs_err::create_dir_all(&folder).unwrap();
        fs_err::write(folder.join(format!("{image:04}.ppm")), ppm(100, 10 * image)).unwrap();
    }
    root
}

/// Small row groups and shards, so that a few images make many.
pub(crate) fn small_options() -> ConvertOptions {
    ConvertOptions {
        row_group_bytes: NonZeroU64::new(4000).unwrap(),
        shard_bytes: NonZeroU64::new(15_000).unwrap(),
        workers: NonZeroUsize::new(2).unwrap(),
        ..ConvertOptions::default()
    }
}

/// Converts `images` images and opens the data set.
pub(crate) fn dataset(images: usize) -> (tempfile::TempDir, Arc<Dataset>) {
    let (source, parent) = (source(images), tempfile::tempdir().unwrap());
    let destination = parent.path().join("set");
    let source = FolderSource::open(source.path()).unwrap();
    convert(&source, &destination, &small_options(), &PpmExaminer, &|_| {}).unwrap();
    (parent, open(&destination))
}

pub(crate) fn open(destination: &Path) -> Arc<Dataset> {
    Arc::new(Dataset::open(destination.to_str().unwrap()).unwrap())
}
