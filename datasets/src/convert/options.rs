//! What a conversion can be asked for, and what cannot be.

use std::fmt;
use std::num::{NonZeroU8, NonZeroU16, NonZeroU32, NonZeroU64, NonZeroUsize};
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;
use std::thread::available_parallelism;

use serde::{Deserialize, Serialize};

use crate::error::DatasetError;
use crate::manifest::GROUP_BYTES_MAX;
use crate::schema::Layout;

/// Pixels that a side of a raw image may have, so that making one of the largest pictures takes less than 500 MiB.
const RAW_SIDE_PX_MAX: u32 = 2048;

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

/// A share of the images that becomes a data set of its own, chosen by their content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// Its name: that of its folder, and the beginning of its shards' names.
    pub name: String,
    /// Its share of the images, above 0 and below 1.
    pub share: f64,
}

/// One of several machines that share a conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Which of them this is, from 1.
    pub number: NonZeroU32,
    /// How many there are.
    pub of: NonZeroU32,
}

impl Part {
    /// The units that this machine makes, of so many.
    pub(super) fn units(self, units: u32) -> Range<u32> {
        let start = |part: u32| (u64::from(units) * u64::from(part) / u64::from(self.of.get())) as u32;
        start(self.number.get() - 1)..start(self.number.get())
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Part, String> {
        let numbers = text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        let (number, of) = numbers.ok_or("expected the number of the part and of all parts, for instance `1/8`")?;
        Ok(Part { number, of })
    }
}

impl FromStr for Split {
    type Err = String;

    fn from_str(text: &str) -> Result<Split, String> {
        let pair = text.split_once('=').and_then(|(name, share)| Some((name, share.parse().ok()?)));
        let (name, share) = pair.ok_or("expected a name and a share, for instance `val=0.05`")?;
        Ok(Split { name: name.to_owned(), share })
    }
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.number, self.of)
    }
}

/// The name of the split to which everything belongs that belongs to no other.
pub(super) const REST_SPLIT: &str = "train";

/// Whether a split can be called so: the name becomes that of a folder beside `units`.
pub(super) fn is_split_name(name: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    !name.is_empty() && name != "units" && name.chars().all(plain)
}

/// How to convert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// Splits besides `train`, which gets the rest.
    pub splits: Vec<Split>,
    /// Of images with the same bytes, keep the first.
    pub dedupe: bool,
    /// Leave out images with a side shorter than this, in pixels.
    pub min_side_px: Option<NonZeroU32>,
    /// Convert one machine's part, to be merged with the others'.
    pub part: Option<Part>,
    /// Measure mean and deviation of the pixels on so many images.
    pub measure: Option<NonZeroU64>,
    /// Threads that read and examine images; the output does not depend on it.
    pub workers: NonZeroUsize,
    /// Replace the data set at the destination.
    pub overwrite: bool,
    /// Go on with a conversion that was interrupted.
    pub resume: bool,
    /// Where shards are made that are sent to an object store; there are three of them at most.
    #[serde(skip)]
    pub temporary: PathBuf,
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
            splits: Vec::new(),
            dedupe: false,
            min_side_px: None,
            part: None,
            measure: None,
            workers: available_parallelism().unwrap_or(NonZeroUsize::MIN),
            overwrite: false,
            resume: false,
            temporary: std::env::temp_dir(),
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
        if let Some(Part { number, of }) = self.part.filter(|part| part.number > part.of) {
            return refuse("part", format!("expected 1 to {of} of {of}, got {number}"));
        }
        self.check_splits()
    }

    fn check_splits(&self) -> Result<(), DatasetError> {
        let refuse = |reason| Err(DatasetError::InvalidOption { option: "split", reason });
        for (index, Split { name, share }) in self.splits.iter().enumerate() {
            if !is_split_name(name) {
                return refuse(format!("expected a name of lower-case letters, digits and `_`, got `{name}`"));
            }
            if name == REST_SPLIT || self.splits[..index].iter().any(|before| before.name == *name) {
                return refuse(format!("`{name}` is there already; `{REST_SPLIT}` gets what the others leave"));
            }
            if !(*share > 0.0 && *share < 1.0) {
                return refuse(format!("expected a share of `{name}` above 0 and below 1, got {share}"));
            }
        }
        let sum: f64 = self.splits.iter().map(|split| split.share).sum();
        if sum >= 1.0 {
            return refuse(format!("expected shares that leave something for `{REST_SPLIT}`, got {sum} in all"));
        }
        Ok(())
    }

    /// The names of all splits, the rest first.
    pub(super) fn split_names(&self) -> Vec<String> {
        let others = self.splits.iter().map(|split| split.name.clone());
        std::iter::once(REST_SPLIT.to_owned()).chain(others).collect()
    }

    /// The split of an image, as an index into [`split_names`](Self::split_names), by the XXH3-128 of its bytes. What could
    /// not be read belongs to the rest.
    pub(super) fn split_of(&self, content: Option<u128>) -> usize {
        let Some(content) = content else { return 0 };
        // The upper half of the hash as a number in 0..1.
        let place = (content >> 64) as f64 / 2.0_f64.powi(64);
        let mut end = 0.0;
        let found = self.splits.iter().position(|split| {
            end += split.share;
            place < end
        });
        found.map_or(0, |split| split + 1)
    }

    /// Whether the content of images has to be told apart.
    pub(super) fn needs_content(&self) -> bool {
        self.dedupe || !self.splits.is_empty()
    }

    /// How the shards look.
    pub(super) fn layout(&self) -> Layout {
        Layout {
            segments: self.tile_index.is_some(),
            images_zstd_level: match self.encode {
                Encode::Raw { zstd_level, .. } => zstd_level,
                Encode::Keep | Encode::Jpeg { .. } => None,
            },
        }
    }
}
