//! The command line: what can be typed, with help and examples. Each command's work is in `commands/`.

#![expect(clippy::doc_markdown, rustdoc::bare_urls, reason = "what is documented here is printed as help")]

mod source;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use self::source::SourceArgs;

/// Pre-train masked autoencoders, fed by a pipeline that keeps the accelerator busy.
#[derive(Debug, Parser)]
#[command(name = "patchstream", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "Start here:
  patchstream convert photos/ shards/
  patchstream pretrain --data shards/ --model vit_micro --out run/
  patchstream reconstruct --checkpoint run/ --data shards/ --out picture.png")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options that every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// Log more to standard error (-v information, -vv debugging); PATCHSTREAM_LOG overrides
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Show neither progress nor log, only results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Write a trace of every stage, to be opened in Perfetto or chrome://tracing
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Convert images (folders, lists, tars, Parquet, MNIST, CIFAR) to Parquet shards with a manifest
    Convert(ConvertArgs),
    /// Show what is in a data set, and check it
    Inspect(InspectArgs),
    /// Pre-train a masked autoencoder
    Pretrain(PretrainArgs),
    /// Draw originals, masked images and reconstructions of a checkpoint
    Reconstruct(ReconstructArgs),
    /// Measure the data pipeline, stage by stage, without a model
    Bench(BenchArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  patchstream convert photos/ shards/
  patchstream convert photos.csv shards/ --image-column file --label-column species
  patchstream convert 'imagenet-train-{000..146}.tar' s3://bucket/imagenet
  patchstream convert mnist/ shards/ --from-split train
  patchstream convert photos/ shards/ --check decode --on-bad fail
  patchstream convert photos/ shards/ --order sorted --row-group-mib 4 --json

Images in sub-folders get the first folder's name as their class; images beside each other have no label.
Credentials and endpoints of object stores are taken from the environment, as AWS_ACCESS_KEY_ID and
AWS_ENDPOINT_URL.")]
pub(crate) struct ConvertArgs {
    /// Folder, file or files with images, here or at a URL (s3, gs, az, http, https)
    pub(crate) source: String,
    /// Folder to write, here or at a URL (s3, gs, az); it must not exist
    pub(crate) destination: PathBuf,

    #[command(flatten)]
    pub(crate) from: SourceArgs,

    /// Order of the rows
    #[arg(long, value_enum, default_value_t = RowOrder::Shuffled)]
    pub(crate) order: RowOrder,
    /// Seed of the shuffled order
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Convert this many images at most
    #[arg(long, value_name = "IMAGES")]
    pub(crate) limit: Option<std::num::NonZeroU64>,
    /// Look at each image's header, or decode it whole
    #[arg(long, value_enum, default_value_t = CheckDepth::Header)]
    pub(crate) check: CheckDepth,
    /// What to do with a bad image
    #[arg(long, value_enum, default_value_t = OnBad::Skip)]
    pub(crate) on_bad: OnBad,
    /// Stop when more images than this are bad
    #[arg(long, value_name = "IMAGES")]
    pub(crate) max_bad: Option<u64>,
    /// Measure pixel mean and deviation on this many images, drawn by the seed; 0 measures nothing
    #[arg(long, value_name = "IMAGES", default_value_t = 0)]
    pub(crate) pixel_stats: u64,
    /// Image bytes of a row group, the unit of fetching and shuffling
    #[arg(long, value_name = "MIB", default_value = "16")]
    pub(crate) row_group_mib: std::num::NonZeroU32,
    /// Bytes of a shard file
    #[arg(long, value_name = "MIB", default_value = "256")]
    pub(crate) shard_mib: std::num::NonZeroU32,
    /// Threads that read and check images; as many as there are cores unless given
    #[arg(long, value_name = "THREADS")]
    pub(crate) workers: Option<std::num::NonZeroUsize>,
    /// Replace a data set that is already there
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Print the result as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum RowOrder {
    /// Mixed by the seed, so that reading in order is already shuffled
    Shuffled,
    /// Sorted by path
    Sorted,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum CheckDepth {
    /// Format and size only
    Header,
    /// Every pixel
    Decode,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum OnBad {
    /// Write it to the ledger and go on
    Skip,
    /// Stop, and leave nothing behind
    Fail,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  patchstream inspect shards/
  patchstream inspect shards/ --verify
  patchstream inspect shards/ --json | jq .rows")]
pub(crate) struct InspectArgs {
    /// Data set to look at
    pub(crate) data: String,
    /// Check every checksum and decode every image; exit with 1 if anything is damaged
    #[arg(long)]
    pub(crate) verify: bool,
    /// Print the result as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  patchstream pretrain --data shards/ --model vit_micro --out run/
  patchstream pretrain --config run.toml --set train.batch_size=64 --set mask.kind=block
  patchstream pretrain --out run/ --resume

A configuration file holds the keys that `--show-config` prints. Flags win over --set, --set wins over the file.")]
pub(crate) struct PretrainArgs {
    /// Data set made by `patchstream convert`
    #[arg(long, value_name = "SHARDS")]
    pub(crate) data: Option<String>,
    /// Size of the model
    #[arg(long, value_name = "PRESET", value_parser = preset_parser())]
    pub(crate) model: Option<String>,
    /// Folder for checkpoints, metrics and the resolved configuration
    #[arg(long, value_name = "RUN")]
    pub(crate) out: PathBuf,
    /// Configuration in TOML
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Set one key of the configuration, for example train.batch_size=64
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
    /// Go on from the newest checkpoint of --out
    #[arg(long)]
    pub(crate) resume: bool,
    /// Print the resolved configuration and stop
    #[arg(long)]
    pub(crate) show_config: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  patchstream reconstruct --checkpoint run/ --data shards/ --out picture.png
  patchstream reconstruct --checkpoint run/checkpoints/step-00000500 --data shards/ --images 16 --out p.png")]
pub(crate) struct ReconstructArgs {
    /// Checkpoint, or the run whose newest one is meant
    #[arg(long, value_name = "RUN")]
    pub(crate) checkpoint: PathBuf,
    /// Data set to take images from
    #[arg(long, value_name = "SHARDS")]
    pub(crate) data: String,
    /// Picture to write (PNG)
    #[arg(long, value_name = "PNG")]
    pub(crate) out: PathBuf,
    /// How many images
    #[arg(long, default_value = "8")]
    pub(crate) images: std::num::NonZeroUsize,
    /// Seed of the choice of images and of their masks
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Draw the model's output for visible patches too, on which it has no loss, instead of the patches themselves
    #[arg(long)]
    pub(crate) predict_visible: bool,
    /// Print the result as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  patchstream bench --data shards/ --workers 2
  patchstream bench --data shards/ --workers 2 --epochs 5 --decode fast --json")]
pub(crate) struct BenchArgs {
    /// Data set made by `patchstream convert`
    #[arg(long, value_name = "SHARDS")]
    pub(crate) data: String,
    /// Threads that decode; as many as there are cores unless given
    #[arg(long, value_name = "THREADS")]
    pub(crate) workers: Option<std::num::NonZeroUsize>,
    /// Epochs that are measured, after one that is not
    #[arg(long, default_value = "3")]
    pub(crate) epochs: std::num::NonZeroU64,
    /// Images of a batch; the whole data set if it is smaller
    #[arg(long, default_value = "64")]
    pub(crate) batch_size: std::num::NonZeroUsize,
    /// Height and width of the crop, in pixels
    #[arg(long, value_name = "PX", default_value_t = 224)]
    pub(crate) image_px: u32,
    /// Height and width of a patch, in pixels
    #[arg(long, value_name = "PX", default_value_t = 16)]
    pub(crate) patch_px: u32,
    /// How exactly JPEGs are decoded
    #[arg(long, value_enum, default_value_t = Decode::Exact)]
    pub(crate) decode: Decode,
    /// Seed of order, crops, flips and masks
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Print the result as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Decode {
    /// As Pillow: every pixel decoded at full size
    Exact,
    /// JPEGs are scaled down while they are decoded, where the crop is at least twice the size that is wanted
    Fast,
}

fn preset_parser() -> clap::builder::PossibleValuesParser {
    clap::builder::PossibleValuesParser::new(patchstream_model::Preset::names())
}
