//! What can be typed after `patchstream bench-step`.

use std::num::NonZeroUsize;

use clap::Args;
use patchstream_model::Device;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  patchstream bench-step --model vit_micro --batch 64 --threads 2
  patchstream bench-step --model vit_tiny --batch 16 --json
  patchstream bench-step --model vit_tiny --set model.decoder.depth=1
      --set model.encoder_input=with_mask_tokens

The last one has mask tokens in the encoder (the paper's Table 1c), to see what
leaving them out saves.")]
pub(crate) struct BenchStepArgs {
    /// Size of the model
    #[arg(long, value_name = "PRESET", value_parser = super::preset_parser())]
    pub(crate) model: Option<String>,
    /// Images of a step; train.batch_size of the configuration unless given
    #[arg(long, value_name = "IMAGES")]
    pub(crate) batch: Option<NonZeroUsize>,
    /// Where to compute: cpu, or cuda:0 and so on
    #[arg(long, value_name = "DEVICE", default_value_t = Device::Cpu)]
    pub(crate) device: Device,
    /// Threads that compute on the CPU; as many as there are cores unless given
    #[arg(long, value_name = "THREADS")]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Steps that are measured
    #[arg(long, value_name = "STEPS", default_value = "20")]
    pub(crate) steps: NonZeroUsize,
    /// Steps before those, which are not measured
    #[arg(long, value_name = "STEPS", default_value_t = 3)]
    pub(crate) warm_up: usize,
    /// Set one key of the configuration that a step depends on, such as model.mlp_ratio or train.accumulation
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
    /// Print the result as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
