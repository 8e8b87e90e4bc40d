//! The configuration of a pre-training run: every key, its default, and what it means.
//!
//! A resolved configuration has a value for every key. It is printed, saved beside the checkpoints, and is all that a
//! run depends on besides the data. How file, `--set` and flags become one is in [`resolve`].

mod resolve;

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};

use anyhow::Context as _;
use patchstream_datasets::{LastBatch, PixelStats, Shuffle};
use patchstream_model::{AdamW, Device, Engine, MaeConfig, MatmulPrecision, ModelError, PixelScale, Preset};
use patchstream_pipeline::{
    BadSamples, Budget, DecodeMode, EvaluateTransform, Masking, PatchGrid, PipelineConfig, TrainTransform, Transform,
};
use serde::{Deserialize, Serialize};

pub(crate) use resolve::{ConfigSource, differences, resolve};

use crate::report::UserError;

/// All that a run depends on besides its data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunConfig {
    /// The preset that `model` starts from.
    pub(crate) preset: String,
    pub(crate) data: DataConfig,
    pub(crate) augment: AugmentConfig,
    pub(crate) mask: Masking,
    pub(crate) train: TrainConfig,
    pub(crate) checkpoint: CheckpointConfig,
    pub(crate) evaluate: EvaluateConfig,
    pub(crate) model: MaeConfig,
}

/// Where images come from and how they are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DataConfig {
    pub(crate) path: String,
    /// Row groups whose rows are mixed; 0 reads in the order of the shards.
    pub(crate) shuffle_window: usize,
    /// Threads that decode.
    pub(crate) workers: NonZeroUsize,
    /// Finished batches that may wait for the trainer.
    pub(crate) queue_batches: NonZeroUsize,
    /// Encoded bytes read ahead of the decoders.
    pub(crate) read_ahead_mib: NonZeroUsize,
    pub(crate) decode: DecodeMode,
    /// Turn images as their EXIF orientation says; torchvision does not.
    pub(crate) apply_exif: bool,
    /// Samples that may be bad before the run stops.
    pub(crate) max_bad: Budget,
    /// Of the RGB channels, in 0..1; from the manifest or from ImageNet unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pixel_mean: Option<[f64; 3]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pixel_std: Option<[f64; 3]>,
}

/// Random resized crop and flip (paper, Table 8).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AugmentConfig {
    /// Area of the crop as a share of the image.
    pub(crate) scale: [f64; 2],
    /// Width of the crop to its height.
    pub(crate) ratio: [f64; 2],
    pub(crate) flip_probability: f64,
}

/// Length, optimiser and schedule (paper, Table 8).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrainConfig {
    pub(crate) seed: u64,
    /// Weights to start from; fresh ones unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) init: Option<String>,
    /// Images of a step.
    pub(crate) batch_size: NonZeroUsize,
    /// Parts in which the images of a step are computed one after another, to save memory.
    pub(crate) accumulation: NonZeroUsize,
    /// Length of the run, unless `steps` is set.
    pub(crate) epochs: NonZeroU64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) steps: Option<NonZeroU64>,
    /// Peak rate is this times `batch_size` / 256, unless `lr` is set.
    pub(crate) base_lr: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lr: Option<f64>,
    /// Rate at the end of the cosine.
    pub(crate) min_lr: f64,
    /// Share of the steps in which the rate rises to its peak.
    pub(crate) warmup_fraction: f64,
    /// Epochs of warm-up, in place of `warmup_fraction`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) warmup_epochs: Option<f64>,
    pub(crate) weight_decay: f64,
    pub(crate) beta1: f64,
    pub(crate) beta2: f64,
    /// A longer gradient is scaled down to this norm; none is unless this is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) clip_norm: Option<f64>,
    pub(crate) on_nonfinite: OnNonfinite,
    /// Runs that were saved before there was this key were computed in float32.
    #[serde(default)]
    pub(crate) matmul_precision: MatmulPrecision,
    /// Threads that compute.
    pub(crate) threads: NonZeroUsize,
    /// Steps between two lines of metrics.
    pub(crate) log_every: NonZeroU64,
}

/// What happens at a step whose loss or gradient is not finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnNonfinite {
    /// The run stops.
    Stop,
    /// The step changes nothing and is counted.
    Skip,
}

/// When checkpoints are written, and how many stay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CheckpointConfig {
    pub(crate) every_steps: NonZeroU64,
    /// One is also written when the last is so old.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) every_minutes: Option<f64>,
    /// The newest so many are kept.
    pub(crate) keep: NonZeroU32,
    /// Those at multiples of so many steps are kept as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) keep_every_steps: Option<NonZeroU64>,
}

/// Evaluation on held-out shards while training; it changes nothing of the training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EvaluateConfig {
    /// Held-out data set; without one nothing is evaluated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<String>,
    pub(crate) every_steps: NonZeroU64,
    /// Images, rounded up to whole batches; their masks are the same every time.
    pub(crate) images: NonZeroUsize,
    /// Reconstructions to draw for `TensorBoard`.
    pub(crate) pictures: usize,
}

impl RunConfig {
    /// Every key at its default, for a preset.
    pub(crate) fn of_preset(name: &str) -> anyhow::Result<Self> {
        let preset: Preset = name.parse()?;
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let count = |value: u64| NonZeroU64::new(value).unwrap_or(NonZeroU64::MIN);
        let size = |value: usize| NonZeroUsize::new(value).unwrap_or(NonZeroUsize::MIN);
        Ok(Self {
            preset: name.to_owned(),
            data: DataConfig {
                path: String::new(),
                shuffle_window: 4,
                workers: cores,
                queue_batches: size(4),
                read_ahead_mib: size(64),
                decode: DecodeMode::Exact,
                apply_exif: false,
                max_bad: BadSamples::default().budget,
                pixel_mean: None,
                pixel_std: None,
            },
            augment: AugmentConfig { scale: [0.2, 1.0], ratio: [3.0 / 4.0, 4.0 / 3.0], flip_probability: 0.5 },
            mask: Masking::default(),
            train: TrainConfig {
                seed: 0,
                init: None,
                batch_size: size(256),
                accumulation: size(1),
                epochs: count(800),
                steps: None,
                base_lr: 1.5e-4,
                lr: None,
                min_lr: 0.0,
                warmup_fraction: 0.05,
                warmup_epochs: None,
                weight_decay: 0.05,
                beta1: 0.9,
                beta2: 0.95,
                clip_norm: None,
                on_nonfinite: OnNonfinite::Stop,
                matmul_precision: MatmulPrecision::Float32,
                threads: cores,
                log_every: count(10),
            },
            checkpoint: CheckpointConfig {
                every_steps: count(1000),
                every_minutes: None,
                keep: NonZeroU32::MIN.saturating_add(1),
                keep_every_steps: None,
            },
            evaluate: EvaluateConfig { data: None, every_steps: count(1000), images: size(1000), pictures: 8 },
            model: preset.config(),
        })
    }

    /// The same with every optional key present, from which the names of all keys are read.
    fn with_optional_keys(mut self) -> Self {
        self.fill_pixel_scale(None);
        self.train.steps = self.train.steps.or(Some(NonZeroU64::MIN));
        self.train.lr = self.train.lr.or(Some(0.0));
        self.train.warmup_epochs = self.train.warmup_epochs.or(Some(0.0));
        self.train.clip_norm = self.train.clip_norm.or(Some(0.0));
        self.checkpoint.every_minutes = self.checkpoint.every_minutes.or(Some(0.0));
        self.checkpoint.keep_every_steps = self.checkpoint.keep_every_steps.or(Some(NonZeroU64::MIN));
        self.train.init.get_or_insert_default();
        self.evaluate.data.get_or_insert_default();
        self
    }

    /// Checks what single types cannot: ranges, and values that must fit together.
    pub(crate) fn validate(&self) -> anyhow::Result<()> {
        let shares = [
            ("augment.flip_probability", self.augment.flip_probability),
            ("train.warmup_fraction", self.train.warmup_fraction),
            ("train.beta1", self.train.beta1),
            ("train.beta2", self.train.beta2),
        ];
        for (key, value) in shares {
            if !(0.0..=1.0).contains(&value) {
                return Err(out_of_range(key, value, "a number from 0 to 1"));
            }
        }
        let rates = [
            ("train.base_lr", self.train.base_lr),
            ("train.lr", self.train.lr.unwrap_or(0.0)),
            ("train.min_lr", self.train.min_lr),
            ("train.weight_decay", self.train.weight_decay),
            ("train.warmup_epochs", self.train.warmup_epochs.unwrap_or(0.0)),
        ];
        for (key, value) in rates {
            if !(value.is_finite() && value >= 0.0) {
                return Err(out_of_range(key, value, "a finite number, 0 or more"));
            }
        }
        let positive =
            [("train.clip_norm", self.train.clip_norm), ("checkpoint.every_minutes", self.checkpoint.every_minutes)];
        for (key, value) in positive.into_iter().filter_map(|(key, value)| Some((key, value?))) {
            if !(value.is_finite() && value > 0.0) {
                return Err(out_of_range(key, value, "a finite number above 0"));
            }
        }
        if self.train.accumulation > self.train.batch_size {
            let expected = format!("at most `train.batch_size`, {}", self.train.batch_size);
            return Err(out_of_range("train.accumulation", self.train.accumulation.get() as f64, &expected));
        }
        if !(self.mask.ratio > 0.0 && self.mask.ratio < 1.0) {
            return Err(out_of_range("mask.ratio", self.mask.ratio, "a number between 0 and 1"));
        }
        self.pixel_scale().validate().context("data.pixel_mean, data.pixel_std")?;
        self.model.validate()?;
        if self.model.channels != 3 {
            return Err(out_of_range("model.channels", self.model.channels as f64, "3, since batches are RGB"));
        }
        self.pipeline(None)?.validate()?;
        let patches = self.model.patches();
        if self.mask.visible_patches(patches) == patches {
            return Err(UserError::new(format!("`mask.ratio` of {} hides none of {patches} patches", self.mask.ratio))
                .hint("there is nothing to learn from; 0.75 is usual")
                .into());
        }
        Ok(())
    }

    /// Mean and deviation by which pixels are normalised; those that are not set come from `measured`, else ImageNet.
    pub(crate) fn fill_pixel_scale(&mut self, measured: Option<PixelStats>) {
        let scale = measured.map_or(PixelScale::IMAGENET, |stats| PixelScale { mean: stats.mean, std: stats.std });
        self.data.pixel_mean.get_or_insert(scale.mean);
        self.data.pixel_std.get_or_insert(scale.std);
    }

    pub(crate) fn pixel_scale(&self) -> PixelScale {
        PixelScale {
            mean: self.data.pixel_mean.unwrap_or(PixelScale::IMAGENET.mean),
            std: self.data.pixel_std.unwrap_or(PixelScale::IMAGENET.std),
        }
    }

    pub(crate) fn shuffle(&self) -> Shuffle {
        NonZeroUsize::new(self.data.shuffle_window).map_or(Shuffle::Sequential, Shuffle::Window)
    }

    /// Training drops the last partial batch of an epoch, so that every step sees as many images.
    pub(crate) const LAST_BATCH: LastBatch = LastBatch::Drop;

    /// What the pipeline is to do; `ledger` is where bad samples are written down.
    pub(crate) fn pipeline(&self, ledger: Option<std::path::PathBuf>) -> anyhow::Result<PipelineConfig> {
        let AugmentConfig { scale, ratio, flip_probability } = &self.augment;
        Ok(PipelineConfig {
            grid: self.grid()?,
            masking: self.mask,
            transform: Transform::Train(TrainTransform {
                scale: (scale[0], scale[1]),
                ratio: (ratio[0], ratio[1]),
                flip_probability: *flip_probability,
            }),
            decode: self.data.decode,
            apply_exif: self.data.apply_exif,
            repeats: NonZeroUsize::MIN,
            workers: self.data.workers,
            queue_batches: self.data.queue_batches,
            read_ahead_bytes: self.data.read_ahead_mib.saturating_mul(NonZeroUsize::MIN.saturating_add((1 << 20) - 1)),
            bad_samples: BadSamples { budget: self.data.max_bad, ledger },
        })
    }

    /// The same with the transform of evaluation: shorter side to the model's size, centre crop, no flip.
    pub(crate) fn evaluation_pipeline(&self) -> anyhow::Result<PipelineConfig> {
        let resize_px = self.model.image_height_px.max(self.model.image_width_px) as u32;
        Ok(PipelineConfig { transform: Transform::Evaluate(EvaluateTransform { resize_px }), ..self.pipeline(None)? })
    }

    fn grid(&self) -> anyhow::Result<PatchGrid> {
        let MaeConfig { image_height_px, image_width_px, patch_px, .. } = self.model;
        Ok(PatchGrid::new(image_height_px as u32, image_width_px as u32, patch_px as u32)?)
    }

    /// The model with fresh weights, on the device that it is trained on.
    pub(crate) fn open_on(&self, device: Device) -> Result<Box<dyn Engine>, ModelError> {
        device.open(self.train.matmul_precision, self.model.clone(), self.pixel_scale(), self.train.seed)
    }

    /// AdamW at a rate.
    pub(crate) fn adamw(&self, lr: f64) -> AdamW {
        let TrainConfig { weight_decay, beta1, beta2, clip_norm, .. } = self.train;
        AdamW { lr, beta1, beta2, eps: 1e-8, weight_decay, clip_norm }
    }
}

fn out_of_range(key: &str, got: f64, expected: &str) -> anyhow::Error {
    UserError::new(format!("`{key}` is out of range: expected {expected}, got {got}")).into()
}
