//! Which blocks and which restart segments a crop needs (T.81 A.1, A.2).

use std::ops::Range;

use super::markers::{Header, Sampling};
use super::refusal::{NotForUs, Refusal};
use crate::geometry::PixelBox;

/// Most pixels of a crop: what is set aside for one image stays below 200 MB.
const CROP_PIXELS_MAX: u64 = 1 << 26;

/// One axis of one component.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    /// Blocks of the component in an MCU along this axis, 1 or 2.
    pub(super) blocks_per_mcu: u32,
    /// Samples of the component along this axis.
    pub(super) samples: u32,
    /// The blocks that the crop needs.
    pub(super) blocks: Range<u32>,
}

impl Axis {
    fn new(image_px: u32, blocks_per_mcu: u32, is_half: bool, crop: &Range<u32>) -> Axis {
        let samples = if is_half { image_px.div_ceil(2) } else { image_px };
        let (first, last) = if is_half {
            // A chroma sample reaches into the pixels beside its own two, so one more is needed at either end.
            (crop.start.saturating_sub(1) / 2, (crop.end / 2).min(samples - 1))
        } else {
            (crop.start, crop.end - 1)
        };
        Axis { blocks_per_mcu, samples, blocks: first / 8..last / 8 + 1 }
    }

    /// The first sample of the needed blocks.
    pub(super) fn first_sample(&self) -> u32 {
        self.blocks.start * 8
    }

    fn mcus(&self) -> Range<u32> {
        self.blocks.start / self.blocks_per_mcu..(self.blocks.end - 1) / self.blocks_per_mcu + 1
    }
}

/// The part of a component that the crop needs.
#[derive(Debug, Clone)]
pub(super) struct ComponentRegion {
    pub(super) x: Axis,
    pub(super) y: Axis,
}

/// One block of an MCU.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) component: usize,
    /// Blocks of the component in an MCU.
    pub(super) columns: u32,
    pub(super) rows: u32,
    /// Which of them this one is.
    pub(super) column: u32,
    pub(super) row: u32,
}

/// The blocks of an MCU in the order of T.81 A.2.3: up to four of luma and two of chroma.
#[derive(Debug, Clone)]
pub(super) struct Slots {
    slots: [Slot; 6],
    count: usize,
}

impl Slots {
    fn new(components: &[ComponentRegion]) -> Slots {
        let empty = Slot { component: 0, columns: 1, rows: 1, column: 0, row: 0 };
        let mut all = Slots { slots: [empty; 6], count: 0 };
        for (component, blocks) in components.iter().enumerate() {
            let (columns, rows) = (blocks.x.blocks_per_mcu, blocks.y.blocks_per_mcu);
            for index in 0..columns * rows {
                all.slots[all.count] = Slot { component, columns, rows, column: index % columns, row: index / columns };
                all.count += 1;
            }
        }
        all
    }
}

impl std::ops::Deref for Slots {
    type Target = [Slot];

    #[inline(always)]
    fn deref(&self) -> &[Slot] {
        &self.slots[..self.count]
    }
}

/// The part of the image that the crop needs.
#[derive(Debug, Clone)]
pub(super) struct Region {
    /// One or three components; those beyond the first of a grayscale image are not used.
    pub(super) components: [ComponentRegion; 3],
    pub(super) component_count: usize,
    pub(super) slots: Slots,
    pub(super) mcus_per_row: u32,
    pub(super) mcu_rows: u32,
    /// The columns and rows of MCUs that hold a needed block.
    pub(super) mcu_x: Range<u32>,
    pub(super) mcu_y: Range<u32>,
    /// MCUs in a restart segment; all of them when there are no restart markers.
    pub(super) mcus_per_segment: u32,
}

impl Region {
    pub(super) fn new(header: &Header<'_>, crop: PixelBox) -> Result<Region, Refusal> {
        let (width_px, height_px) = (header.width_px, header.height_px);
        let is_inside = crop.width > 0
            && crop.height > 0
            && crop.x.checked_add(crop.width).is_some_and(|end| end <= width_px)
            && crop.y.checked_add(crop.height).is_some_and(|end| end <= height_px);
        if !is_inside {
            return Err(NotForUs::CropOutside { width: width_px, height: height_px }.into());
        }
        let pixels = u64::from(crop.width) * u64::from(crop.height);
        if pixels > CROP_PIXELS_MAX {
            return Err(NotForUs::TooLarge(pixels).into());
        }
        let (crop_x, crop_y) = (crop.x..crop.x + crop.width, crop.y..crop.y + crop.height);
        let (half_x, half_y) = match header.sampling {
            Sampling::Gray | Sampling::Full => (false, false),
            Sampling::HalfWidth => (true, false),
            Sampling::HalfBoth => (true, true),
        };
        let component = |is_luma: bool| ComponentRegion {
            x: Axis::new(width_px, 1 + u32::from(is_luma && half_x), !is_luma && half_x, &crop_x),
            y: Axis::new(height_px, 1 + u32::from(is_luma && half_y), !is_luma && half_y, &crop_y),
        };
        let (luma, chroma) = (component(true), component(false));
        let union = |a: Range<u32>, b: Range<u32>| a.start.min(b.start)..a.end.max(b.end);
        let mcus_per_row = width_px.div_ceil(8 << u32::from(half_x));
        let mcu_rows = height_px.div_ceil(8 << u32::from(half_y));
        let mcu_count = mcus_per_row * mcu_rows;
        let component_count = if header.sampling == Sampling::Gray { 1 } else { 3 };
        let components = [luma.clone(), chroma.clone(), chroma.clone()];
        Ok(Region {
            mcu_x: union(luma.x.mcus(), chroma.x.mcus()),
            mcu_y: union(luma.y.mcus(), chroma.y.mcus()),
            slots: Slots::new(&components[..component_count]),
            component_count,
            components,
            mcus_per_row,
            mcu_rows,
            mcus_per_segment: if header.restart_interval == 0 { mcu_count } else { header.restart_interval },
        })
    }

    pub(super) fn segment_count(&self) -> u32 {
        (self.mcus_per_row * self.mcu_rows).div_ceil(self.mcus_per_segment)
    }

    /// The MCUs of a segment by number.
    pub(super) fn segment_mcus(&self, segment: u32) -> Range<u32> {
        let first = segment * self.mcus_per_segment;
        first..(first + self.mcus_per_segment).min(self.mcus_per_row * self.mcu_rows)
    }

    /// The last segment that holds a needed MCU.
    pub(super) fn last_segment(&self) -> u32 {
        self.last_mcu() / self.mcus_per_segment
    }

    pub(super) fn last_mcu(&self) -> u32 {
        (self.mcu_y.end - 1) * self.mcus_per_row + self.mcu_x.end - 1
    }

    /// Whether a segment holds a needed MCU.
    pub(super) fn needs_segment(&self, segment: u32) -> bool {
        let mcus = self.segment_mcus(segment);
        let row = (mcus.start / self.mcus_per_row).max(self.mcu_y.start);
        // The first needed MCU of this row or of the next, whichever is not behind the segment's first.
        let candidates = [row, row + 1].map(|row| {
            let first = row * self.mcus_per_row + self.mcu_x.start;
            let end = row * self.mcus_per_row + self.mcu_x.end;
            row < self.mcu_y.end && first.max(mcus.start) < end.min(mcus.end)
        });
        candidates.contains(&true)
    }
}
