//! Weights of the antialiased bicubic resize, along one axis.
//!
//! The filter is the cubic convolution kernel with a = -0.5 (Keys 1981), stretched by the scale when reducing, cut at the
//! edges of the bounds and normalised: what Pillow's `resize` with a box does.
//!
//! Chroma of half the width or height need not be enlarged first. Enlarging it with the triangle filter that JPEG
//! decoders use (three quarters of the sample that a pixel lies in, one quarter of the next nearest, T.81 leaves it open)
//! and then resizing are two linear steps, so their weights can be multiplied out here, and the resize reads the small
//! plane.

use std::ops::Range;

/// Fraction bits of a weight.
pub(super) const WEIGHT_BITS: u32 = 14;

/// Reach of the bicubic filter in pixels, times the factor by which it shrinks.
pub(super) const SUPPORT_PX: f64 = 2.0;

/// One axis of a resize.
#[derive(Debug, Clone)]
pub(super) struct AxisView {
    /// First pixel that may be read, of the picture.
    pub(super) first_px: u32,
    /// How many pixels may be read.
    pub(super) count_px: u32,
    /// Where the part to be resized begins, from `first_px` on.
    pub(super) start: f64,
    /// How long it is, in pixels of the picture.
    pub(super) length: f64,
    /// How many places the result has.
    pub(super) target: u32,
    /// Whether they come in the opposite order.
    pub(super) is_mirrored: bool,
}

/// How the samples of a component lie along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Density {
    /// One sample a pixel.
    Full,
    /// A sample for two pixels, of which there are `samples`.
    Half {
        /// Samples along the whole axis of the picture.
        samples: u32,
    },
}

/// For each place of the target, the samples it is made of.
#[derive(Debug, Default)]
pub(super) struct AxisWeights {
    /// The samples that are read at all.
    pub(super) samples: Range<u32>,
    /// First sample of each place, counted from the first of `samples`.
    pub(super) starts: Vec<u32>,
    /// `pairs` pairs of weights for each place, the first of a pair in the lower half; they sum up to 1 << [`WEIGHT_BITS`].
    pub(super) weights: Vec<i32>,
    /// Pairs of weights for one place, filled up with zeros.
    pub(super) pairs: usize,
}

impl AxisWeights {
    /// The samples that a place's weights go over, more than there are in `samples` when those are few.
    pub(super) fn readable(&self) -> usize {
        self.samples.len().max(2 * self.pairs)
    }

    /// First sample and weights of a place.
    #[inline]
    pub(super) fn place(&self, place: usize) -> (usize, &[i32]) {
        (self.starts[place] as usize, &self.weights[place * self.pairs..][..self.pairs])
    }
}

/// Computes weights; owns what it needs in between.
#[derive(Debug, Default)]
pub(super) struct WeightBuilder {
    pixels: Vec<f64>,
    samples: Vec<f64>,
    rounded: Vec<i16>,
}

impl WeightBuilder {
    /// Fills `weights`; the places are filled up with such of weight zero to a multiple of `multiple`.
    pub(super) fn build(&mut self, view: &AxisView, density: Density, multiple: usize, weights: &mut AxisWeights) {
        let scale = view.length / f64::from(view.target);
        let stretch = scale.max(1.0);
        let support = SUPPORT_PX * stretch;
        let pixel_taps = (2.0 * support).ceil() as usize + 1;
        let taps = match density {
            Density::Full => pixel_taps.min(view.count_px as usize),
            Density::Half { .. } => pixel_taps.min(view.count_px as usize) / 2 + 2,
        };
        weights.pairs = taps.div_ceil(2);
        let taps = 2 * weights.pairs;
        let places = (view.target as usize).next_multiple_of(multiple);
        weights.starts.clear();
        weights.starts.resize(places, 0);
        weights.weights.clear();
        weights.weights.resize(places * weights.pairs, 0);

        let pixels_of = |place: u32| {
            let center = view.start + (f64::from(place) + 0.5) * scale;
            let first = (center - support + 0.5).max(0.0) as u32;
            let end = ((center + support + 0.5) as u32).min(view.count_px);
            // Rounding must not leave a place without a pixel.
            let first = first.min(view.count_px - 1);
            (center, first..end.max(first + 1))
        };
        let samples_of = |pixels: Range<u32>| {
            let pixels = view.first_px + pixels.start..view.first_px + pixels.end;
            match density {
                Density::Full => pixels,
                Density::Half { samples } => pixels.start.saturating_sub(1) / 2..(pixels.end / 2 + 1).min(samples),
            }
        };
        weights.samples = samples_of(pixels_of(0).1).start..samples_of(pixels_of(view.target - 1).1).end;
        let start_max = weights.readable() - taps;
        for place in 0..view.target {
            let (center, pixels) = pixels_of(place);
            self.fill_pixels(f64::from(pixels.start) + 0.5 - center, stretch.recip(), pixels.len());
            let first = samples_of(pixels.clone()).start;
            let exact = match density {
                Density::Full => &self.pixels,
                Density::Half { samples } => {
                    self.fold_to_half(view.first_px + pixels.start, first, samples);
                    &self.samples
                }
            };
            // Near the end, taps that are mere padding would leave the samples; there they come first.
            let start = (first - weights.samples.start) as usize;
            let inside = start.min(start_max);
            self.rounded.clear();
            self.rounded.resize(taps, 0);
            round(exact, &mut self.rounded[start - inside..]);
            let place = if view.is_mirrored { view.target - 1 - place } else { place } as usize;
            weights.starts[place] = inside as u32;
            let pairs = &mut weights.weights[place * weights.pairs..][..weights.pairs];
            for (pair, rounded) in pairs.iter_mut().zip(self.rounded.as_chunks::<2>().0) {
                *pair = i32::from(rounded[0]) & 0xFFFF | i32::from(rounded[1]) << 16;
            }
        }
    }

    /// The normalised weights of `count` pixels, the first of which lies `offset` pixels from the centre.
    fn fill_pixels(&mut self, offset: f64, inverse_stretch: f64, count: usize) {
        self.pixels.clear();
        self.pixels.extend((0..count).map(|index| cubic((offset + index as f64) * inverse_stretch)));
        let inverse_sum = self.pixels.iter().sum::<f64>().recip();
        for weight in &mut self.pixels {
            *weight *= inverse_sum;
        }
    }

    /// Turns weights of pixels from `first_px` on into weights of samples of half the resolution from `start` on.
    fn fold_to_half(&mut self, first_px: u32, start: u32, samples: u32) {
        self.samples.clear();
        self.samples.resize(self.pixels.len() / 2 + 3, 0.0);
        for (pixel, weight) in (first_px..).zip(&self.pixels) {
            let own = pixel / 2;
            let next = if pixel % 2 == 0 { own.saturating_sub(1) } else { (own + 1).min(samples - 1) };
            self.samples[(own - start) as usize] += 0.75 * weight;
            self.samples[(next - start) as usize] += 0.25 * weight;
        }
        while self.samples.last() == Some(&0.0) {
            self.samples.pop();
        }
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
    } else if x < SUPPORT_PX {
        far
    } else {
        0.0
    }
}

/// Rounds weights to fixed point such that their sum is exactly one, so that flat areas keep their value.
fn round(exact: &[f64], rounded: &mut [i16]) {
    let unit = f64::from(1 << WEIGHT_BITS);
    let mut sum = 0_i32;
    for (rounded, exact) in rounded.iter_mut().zip(exact) {
        // Lifted above zero, where cutting off the fraction rounds down; 16 bits do not see what was added.
        *rounded = (exact * unit + f64::from(1 << 16) + 0.5) as i32 as i16;
        sum += i32::from(*rounded);
    }
    let largest = rounded.iter_mut().max().expect("a filter has at least one tap");
    *largest += ((1 << WEIGHT_BITS) - sum) as i16;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn halves(pair: i32) -> [i32; 2] {
        [i32::from(pair as i16), pair >> 16]
    }

    proptest! {
        /// What the passes rely on without checking it again: sums of one, and reads within what is readable.
        #[test]
        fn weights_sum_up_to_one_and_stay_inside(
            count in 1u32..600, first in 0u32..300, target in 1u32..300,
            start_share in 0.0..0.9f64, length_share in 0.01..1.0f64, is_half: bool,
            is_mirrored: bool,
        ) {
            let start = f64::from(count) * start_share;
            let length = (f64::from(count) - start) * length_share;
            let view = AxisView { first_px: first, count_px: count, start, length, target, is_mirrored };
            let samples = (first + count).div_ceil(2);
            let density = if is_half { Density::Half { samples } } else { Density::Full };
            let mut weights = AxisWeights::default();
            WeightBuilder::default().build(&view, density, 16, &mut weights);
            prop_assert_eq!(weights.starts.len() % 16, 0);
            let end_max = if is_half { samples } else { first + count };
            prop_assert!(weights.samples.end <= end_max);
            for place in 0..target as usize {
                let (start, pairs) = weights.place(place);
                prop_assert!(start + 2 * pairs.len() <= weights.readable());
                let all: Vec<i32> = pairs.iter().copied().flat_map(halves).collect();
                prop_assert_eq!(all.iter().sum::<i32>(), 1 << WEIGHT_BITS);
                let read = all.iter().rposition(|&weight| weight != 0).unwrap() + 1;
                prop_assert!(start + read <= weights.samples.len(), "{} {} {:?}", start, read, weights.samples);
            }
        }
    }

    #[test]
    fn a_picture_of_its_own_size_stays_as_it_is() {
        let view = AxisView { first_px: 0, count_px: 8, start: 0.0, length: 8.0, target: 8, is_mirrored: false };
        let mut weights = AxisWeights::default();
        WeightBuilder::default().build(&view, Density::Full, 1, &mut weights);
        for place in 0..8 {
            let (start, pairs) = weights.place(place);
            let all: Vec<i32> = pairs.iter().copied().flat_map(halves).collect();
            let one = all.iter().position(|&weight| weight == 1 << WEIGHT_BITS).unwrap();
            assert_eq!(start + one, place);
        }
    }
}
