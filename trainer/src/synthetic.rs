//! Batches of random pixels under random masks, for measuring without data.

use patchstream_model::{MaeConfig, PatchInput, Pixels};

/// A batch as the pipeline would make one, of noise.
pub(crate) struct SyntheticBatch {
    rows: usize,
    visible: Vec<u8>,
    visible_index: Vec<u16>,
    masked: Vec<u8>,
    masked_index: Vec<u16>,
}

impl SyntheticBatch {
    /// `rows` images of which `visible` patches are shown; the same `seed` gives the same bytes.
    pub(crate) fn new(model: &MaeConfig, visible: usize, rows: usize, seed: u64) -> Self {
        let (patches, values) = (model.patches(), model.patch_values());
        let mut random = SplitMix(seed);
        let mut batch = Self {
            rows,
            visible: random.bytes(rows * visible * values),
            visible_index: Vec::with_capacity(rows * visible),
            masked: random.bytes(rows * (patches - visible) * values),
            masked_index: Vec::with_capacity(rows * (patches - visible)),
        };
        let mut order: Vec<u16> = (0..patches).map(|patch| patch as u16).collect();
        for _ in 0..rows {
            for place in 0..visible {
                let other = place + (random.next() % (patches - place) as u64) as usize;
                order.swap(place, other);
            }
            let (shown, hidden) = order.split_at_mut(visible);
            shown.sort_unstable();
            hidden.sort_unstable();
            batch.visible_index.extend_from_slice(shown);
            batch.masked_index.extend_from_slice(hidden);
        }
        batch
    }

    pub(crate) fn input(&self) -> PatchInput<'_> {
        PatchInput {
            rows: self.rows,
            visible: Pixels::Bytes(&self.visible),
            visible_index: &self.visible_index,
            masked: Pixels::Bytes(&self.masked),
            masked_index: &self.masked_index,
            uploaded: None,
        }
    }
}

/// `SplitMix64`.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..count.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(count);
        bytes
    }
}
