//! A source served as it is, without shards: for measuring, and for a first look at data.
//!
//! Its images are cut into row groups in the order of the source, so that plan, window, ranks and replacements are those of
//! shards. There are no checksums, and every row group is put together from many reads.

use std::time::Duration;

use crate::error::DatasetError;
use crate::faults::Injector;
use crate::group::EncodedGroup;
use crate::manifest::{Manifest, RowGroupEntry};
use crate::sources::{ImageSource, ReadFailure};
use crate::store::reason_of;

/// Image bytes of a row group.
const GROUP_BYTES: u64 = 16 << 20;
/// Images of a row group, where they are small.
const GROUP_ROWS: u32 = 16_384;
/// Parquet has four bytes before each image, and a row group is taken to be as long as it would be there.
const LENGTH_BYTES: u64 = 4;
/// A read that is made to fail on purpose is tried so often.
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct Direct {
    pub(crate) source: Box<dyn ImageSource>,
    pub(crate) faults: Option<Injector>,
}

impl std::fmt::Debug for Direct {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Direct").field("location", &self.source.location()).finish_non_exhaustive()
    }
}

impl Direct {
    /// The row groups that the images are cut into.
    ///
    /// # Errors
    ///
    /// If there are no images, or one is larger than a row group may be.
    pub(crate) fn manifest(&self) -> Result<Manifest, DatasetError> {
        let source = &self.source;
        if source.is_empty() {
            return Err(DatasetError::NoImages { path: source.location().into(), skipped: source.skipped(), bad: 0 });
        }
        let mut entries: Vec<RowGroupEntry> = Vec::new();
        let file = std::sync::Arc::from("source");
        for image in 0..source.len() {
            let bytes = source.bytes(image);
            match entries.last_mut() {
                Some(entry) if entry.image_bytes + bytes <= GROUP_BYTES && entry.rows < GROUP_ROWS => {
                    entry.rows += 1;
                    entry.image_bytes += bytes;
                    entry.length += bytes + LENGTH_BYTES;
                }
                last => {
                    let offset = last.map_or(0, |entry| entry.offset + entry.length);
                    entries.push(RowGroupEntry {
                        file: std::sync::Arc::clone(&file),
                        offset,
                        length: bytes + LENGTH_BYTES,
                        rows: 1,
                        image_bytes: bytes,
                        xxh3: 0,
                        first_sample_id: 0,
                        row_group: 0,
                    });
                }
            }
        }
        let manifest = Manifest::new(entries, source.class_names().to_vec(), serde_json::Value::Null, None);
        manifest.map_err(|reason| DatasetError::Location { location: source.location().to_owned(), reason })
    }

    /// Meets the faults that are wanted; how many attempts failed.
    pub(crate) async fn strike(&self) -> Result<u32, DatasetError> {
        let Some(faults) = &self.faults else { return Ok(0) };
        let mut retries = 0;
        while let Err(error) = faults.strike().await {
            if retries + 1 == ATTEMPTS {
                let path = self.source.location().to_owned();
                return Err(DatasetError::Read { path, attempts: ATTEMPTS, reason: reason_of(&error) });
            }
            tokio::time::sleep(PAUSE).await;
            retries += 1;
        }
        Ok(retries)
    }

    /// Reads the images of a row group. One that the source does not have after all is empty, and so a bad sample.
    pub(crate) fn read(&self, entry: &RowGroupEntry) -> Result<EncodedGroup, DatasetError> {
        let mut bytes = Vec::with_capacity(entry.image_bytes as usize);
        let (mut ends, mut paths, mut labels) = (Vec::new(), Vec::new(), Vec::new());
        for row in 0..entry.rows {
            let image = entry.first_sample_id as usize + row as usize;
            match self.source.read(image, &mut bytes) {
                Ok(()) => {}
                Err(ReadFailure::Bad(reason)) => tracing::warn!("`{}`: {reason}", self.source.full_path(image)),
                Err(ReadFailure::Failed(error)) => return Err(error),
            }
            ends.push(bytes.len() as u32);
            paths.push(self.source.path(image));
            labels.push(self.source.label(image));
        }
        Ok(EncodedGroup::of_images(entry.first_sample_id, bytes, &ends, paths, labels))
    }
}
