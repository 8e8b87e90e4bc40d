//! `patchstream pretrain --dry-run`: what a run would cost, with a few of its steps to tell how long it would take.

use std::sync::Arc;
use std::time::Instant;

use patchstream_datasets::{Cursor, Dataset};
use patchstream_model::Engine;
use patchstream_pipeline::PatchStream;

use super::{human_bytes, print};
use crate::settings::RunConfig;
use crate::training::feed::Feed;
use crate::training::{data_schedule, step};

/// Steps that are measured, after one that is not.
const STEPS: usize = 3;

/// Prints sizes and costs; `engine` trains for a few steps that nobody keeps.
pub(crate) fn run(
    config: &RunConfig,
    dataset: Arc<Dataset>,
    engine: &mut dyn Engine,
    steps_left: u64,
) -> anyhow::Result<()> {
    let model = &config.model;
    let visible = config.mask.visible_patches(model.patches());
    let part = config.train.batch_size.get().div_ceil(config.train.accumulation.get());
    let activations = model.activation_bytes_per_image(visible);
    let state = model.state_bytes();
    print(&format!(
        "cost    {:.2} GFLOP and {} of activations an image, {} for the {part} computed at once\n\
         memory  {} for weights, gradients and moments\n",
        model.flops_per_image(visible) as f64 / 1e9,
        human_bytes(activations),
        human_bytes(activations.saturating_mul(part as u64)),
        human_bytes(state),
    ))?;
    let stream = PatchStream::start(dataset, data_schedule(config, Cursor::default()), &config.pipeline(None)?)?;
    let mut feed = Feed::start(stream, engine)?;
    let mut seconds = Vec::new();
    for _ in 0..=STEPS {
        let started = Instant::now();
        let fed = feed.next()?;
        step::ask_for_step(engine, &fed.input(), config.train.accumulation.get(), &config.adamw(0.0))?;
        engine.report()?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    let mut measured = seconds.split_off(1);
    measured.sort_by(f64::total_cmp);
    let each = measured[STEPS / 2];
    let total = std::time::Duration::from_secs_f64((each * steps_left as f64).min(1e15));
    print(&format!(
        "time    {:.0} ms a step, measured over {STEPS}; {steps_left} steps take about {}\n",
        1000.0 * each,
        indicatif::HumanDuration(total)
    ))
}
