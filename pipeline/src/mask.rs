//! Masking: which patches the encoder sees, and which ones it must reconstruct.
//!
//! Puts out, for each image, `visible_index: uint16 [V]` and `masked_index: uint16 [M]`, both ascending, together each
//! of the L patches once.

use serde::{Deserialize, Serialize};

use crate::error::PipelineError;
use crate::geometry::PatchGrid;
use crate::random::Random;

/// How masked patches are chosen (MAE, arXiv 2111.06377, Table 1f and Figure 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskKind {
    /// Every set of M patches is equally likely.
    Random,
    /// Rectangles of patches, as `BEiT` (arXiv 2106.08254, Algorithm 1) draws them.
    Block,
    /// A regular grid, the same for each image: one of every 2 x 2 patches is visible at a ratio of 75%. For other
    /// ratios the visible patches are the first V in the order of Bayer's dither matrix, which spreads any number of
    /// them evenly: at 50% a checkerboard, at 93.75% one of every 4 x 4.
    Grid,
}

/// The kind of mask and the share of patches that it hides.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Masking {
    /// How masked patches are chosen.
    pub kind: MaskKind,
    /// Share of masked patches, at least 0 and below 1; 0.75 in the paper.
    pub ratio: f64,
}

impl Default for Masking {
    fn default() -> Self {
        Self { kind: MaskKind::Random, ratio: 0.75 }
    }
}

impl Masking {
    /// Checks the ratio.
    ///
    /// # Errors
    /// [`PipelineError::Config`] when the ratio is not in [0, 1).
    pub fn validate(&self) -> Result<(), PipelineError> {
        if (0.0..1.0).contains(&self.ratio) {
            Ok(())
        } else {
            Err(PipelineError::config("masking.ratio", "at least 0 and below 1", self.ratio))
        }
    }

    /// V = floor(L * (1 - ratio)) in float64, at least 1.
    pub fn visible_patches(&self, patches: usize) -> usize {
        ((patches as f64 * (1.0 - self.ratio)) as usize).clamp(1, patches)
    }
}

/// Draws masks for one grid; holds the memory that drawing needs.
#[derive(Debug)]
pub struct Masker {
    kind: MaskKind,
    rows: u32,
    columns: u32,
    visible_count: usize,
    /// Whether a patch is masked, row by row; for `Grid` it never changes.
    is_masked: Vec<bool>,
}

impl Masker {
    /// A masker for valid settings.
    pub fn new(grid: &PatchGrid, masking: &Masking) -> Self {
        let patches = grid.patches();
        let visible_count = masking.visible_patches(patches);
        let (rows, columns) = (grid.rows() as u32, grid.columns() as u32);
        let mut masker = Self { kind: masking.kind, rows, columns, visible_count, is_masked: vec![false; patches] };
        if masking.kind == MaskKind::Grid {
            let mut order: Vec<usize> = (0..patches).collect();
            order.sort_by_key(|&patch| bayer_rank(patch as u32 / columns, patch as u32 % columns));
            for &patch in &order[visible_count..] {
                masker.is_masked[patch] = true;
            }
        }
        masker
    }

    /// Draws one mask into `visible` (V) and `masked` (M), both ascending.
    ///
    /// # Panics
    /// When the slices have other lengths.
    pub fn draw(&mut self, random: &mut Random, visible: &mut [u16], masked: &mut [u16]) {
        let masked_count = self.is_masked.len() - self.visible_count;
        assert_eq!((visible.len(), masked.len()), (self.visible_count, masked_count), "index slots fit the mask");
        match self.kind {
            MaskKind::Random => {
                self.is_masked.fill(false);
                self.mask_at_random(random, masked_count);
            }
            MaskKind::Block => {
                self.is_masked.fill(false);
                let placed = self.mask_blocks(random, masked_count);
                self.mask_at_random(random, masked_count - placed);
            }
            MaskKind::Grid => {}
        }
        let (mut visible, mut masked) = (visible.iter_mut(), masked.iter_mut());
        for (patch, &is_masked) in self.is_masked.iter().enumerate() {
            let next = if is_masked { masked.next() } else { visible.next() };
            *next.expect("exactly M patches are masked") = patch as u16;
        }
    }

    /// Masks `count` of the patches that are still visible, every choice equally likely (selection sampling, Knuth
    /// volume 2, algorithm 3.4.2 S).
    fn mask_at_random(&mut self, random: &mut Random, mut count: usize) {
        let mut candidates = self.is_masked.iter().filter(|masked| !**masked).count();
        for masked in self.is_masked.iter_mut().filter(|masked| !**masked) {
            if count == 0 {
                break;
            }
            if (random.below(candidates as u32) as usize) < count {
                *masked = true;
                count -= 1;
            }
            candidates -= 1;
        }
    }

    /// Places rectangles until `wanted` patches are masked or none fits any more; returns how many are masked.
    ///
    /// As in `BEiT` a rectangle has at least 16 patches, an aspect ratio log-uniform in 0.3 to 1/0.3, and may overlap
    /// others. Where `BEiT` would stop short, smaller ones follow, since V must be exact; the caller fills the last few.
    fn mask_blocks(&mut self, random: &mut Random, wanted: usize) -> usize {
        const TRIES: usize = 10;
        const ASPECT: f64 = 0.3;
        let mut min_area: usize = 16;
        let mut placed = 0;
        while placed < wanted && min_area > 0 {
            let remaining = wanted - placed;
            let mut added = 0;
            for _ in 0..TRIES {
                let area = random.between(min_area.min(remaining) as f64, remaining as f64);
                let aspect = random.between(ASPECT.ln(), -ASPECT.ln()).exp();
                let height = (area * aspect).sqrt().round_ties_even() as u32;
                let width = (area / aspect).sqrt().round_ties_even() as u32;
                if height == 0 || width == 0 || height > self.rows || width > self.columns {
                    continue;
                }
                let top = random.below(self.rows - height + 1);
                let left = random.below(self.columns - width + 1);
                added = self.mask_rectangle(top..top + height, &(left..left + width), remaining);
                if added > 0 {
                    break;
                }
            }
            placed += added;
            if added == 0 {
                min_area /= 2;
            }
        }
        placed
    }

    /// Masks the rectangle if that adds at least one patch and at most `limit`; returns how many it added.
    fn mask_rectangle(&mut self, rows: std::ops::Range<u32>, columns: &std::ops::Range<u32>, limit: usize) -> usize {
        let width = self.columns;
        let patches = |row: u32| (row * width + columns.start) as usize..(row * width + columns.end) as usize;
        let added: usize =
            rows.clone().map(|row| self.is_masked[patches(row)].iter().filter(|masked| !**masked).count()).sum();
        if added > limit {
            return 0;
        }
        for row in rows {
            self.is_masked[patches(row)].fill(true);
        }
        added
    }
}

/// The rank of a cell in Bayer's ordered-dither matrix of 2^16 x 2^16: the interleaved bits of (row ^ column) and row,
/// lowest bits first in weight.
fn bayer_rank(row: u32, column: u32) -> u32 {
    (0..16).fold(0, |rank, bit| {
        let quarter = (((row ^ column) >> bit) & 1) << 1 | ((row >> bit) & 1);
        rank << 2 | quarter
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, SampleKey};
    use proptest::prelude::*;

    fn draw(grid: &PatchGrid, masking: Masking, sample_id: u64) -> (Vec<u16>, Vec<u16>) {
        let visible = masking.visible_patches(grid.patches());
        let (mut visible, mut masked) = (vec![0; visible], vec![0; grid.patches() - visible]);
        let key = SampleKey { seed: 0, epoch: 0, sample_id, repeat: 0 };
        Masker::new(grid, &masking).draw(&mut Random::new(key, Purpose::Mask), &mut visible, &mut masked);
        (visible, masked)
    }

    proptest! {
        #[test]
        fn every_mask_is_a_partition_with_exactly_v_visible(
            rows in 1u32..24, columns in 1u32..24, ratio in 0.0f64..1.0, kind in 0..3, sample in 0u64..1000,
        ) {
            let grid = PatchGrid::new(rows * 4, columns * 4, 4).unwrap();
            let kind = [MaskKind::Random, MaskKind::Block, MaskKind::Grid][kind as usize];
            let (visible, masked) = draw(&grid, Masking { kind, ratio }, sample);
            prop_assert_eq!(visible.len(), ((grid.patches() as f64 * (1.0 - ratio)).floor() as usize).max(1));
            prop_assert!(visible.is_sorted() && masked.is_sorted());
            let mut all = [visible, masked].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..grid.patches() as u16).collect::<Vec<_>>());
        }
    }

    #[test]
    fn random_masks_show_every_patch_equally_often() {
        let grid = PatchGrid::new(32, 32, 8).unwrap();
        let mut shown = [0u32; 16];
        for sample in 0..8_000 {
            let (visible, _) = draw(&grid, Masking::default(), sample);
            for patch in visible {
                shown[usize::from(patch)] += 1;
            }
        }
        assert!(shown.iter().all(|count| (1_850..2_150).contains(count)), "{shown:?}");
    }

    #[test]
    fn grid_masks_keep_one_of_every_two_by_two_and_checkerboards() {
        let grid = PatchGrid::new(224, 224, 16).unwrap();
        let (visible, _) = draw(&grid, Masking { kind: MaskKind::Grid, ratio: 0.75 }, 0);
        assert!(visible.iter().all(|&patch| patch / 14 % 2 == 0 && patch % 14 % 2 == 0));
        let (visible, _) = draw(&grid, Masking { kind: MaskKind::Grid, ratio: 0.5 }, 0);
        assert!(visible.iter().all(|&patch| (patch / 14 + patch % 14) % 2 == 0));
    }

    #[test]
    fn block_masks_are_blocky() {
        let grid = PatchGrid::new(224, 224, 16).unwrap();
        // Neighbours to the right with the same state: about 86% of a block mask, 62% of a random one.
        let alike = |kind| {
            let mut alike = 0;
            for sample in 0..200 {
                let (_, masked) = draw(&grid, Masking { kind, ratio: 0.5 }, sample);
                let is_masked = |patch: u16| masked.binary_search(&patch).is_ok();
                alike += (0..195).filter(|patch| patch % 14 != 13 && is_masked(*patch) == is_masked(patch + 1)).count();
            }
            alike as f64 / (200.0 * 182.0)
        };
        assert!(alike(MaskKind::Block) > 0.8, "{}", alike(MaskKind::Block));
        assert!(alike(MaskKind::Random) < 0.55, "{}", alike(MaskKind::Random));
    }
}
