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
///
/// Positions are computed in 64 bits, weights in 32, which is 500 times finer than their fixed point. They are kept tap by
/// tap, each with a value for all places, so that the compiler makes vectors of places.
#[derive(Debug, Default)]
pub(super) struct WeightBuilder {
    spans: Vec<Span>,
    /// How far the first pixel of each place lies from its centre, and how many there are.
    offsets: Vec<f32>,
    counts: Vec<f32>,
    /// Weights of pixels, and their sum for each place.
    pixels: Vec<f32>,
    sums: Vec<f32>,
    /// Weights of samples, where these are not the pixels.
    samples: Vec<f32>,
    /// In fixed point, and their sum for each place.
    rounded: Vec<i16>,
    totals: Vec<i32>,
}

/// What a place is made of.
#[derive(Debug, Clone)]
struct Span {
    pixels: Range<u32>,
    samples: Range<u32>,
    /// Which of the samples its centre lies in.
    nearest: usize,
}

impl WeightBuilder {
    /// Fills `weights`; the places are filled up with such of weight zero to a multiple of `multiple`.
    pub(super) fn build(&mut self, view: &AxisView, density: Density, multiple: usize, weights: &mut AxisWeights) {
        let scale = view.length / f64::from(view.target);
        let stretch = scale.max(1.0);
        let support = SUPPORT_PX * stretch;
        let pixel_taps = ((2.0 * support).ceil() as usize + 1).min(view.count_px as usize);
        self.find_spans(view, density, scale, support);
        self.fill_pixels(pixel_taps, stretch.recip() as f32);
        let taps = match density {
            Density::Full => pixel_taps,
            Density::Half { samples } => {
                self.fold_to_half(pixel_taps / 2 + 2, samples);
                pixel_taps / 2 + 2
            }
        };
        weights.pairs = taps.div_ceil(2);
        self.round(density, taps);
        self.enter(view.is_mirrored, multiple, weights);
    }

    fn find_spans(&mut self, view: &AxisView, density: Density, scale: f64, support: f64) {
        self.spans.clear();
        self.offsets.clear();
        self.counts.clear();
        for place in 0..view.target {
            let center = view.start + (f64::from(place) + 0.5) * scale;
            let first = (center - support + 0.5).max(0.0) as u32;
            let end = ((center + support + 0.5) as u32).min(view.count_px);
            // Rounding must not leave a place without a pixel.
            let first = first.min(view.count_px - 1);
            let end = end.max(first + 1);
            self.offsets.push((f64::from(first) + 0.5 - center) as f32);
            self.counts.push((end - first) as f32);
            let pixels = view.first_px + first..view.first_px + end;
            let nearest = view.first_px + (center as u32).clamp(first, end - 1);
            let (samples, nearest) = match density {
                Density::Full => (pixels.clone(), nearest),
                Density::Half { samples } => {
                    (pixels.start.saturating_sub(1) / 2..(pixels.end / 2 + 1).min(samples), nearest / 2)
                }
            };
            let nearest = (nearest - samples.start) as usize;
            self.spans.push(Span { pixels, samples, nearest });
        }
    }

    /// Weights of so many pixels for each place, zero where it has no more.
    fn fill_pixels(&mut self, taps: usize, inverse_stretch: f32) {
        let places = self.spans.len();
        // No value in it is left as it was.
        self.pixels.resize(taps * places, 0.0);
        self.sums.clear();
        self.sums.resize(places, 0.0);
        for (tap, row) in self.pixels.chunks_exact_mut(places).enumerate() {
            let of_places = self.offsets.iter().zip(&self.counts).zip(&mut self.sums);
            for (weight, ((offset, count), sum)) in row.iter_mut().zip(of_places) {
                let value = cubic((offset + tap as f32) * inverse_stretch);
                *weight = if (tap as f32) < *count { value } else { 0.0 };
                *sum += *weight;
            }
        }
    }

    /// Turns weights of pixels into weights of so many samples of half the resolution.
    fn fold_to_half(&mut self, taps: usize, samples: u32) {
        let places = self.spans.len();
        self.samples.clear();
        self.samples.resize(taps * places, 0.0);
        for (place, span) in self.spans.iter().enumerate() {
            for (tap, pixel) in span.pixels.clone().enumerate() {
                let weight = self.pixels[tap * places + place];
                let own = pixel / 2;
                let next = if pixel % 2 == 0 { own.saturating_sub(1) } else { (own + 1).min(samples - 1) };
                self.samples[(own - span.samples.start) as usize * places + place] += 0.75 * weight;
                self.samples[(next - span.samples.start) as usize * places + place] += 0.25 * weight;
            }
        }
    }

    /// Rounds weights to fixed point such that the sum of a place's is exactly one, so that flat areas keep their value: what
    /// is missing goes to the sample that its centre lies in.
    fn round(&mut self, density: Density, taps: usize) {
        // Beside this number a float has no fraction left, and the low bits of its mantissa are the whole part.
        const WHOLE: f32 = 12_582_912.0;
        const UNIT: i32 = 1 << WEIGHT_BITS;
        let places = self.spans.len();
        let exact = if density == Density::Full { &self.pixels } else { &self.samples };
        self.rounded.resize(taps * places, 0);
        self.totals.clear();
        self.totals.resize(places, 0);
        for (rounded, exact) in self.rounded.chunks_exact_mut(places).zip(exact.chunks_exact(places)) {
            let of_places = exact.iter().zip(&self.sums).zip(&mut self.totals);
            for (rounded, ((exact, sum), total)) in rounded.iter_mut().zip(of_places) {
                *rounded = (exact / sum * UNIT as f32 + WHOLE).to_bits() as i16;
                *total += i32::from(*rounded);
            }
        }
        for (place, (span, total)) in self.spans.iter().zip(&self.totals).enumerate() {
            self.rounded[span.nearest * places + place] += (UNIT - total) as i16;
        }
    }

    /// Puts the rounded weights in the order of places.
    fn enter(&self, is_mirrored: bool, multiple: usize, weights: &mut AxisWeights) {
        let places = self.spans.len();
        let ends = self.spans.first().zip(self.spans.last());
        weights.samples = ends.map_or(0..0, |(first, last)| first.samples.start..last.samples.end);
        weights.starts.clear();
        weights.starts.resize(places.next_multiple_of(multiple), 0);
        weights.weights.clear();
        weights.weights.resize(places.next_multiple_of(multiple) * weights.pairs, 0);
        let start_max = weights.readable() - 2 * weights.pairs;
        for (place, span) in self.spans.iter().enumerate() {
            // Near the end, taps that are mere padding would leave the samples; there they come first.
            let start = (span.samples.start - weights.samples.start) as usize;
            let inside = start.min(start_max);
            let weight = |tap: usize| {
                let tap = tap.checked_sub(start - inside);
                tap.and_then(|tap| self.rounded.get(tap * places + place)).copied().unwrap_or(0)
            };
            let place = if is_mirrored { places - 1 - place } else { place };
            weights.starts[place] = inside as u32;
            let pairs = &mut weights.weights[place * weights.pairs..][..weights.pairs];
            for (index, pair) in pairs.iter_mut().enumerate() {
                *pair = i32::from(weight(2 * index)) & 0xFFFF | i32::from(weight(2 * index + 1)) << 16;
            }
        }
    }
}

/// The cubic convolution kernel with a = -0.5.
#[inline]
fn cubic(x: f32) -> f32 {
    let x = x.abs();
    let near = (1.5 * x - 2.5) * x * x + 1.0;
    let far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0;
    let value = if x < 1.0 { near } else { far };
    if x < SUPPORT_PX as f32 { value } else { 0.0 }
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
