//! Weights of the antialiased bicubic resize, along one axis.
//!
//! The filter is the cubic convolution kernel with a = -0.5 (Keys 1981), stretched by the scale when reducing, cut at the
//! edges of the crop and normalised: what Pillow's `resize` with a box does.
//!
//! Chroma of half the width or height is not enlarged first. Enlarging it with the triangle filter that JPEG decoders use
//! (three quarters of the sample that a pixel lies in, one quarter of the next nearest, T.81 leaves it open) and then
//! resizing are two linear steps, so their weights are multiplied out here, and the resize reads the small plane.

use super::region::Axis;

/// Fraction bits of a weight.
pub(super) const WEIGHT_BITS: u32 = 14;

/// For each place of the target, the samples it is made of.
#[derive(Debug, Default)]
pub(super) struct AxisWeights {
    /// First sample of each target place, counted from the first sample of the needed blocks.
    pub(super) starts: Vec<u32>,
    /// `taps` weights for each target place; they sum up to 1 << [`WEIGHT_BITS`].
    pub(super) weights: Vec<i16>,
    /// Weights for one target place, padded with zeros.
    pub(super) taps: usize,
}

/// Reusable room for the weights of one target place.
#[derive(Debug, Default)]
struct Row {
    pixels: Vec<f64>,
    samples: Vec<f64>,
}

/// Computes weights; owns what it needs in between.
#[derive(Debug, Default)]
pub(super) struct WeightBuilder {
    row: Row,
}

/// One axis of a resize.
#[derive(Debug, Clone, Copy)]
pub(super) struct AxisResize {
    pub(super) crop_start: u32,
    pub(super) crop_length: u32,
    pub(super) target: u32,
    /// Target places and taps are padded to multiples of these; the places added repeat nothing, their weights are zero.
    pub(super) target_multiple: usize,
    pub(super) taps_multiple: usize,
}

impl WeightBuilder {
    /// Fills `weights` for one axis of one component.
    pub(super) fn build(&mut self, resize: AxisResize, axis: &Axis, weights: &mut AxisWeights) {
        let scale = f64::from(resize.crop_length) / f64::from(resize.target);
        let stretch = scale.max(1.0);
        let support = 2.0 * stretch;
        let pixel_taps = (2.0 * support).ceil() as usize;
        let needed = if axis.is_half { pixel_taps / 2 + 2 } else { pixel_taps };
        // Both multiples divide the samples of a block, so there are always at least as many samples as taps.
        let available = axis.blocks.len() * 8;
        let taps = needed.min(available).next_multiple_of(resize.taps_multiple);
        let places = (resize.target as usize).next_multiple_of(resize.target_multiple);
        weights.taps = taps;
        weights.starts.clear();
        weights.starts.resize(places, 0);
        weights.weights.clear();
        weights.weights.resize(places * taps, 0);
        let origin = axis.first_sample();
        for place in 0..resize.target as usize {
            let center = (place as f64 + 0.5) * scale;
            let first = (center - support + 0.5).max(0.0) as u32;
            let end = ((center + support + 0.5) as u32).min(resize.crop_length);
            self.row.fill_pixels(f64::from(first) + 0.5 - center, stretch.recip(), (end - first) as usize);
            let first_px = resize.crop_start + first;
            let slot = &mut weights.weights[place * taps..][..taps];
            let (start, exact) = if axis.is_half {
                let start = self.row.fold_to_half(first_px, axis.samples);
                (start, &self.row.samples)
            } else {
                (first_px, &self.row.pixels)
            };
            // Near the end, taps that are mere padding would leave the plane; there they come first.
            let start = (start - origin) as usize;
            let inside = start.min(available - taps);
            round(exact, &mut slot[start - inside..]);
            weights.starts[place] = inside as u32;
        }
    }
}

impl Row {
    /// The normalised weights of `count` pixels, the first of which lies `offset` pixels from the centre.
    fn fill_pixels(&mut self, offset: f64, inverse_stretch: f64, count: usize) {
        self.pixels.clear();
        self.pixels.extend((0..count).map(|index| cubic((offset + index as f64) * inverse_stretch)));
        let inverse_sum = self.pixels.iter().sum::<f64>().recip();
        for weight in &mut self.pixels {
            *weight *= inverse_sum;
        }
    }

    /// Turns weights of pixels from `first_px` on into weights of samples of half the resolution; gives the first.
    fn fold_to_half(&mut self, first_px: u32, samples: u32) -> u32 {
        let start = first_px.saturating_sub(1) / 2;
        self.samples.clear();
        self.samples.resize(self.pixels.len() / 2 + 3, 0.0);
        for (pixel, weight) in (first_px..).zip(&self.pixels) {
            let own = pixel / 2;
            let next = if pixel % 2 == 0 { own.saturating_sub(1) } else { (own + 1).min(samples - 1) };
            self.samples[(own - start) as usize] += 0.75 * weight;
            self.samples[(next - start) as usize] += 0.25 * weight;
        }
        start
    }
}

/// The cubic convolution kernel with a = -0.5.
#[inline]
fn cubic(x: f64) -> f64 {
    let x = x.abs();
    let near = (1.5 * x - 2.5) * x * x + 1.0;
    let far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0;
    if x < 1.0 {
        near
    } else if x < 2.0 {
        far
    } else {
        0.0
    }
}

/// Rounds weights to fixed point such that their sum is exactly one, so that flat areas keep their value.
///
/// Weights beyond the slot are zero: the slot holds all samples that the component has, or all that the filter reaches.
fn round(exact: &[f64], slot: &mut [i16]) {
    let unit = f64::from(1 << WEIGHT_BITS);
    let mut sum = 0_i32;
    for (slot, exact) in slot.iter_mut().zip(exact) {
        *slot = (exact * unit).round() as i16;
        sum += i32::from(*slot);
    }
    let largest = slot.iter_mut().max().expect("a filter has at least one tap");
    *largest += ((1 << WEIGHT_BITS) - sum) as i16;
}
