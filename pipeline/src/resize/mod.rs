//! Resizing: antialiased bicubic, as Pillow's `resize(..., BICUBIC)` (a = -0.5), of 8-bit samples.
//!
//! Puts out `uint8 [height, width, 3]`. One axis after the other, and rounded and clamped to 8 bits in between, as Pillow
//! does:
//!
//! | step | module |
//! |---|---|
//! | weights of the samples for each place | `weights` |
//! | exact mode: chroma enlarged, R, G and B of a strip of 16 rows | `enlarge` |
//! | strips of 16 rows as columns of 16 values; horizontal pass over these; back to rows | `kernels` |
//! | vertical pass row by row; YCbCr to RGB in fast mode; interleaved pixels | `kernels` |
//!
//! Sixteen rows at once make the horizontal pass as simple as the vertical one: each place is a weighted sum of vectors.
//! Where the picture is to be mirrored, the places come in the opposite order, which costs nothing.
//! In fast mode Y, Cb and Cr are resized before the change of colour space, with weights that include the enlarging of
//! chroma; all these steps are linear, so that only rounding and clamping differ.
//!
//! The inner loops exist portable and for AVX2 (`avx2`); both give the same bytes.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod enlarge;
mod kernels;
#[cfg(test)]
mod tests;
mod weights;

use std::ops::Range;

use self::enlarge::Enlarger;
use self::kernels::{CHROMA_ZERO, Column, Kernels, LANES, Portable};
use self::weights::{AxisView, AxisWeights, Density, SUPPORT_PX, WeightBuilder};
use crate::decode::{DecodeMode, Decoded, Pixels};
use crate::geometry::{PixelBox, Size};
use crate::jpeg::{Plane, Planes};
#[cfg(target_arch = "x86_64")]
use crate::simd::Avx2;
use crate::simd::Instructions;
use crate::transform::View;

/// A resizer for one thread; it keeps its memory from picture to picture.
#[derive(Debug)]
pub struct Resizer {
    instructions: Dispatch,
    memory: Memory,
}

#[derive(Debug, Clone, Copy)]
enum Dispatch {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
}

impl Default for Resizer {
    fn default() -> Self {
        Self::new(Instructions::Detected)
    }
}

impl Resizer {
    /// A resizer without any memory yet.
    pub fn new(instructions: Instructions) -> Self {
        let instructions = match instructions {
            Instructions::Portable => Dispatch::Portable,
            #[cfg(target_arch = "x86_64")]
            Instructions::Detected => Avx2::detect().map_or(Dispatch::Portable, Dispatch::Avx2),
            #[cfg(not(target_arch = "x86_64"))]
            Instructions::Detected => Dispatch::Portable,
        };
        Self { instructions, memory: Memory::default() }
    }

    /// Resizes what `view` shows of a decoded picture to `size`, into `out`, which must have as many bytes. The mode
    /// decides what happens to planes.
    ///
    /// The filter never reads a pixel outside of `view.bounds`, so a crop's neighbourhood has no influence.
    ///
    /// # Panics
    /// When `out` has another size, or what was decoded does not cover [`needed_pixels`] of the view.
    pub fn resize(&mut self, decoded: &Decoded<'_>, view: &View, size: Size, mode: DecodeMode, out: &mut [u8]) {
        assert_eq!(out.len(), size.rgb_bytes(), "out must be height x width x 3");
        match self.instructions {
            Dispatch::Portable => self.memory.resize(Portable, decoded, view, size, mode, out),
            #[cfg(target_arch = "x86_64")]
            Dispatch::Avx2(kernels) => self.memory.resize(kernels, decoded, view, size, mode, out),
        }
    }
}

/// The pixels of the stored picture that resizing `view` to `size` reads.
pub fn needed_pixels(view: &View, size: Size) -> PixelBox {
    let View { source, bounds, .. } = *view;
    let reach_x = (source.width / f64::from(size.width)).max(1.0) * (SUPPORT_PX + 1.0);
    let reach_y = (source.height / f64::from(size.height)).max(1.0) * (SUPPORT_PX + 1.0);
    let x = ((source.x - reach_x).floor().max(0.0) as u32).max(bounds.x);
    let y = ((source.y - reach_y).floor().max(0.0) as u32).max(bounds.y);
    let right = ((source.x + source.width + reach_x).ceil() as u32).min(bounds.right());
    let bottom = ((source.y + source.height + reach_y).ceil() as u32).min(bounds.bottom());
    PixelBox { x, y, width: right - x, height: bottom - y }
}

/// Weights and rows, reused from picture to picture.
#[derive(Debug, Default)]
struct Memory {
    builder: WeightBuilder,
    /// Weights in either direction, of luma or all components, and of chroma.
    horizontal: [AxisWeights; 2],
    vertical: [AxisWeights; 2],
    enlarger: Enlarger,
    /// A strip as columns.
    columns: Vec<Column>,
    /// Horizontally resized components.
    between: [Vec<u8>; 3],
    /// One row of the result, of each component.
    rows: [Vec<i16>; 3],
}

impl Memory {
    fn resize<K: Kernels>(
        &mut self,
        kernels: K,
        decoded: &Decoded<'_>,
        view: &View,
        size: Size,
        mode: DecodeMode,
        out: &mut [u8],
    ) {
        let stride = (size.width as usize).next_multiple_of(LANES);
        match &decoded.pixels {
            Pixels::Rgb(pixels) => {
                self.build_weights(view, size, 0, [Density::Full; 2]);
                self.prepare(stride, &[0; 3]);
                self.rgb_horizontally(kernels, pixels, decoded.region, stride);
                self.vertically(kernels, &[0; 3], stride, out, K::interleave);
            }
            Pixels::Ycc(planes) if mode == DecodeMode::Exact && planes.count == 3 => {
                self.build_weights(view, size, 0, [Density::Full; 2]);
                self.prepare(stride, &[0; 3]);
                self.enlarged_horizontally(kernels, planes, stride);
                self.vertically(kernels, &[0; 3], stride, out, K::interleave);
            }
            Pixels::Ycc(planes) => {
                self.build_weights(view, size, 0, [Density::Full; 2]);
                if planes.count == 3 {
                    self.build_weights(view, size, 1, planes.chroma_density());
                }
                let sets = &[0, 1, 1][..planes.count];
                self.prepare(stride, sets);
                for ((component, plane), set) in planes.components.iter().enumerate().zip(sets) {
                    self.plane_horizontally(kernels, component, plane, *set, stride);
                }
                self.vertically(kernels, sets, stride, out, K::ycc_to_rgb);
            }
        }
    }

    fn build_weights(&mut self, view: &View, size: Size, set: usize, [density_x, density_y]: [Density; 2]) {
        let View { source, bounds, flip } = *view;
        let x = AxisView {
            first_px: bounds.x,
            count_px: bounds.width,
            start: source.x - f64::from(bounds.x),
            length: source.width,
            target: size.width,
            is_mirrored: flip,
        };
        let y = AxisView {
            first_px: bounds.y,
            count_px: bounds.height,
            start: source.y - f64::from(bounds.y),
            length: source.height,
            target: size.height,
            is_mirrored: false,
        };
        self.builder.build(&x, density_x, LANES, &mut self.horizontal[set]);
        self.builder.build(&y, density_y, 1, &mut self.vertical[set]);
    }

    /// Makes room for components whose weights are those of `sets`.
    fn prepare(&mut self, stride: usize, sets: &[usize]) {
        for (between, set) in self.between.iter_mut().zip(sets) {
            grow(between, self.vertical[*set].readable().next_multiple_of(LANES) * stride, 0);
        }
        for rows in &mut self.rows {
            rows.clear();
            // Grayscale never writes its chroma rows, which so mean "no colour".
            rows.resize(stride, CHROMA_ZERO);
        }
    }

    /// Interleaved pixels: the three colours of a strip become columns together.
    fn rgb_horizontally<K: Kernels>(&mut self, kernels: K, pixels: &[u8], region: PixelBox, stride: usize) {
        let (horizontal, vertical) = (&self.horizontal[0], &self.vertical[0]);
        let row_bytes = region.width as usize * 3;
        let first_byte = (horizontal.samples.start - region.x) as usize * 3;
        let bytes = horizontal.samples.len() * 3;
        grow(&mut self.columns, horizontal.readable() * 3, Column::default());
        for (strip, rows) in strips(vertical.samples.clone()) {
            let row = |y: u32| &pixels[(y - region.y) as usize * row_bytes + first_byte..][..bytes];
            let lines = lines_of(&rows, row);
            let mut narrow = [[0; LANES]; LANES];
            kernels.transpose(wide_enough(lines, &mut narrow), &mut self.columns[..bytes]);
            // Raw pixels come from memory, in more streams than the processor foresees by itself.
            let next = rows.end..vertical.samples.end.min(rows.end + LANES as u32);
            if !next.is_empty() {
                kernels.prefetch(lines_of(&next, row));
            }
            for (component, between) in self.between.iter_mut().enumerate() {
                let target = &mut between[strip * LANES * stride..];
                kernels.horizontal(&self.columns[component..], 3, horizontal, target, stride);
            }
        }
    }

    /// Planes of which R, G and B are made first.
    fn enlarged_horizontally<K: Kernels>(&mut self, kernels: K, planes: &Planes<'_>, stride: usize) {
        let (horizontal, vertical) = (&self.horizontal[0], &self.vertical[0]);
        let count = horizontal.samples.len();
        self.enlarger.prepare(planes, horizontal.samples.clone());
        grow(&mut self.columns, horizontal.readable(), Column::default());
        for (strip, rows) in strips(vertical.samples.clone()) {
            self.enlarger.run(kernels, planes, rows.clone());
            for (component, between) in self.between.iter_mut().enumerate() {
                let lines = lines_of(&rows, |y| self.enlarger.row(component, (y - rows.start) as usize));
                kernels.transpose(lines, &mut self.columns[..count]);
                let target = &mut between[strip * LANES * stride..];
                kernels.horizontal(&self.columns, 1, horizontal, target, stride);
            }
        }
    }

    /// A plane as it is.
    fn plane_horizontally<K: Kernels>(
        &mut self,
        kernels: K,
        component: usize,
        plane: &Plane<'_>,
        set: usize,
        stride: usize,
    ) {
        let (horizontal, vertical) = (&self.horizontal[set], &self.vertical[set]);
        let count = horizontal.samples.len();
        grow(&mut self.columns, horizontal.readable(), Column::default());
        for (strip, rows) in strips(vertical.samples.clone()) {
            let lines = lines_of(&rows, |y| plane.row(horizontal.samples.start, y));
            kernels.transpose(lines, &mut self.columns[..count]);
            let target = &mut self.between[component][strip * LANES * stride..];
            kernels.horizontal(&self.columns, 1, horizontal, target, stride);
        }
    }

    /// Vertical pass of the components whose weights are those of `sets`, and `finish`, which makes pixels of three rows.
    fn vertically<K: Kernels>(
        &mut self,
        kernels: K,
        sets: &[usize],
        stride: usize,
        out: &mut [u8],
        finish: impl Fn(K, [&[i16]; 3], &mut [u8]),
    ) {
        let row_bytes = out.len() / self.vertical[0].starts.len();
        for (place, out) in out.chunks_exact_mut(row_bytes).enumerate() {
            for ((between, row), set) in self.between.iter().zip(&mut self.rows).zip(sets) {
                let (start, weights) = self.vertical[*set].place(place);
                kernels.vertical(&between[start * stride..], stride, weights, row);
            }
            finish(kernels, self.rows.each_ref().map(Vec::as_slice), out);
        }
    }
}

/// Cuts rows into strips: the number of each, and its rows.
fn strips(rows: Range<u32>) -> impl Iterator<Item = (usize, Range<u32>)> {
    let end = rows.end;
    rows.step_by(LANES).map(move |start| start..end.min(start + LANES as u32)).enumerate()
}

/// The rows of a strip; a strip that is not full repeats its last row.
fn lines_of<'a>(rows: &Range<u32>, row: impl Fn(u32) -> &'a [u8]) -> [&'a [u8]; LANES] {
    std::array::from_fn(|index| row((rows.start + index as u32).min(rows.end - 1)))
}

/// Rows of at least a vector's bytes: where they are shorter, copies in `narrow`.
fn wide_enough<'a>(lines: [&'a [u8]; LANES], narrow: &'a mut [[u8; LANES]; LANES]) -> [&'a [u8]; LANES] {
    if lines[0].len() >= LANES {
        return lines;
    }
    for (narrow, line) in narrow.iter_mut().zip(lines) {
        narrow[..line.len()].copy_from_slice(line);
    }
    narrow.each_ref().map(<[u8; LANES]>::as_slice)
}

/// Makes room without touching what is there already.
fn grow<T: Clone>(buffer: &mut Vec<T>, length: usize, filler: T) {
    if buffer.len() < length {
        buffer.resize(length, filler);
    }
}

impl Planes<'_> {
    fn chroma_density(&self) -> [Density; 2] {
        let [_, chroma, _] = &self.components;
        [(self.is_half_width, chroma.width), (self.is_half_height, chroma.height)]
            .map(|(is_half, samples)| if is_half { Density::Half { samples } } else { Density::Full })
    }
}
