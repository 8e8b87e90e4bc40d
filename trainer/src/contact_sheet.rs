//! A picture of samples of a data set with their labels, to see at a glance what it is made of.

mod font;

use std::num::{NonZeroU32, NonZeroU64};
use std::path::Path;

use anyhow::Context as _;
use image::{Rgb, RgbImage, imageops};
use patchstream_datasets::convert::Encode;
use patchstream_datasets::inspect::sample_rows;
use patchstream_datasets::{Dataset, EncodedRow, ImageExaminer};

/// Longest side of a sample.
const SIDE_PX: NonZeroU32 = NonZeroU32::new(128).unwrap();
const COLUMNS: u32 = 8;
/// Six rows of eight.
const SAMPLES: NonZeroU64 = NonZeroU64::new(48).unwrap();
const GAP_PX: u32 = 10;
/// Two lines of text below each sample.
const CAPTION_PX: u32 = 2 * (font::HEIGHT_PX + 3);

const BACKGROUND: Rgb<u8> = Rgb([255, 255, 255]);
const EMPTY: Rgb<u8> = Rgb([236, 236, 236]);
const TEXT: Rgb<u8> = Rgb([20, 20, 20]);
const BAD: Rgb<u8> = Rgb([190, 20, 20]);

/// Writes the sheet; gives how many samples are on it.
pub(crate) fn write(path: &Path, dataset: &Dataset, examiner: &dyn ImageExaminer, seed: u64) -> anyhow::Result<u64> {
    let mut cells = Vec::new();
    for row in sample_rows(dataset, SAMPLES, seed) {
        cells.push(cell(&row?, dataset.manifest().class_names(), examiner)?);
    }
    let (cell_width, cell_height) = (SIDE_PX.get() + GAP_PX, SIDE_PX.get() + CAPTION_PX + GAP_PX);
    let count = cells.len() as u32;
    let (width, height) = (COLUMNS.min(count) * cell_width + GAP_PX, count.div_ceil(COLUMNS) * cell_height + GAP_PX);
    let mut sheet = RgbImage::from_pixel(width, height, BACKGROUND);
    for (place, cell) in (0..).zip(&cells) {
        let (x, y) = (GAP_PX + place % COLUMNS * cell_width, GAP_PX + place / COLUMNS * cell_height);
        imageops::replace(&mut sheet, cell, i64::from(x), i64::from(y));
    }
    sheet.save(path).with_context(|| format!("cannot write `{}`", path.display()))?;
    Ok(u64::from(count))
}

/// A sample in the middle of its square, class, number and size below it.
fn cell(row: &EncodedRow, class_names: &[String], examiner: &dyn ImageExaminer) -> anyhow::Result<RgbImage> {
    let side = SIDE_PX.get();
    let mut cell = RgbImage::from_pixel(side, side + CAPTION_PX, BACKGROUND);
    imageops::replace(&mut cell, &RgbImage::from_pixel(side, side, EMPTY), 0, 0);
    let mut line = |number: u32, text: &str, colour| {
        let text: String = text.chars().take((side / font::ADVANCE_PX) as usize).collect();
        font::draw(&mut cell, 0, side + 3 + number * (font::HEIGHT_PX + 3), &text, colour);
    };
    let label = row.label().map_or_else(
        || "no label".to_owned(),
        |label| class_names.get(label as usize).cloned().unwrap_or_else(|| format!("label {label}")),
    );
    line(0, &label, TEXT);
    let small = examiner.transcode(row.bytes(), Encode::Raw { max_side_px: SIDE_PX, zstd_level: None }, None);
    row.check()?;
    match small {
        Ok(Some(small)) => {
            line(1, &format!("#{}", row.sample_id()), TEXT);
            let pixels = small.bytes.len() - small.width_px as usize * small.height_px as usize * 3;
            let picture = RgbImage::from_raw(small.width_px, small.height_px, small.bytes[pixels..].to_vec())
                .context("pixels that fill the picture")?;
            let (x, y) = ((side - small.width_px) / 2, (side - small.height_px) / 2);
            imageops::replace(&mut cell, &picture, i64::from(x), i64::from(y));
        }
        Ok(None) | Err(_) => line(1, &format!("#{} is damaged", row.sample_id()), BAD),
    }
    Ok(cell)
}
