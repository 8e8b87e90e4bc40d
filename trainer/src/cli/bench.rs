//! What can be typed after `patchstream bench`.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use patchstream_datasets::Faults;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  patchstream bench --data shards/ --workers 2
  patchstream bench --data shards/ --target 7000 --report report.html
  patchstream bench --data shards/ --workers 2 --epochs 5 --decode fast --json
  patchstream bench --data shards/ --faults slow=200ms@0.1,fail@0.05
  patchstream bench --data shards/ --compare=peers/

--faults takes rules parted by commas: slow=TIME@SHARE makes that share of
the reads take so much longer (us, ms, s), fail@SHARE makes it fail as if the
connection were lost, after which it is tried again. Without @SHARE a rule
strikes every read.

--compare looks for torchvision, FFCV, DALI, tf.data, SPDL, WebDataset,
MosaicML Streaming and LitData in PEERS/v_*/bin/python, or without PEERS in
python3, and runs what it finds on the same images, one after the other.")]
pub(crate) struct BenchArgs {
    /// Data set made by `patchstream convert`, or images as they are: a folder, tars, Parquet, whatever `convert` takes
    #[arg(long, value_name = "DATA")]
    pub(crate) data: String,
    /// Threads that decode; as many as there are cores unless given
    #[arg(long, value_name = "THREADS")]
    pub(crate) workers: Option<NonZeroUsize>,
    /// Epochs that are measured, after one that is not
    #[arg(long, default_value = "3")]
    pub(crate) epochs: NonZeroU64,
    /// Images of a batch; the whole data set if it is smaller
    #[arg(long, default_value = "64")]
    pub(crate) batch_size: NonZeroUsize,
    /// Height and width of the crop, in pixels
    #[arg(long, value_name = "PX", default_value_t = 224)]
    pub(crate) image_px: u32,
    /// Height and width of a patch, in pixels
    #[arg(long, value_name = "PX", default_value_t = 16)]
    pub(crate) patch_px: u32,
    /// How exactly JPEGs are decoded
    #[arg(long, value_enum, default_value_t = Decode::Exact)]
    pub(crate) decode: Decode,
    /// Crops, flips and masks that are made of an image that is decoded once
    #[arg(long, value_name = "ROWS", default_value = "1")]
    pub(crate) repeats: NonZeroUsize,
    /// Row groups that are mixed with each other
    #[arg(long, value_name = "ROW GROUPS", default_value = "4")]
    pub(crate) shuffle_window: NonZeroUsize,
    /// Bytes of shards that are read ahead, beside the window
    #[arg(long, value_name = "MIB", default_value = "64")]
    pub(crate) read_ahead_mib: NonZeroU32,
    /// Seed of order, crops, flips and masks
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Which of --world processes this is, from 0
    #[arg(long, default_value_t = 0)]
    pub(crate) rank: usize,
    /// Processes that share every batch; this one makes its part
    #[arg(long, value_name = "PROCESSES", default_value = "1")]
    pub(crate) world: NonZeroUsize,

    /// Say how many cores would make so many images a second
    #[arg(long, value_name = "IMAGES/S", value_parser = target_parser)]
    pub(crate) target: Option<f64>,
    /// Write a page with charts, to be opened in a browser
    #[arg(long, value_name = "HTML")]
    pub(crate) report: Option<PathBuf>,
    /// Run other loaders beside this one, those that are installed
    #[arg(long, value_name = "PEERS", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub(crate) compare: Option<PathBuf>,
    /// Make reads slow or fail, to see what waits for what
    #[arg(long, value_name = "RULES")]
    pub(crate) faults: Option<Faults>,
    /// Print the result as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Decode {
    /// As Pillow: chroma is enlarged and becomes RGB before resizing
    Exact,
    /// Y, Cb and Cr of a JPEG are resized before they become RGB
    Fast,
}

fn target_parser(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "expected a number of images per second".to_owned())?;
    if rate.is_finite() && rate > 0.0 { Ok(rate) } else { Err("expected more than 0 images per second".to_owned()) }
}
