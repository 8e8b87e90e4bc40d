//! The command line: what can be typed, with help and examples. Each command's work is in `commands/`.

#![expect(clippy::doc_markdown, rustdoc::bare_urls, reason = "what is documented here is printed as help")]

mod bench;
mod evaluate;
mod selfcheck;
mod source;
mod step;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use patchstream_datasets::convert::{Part, Split};
use patchstream_model::Device;

pub(crate) use self::bench::{BenchArgs, Decode};
pub(crate) use self::evaluate::{ExportArgs, FeatureArgs, FeaturesArgs, KnnArgs, Layout, Pool, ProbeArgs, VerifyArgs};
pub(crate) use self::selfcheck::SelfcheckArgs;
pub(crate) use self::source::SourceArgs;
pub(crate) use self::step::BenchStepArgs;

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
    /// Make one data set of the parts that several machines have converted
    Merge(MergeArgs),
    /// Show what is in a data set, and check it
    Inspect(InspectArgs),
    /// Pre-train a masked autoencoder
    Pretrain(PretrainArgs),
    /// Draw originals, masked images and reconstructions of a checkpoint
    Reconstruct(ReconstructArgs),
    /// Fit a linear classifier to a checkpoint's frozen features
    Probe(ProbeArgs),
    /// Classify by nearest neighbours among a checkpoint's frozen features
    Knn(KnnArgs),
    /// Write a checkpoint's features of a data set to Parquet
    Features(FeaturesArgs),
    /// Write a checkpoint's weights as other libraries load them
    Export(ExportArgs),
    /// Prove that a run saw what its configuration says
    Verify(VerifyArgs),
    /// Measure the data pipeline, stage by stage, without a model
    Bench(BenchArgs),
    /// Measure the training step on random pixels, operation by operation, without data
    BenchStep(BenchStepArgs),
    /// Check that training on a device is right, and measure what it costs there
    Selfcheck(SelfcheckArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  patchstream convert photos/ shards/
  patchstream convert photos.csv shards/ --label-column species
  patchstream convert 'imagenet-train-{000..146}.tar' shards/
  patchstream convert s3://bucket/photos s3://bucket/shards
  patchstream convert mnist/ shards/ --from-split train
  patchstream convert photos/ shards/ --check decode --on-bad fail
  patchstream convert photos/ shards/ --encode jpeg --max-side 500 --tile-index
  patchstream convert photos/ shards/ --split val=0.05 --dedupe
  patchstream convert photos/ shards/ --resume

With `--split val=...` the data sets are shards/train and shards/val.

Images in sub-folders get the first folder's name as their class; images beside each other have no label.

Credentials, endpoints and regions of object stores come from the environment, as AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL,
GOOGLE_APPLICATION_CREDENTIALS or AZURE_STORAGE_ACCOUNT_NAME.")]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct ConvertArgs {
    /// Folder of images, or file with images, here or as a URL (s3, gs, az; http and https for files); `{000..099}` stands
    /// for many files
    pub(crate) source: String,
    /// Folder to write, here or as a URL (s3, gs, az); it must not exist
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
    /// How images are stored
    #[arg(long, value_enum, default_value_t = Encoding::Keep)]
    pub(crate) encode: Encoding,
    /// Shrink images so that no side is longer than this (with `--encode jpeg` or `raw`; `raw` needs it)
    #[arg(long, value_name = "PIXELS")]
    pub(crate) max_side: Option<std::num::NonZeroU32>,
    /// Quality of JPEG, 1 to 100 (with `--encode jpeg`); 90 unless given
    #[arg(long, value_name = "QUALITY")]
    pub(crate) quality: Option<std::num::NonZeroU8>,
    /// Compress raw pixels with this level of zstd, 1 to 22 (with `--encode raw`)
    #[arg(long, value_name = "LEVEL")]
    pub(crate) zstd: Option<i32>,
    /// Give JPEGs a restart marker every so many MCUs (4 unless given), without any loss, and store where each segment
    /// begins, so that a crop is decoded without the rest
    #[arg(long, value_name = "MCUS", num_args = 0..=1, require_equals = true, default_missing_value = "4")]
    pub(crate) tile_index: Option<std::num::NonZeroU16>,
    /// Look at each image's header, or decode it whole
    #[arg(long, value_enum, default_value_t = CheckDepth::Header)]
    pub(crate) check: CheckDepth,
    /// What to do with a bad image
    #[arg(long, value_enum, default_value_t = OnBad::Skip)]
    pub(crate) on_bad: OnBad,
    /// Stop when more images than this are bad
    #[arg(long, value_name = "IMAGES")]
    pub(crate) max_bad: Option<u64>,
    /// Put this share of the images into a data set of its own, chosen by content, so that equal images stay together;
    /// may be repeated, and `train` gets the rest
    #[arg(long, value_name = "NAME=SHARE")]
    pub(crate) split: Vec<Split>,
    /// Of images with the same bytes, keep the first
    #[arg(long)]
    pub(crate) dedupe: bool,
    /// Leave out images with a side shorter than this
    #[arg(long, value_name = "PIXELS")]
    pub(crate) filter_min_side: Option<std::num::NonZeroU32>,
    /// Convert only the I-th of N parts, for one of N machines; `merge` makes one data set of them
    #[arg(long, value_name = "I/N")]
    pub(crate) part: Option<Part>,
    /// Measure pixel mean and deviation on this many images, drawn by the seed; 0 measures nothing
    #[arg(long, value_name = "IMAGES", default_value_t = 0)]
    pub(crate) pixel_stats: u64,
    /// Image bytes of a row group, the unit of fetching and shuffling
    #[arg(long, value_name = "MIB", default_value = "16")]
    pub(crate) row_group_mib: std::num::NonZeroU32,
    /// Bytes of a shard file
    #[arg(long, value_name = "MIB", default_value = "256")]
    pub(crate) shard_mib: std::num::NonZeroU32,
    /// Threads that read and check images; as many as there are cores unless given, 16 where the source is far away
    #[arg(long, value_name = "THREADS")]
    pub(crate) workers: Option<std::num::NonZeroUsize>,
    /// Replace a data set that is already there
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Go on with a conversion that was interrupted
    #[arg(long)]
    pub(crate) resume: bool,
    /// Print the result as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  patchstream convert photos/ part1/ --part 1/2      # on one machine
  patchstream convert photos/ part2/ --part 2/2      # on another one
  patchstream merge part1/ part2/ --out shards/
  patchstream merge s3://bucket/part1 part2/ --out s3://bucket/shards

The same command goes on with a merge that was interrupted.")]
pub(crate) struct MergeArgs {
    /// Folders that `convert --part` has written, here or as URLs (s3, gs, az), all of them, in any order
    #[arg(required = true, value_name = "PART")]
    pub(crate) parts: Vec<PathBuf>,
    /// Folder to write, here or as a URL (s3, gs, az); it must not exist
    #[arg(long, value_name = "DESTINATION")]
    pub(crate) out: PathBuf,
    /// Replace a data set that is already there
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Folder for temporary files, which remote parts and destinations need; the system's unless given
    #[arg(long, value_name = "FOLDER")]
    pub(crate) temporary: Option<PathBuf>,
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
pub(crate) enum Encoding {
    /// As they come, byte for byte
    Keep,
    /// As JPEG, upright
    Jpeg,
    /// As uncompressed RGB (binary PPM), upright: large, and fastest to read
    Raw,
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
    /// Draw a sheet of 48 samples with their labels
    #[arg(long, value_name = "PNG")]
    pub(crate) contact_sheet: Option<PathBuf>,
    /// Measure pixel mean and deviation on this many images
    #[arg(long, value_name = "IMAGES")]
    pub(crate) pixel_stats: Option<std::num::NonZeroU64>,
    /// Decides which images are drawn and measured
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
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
  patchstream pretrain --data shards/ --out run/ --resume auto
  patchstream pretrain --data shards/ --model vit_base --out run/ --dry-run

A configuration file holds the keys that `--show-config` prints. Flags win over --set, --set wins over the file.")]
pub(crate) struct PretrainArgs {
    /// Data set made by `patchstream convert`
    #[arg(long, value_name = "SHARDS")]
    pub(crate) data: Option<String>,
    /// Size of the model
    #[arg(long, value_name = "PRESET", value_parser = preset_parser())]
    pub(crate) model: Option<String>,
    /// Where to compute: cpu, or cuda:0 and so on
    #[arg(long, value_name = "DEVICE", default_value_t = Device::Cpu)]
    pub(crate) device: Device,
    /// Folder for checkpoints, metrics and the resolved configuration
    #[arg(long, value_name = "RUN")]
    pub(crate) out: PathBuf,
    /// Configuration in TOML
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Set one key of the configuration, for example train.batch_size=64
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
    /// Go on from the newest checkpoint of --out; `auto` starts anew where there is none
    #[arg(long, value_enum, value_name = "HOW", num_args = 0..=1, default_missing_value = "existing")]
    pub(crate) resume: Option<Resume>,
    /// Start from these weights (safetensors; names of MAE, timm or Hugging Face)
    #[arg(long, value_name = "FILE")]
    pub(crate) init: Option<String>,
    /// What to do at a step whose loss or gradient is not finite: stop, or skip it
    #[arg(long, value_name = "stop|skip", value_parser = ["stop", "skip"])]
    pub(crate) on_nonfinite: Option<String>,
    /// Print configuration, sizes, costs and expected time, and stop
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print the resolved configuration and stop
    #[arg(long)]
    pub(crate) show_config: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Resume {
    /// There must be a checkpoint
    Existing,
    /// From the beginning if there is no checkpoint
    Auto,
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
    /// Where to compute: cpu, or cuda:0 and so on
    #[arg(long, value_name = "DEVICE", default_value_t = Device::Cpu)]
    pub(crate) device: Device,
    /// Seed of the choice of images and of their masks
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Also write images, masks, latents and predictions, for comparison (safetensors)
    #[arg(long, value_name = "FILE")]
    pub(crate) tensors: Option<PathBuf>,
    /// Draw the model's output for visible patches too, on which it has no loss, instead of the patches themselves
    #[arg(long)]
    pub(crate) predict_visible: bool,
    /// Print the result as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

fn preset_parser() -> clap::builder::PossibleValuesParser {
    clap::builder::PossibleValuesParser::new(patchstream_model::Preset::names())
}
