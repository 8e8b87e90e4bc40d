//! What other crates know about images, as conversion and verification need it.

use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use crate::convert::Encode;
use crate::manifest::PixelStats;

/// Looks at whole images on behalf of [`convert`](crate::convert()) and [`verify`](crate::inspect::verify).
///
/// This crate reads no more than headers, so that it needs no image codec; whoever has one implements this.
pub trait ImageExaminer: Send + Sync {
    /// Decodes the whole image.
    ///
    /// # Errors
    ///
    /// The reason why the image cannot be decoded, as it shall stand in the ledger.
    fn check(&self, bytes: &[u8]) -> Result<(), String>;

    /// Decodes the image to RGB and adds its pixels, scaled to 0..=1, to `sums`.
    ///
    /// # Errors
    ///
    /// The reason why the image cannot be decoded, as it shall stand in the ledger.
    fn measure(&self, bytes: &[u8], sums: &mut PixelSums) -> Result<(), String>;

    /// Makes the image what shall be stored; nothing if it stays as it is.
    ///
    /// Images that are encoded anew stand upright afterwards, since what was beside their pixels is lost. With
    /// `tile_index`, JPEGs get a restart marker after so many MCUs, without a change of any coefficient where `encode` keeps
    /// them; what that cannot be done with stays as it is.
    ///
    /// # Errors
    ///
    /// The reason why the image cannot be decoded, as it shall stand in the ledger.
    fn transcode(
        &self,
        bytes: &[u8],
        encode: Encode,
        tile_index: Option<NonZeroU16>,
    ) -> Result<Option<Transcoded>, String>;
}

/// An image as it shall be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcoded {
    /// The encoded image.
    pub bytes: Vec<u8>,
    /// Its width.
    pub width_px: u32,
    /// Its height.
    pub height_px: u32,
    /// Where each restart segment begins, in bytes from the start, behind the scan's header or the segment's marker.
    pub segments: Option<Vec<u32>>,
}

/// Sums over the RGB pixels of one image, values in 0..=1.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PixelSums {
    /// How many pixels were added.
    pub pixels: u64,
    /// Sum of the values, red, green, blue.
    pub sum: [f64; 3],
    /// Sum of the squared values, red, green, blue.
    pub sum_of_squares: [f64; 3],
}

/// Gathers per-image sums into the statistics of a data set.
///
/// Every image counts alike, however many pixels it has, because training cuts crops of one size from all of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PixelAverage {
    images: u64,
    mean: [f64; 3],
    mean_of_squares: [f64; 3],
}

impl PixelAverage {
    /// Adds one image. The result depends on the order of the calls in its last bits, so callers keep one order.
    pub(crate) fn add(&mut self, sums: &PixelSums) {
        if sums.pixels == 0 {
            return;
        }
        self.images += 1;
        for channel in 0..3 {
            self.mean[channel] += sums.sum[channel] / sums.pixels as f64;
            self.mean_of_squares[channel] += sums.sum_of_squares[channel] / sums.pixels as f64;
        }
    }

    /// Adds the images of another one; here, too, callers keep one order.
    pub(crate) fn merge(&mut self, other: &PixelAverage) {
        self.images += other.images;
        for channel in 0..3 {
            self.mean[channel] += other.mean[channel];
            self.mean_of_squares[channel] += other.mean_of_squares[channel];
        }
    }

    /// Mean and standard deviation, or nothing when no image was measured.
    pub(crate) fn finish(&self) -> Option<PixelStats> {
        if self.images == 0 {
            return None;
        }
        let images = self.images as f64;
        let mean = self.mean.map(|sum| sum / images);
        let mut std = [0.0; 3];
        for channel in 0..3 {
            // Rounding can push the variance of a constant image just below zero.
            let variance = self.mean_of_squares[channel] / images - mean[channel] * mean[channel];
            std[channel] = variance.max(0.0).sqrt();
        }
        Some(PixelStats { mean, std, images: self.images })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_counts_alike() {
        let mut average = PixelAverage::default();
        average.add(&PixelSums { pixels: 1, sum: [0.0; 3], sum_of_squares: [0.0; 3] });
        average.add(&PixelSums { pixels: 100, sum: [100.0; 3], sum_of_squares: [100.0; 3] });
        average.add(&PixelSums::default());
        let stats = average.finish().unwrap();
        assert_eq!(stats, PixelStats { mean: [0.5; 3], std: [0.5; 3], images: 2 });
        assert_eq!(PixelAverage::default().finish(), None);
    }
}
