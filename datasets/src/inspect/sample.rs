//! A few rows of a data set, and what their pixels are like.

use std::num::NonZeroU64;
use std::sync::Arc;

use crate::dataset::Dataset;
use crate::error::DatasetError;
use crate::examine::{ImageExaminer, PixelAverage, PixelSums};
use crate::group::{EncodedGroup, EncodedRow};
use crate::manifest::PixelStats;
use crate::random::RandomStream;

/// So many rows, evenly spread over a data set from a phase that the seed decides; all rows of a smaller one. In order, so
/// that no row group is read twice.
pub fn sample_rows(
    dataset: &Dataset,
    count: NonZeroU64,
    seed: u64,
) -> impl Iterator<Item = Result<EncodedRow, DatasetError>> {
    let rows = dataset.manifest().rows();
    let count = count.get().min(rows);
    let phase = if rows == 0 { 0 } else { RandomStream::new(&[seed, u64::from_le_bytes(*b"sample\0\0")]).below(rows) };
    let mut recent: Option<(usize, Arc<EncodedGroup>)> = None;
    (0..count).map(move |number| {
        let sample_id = ((u128::from(number) * u128::from(rows) + u128::from(phase)) / u128::from(count)) as u64;
        let missing = DatasetError::OutOfRange { what: "sample", got: sample_id, count: rows };
        let (group, row) = dataset.manifest().locate(sample_id).ok_or(missing)?;
        let encoded = match recent.take() {
            Some((number, encoded)) if number == group => encoded,
            _ => dataset.read_group(group)?,
        };
        recent = Some((group, encoded.clone()));
        let rows = u64::from(encoded.rows());
        encoded.row(row).ok_or(DatasetError::OutOfRange { what: "row", got: u64::from(row), count: rows })
    })
}

/// Mean and deviation of the pixels of so many rows, chosen as by [`sample_rows`]; nothing if there are no rows.
///
/// # Errors
///
/// If a row group cannot be read, or an image of the sample cannot be decoded.
pub fn measure_pixels(
    dataset: &Dataset,
    examiner: &dyn ImageExaminer,
    images: NonZeroU64,
    seed: u64,
) -> Result<Option<PixelStats>, DatasetError> {
    let mut average = PixelAverage::default();
    for row in sample_rows(dataset, images, seed) {
        let row = row?;
        let mut sums = PixelSums::default();
        let measured = examiner.measure(row.bytes(), &mut sums);
        row.check()?;
        measured.map_err(|reason| DatasetError::DamagedImage {
            location: dataset.location().to_owned(),
            sample_id: row.sample_id(),
            path: row.path().to_owned(),
            reason,
        })?;
        average.add(&sums);
    }
    Ok(average.finish())
}
