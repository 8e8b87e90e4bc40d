//! What can be typed to evaluate a checkpoint, hand it on or check it.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use patchstream_model::Device;

/// How features are made of a checkpoint; the same for every command that wants them.
#[derive(Debug, Args)]
pub(crate) struct FeatureArgs {
    /// Checkpoint, or the run whose newest one is meant
    #[arg(long, value_name = "RUN")]
    pub(crate) checkpoint: PathBuf,
    /// The class token's output, the mean over the patches', or both side by side
    #[arg(long, value_enum, default_value_t = Pool::Mean)]
    pub(crate) pool: Pool,
    /// Where to compute: cpu, or cuda:0 and so on
    #[arg(long, value_name = "DEVICE", default_value_t = Device::Cpu)]
    pub(crate) device: Device,
    /// Images that go through the encoder together
    #[arg(long, value_name = "IMAGES", default_value = "64")]
    pub(crate) batch_size: NonZeroUsize,
    /// Threads that compute on the CPU, and as many that decode; as many as there are cores unless given
    #[arg(long, value_name = "THREADS")]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Print the result as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pool {
    /// The class token
    Class,
    /// The mean over all patches
    Mean,
    /// The class token, then the mean
    Both,
}

impl Pool {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Class => "class",
            Self::Mean => "mean",
            Self::Both => "both",
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  patchstream features --checkpoint run/ --data shards/ --out features.parquet
  patchstream features --checkpoint run/ --data shards/ --pool class --out f.parquet

Columns: sample_id, label, embedding (a list of as many floats as the encoder is
wide, twice as many for both). Images are resized and cropped at the centre, nothing is masked.")]
pub(crate) struct FeaturesArgs {
    #[command(flatten)]
    pub(crate) features: FeatureArgs,
    /// Data set to encode
    #[arg(long, value_name = "SHARDS")]
    pub(crate) data: String,
    /// Parquet file to write; one that is there is replaced
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  patchstream knn --checkpoint run/ --data train/ --test test/
  patchstream knn --checkpoint run/ --data train/ --test test/ --neighbours 10 --json

Each test image takes the class for which its nearest training images by cosine
similarity s vote most, with weights exp(s / temperature), as DINO does.")]
pub(crate) struct KnnArgs {
    #[command(flatten)]
    pub(crate) features: FeatureArgs,
    /// Data set with labels whose images are the neighbours
    #[arg(long, value_name = "SHARDS")]
    pub(crate) data: String,
    /// Data set with labels to classify
    #[arg(long, value_name = "SHARDS")]
    pub(crate) test: String,
    /// How many neighbours vote
    #[arg(long, default_value = "20")]
    pub(crate) neighbours: NonZeroUsize,
    /// How much more near neighbours count
    #[arg(long, default_value_t = 0.07)]
    pub(crate) temperature: f64,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  patchstream probe --checkpoint run/ --data train/ --test test/
  patchstream probe --checkpoint run/ --data train/ --test test/ --pool class --l2 1e-3

Frozen features are normalised by the training set's mean and variance (a batch norm
without affine parameters); on them a linear layer is fitted by L-BFGS. That is the
default and only solver, because the problem is convex: there is one solution, and no
rate, schedule or seed to choose that could favour a checkpoint.")]
pub(crate) struct ProbeArgs {
    #[command(flatten)]
    pub(crate) features: FeatureArgs,
    /// Data set with labels to fit
    #[arg(long, value_name = "SHARDS")]
    pub(crate) data: String,
    /// Data set with labels to measure on
    #[arg(long, value_name = "SHARDS")]
    pub(crate) test: String,
    /// Weight of the squared weights in the loss; chosen on every tenth training image,
    /// held out, unless given
    #[arg(long)]
    pub(crate) l2: Option<f64>,
    /// Steps of L-BFGS at most
    #[arg(long, value_name = "STEPS", default_value = "500")]
    pub(crate) max_iterations: NonZeroU32,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  patchstream export --checkpoint run/ --to timm --out exported/
  patchstream export --checkpoint run/ --to huggingface --out exported/

  mae          all weights under the names of the published MAE checkpoints
  timm         the encoder, for timm's VisionTransformer
  huggingface  all weights, for ViTMAEForPreTraining.from_pretrained(\"exported/\")")]
pub(crate) struct ExportArgs {
    /// Checkpoint, or the run whose newest one is meant
    #[arg(long, value_name = "RUN")]
    pub(crate) checkpoint: PathBuf,
    /// Whose names and files
    #[arg(long, value_enum)]
    pub(crate) to: Layout,
    /// Folder to write model.safetensors and config.json to; it must not exist
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: PathBuf,
    /// Print the result as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Layout {
    /// Names of the published MAE checkpoints
    Mae,
    /// timm's VisionTransformer
    Timm,
    /// transformers' ViTMAEForPreTraining
    Huggingface,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  patchstream verify run/
  patchstream verify run/ --data copy-of-shards/

A run records a rolling digest of its batches: samples, order, crops, masks, pixels.
This makes the batches again, from the first step to the newest checkpoint, and
compares every digest on record. It exits with 1 where one differs.")]
pub(crate) struct VerifyArgs {
    /// Run made by `patchstream pretrain`
    pub(crate) run: PathBuf,
    /// Data set, if it is not where the run had it
    #[arg(long, value_name = "SHARDS")]
    pub(crate) data: Option<String>,
    /// Threads that decode; as many as there are cores unless given
    #[arg(long, value_name = "THREADS")]
    pub(crate) workers: Option<NonZeroUsize>,
    /// Print the result as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
