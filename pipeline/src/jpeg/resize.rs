//! From planes of the crop to RGB of the target size.
//!
//! Each plane is resized horizontally (8-bit samples to 16 bits with [`FRACTION_BITS`]), then target row by target row
//! vertically, and the three rows become RGB at once. Nothing is rounded to 8 bits in between. Since resizing and the change of
//! colour space are both linear, they commute but for clamping, and colour costs only as much as the target has pixels.

use super::kernels::Kernels;
use super::region::{Axis, Region};
use super::weights::{AxisResize, AxisWeights, WEIGHT_BITS, WeightBuilder};

/// Fraction bits between the passes and up to the change of colour space.
pub(super) const FRACTION_BITS: u32 = 6;
/// Target columns are padded to a multiple of this, the width of the widest kernel.
pub(super) const COLUMNS_MULTIPLE: usize = 16;
/// Horizontal taps are padded to a multiple of this.
pub(super) const TAPS_MULTIPLE: usize = 8;

/// Weights of JFIF's YCbCr to RGB in 1/32768: red from Cr beyond one, green from Cb and Cr, blue from Cb beyond one.
pub(super) const RED_CR: i16 = 13173;
pub(super) const GREEN_CB: i16 = 11277;
pub(super) const GREEN_CR: i16 = 23401;
pub(super) const BLUE_CB: i16 = 25297;
/// What Cb and Cr are centred on.
pub(super) const CHROMA_ZERO: i16 = 128 << FRACTION_BITS;

/// The decoded samples of the blocks of a component that the crop needs.
#[derive(Debug, Default)]
pub(super) struct Plane {
    /// Rows of `stride` samples, eight for each row of blocks.
    pub(super) samples: Vec<u8>,
    pub(super) stride: usize,
}

impl Plane {
    /// Makes room for these blocks, without clearing: every sample gets written.
    pub(super) fn prepare(&mut self, x: &Axis, y: &Axis) {
        self.stride = x.blocks.len() * 8;
        let length = self.stride * y.blocks.len() * 8;
        if self.samples.len() < length {
            self.samples.resize(length, 0);
        }
    }
}

/// Weights and rows, reused from image to image.
#[derive(Debug, Default)]
pub(super) struct Resizer {
    builder: WeightBuilder,
    /// Luma's and chroma's weights in either direction.
    horizontal: [AxisWeights; 2],
    vertical: [AxisWeights; 2],
    /// Horizontally resized planes: rows of `columns` values.
    between: [Vec<i16>; 3],
    /// One target row of each component.
    rows: [Vec<i16>; 3],
}

impl Resizer {
    /// Resizes the crop to `target_width` columns and as many rows as `target` holds, interleaved RGB.
    pub(super) fn run<K: Kernels>(
        &mut self,
        kernels: K,
        region: &Region,
        planes: &[Plane; 3],
        target: &mut [u8],
        target_width: u32,
    ) {
        let row_bytes = target_width as usize * 3;
        let target_height = (target.len() / row_bytes) as u32;
        let columns = (target_width as usize).next_multiple_of(COLUMNS_MULTIPLE);
        self.prepare(region, target_width, target_height, columns);
        for (component, plane) in planes.iter().enumerate().take(region.component_count) {
            let is_chroma = usize::from(component > 0);
            let rows = &region.components[component].y.blocks.len() * 8;
            horizontal_pass(kernels, plane, rows, &self.horizontal[is_chroma], columns, &mut self.between[component]);
        }
        for (row, target) in target.chunks_exact_mut(row_bytes).enumerate() {
            for component in 0..region.component_count {
                let vertical = &self.vertical[usize::from(component > 0)];
                let source = &self.between[component][vertical.starts[row] as usize * columns..];
                let weights = &vertical.weights[row * vertical.taps..][..vertical.taps];
                kernels.vertical(source, columns, weights, &mut self.rows[component]);
            }
            kernels.to_rgb([&self.rows[0], &self.rows[1], &self.rows[2]], target);
        }
    }

    fn prepare(&mut self, region: &Region, target_width: u32, target_height: u32, columns: usize) {
        for is_chroma in 0..region.component_count.min(2) {
            let component = &region.components[is_chroma];
            let x = AxisResize {
                crop_start: region.crop_x.start,
                crop_length: region.crop_x.len() as u32,
                target: target_width,
                target_multiple: COLUMNS_MULTIPLE,
                taps_multiple: TAPS_MULTIPLE,
            };
            let y = AxisResize {
                crop_start: region.crop_y.start,
                crop_length: region.crop_y.len() as u32,
                target: target_height,
                target_multiple: 1,
                taps_multiple: 2,
            };
            self.builder.build(x, &component.x, &mut self.horizontal[is_chroma]);
            self.builder.build(y, &component.y, &mut self.vertical[is_chroma]);
        }
        for component in 0..3 {
            let rows = &mut self.rows[component];
            rows.clear();
            // Grayscale never writes its chroma rows, which so mean "no colour".
            rows.resize(columns, CHROMA_ZERO);
            let length = region.components[component].y.blocks.len() * 8 * columns;
            if component < region.component_count && self.between[component].len() < length {
                self.between[component].resize(length, 0);
            }
        }
    }
}

/// Resizes all rows of a plane horizontally, two at a time.
fn horizontal_pass<K: Kernels>(
    kernels: K,
    plane: &Plane,
    rows: usize,
    weights: &AxisWeights,
    columns: usize,
    target: &mut [i16],
) {
    for (pair, target) in target.chunks_exact_mut(2 * columns).take(rows / 2).enumerate() {
        let first = &plane.samples[2 * pair * plane.stride..];
        let second = &first[plane.stride..];
        let (target_first, target_second) = target.split_at_mut(columns);
        kernels.horizontal([first, second], &weights.starts, &weights.weights, [target_first, target_second]);
    }
}

/// One row: each of `target` is the weighted sum of the samples from its start on.
///
/// `weights` holds as many weights for each target place.
pub(super) fn horizontal_portable(source: &[u8], starts: &[u32], weights: &[i16], target: &mut [i16]) {
    const SHIFT: u32 = WEIGHT_BITS - FRACTION_BITS;
    let taps = weights.len() / target.len();
    for ((target, start), weights) in target.iter_mut().zip(starts).zip(weights.chunks_exact(taps)) {
        let samples = &source[*start as usize..][..taps];
        let sum: i32 =
            samples.iter().zip(weights).map(|(&sample, &weight)| i32::from(sample) * i32::from(weight)).sum();
        *target = saturate((sum + (1 << (SHIFT - 1))) >> SHIFT);
    }
}

/// One row: `target` is the weighted sum of as many rows of `source`, `stride` apart, as there are weights.
pub(super) fn vertical_portable(source: &[i16], stride: usize, weights: &[i16], target: &mut [i16]) {
    for (column, target) in target.iter_mut().enumerate() {
        let mut sum = 0_i32;
        for (row, &weight) in weights.iter().enumerate() {
            sum = sum.wrapping_add(i32::from(source[row * stride + column]) * i32::from(weight));
        }
        *target = saturate(sum.wrapping_add(1 << (WEIGHT_BITS - 1)) >> WEIGHT_BITS);
    }
}

/// One row of YCbCr with [`FRACTION_BITS`] to RGB (JFIF 1.02), as many pixels as `target` holds.
pub(super) fn to_rgb_portable([luma, cb, cr]: [&[i16]; 3], target: &mut [u8]) {
    let scale = |value: i16, weight: i16| ((i32::from(value) * i32::from(weight) + (1 << 14)) >> 15) as i16;
    let finish = |value: i16| (value.saturating_add(1 << (FRACTION_BITS - 1)) >> FRACTION_BITS).clamp(0, 255) as u8;
    for (pixel, ((&luma, cb), cr)) in target.chunks_exact_mut(3).zip(luma.iter().zip(cb).zip(cr)) {
        let cb = cb.saturating_sub(CHROMA_ZERO);
        let cr = cr.saturating_sub(CHROMA_ZERO);
        pixel[0] = finish(luma.saturating_add(cr).saturating_add(scale(cr, RED_CR)));
        pixel[1] = finish(luma.saturating_sub(scale(cb, GREEN_CB)).saturating_sub(scale(cr, GREEN_CR)));
        pixel[2] = finish(luma.saturating_add(cb).saturating_add(scale(cb, BLUE_CB)));
    }
}

fn saturate(value: i32) -> i16 {
    value.clamp(i16::MIN.into(), i16::MAX.into()) as i16
}
