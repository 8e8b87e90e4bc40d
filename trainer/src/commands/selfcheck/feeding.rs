//! How long training waits for data: steps on streamed batches beside steps on one batch that is kept.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use patchstream_datasets::{Cursor, Dataset};
use patchstream_model::{Device, MatmulPrecision};
use patchstream_pipeline::PatchStream;
use serde::Serialize;

use crate::settings::RunConfig;
use crate::training::feed::Feed;
use crate::training::{data_schedule, step};

/// Batches before those that are measured, so that queues are as full as they will be.
const WARM_UP: usize = 3;

#[derive(Debug, Serialize)]
pub(super) struct Feeding {
    data: String,
    matmul_precision: MatmulPrecision,
    batch: usize,
    workers: usize,
    steps: usize,
    /// Of a step on a streamed batch, waiting included.
    streamed_ms_per_step: f64,
    /// Of a step on a batch that is kept.
    cached_ms_per_step: f64,
    /// Of the time of streamed steps, what was spent waiting for the next batch.
    wait_share: f64,
}

impl Feeding {
    pub(super) fn line(&self) -> String {
        format!(
            "{}, batch {}: {:.1}% for data; {:.1} ms streamed, {:.1} ms kept",
            self.matmul_precision,
            self.batch,
            100.0 * self.wait_share,
            self.streamed_ms_per_step,
            self.cached_ms_per_step
        )
    }
}

pub(super) fn measure(
    config: &RunConfig,
    dataset: &Arc<Dataset>,
    device: Device,
    steps: NonZeroUsize,
) -> anyhow::Result<Feeding> {
    let mut config = config.clone();
    config.fill_pixel_scale(dataset.manifest().pixel_stats());
    let rows = NonZeroUsize::new(dataset.manifest().rows() as usize).unwrap_or(NonZeroUsize::MIN);
    config.train.batch_size = config.train.batch_size.min(rows);
    config.validate()?;
    let mut engine = config.open_on(device)?;
    let schedule = data_schedule(&config, Cursor::default());
    let stream = PatchStream::start(Arc::clone(dataset), schedule, &config.pipeline(None)?)?;
    let mut feed = Feed::start(stream, engine.as_ref())?;
    let adamw = config.adamw(config.train.base_lr);

    // As in training, a step is asked for before the one before it is reported.
    let mut fed = feed.next()?;
    step::ask_for_step(engine.as_mut(), &fed.input(), 1, &adamw)?;
    let (mut waited, mut started) = (Duration::ZERO, Instant::now());
    for number in 0..WARM_UP + steps.get() {
        if number == WARM_UP {
            (waited, started) = (Duration::ZERO, Instant::now());
        }
        drop(fed);
        let waiting = Instant::now();
        fed = feed.next()?;
        waited += waiting.elapsed();
        step::ask_for_step(engine.as_mut(), &fed.input(), 1, &adamw)?;
        engine.report()?;
    }
    let streamed = started.elapsed();
    drop(feed);

    let started = Instant::now();
    for _ in 0..steps.get() {
        step::ask_for_step(engine.as_mut(), &fed.input(), 1, &adamw)?;
        engine.report()?;
    }
    let ms_per_step = |time: Duration| 1e3 * time.as_secs_f64() / steps.get() as f64;
    Ok(Feeding {
        data: dataset.location().to_string(),
        matmul_precision: config.train.matmul_precision,
        batch: fed.batch.rows(),
        workers: config.data.workers.get(),
        steps: steps.get(),
        streamed_ms_per_step: ms_per_step(streamed),
        cached_ms_per_step: ms_per_step(started.elapsed()),
        wait_share: waited.as_secs_f64() / streamed.as_secs_f64(),
    })
}
