//! Pre-training: take a batch, do a step, log, evaluate, save.

pub(crate) mod checkpoint;
mod digest;
mod files;
pub(crate) mod held_out;
mod log;
mod metrics;
mod progress;
mod schedule;
pub(crate) mod step;
mod tensorboard;
pub(crate) mod verify;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Context as _;
use patchstream_datasets::{Cursor, Dataset, Schedule, Share};
use patchstream_model::Engine;
use patchstream_pipeline::PatchStream;
use tracing::{info, info_span, warn};

use self::checkpoint::{Checkpoint, Position};
use self::held_out::HeldOut;
use self::log::RunLog;
use self::metrics::Clock;
use self::progress::Progress;
use self::step::NotFinite;
use crate::settings::{OnNonfinite, RunConfig};

pub(crate) use files::{file_whole, folder_whole, write_synced, write_whole};
pub(crate) use schedule::{Length, LrSchedule};
pub(crate) use step::patch_input;

/// A run that is ready to go: everything has been opened and checked.
pub(crate) struct Run {
    pub(crate) folder: PathBuf,
    pub(crate) config: RunConfig,
    pub(crate) dataset: Arc<Dataset>,
    pub(crate) held_out: Option<HeldOut>,
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
    pub(crate) skipped: u64,
    pub(crate) checkpoint: PathBuf,
    pub(crate) interrupted: bool,
}

/// Trains to the end, or until interrupted, and leaves a checkpoint of the last step.
pub(crate) fn train(run: Run) -> anyhow::Result<Outcome> {
    let Run { folder, config, dataset, held_out, mut engine, resume, interrupted, quiet } = run;
    let length = Length::of(&config, dataset.manifest().rows())?;
    let schedule = LrSchedule::of(&config, length);
    let mut position = Position::start(dataset.manifest().fingerprint());
    if let Some(checkpoint) = &resume {
        checkpoint.load_all(engine.as_mut())?;
        position = checkpoint.position.clone();
    }
    let mut saved = resume.map(|checkpoint| checkpoint.path);
    checkpoint::clean(&folder)?;

    let progress = Progress::start(length.total_steps, position.step, quiet);
    let mut log = RunLog::open(&folder, position.step, held_out.is_some(), progress)?;
    let ledger = Some(folder.join("quarantine.jsonl"));
    let mut stream = PatchStream::start(dataset, data_schedule(&config, position.cursor()), &config.pipeline(ledger)?)?;
    let (mut clock, mut last_save, mut last_loss) = (Clock::start(), Instant::now(), None);

    while position.step < length.total_steps && !interrupted.load(Ordering::Relaxed) {
        let waiting = Instant::now();
        let batch = info_span!("wait_for_data").in_scope(|| stream.next()).context("the pipeline ended early")??;
        clock.waited(waiting.elapsed());

        let lr = schedule.at(position.step);
        let result = info_span!("step", step = position.step).in_scope(|| {
            step::step(engine.as_mut(), &patch_input(&batch), config.train.accumulation.get(), &config.adamw(lr))
        })?;
        if result.is_finite() {
            position.sums.add(f64::from(result.loss), result.gradient_norm);
        } else {
            let report = NotFinite::new(position.step + 1, lr, result, &batch);
            report.write(&folder)?;
            if config.train.on_nonfinite == OnNonfinite::Stop {
                return Err(report.error(&folder, saved.as_deref()));
            }
            warn!(step = report.step, lr, "loss or gradient is not finite; the step is skipped");
            position.skipped += 1;
        }
        clock.images(batch.rows());
        position.advance(&batch, length.steps_per_epoch);

        if position.step % config.train.log_every == 0 || position.step == length.total_steps {
            let line = clock.line(&mut position, batch.epoch(), lr, &stream.snapshot());
            log.metrics(&line)?;
            last_loss = line.loss;
        }
        log.progress.advance(position.step);
        if let Some(held_out) = &held_out
            && (position.step % config.evaluate.every_steps == 0 || position.step == length.total_steps)
        {
            let (line, picture) = held_out.evaluate(engine.as_mut(), position.step)?;
            log.evaluation(&line, picture.as_ref())?;
        }
        if position.step % config.checkpoint.every_steps == 0 || is_old(last_save, config.checkpoint.every_minutes) {
            log.sync()?;
            saved = Some(checkpoint::save(&folder, engine.as_ref(), &config, &position)?);
            last_save = Instant::now();
            info!(step = position.step, "saved a checkpoint");
        }
    }
    drop(stream);
    log.sync()?;
    let checkpoint = checkpoint::save(&folder, engine.as_ref(), &config, &position)?;
    log.progress.finish();
    Ok(Outcome {
        steps: position.step,
        total_steps: length.total_steps,
        loss: last_loss,
        skipped: position.skipped,
        checkpoint,
        interrupted: position.step < length.total_steps,
    })
}

fn is_old(last_save: Instant, minutes: Option<f64>) -> bool {
    minutes.is_some_and(|minutes| last_save.elapsed().as_secs_f64() >= 60.0 * minutes)
}

/// The order in which a run reads its data.
pub(crate) fn data_schedule(config: &RunConfig, start: Cursor) -> Schedule {
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
