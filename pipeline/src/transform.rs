//! Which part of an image becomes the pixels of a sample: random resized crop and flip for training, resize and centre
//! crop for evaluation.
//!
//! Puts out a [`View`]: geometry only, no pixel is touched here, so that decoding can be restricted to what is needed.
//! Both transforms follow torchvision 0.20 (`RandomResizedCrop`, `Resize`, `CenterCrop`) down to its rounding.

use serde::{Deserialize, Serialize};

use crate::error::PipelineError;
use crate::geometry::{PatchGrid, PixelBox, Rect, Size};
use crate::random::{Purpose, Random, SampleKey};

/// What is done to an image before it is cut into patches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Transform {
    /// Random resized crop and horizontal flip.
    Train(TrainTransform),
    /// Resize of the shorter side and centre crop.
    Evaluate(EvaluateTransform),
}

/// Random resized crop and horizontal flip, MAE's augmentation for pre-training (arXiv 2111.06377, Table 8).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainTransform {
    /// Smallest and largest area of the crop, as a share of the image's.
    pub scale: (f64, f64),
    /// Smallest and largest width divided by height of the crop, drawn log-uniformly.
    pub ratio: (f64, f64),
    /// Probability of the horizontal flip.
    pub flip_probability: f64,
}

impl Default for TrainTransform {
    fn default() -> Self {
        Self { scale: (0.2, 1.0), ratio: (3.0 / 4.0, 4.0 / 3.0), flip_probability: 0.5 }
    }
}

/// Resize of the shorter side, then a centre crop of the grid's size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluateTransform {
    /// Length of the shorter side after resizing, at least the grid's longer side.
    pub resize_px: u32,
}

/// The part of an image that becomes a sample, in the image's own pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct View {
    /// The rectangle that is resized to the grid's size.
    pub source: Rect,
    /// No pixel outside of this box may have an influence: the crop itself in training, so that the result is that of
    /// cropping first and resizing then, the whole image in evaluation, where resizing comes first.
    pub bounds: PixelBox,
    /// Whether the result is mirrored, left to right, which resizing does on the way.
    pub flip: bool,
}

impl Transform {
    /// Checks ranges.
    ///
    /// # Errors
    /// [`PipelineError::Config`] for empty or negative ranges, and for a resize below the grid's size.
    pub fn validate(&self, grid: &PatchGrid) -> Result<(), PipelineError> {
        match self {
            Self::Train(TrainTransform { scale, ratio, flip_probability }) => {
                if !(scale.0 > 0.0 && scale.0 <= scale.1 && scale.1 <= 1.0) {
                    return Err(PipelineError::config("transform.scale", "0 < low <= high <= 1", format!("{scale:?}")));
                }
                if !(ratio.0 > 0.0 && ratio.0 <= ratio.1 && ratio.1.is_finite()) {
                    return Err(PipelineError::config("transform.ratio", "0 < low <= high", format!("{ratio:?}")));
                }
                if !(0.0..=1.0).contains(flip_probability) {
                    return Err(PipelineError::config("transform.flip_probability", "0 to 1", flip_probability));
                }
                Ok(())
            }
            Self::Evaluate(EvaluateTransform { resize_px }) => {
                let side = grid.height_px.max(grid.width_px);
                if (side..=1 << 16).contains(resize_px) {
                    return Ok(());
                }
                Err(PipelineError::config("transform.resize_px", format!("{side} to 65536"), resize_px))
            }
        }
    }

    /// The view of an image of size `image` that becomes `output` pixels; both must not be empty.
    pub fn view(&self, image: Size, output: Size, key: SampleKey) -> View {
        match self {
            Self::Train(train) => {
                let crop = train.crop(image, &mut Random::new(key, Purpose::Crop));
                let flip = Random::new(key, Purpose::Flip).unit() < train.flip_probability;
                View { source: crop.into(), bounds: crop, flip }
            }
            Self::Evaluate(evaluate) => {
                View { source: evaluate.source(image, output), bounds: PixelBox::whole(image), flip: false }
            }
        }
    }
}

impl TrainTransform {
    /// Ten tries to place a random crop, then the largest centre crop whose ratio is in range.
    fn crop(&self, image: Size, random: &mut Random) -> PixelBox {
        const TRIES: usize = 10;
        let Size { width, height } = image;
        let area = image.pixels() as f64;
        for _ in 0..TRIES {
            let crop_area = area * random.between(self.scale.0, self.scale.1);
            let ratio = random.between(self.ratio.0.ln(), self.ratio.1.ln()).exp();
            let crop_width = (crop_area * ratio).sqrt().round_ties_even() as u32;
            let crop_height = (crop_area / ratio).sqrt().round_ties_even() as u32;
            if (1..=width).contains(&crop_width) && (1..=height).contains(&crop_height) {
                let y = random.below(height - crop_height + 1);
                let x = random.below(width - crop_width + 1);
                return PixelBox { x, y, width: crop_width, height: crop_height };
            }
        }
        let ratio = f64::from(width) / f64::from(height);
        let (crop_width, crop_height) = if ratio < self.ratio.0 {
            (width, ((f64::from(width) / self.ratio.0).round_ties_even() as u32).clamp(1, height))
        } else if ratio > self.ratio.1 {
            (((f64::from(height) * self.ratio.1).round_ties_even() as u32).clamp(1, width), height)
        } else {
            (width, height)
        };
        PixelBox { x: (width - crop_width) / 2, y: (height - crop_height) / 2, width: crop_width, height: crop_height }
    }
}

impl EvaluateTransform {
    /// The rectangle of the image that the centre crop of the resized image shows.
    fn source(&self, image: Size, output: Size) -> Rect {
        let resize = u64::from(self.resize_px);
        let longer = |long: u32, short: u32| (resize * u64::from(long) / u64::from(short)) as f64;
        let (resized_width, resized_height) = if image.width <= image.height {
            (resize as f64, longer(image.height, image.width))
        } else {
            (longer(image.width, image.height), resize as f64)
        };
        let (output_width, output_height) = (f64::from(output.width), f64::from(output.height));
        let left = ((resized_width - output_width) / 2.0).round_ties_even();
        let top = ((resized_height - output_height) / 2.0).round_ties_even();
        let scale_x = f64::from(image.width) / resized_width;
        let scale_y = f64::from(image.height) / resized_height;
        Rect { x: left * scale_x, y: top * scale_y, width: output_width * scale_x, height: output_height * scale_y }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(sample_id: u64) -> SampleKey {
        SampleKey { seed: 7, epoch: 1, sample_id, repeat: 0 }
    }

    const OUTPUT: Size = Size { width: 224, height: 224 };

    proptest! {
        #[test]
        fn training_crops_lie_within_the_image(width in 1u32..3000, height in 1u32..3000, sample in any::<u64>()) {
            let view = Transform::Train(TrainTransform::default()).view(Size { width, height }, OUTPUT, key(sample));
            prop_assert!(view.bounds.width >= 1 && view.bounds.height >= 1);
            prop_assert!(view.bounds.right() <= width && view.bounds.bottom() <= height);
            prop_assert_eq!(view.source, Rect::from(view.bounds));
        }

        #[test]
        fn evaluation_views_lie_within_the_image(width in 1u32..3000, height in 1u32..3000) {
            let transform = Transform::Evaluate(EvaluateTransform { resize_px: 256 });
            let Rect { x, y, width: w, height: h } = transform.view(Size { width, height }, OUTPUT, key(0)).source;
            prop_assert!(x >= 0.0 && y >= 0.0 && w > 0.0 && h > 0.0);
            prop_assert!(x + w <= f64::from(width) + 1e-6 && y + h <= f64::from(height) + 1e-6);
        }
    }

    #[test]
    fn areas_ratios_and_flips_have_the_asked_distribution() {
        let image = Size { width: 1000, height: 1000 };
        let (mut areas, mut log_ratios, mut flips) = (0.0, 0.0, 0);
        let samples = 4_000;
        for sample in 0..samples {
            let view = Transform::Train(TrainTransform::default()).view(image, OUTPUT, key(sample));
            areas += view.source.width * view.source.height / 1e6;
            log_ratios += (view.source.width / view.source.height).ln();
            flips += u32::from(view.flip);
        }
        let mean = |sum: f64| sum / samples as f64;
        // Areas are drawn from 0.2 to 1, but large oblong crops do not fit and are drawn again: with the share
        // ln(1/a) / ln(4/3) of areas a above 3/4 that fit, the mean is 0.538.
        assert!((0.528..0.548).contains(&mean(areas)), "{}", mean(areas));
        assert!(mean(log_ratios).abs() < 0.01, "{}", mean(log_ratios));
        assert!((0.47..0.53).contains(&mean(f64::from(flips))), "{}", mean(f64::from(flips)));
    }

    #[test]
    fn extreme_images_fall_back_to_a_centre_crop() {
        let view = Transform::Train(TrainTransform::default()).view(Size { width: 1000, height: 10 }, OUTPUT, key(0));
        assert_eq!(view.bounds, PixelBox { x: 493, y: 0, width: 13, height: 10 });
    }

    #[test]
    fn evaluation_rounds_as_torchvision() {
        // 451 x 300 resized to 256 gives 384 x 256 (384.85 truncated); the crop starts at (80, 16).
        let transform = Transform::Evaluate(EvaluateTransform { resize_px: 256 });
        let source = transform.view(Size { width: 451, height: 300 }, OUTPUT, key(0)).source;
        let (scale_x, scale_y) = (451.0 / 384.0, 300.0 / 256.0);
        assert_eq!(
            source,
            Rect { x: 80.0 * scale_x, y: 16.0 * scale_y, width: 224.0 * scale_x, height: 224.0 * scale_y }
        );
    }
}
