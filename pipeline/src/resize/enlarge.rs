//! Rows of R, G and B from planes of Y, Cb and Cr, exactly as libjpeg makes them: chroma is enlarged with the triangle
//! filter ("fancy upsampling"), first vertically, then horizontally, and then the colour space is changed.

use std::ops::Range;

use super::kernels::{Kernels, LANES};
use crate::jpeg::{Plane, Planes};

/// Rows in between, reused from picture to picture.
#[derive(Debug, Default)]
pub(super) struct Enlarger {
    /// A row of chroma with a neighbour at either end.
    sums: Vec<i16>,
    /// Enlarged rows of Cb and Cr.
    chroma: [Vec<i16>; 2],
    /// Rows of R, G and B, `stride` apart.
    rgb: [Vec<u8>; 3],
    stride: usize,
    /// Which pixels a row holds at least, and which is its first.
    columns: Range<u32>,
    first_px: u32,
}

impl Enlarger {
    /// Makes room for rows of the pixels `columns`, which must lie within `planes`.
    pub(super) fn prepare(&mut self, planes: &Planes<'_>, columns: Range<u32>) {
        // Two pixels share a sample, so rows begin with the first of two.
        self.first_px = if planes.is_half_width { columns.start & !1 } else { columns.start };
        let length = ((columns.end - self.first_px) as usize).next_multiple_of(LANES);
        self.columns = columns;
        // A row may be read a vector at a time from wherever it is wanted.
        self.stride = length + 2 * LANES;
        self.sums.resize(length / 2 + 2 + LANES, 0);
        for chroma in &mut self.chroma {
            chroma.resize(length, 0);
        }
        for rows in &mut self.rgb {
            rows.resize(LANES * self.stride, 0);
        }
    }

    /// Makes the rows from `first_row` on, as many as a strip has; beyond `end_row` nothing is made.
    pub(super) fn run<K: Kernels>(&mut self, kernels: K, planes: &Planes<'_>, rows: Range<u32>) {
        let length = self.chroma[0].len();
        for (index, y) in rows.enumerate() {
            let [luma, cb, cr] = &planes.components;
            for (chroma, plane) in self.chroma.iter_mut().zip([cb, cr]) {
                enlarge_row(kernels, planes, plane, y, self.first_px, &mut self.sums, chroma);
            }
            let luma = luma.row(self.first_px, y);
            let rgb = self.rgb.each_mut().map(|rows| &mut rows[index * self.stride..][..length]);
            kernels.whole_ycc_to_rgb(luma, &self.chroma[0], &self.chroma[1], rgb);
        }
    }

    /// Row `index` of the strip of R, G or B, from the first of the asked pixels on.
    pub(super) fn row(&self, component: usize, index: usize) -> &[u8] {
        let start = index * self.stride + (self.columns.start - self.first_px) as usize;
        &self.rgb[component][start..(index + 1) * self.stride]
    }
}

/// One row of chroma, from pixel `first_px` on, as many as `target` holds.
fn enlarge_row<K: Kernels>(
    kernels: K,
    planes: &Planes<'_>,
    plane: &Plane<'_>,
    y: u32,
    first_px: u32,
    sums: &mut [i16],
    target: &mut [i16],
) {
    if !planes.is_half_width {
        kernels.widen(plane.row(first_px, y), target);
        return;
    }
    let first = first_px / 2;
    // The neighbour to the left of the first sample, unless it is not there or not needed.
    let begin = if first > plane.origin_x { first - 1 } else { first };
    let skipped = (1 - (first - begin)) as usize;
    let count = target.len() / 2 + 2;
    let sums = &mut sums[..count];
    if planes.is_half_height {
        let near = y / 2;
        let far = if y.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(plane.height - 1) };
        kernels.near_and_far(plane.row(begin, near), plane.row(begin, far), &mut sums[skipped..]);
    } else {
        kernels.widen(plane.row(begin, y), &mut sums[skipped..]);
    }
    if skipped == 1 {
        sums[0] = sums[1];
    }
    // Behind the last sample of the picture comes the same once more.
    let last = (plane.width - first) as usize;
    if last + 1 < count {
        sums[last + 1] = sums[last];
    }
    if planes.is_half_height { kernels.double::<4>(sums, target) } else { kernels.double::<2>(sums, target) }
}
