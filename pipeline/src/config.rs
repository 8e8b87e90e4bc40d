//! The configuration of a pipeline.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use crate::decode::DecodeMode;
use crate::error::PipelineError;
use crate::geometry::PatchGrid;
use crate::mask::Masking;
use crate::quarantine::BadSamples;
use crate::transform::{TrainTransform, Transform};

/// Everything that [`PatchStream::start`](crate::PatchStream::start) needs to know besides data set and schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PipelineConfig {
    /// Size of the images and their patches.
    pub grid: PatchGrid,
    /// Which patches are hidden.
    pub masking: Masking,
    /// What is done to images before they are cut into patches.
    pub transform: Transform,
    /// What may be given up for speed.
    pub decode: DecodeMode,
    /// Whether images are turned as their EXIF orientation says; torchvision and this default leave them as stored.
    pub apply_exif: bool,
    /// How many crops, flips and masks are made of an image that is decoded once: so many rows of a batch, one after the
    /// other, where the schedule has one. At most [`REPEATS_MAX`].
    pub repeats: NonZeroUsize,
    /// Threads that decode.
    pub workers: NonZeroUsize,
    /// Finished batches that wait for the consumer; one more is being filled.
    pub queue_batches: NonZeroUsize,
    /// Bytes of shards that are read ahead.
    pub read_ahead_bytes: NonZeroUsize,
    /// What is done about samples that cannot be decoded.
    pub bad_samples: BadSamples,
}

/// More rows of one image in one batch than this are refused.
pub const REPEATS_MAX: usize = 64;

impl PipelineConfig {
    /// The paper's pre-training on images of this size, with a worker for each core.
    pub fn for_grid(grid: PatchGrid) -> Self {
        const QUEUE_BATCHES: NonZeroUsize = NonZeroUsize::new(2).unwrap();
        const READ_AHEAD_BYTES: NonZeroUsize = NonZeroUsize::new(64 << 20).unwrap();
        Self {
            grid,
            masking: Masking::default(),
            transform: Transform::Train(TrainTransform::default()),
            decode: DecodeMode::Exact,
            apply_exif: false,
            repeats: NonZeroUsize::MIN,
            workers: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            queue_batches: QUEUE_BATCHES,
            read_ahead_bytes: READ_AHEAD_BYTES,
            bad_samples: BadSamples::default(),
        }
    }

    /// Checks each part.
    ///
    /// # Errors
    /// [`PipelineError::Config`], naming the setting, what is expected and what was given.
    pub fn validate(&self) -> Result<(), PipelineError> {
        self.grid.validate()?;
        self.masking.validate()?;
        self.transform.validate(&self.grid)?;
        if self.repeats.get() > REPEATS_MAX {
            return Err(PipelineError::config("repeats", format!("1 to {REPEATS_MAX}"), self.repeats));
        }
        self.bad_samples.validate()
    }
}
