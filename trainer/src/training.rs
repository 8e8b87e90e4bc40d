//! Pre-training: take a batch, do a step, log, evaluate, save.

pub(crate) mod checkpoint;
mod digest;
pub(crate) mod feed;
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

use patchstream_datasets::{Cursor, Dataset, Schedule, Share};
use patchstream_model::Engine;
use patchstream_pipeline::{PatchBatch, PatchStream};
use tracing::{info, info_span, warn};

use self::checkpoint::{Checkpoint, Position};
use self::feed::Feed;
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

/// A step that the engine was asked for.
struct Asked {
    batch: PatchBatch,
    lr: f64,
}

/// A run that goes on.
struct Training {
    folder: PathBuf,
    config: RunConfig,
    length: Length,
    schedule: LrSchedule,
    held_out: Option<HeldOut>,
    engine: Box<dyn Engine>,
    feed: Feed,
    log: RunLog,
    clock: Clock,
    /// Behind the last step that was reported.
    position: Position,
    last_loss: Option<f64>,
    saved: Option<PathBuf>,
    last_save: Instant,
}

/// Trains to the end, or until interrupted, and leaves a checkpoint of the last step.
///
/// A step is asked for before the one before it is reported, so that a device has always something to do. Not so where the
/// state between them is wanted: for evaluation, for a checkpoint, at the end.
pub(crate) fn train(run: Run) -> anyhow::Result<Outcome> {
    let interrupted = Arc::clone(&run.interrupted);
    let mut training = Training::start(run)?;
    let mut asked: Option<Asked> = None;
    loop {
        let step = training.position.step + u64::from(asked.is_some());
        let ends = step == training.length.total_steps || interrupted.load(Ordering::Relaxed);
        let waits = asked.is_some() && training.wants_state(step);
        let next = if ends || waits { Ok(None) } else { training.ask_for_step(step).map(Some) };
        // What comes next may have failed, but this step has been made.
        if let Some(step) = asked.take() {
            training.finish_step(&step)?;
            if matches!(next, Ok(None)) {
                training.use_state()?;
            }
        } else if ends {
            return training.end();
        }
        asked = next?;
    }
}

impl Training {
    fn start(run: Run) -> anyhow::Result<Self> {
        let Run { folder, config, dataset, held_out, mut engine, resume, interrupted: _, quiet } = run;
        let length = Length::of(&config, dataset.manifest().rows())?;
        let schedule = LrSchedule::of(&config, length);
        let mut position = Position::start(dataset.manifest().fingerprint());
        if let Some(checkpoint) = &resume {
            checkpoint.load_all(engine.as_mut())?;
            position = checkpoint.position.clone();
        }
        let saved = resume.map(|checkpoint| checkpoint.path);
        checkpoint::clean(&folder)?;

        let progress = Progress::start(length.total_steps, position.step, quiet);
        let log = RunLog::open(&folder, position.step, held_out.is_some(), progress)?;
        let pipeline = config.pipeline(Some(folder.join("quarantine.jsonl")))?;
        let stream = PatchStream::start(dataset, data_schedule(&config, position.cursor()), &pipeline)?;
        let feed = Feed::start(stream, engine.as_ref())?;
        let (clock, last_save, last_loss) = (Clock::start(), Instant::now(), None);
        Ok(Self {
            folder,
            config,
            length,
            schedule,
            held_out,
            engine,
            feed,
            log,
            clock,
            position,
            last_loss,
            saved,
            last_save,
        })
    }

    /// Asks for the step after `step`.
    fn ask_for_step(&mut self, step: u64) -> anyhow::Result<Asked> {
        let waiting = Instant::now();
        let fed = info_span!("wait_for_data").in_scope(|| self.feed.next())?;
        self.clock.waited(waiting.elapsed());

        let (lr, accumulation) = (self.schedule.at(step), self.config.train.accumulation.get());
        info_span!("step", step).in_scope(|| {
            step::ask_for_step(self.engine.as_mut(), &fed.input(), accumulation, &self.config.adamw(lr))
        })?;
        Ok(Asked { batch: fed.batch, lr })
    }

    /// Waits for a step's numbers and writes them down.
    fn finish_step(&mut self, asked: &Asked) -> anyhow::Result<()> {
        let Asked { batch, lr } = asked;
        let report = info_span!("wait_for_step", step = self.position.step).in_scope(|| self.engine.report())?;
        if report.is_finite() {
            self.position.sums.add(f64::from(report.loss), report.gradient_norm);
        } else {
            let report = NotFinite::new(self.position.step + 1, *lr, report, batch);
            report.write(&self.folder)?;
            if self.config.train.on_nonfinite == OnNonfinite::Stop {
                return Err(report.error(&self.folder, self.saved.as_deref()));
            }
            warn!(step = report.step, lr, "loss or gradient is not finite; the step is skipped");
            self.position.skipped += 1;
        }
        self.clock.images(batch.rows());
        self.position.advance(batch, self.length.steps_per_epoch);

        let step = self.position.step;
        if step % self.config.train.log_every == 0 || step == self.length.total_steps {
            let line = self.clock.line(&mut self.position, batch.epoch(), *lr, &self.feed.snapshot());
            self.log.metrics(&line)?;
            self.last_loss = line.loss;
        }
        self.log.progress.advance(step);
        Ok(())
    }

    fn evaluates(&self, step: u64) -> bool {
        self.held_out.is_some() && (step % self.config.evaluate.every_steps == 0 || step == self.length.total_steps)
    }

    fn saves(&self, step: u64) -> bool {
        let minutes = self.config.checkpoint.every_minutes;
        let is_old = minutes.is_some_and(|minutes| self.last_save.elapsed().as_secs_f64() >= 60.0 * minutes);
        step % self.config.checkpoint.every_steps == 0 || is_old
    }

    /// Whether something is to be done with the state after this step.
    fn wants_state(&self, step: u64) -> bool {
        self.evaluates(step) || self.saves(step)
    }

    /// Evaluates and saves, where it is time to; no step may be under way.
    fn use_state(&mut self) -> anyhow::Result<()> {
        let step = self.position.step;
        if self.evaluates(step)
            && let Some(held_out) = &self.held_out
        {
            let (line, picture) = held_out.evaluate(self.engine.as_mut(), step)?;
            self.log.evaluation(&line, picture.as_ref())?;
        }
        if self.saves(step) {
            self.save()?;
            info!(step, "saved a checkpoint");
        }
        Ok(())
    }

    fn save(&mut self) -> anyhow::Result<PathBuf> {
        self.log.sync()?;
        let path = checkpoint::save(&self.folder, self.engine.as_ref(), &self.config, &self.position)?;
        self.saved = Some(path.clone());
        self.last_save = Instant::now();
        Ok(path)
    }

    fn end(mut self) -> anyhow::Result<Outcome> {
        let checkpoint = self.save()?;
        // What is read ahead is not wanted any more.
        drop(self.feed);
        self.log.progress.finish();
        Ok(Outcome {
            steps: self.position.step,
            total_steps: self.length.total_steps,
            loss: self.last_loss,
            skipped: self.position.skipped,
            checkpoint,
            interrupted: self.position.step < self.length.total_steps,
        })
    }
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
