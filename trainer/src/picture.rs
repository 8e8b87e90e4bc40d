//! Pictures of what a model sees and makes: original, masked image and reconstruction side by side (paper, Figure 2).

use image::imageops;
use image::{Rgb, RgbImage};
use patchstream_model::{MaeConfig, PixelScale, Target};
use patchstream_pipeline::PatchBatch;

use crate::settings::RunConfig;

const HIDDEN: Rgb<u8> = Rgb([128, 128, 128]);
const BACKGROUND: Rgb<u8> = Rgb([255, 255, 255]);
/// Images narrower than this are enlarged by a whole factor, so that patches can be told apart.
const PANEL_MIN_PX: u32 = 128;
const GAP_PX: u32 = 4;
const GAP_BETWEEN_IMAGES_PX: u32 = 16;

/// One image as the pipeline delivers it, with the model's output beside it.
struct Sample<'a> {
    /// uint8 (V, p, p, 3) and (M, p, p, 3)
    visible: &'a [u8],
    visible_index: &'a [u16],
    masked: &'a [u8],
    masked_index: &'a [u16],
    /// (L, p * p * 3), in the space of the model's target
    prediction: &'a [f32],
}

/// Whether visible patches of the reconstruction are the image's own or the model's output, on which it has no loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VisiblePatches {
    Paste,
    Predict,
}

/// Original, masked, reconstruction: three panels of the image's size.
fn panels(config: &MaeConfig, scale: &PixelScale, sample: &Sample<'_>, visible: VisiblePatches) -> [RgbImage; 3] {
    let Sample { visible: visible_pixels, visible_index, masked, masked_index, prediction } = sample;
    let patch_values = config.patch_values();
    let mut original = Board::new(config);
    let mut masked_image = Board::new(config);
    let mut reconstruction = Board::new(config);
    for (patch, index) in visible_pixels.chunks_exact(patch_values).zip(*visible_index) {
        original.put(*index, patch);
        masked_image.put(*index, patch);
        match visible {
            VisiblePatches::Paste => reconstruction.put(*index, patch),
            VisiblePatches::Predict => {
                let output = &prediction[usize::from(*index) * patch_values..][..patch_values];
                reconstruction.put(*index, &to_pixels(output, patch, config.target, scale));
            }
        }
    }
    for (patch, index) in masked.chunks_exact(patch_values).zip(*masked_index) {
        original.put(*index, patch);
        let output = &prediction[usize::from(*index) * patch_values..][..patch_values];
        reconstruction.put(*index, &to_pixels(output, patch, config.target, scale));
    }
    [original.image, masked_image.image, reconstruction.image]
}

/// The panels of every image of a batch; `predictions` are (B, L, p * p * 3).
pub(crate) fn of_batch(
    config: &RunConfig,
    batch: &PatchBatch,
    predictions: &[f32],
    visible: VisiblePatches,
) -> Vec<[RgbImage; 3]> {
    fn part<T>(values: &[T], row: usize, rows: usize) -> &[T] {
        let each = values.len() / rows;
        &values[row * each..][..each]
    }
    let rows = batch.rows();
    let sample = |row: usize| Sample {
        visible: part(batch.visible(), row, rows),
        visible_index: part(batch.visible_index(), row, rows),
        masked: part(batch.masked(), row, rows),
        masked_index: part(batch.masked_index(), row, rows),
        prediction: part(predictions, row, rows),
    };
    (0..rows).map(|row| panels(&config.model, &config.pixel_scale(), &sample(row), visible)).collect()
}

/// An image that is filled patch by patch.
struct Board {
    image: RgbImage,
    patch_px: u32,
    columns: u32,
}

impl Board {
    fn new(config: &MaeConfig) -> Self {
        let (width, height) = (config.image_width_px as u32, config.image_height_px as u32);
        let patch_px = config.patch_px as u32;
        Self { image: RgbImage::from_pixel(width, height, HIDDEN), patch_px, columns: width / patch_px }
    }

    /// `patch` is (p, p, 3).
    fn put(&mut self, index: u16, patch: &[u8]) {
        let (row, column) = (u32::from(index) / self.columns, u32::from(index) % self.columns);
        for (place, pixel) in (0..).zip(patch.as_chunks::<3>().0) {
            let (y, x) = (place / self.patch_px, place % self.patch_px);
            self.image.put_pixel(column * self.patch_px + x, row * self.patch_px + y, Rgb(*pixel));
        }
    }
}

/// Brings one predicted patch back to 8-bit RGB. A normalised target is undone with the mean and variance of the true
/// patch, since the model predicts neither.
fn to_pixels(output: &[f32], truth: &[u8], target: Target, scale: &PixelScale) -> Vec<u8> {
    let normalised = |(place, value): (usize, &u8)| {
        ((f64::from(*value) / 255.0 - scale.mean[place % 3]) / scale.std[place % 3]) as f32
    };
    let (mean, deviation) = match target {
        Target::Pixels => (0.0, 1.0),
        Target::NormalizedPatches => {
            let values: Vec<f32> = truth.iter().enumerate().map(normalised).collect();
            let mean = values.iter().sum::<f32>() / values.len() as f32;
            let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / (values.len() - 1) as f32;
            (mean, (variance + 1e-6).sqrt())
        }
    };
    let to_byte = |(place, value): (usize, &f32)| {
        let value = f64::from(value * deviation + mean) * scale.std[place % 3] + scale.mean[place % 3];
        (value * 255.0).round().clamp(0.0, 255.0) as u8
    };
    output.iter().enumerate().map(to_byte).collect()
}

/// Lays the panels of several images out, the three of an image beside each other, on a sheet of about 4 to 3.
pub(crate) fn sheet(images: &[[RgbImage; 3]]) -> RgbImage {
    let Some([first, ..]) = images.first() else { return RgbImage::new(1, 1) };
    let factor = PANEL_MIN_PX.div_ceil(first.width().max(1));
    let (panel_width, panel_height) = (first.width() * factor, first.height() * factor);
    let (cell_width, cell_height) =
        (3 * panel_width + 2 * GAP_PX + GAP_BETWEEN_IMAGES_PX, panel_height + GAP_BETWEEN_IMAGES_PX);
    let count = images.len() as u32;
    let wanted = (f64::from(count) * f64::from(cell_height) / f64::from(cell_width) * 4.0 / 3.0).sqrt().round();
    let columns = (wanted as u32).clamp(1, count);
    let rows = count.div_ceil(columns);

    let mut sheet = RgbImage::from_pixel(
        columns * cell_width + GAP_BETWEEN_IMAGES_PX,
        rows * cell_height + GAP_BETWEEN_IMAGES_PX,
        BACKGROUND,
    );
    for (place, panels) in (0..).zip(images) {
        let (row, column) = (place / columns, place % columns);
        for (panel, image) in (0..).zip(panels) {
            let enlarged = imageops::resize(image, panel_width, panel_height, imageops::FilterType::Nearest);
            let x = GAP_BETWEEN_IMAGES_PX + column * cell_width + panel * (panel_width + GAP_PX);
            let y = GAP_BETWEEN_IMAGES_PX + row * cell_height;
            imageops::replace(&mut sheet, &enlarged, i64::from(x), i64::from(y));
        }
    }
    sheet
}
