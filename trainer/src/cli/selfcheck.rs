//! What can be typed after `patchstream selfcheck`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use patchstream_model::Device;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  patchstream selfcheck --out cpu.json
  patchstream selfcheck --device cuda:0 --data shards/ --out h200.json

Exits with 1 if numbers are not those of PyTorch, not the same twice, or if
something could not be measured, but for what memory is too small for.")]
pub(crate) struct SelfcheckArgs {
    /// Where to compute: cpu, or cuda:0 and so on
    #[arg(long, value_name = "DEVICE", default_value_t = Device::Cpu)]
    pub(crate) device: Device,
    /// File to write the result to, as one JSON object
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Data set made by `patchstream convert`, to measure how long training waits for it
    #[arg(long, value_name = "SHARDS")]
    pub(crate) data: Option<String>,
    /// Size of the model that is timed; vit_base on CUDA, vit_micro on the CPU unless given
    #[arg(long, value_name = "PRESET", value_parser = super::preset_parser())]
    pub(crate) model: Option<String>,
    /// Images of a step, one or more; 64,256 on CUDA, 16,64 on the CPU unless given
    #[arg(long, value_name = "IMAGES", value_delimiter = ',')]
    pub(crate) batch: Vec<NonZeroUsize>,
    /// Steps that are measured of each
    #[arg(long, value_name = "STEPS", default_value = "10")]
    pub(crate) steps: NonZeroUsize,
    /// Threads that compute on the CPU, and as many that decode; as many as there are cores unless given
    #[arg(long, value_name = "THREADS")]
    pub(crate) threads: Option<NonZeroUsize>,
}
