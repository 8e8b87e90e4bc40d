//! What a conversion can be asked for, and what cannot be.

use std::num::{NonZeroU8, NonZeroU16, NonZeroU32, NonZeroU64, NonZeroUsize};
use std::thread::available_parallelism;

use serde::{Deserialize, Serialize};

use crate::error::DatasetError;
use crate::manifest::GROUP_BYTES_MAX;

/// Pixels that a side of a raw image may have, so that a few of them fit into memory.
const RAW_SIDE_PX_MAX: u32 = 8192;

/// How images are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encode {
    /// As they come, byte for byte.
    Keep,
    /// As JPEG of this quality (4:2:0), shrunk so that no side is longer.
    Jpeg {
        /// The longest side in pixels; any, without it.
        max_side_px: Option<NonZeroU32>,
        /// The quality as libjpeg counts it, 1 to 100.
        quality: NonZeroU8,
    },
    /// As binary PPM (P6), shrunk so that no side is longer.
    Raw {
        /// The longest side in pixels.
        max_side_px: NonZeroU32,
        /// The level of zstd for the column of images; not compressed without it.
        zstd_level: Option<i32>,
    },
}

impl Encode {
    /// The longest side that an image may keep, in pixels.
    pub fn max_side_px(self) -> Option<NonZeroU32> {
        match self {
            Encode::Keep => None,
            Encode::Jpeg { max_side_px, .. } => max_side_px,
            Encode::Raw { max_side_px, .. } => Some(max_side_px),
        }
    }

    /// What an image of `source_bytes` counts for when row groups and shards are cut, before anything is decoded: its own
    /// size; for what is shrunk no more than a shrunk JPEG takes (4 bits a pixel, twice what photographs need); for raw
    /// pixels the most that there can be.
    pub(crate) fn planned_bytes(self, source_bytes: u64) -> u64 {
        let square = |side: NonZeroU32| u64::from(side.get()) * u64::from(side.get());
        match self {
            Encode::Raw { max_side_px, .. } => square(max_side_px) * 3,
            Encode::Jpeg { max_side_px: Some(side), .. } => source_bytes.min(square(side) / 2),
            Encode::Keep | Encode::Jpeg { max_side_px: None, .. } => source_bytes,
        }
    }
}

/// The order in which images are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Shuffled by the seed, so that reading in order is already mixed.
    Shuffled,
    /// Sorted by path.
    Sorted,
}

/// How closely images are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The header must tell format and size.
    Header,
    /// The whole image must decode.
    Decode,
}

/// What happens to bad images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBad {
    /// They are left out and listed in the ledger.
    Skip,
    /// The conversion fails.
    Fail,
}

/// How to convert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConvertOptions {
    /// Decides the order and the sample that is measured.
    pub seed: u64,
    /// The order in which images are written.
    pub order: Order,
    /// Convert only so many images, the first in that order.
    pub limit: Option<NonZeroU64>,
    /// Row groups hold at most so many bytes of images, or a single image.
    pub row_group_bytes: NonZeroU64,
    /// Shards hold at most so many bytes of images, or a single row group.
    pub shard_bytes: NonZeroU64,
    /// How images are stored.
    pub encode: Encode,
    /// Store JPEGs with a restart marker after so many MCUs, and where each segment begins.
    pub tile_index: Option<NonZeroU16>,
    /// How closely images are looked at.
    pub check: Check,
    /// What happens to bad images.
    pub on_bad: OnBad,
    /// How many bad images are tolerated when they are skipped; without it, any number.
    pub bad_budget: Option<u64>,
    /// Measure mean and deviation of the pixels on so many images.
    pub measure: Option<NonZeroU64>,
    /// Threads that read and examine images; the output does not depend on it.
    pub workers: NonZeroUsize,
    /// Replace the data set at the destination.
    pub overwrite: bool,
}

impl Default for ConvertOptions {
    fn default() -> Self {
        const MIB: u64 = 1 << 20;
        ConvertOptions {
            seed: 0,
            order: Order::Shuffled,
            limit: None,
            row_group_bytes: NonZeroU64::MIN.saturating_add(16 * MIB - 1),
            shard_bytes: NonZeroU64::MIN.saturating_add(256 * MIB - 1),
            encode: Encode::Keep,
            tile_index: None,
            check: Check::Header,
            on_bad: OnBad::Skip,
            bad_budget: None,
            measure: None,
            workers: available_parallelism().unwrap_or(NonZeroUsize::MIN),
            overwrite: false,
        }
    }
}

impl ConvertOptions {
    /// Refuses what cannot be done.
    pub(super) fn check(&self) -> Result<(), DatasetError> {
        let refuse = |option, reason| Err(DatasetError::InvalidOption { option, reason });
        // The columns beside the images need some room below the limit of the format.
        let max = GROUP_BYTES_MAX / 2;
        if self.row_group_bytes.get() > max {
            return refuse("row group size", format!("expected at most {max} bytes, got {}", self.row_group_bytes));
        }
        match self.encode {
            Encode::Jpeg { quality, .. } if quality.get() > 100 => {
                return refuse("quality", format!("expected 1 to 100, got {quality}"));
            }
            Encode::Raw { max_side_px, .. } if max_side_px.get() > RAW_SIDE_PX_MAX => {
                let reason = format!("expected at most {RAW_SIDE_PX_MAX} pixels for raw images, got {max_side_px}");
                return refuse("max side", reason);
            }
            Encode::Raw { zstd_level: Some(level), .. } if !(1..=22).contains(&level) => {
                return refuse("zstd level", format!("expected 1 to 22, got {level}"));
            }
            Encode::Raw { .. } if self.tile_index.is_some() => {
                return refuse("tile index", "raw images have no restart segments".to_owned());
            }
            _ => {}
        }
        Ok(())
    }
}
