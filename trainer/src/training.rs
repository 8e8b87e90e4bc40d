//! Pre-training: take a batch, do a step, log, save.

pub(crate) mod checkpoint;
mod files;
mod metrics;
mod progress;
mod schedule;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use patchstream_datasets::{Cursor, Dataset, Schedule, Share};
use patchstream_model::{Engine, PatchInput, Pixels};
use patchstream_pipeline::{PatchBatch, PatchStream};
use tracing::{info, info_span};

use self::checkpoint::{Checkpoint, Position};
use self::metrics::{MetricsFile, MetricsLine};
use self::progress::Progress;
use self::schedule::LrSchedule;
use crate::report::UserError;
use crate::settings::RunConfig;

pub(crate) use files::{file_whole, write_whole};

/// A run that is ready to go: everything has been opened and checked.
pub(crate) struct Run {
    pub(crate) folder: PathBuf,
    pub(crate) config: RunConfig,
    pub(crate) dataset: Arc<Dataset>,
    pub(crate) engine: Box<dyn Engine>,
    pub(crate) resume: Option<Checkpoint>,
    /// Set by Ctrl-C.
    pub(crate) interrupted: Arc<AtomicBool>,
    pub(crate) quiet: bool,
}

/// How a run ended.
pub(crate) struct Outcome {
    pub(crate) steps: u64,
    pub(crate) total_steps: u64,
    pub(crate) loss: Option<f64>,
    pub(crate) checkpoint: PathBuf,
    pub(crate) interrupted: bool,
}

/// Steps of a run and of an epoch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Length {
    pub(crate) steps_per_epoch: u64,
    pub(crate) total_steps: u64,
}

impl Length {
    pub(crate) fn of(config: &RunConfig, rows: u64) -> anyhow::Result<Self> {
        let batch_size = config.train.batch_size.get() as u64;
        let steps_per_epoch = rows / batch_size;
        if steps_per_epoch == 0 {
            return Err(UserError::new(format!(
                "the data set has {rows} images, fewer than one batch: expected at least {batch_size}"
            ))
            .hint(format!("make the batch smaller, for example --set train.batch_size={rows}"))
            .into());
        }
        let by_epochs = config.train.epochs.get().saturating_mul(steps_per_epoch);
        Ok(Self { steps_per_epoch, total_steps: config.train.steps.map_or(by_epochs, std::num::NonZeroU64::get) })
    }
}

/// Trains to the end, or until interrupted, and leaves a checkpoint of the last step.
pub(crate) fn train(run: Run) -> anyhow::Result<Outcome> {
    let Run { folder, config, dataset, mut engine, resume, interrupted, quiet } = run;
    let length = Length::of(&config, dataset.manifest().rows())?;
    let schedule = lr_schedule(&config, length);
    let fingerprint = format!("{:016x}", dataset.manifest().fingerprint());
    let mut position = Position { step: 0, epoch: 0, batch: 0, manifest_fingerprint: fingerprint };
    if let Some(checkpoint) = &resume {
        checkpoint.load_all(engine.as_mut())?;
        position = checkpoint.position.clone();
    }
    let mut saved = resume.map(|checkpoint| checkpoint.path);

    let stream = PatchStream::start(
        dataset,
        data_schedule(&config, position.cursor()),
        &config.pipeline(Some(folder.join("quarantine.jsonl")))?,
    )?;
    let mut metrics = MetricsFile::open(&folder.join("metrics.jsonl"), position.step)?;
    let progress = Progress::start(length.total_steps, position.step, quiet);
    let mut window = Window::start();
    let mut stream = stream;
    let mut last_loss = None;

    while position.step < length.total_steps && !interrupted.load(Ordering::Relaxed) {
        let waiting = Instant::now();
        let batch = info_span!("wait_for_data").in_scope(|| stream.next()).context("the pipeline ended early")??;
        window.waited += waiting.elapsed();

        let lr = schedule.at(position.step);
        let (loss, gradient_norm) = info_span!("step", step = position.step).in_scope(|| {
            let loss = engine.accumulate(&patch_input(&batch), 1.0)?;
            anyhow::Ok((loss, engine.update(&config.adamw(lr))?.gradient_norm))
        })?;
        if !(loss.is_finite() && gradient_norm.is_finite()) {
            return Err(not_finite(position.step, lr, loss, gradient_norm, saved.as_deref()));
        }
        window.add(batch.rows(), f64::from(loss), gradient_norm);
        position = after(position, &batch, length.steps_per_epoch);

        if position.step % config.train.log_every == 0 || position.step == length.total_steps {
            let line = window.finish(&position, batch.epoch(), lr, stream.snapshot().quarantined);
            metrics.append(&line)?;
            progress.show(&line);
            last_loss = Some(line.loss);
        }
        progress.advance(position.step);
        if position.step % config.checkpoint.every_steps == 0 {
            saved = Some(checkpoint::save(&folder, engine.as_ref(), &config, &position)?);
            info!(step = position.step, "saved a checkpoint");
        }
    }
    drop(stream);
    let checkpoint = checkpoint::save(&folder, engine.as_ref(), &config, &position)?;
    progress.finish();
    Ok(Outcome {
        steps: position.step,
        total_steps: length.total_steps,
        loss: last_loss,
        checkpoint,
        interrupted: position.step < length.total_steps,
    })
}

fn lr_schedule(config: &RunConfig, length: Length) -> LrSchedule {
    let train = &config.train;
    let scaled = train.base_lr * train.batch_size.get() as f64 / 256.0;
    LrSchedule {
        peak: train.lr.unwrap_or(scaled),
        floor: train.min_lr,
        warmup_steps: (train.warmup_fraction * length.total_steps as f64).round() as u64,
        total_steps: length.total_steps,
    }
}

fn data_schedule(config: &RunConfig, start: Cursor) -> Schedule {
    Schedule {
        seed: config.train.seed,
        shuffle: config.shuffle(),
        batch_size: config.train.batch_size,
        share: Share::WHOLE,
        last_batch: RunConfig::LAST_BATCH,
        start,
        end_epoch: None,
    }
}

/// What the engine sees of a batch; pixels stay bytes.
pub(crate) fn patch_input(batch: &PatchBatch) -> PatchInput<'_> {
    PatchInput {
        rows: batch.rows(),
        visible: Pixels::Bytes(batch.visible()),
        visible_index: batch.visible_index(),
        masked: Pixels::Bytes(batch.masked()),
        masked_index: batch.masked_index(),
    }
}

fn after(position: Position, batch: &PatchBatch, steps_per_epoch: u64) -> Position {
    let next = batch.batch() + 1;
    let (epoch, batch) = if next == steps_per_epoch { (batch.epoch() + 1, 0) } else { (batch.epoch(), next) };
    Position { step: position.step + 1, epoch, batch, ..position }
}

fn not_finite(step: u64, lr: f64, loss: f32, gradient_norm: f64, saved: Option<&Path>) -> anyhow::Error {
    let saved = saved.map_or_else(|| "none yet".to_owned(), |path| path.display().to_string());
    UserError::new(format!(
        "training diverged at step {step}: loss {loss}, gradient norm {gradient_norm}, rate {lr:.3e}; last good checkpoint: {saved}"
    ))
    .hint("a lower train.base_lr or a longer train.warmup_fraction helps most often")
    .into()
}

/// Sums between two lines of metrics.
struct Window {
    started: Instant,
    waited: Duration,
    steps: u64,
    images: usize,
    loss: f64,
    gradient_norm: f64,
}

impl Window {
    fn start() -> Self {
        Self { started: Instant::now(), waited: Duration::ZERO, steps: 0, images: 0, loss: 0.0, gradient_norm: 0.0 }
    }

    fn add(&mut self, images: usize, loss: f64, gradient_norm: f64) {
        self.steps += 1;
        self.images += images;
        self.loss += loss;
        self.gradient_norm += gradient_norm;
    }

    /// The means, and a fresh start.
    fn finish(&mut self, position: &Position, epoch: u64, lr: f64, quarantined: u64) -> MetricsLine {
        let Self { started, waited, steps, images, loss, gradient_norm } = std::mem::replace(self, Self::start());
        let seconds = started.elapsed().as_secs_f64().max(1e-9);
        let steps = steps.max(1) as f64;
        MetricsLine {
            step: position.step,
            epoch,
            loss: loss / steps,
            lr,
            gradient_norm: gradient_norm / steps,
            images_per_s: images as f64 / seconds,
            data_wait_share: waited.as_secs_f64() / seconds,
            quarantined,
        }
    }
}
