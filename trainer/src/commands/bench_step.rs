//! `patchstream bench-step`: what a training step costs, with nothing in front of it.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use patchstream_model::{Device, Engine, MatmulPrecision, OperationTime, PatchInput, UploadedRows};
use serde::Serialize;

use super::bench::machine;
use super::{compute_pool, human_bytes, print, print_json};
use crate::cli::BenchStepArgs;
use crate::report::UserError;
use crate::settings::{ConfigSource, RunConfig, resolve};
use crate::synthetic::SyntheticBatch;
use crate::training::step;

/// Keys of the configuration that a step depends on, beside all of the model.
const KEYS: [&str; 11] = [
    "mask.ratio",
    "train.accumulation",
    "train.base_lr",
    "train.batch_size",
    "train.beta1",
    "train.beta2",
    "train.clip_norm",
    "train.matmul_precision",
    "train.seed",
    "train.threads",
    "train.weight_decay",
];
/// Steps whose operations are timed one by one, after those that are measured whole.
const PROFILED_STEPS: u32 = 5;
/// What `gflop_per_step` counts.
const COUNTED: &str = "multiply-adds of the matrix products times 2, three times forward (forward, gradient of the input, \
     gradient of the weights); predictions of masked patches only";

/// What was measured, as it is printed with `--json`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    model: String,
    encoder_input: patchstream_model::EncoderInput,
    decoder_depth: usize,
    device: String,
    processor: Option<String>,
    threads: usize,
    matmul_precision: MatmulPrecision,
    batch: usize,
    accumulation: usize,
    visible_patches: usize,
    patches: usize,
    steps: usize,
    /// The median.
    ms_per_step: f64,
    ms_min: f64,
    ms_max: f64,
    images_per_s: f64,
    gflop_per_step: f64,
    gflop_counted: &'static str,
    gflops_per_s: f64,
    loss: f32,
    memory: Memory,
    /// Time of one step by operation, from steps that were measured apart.
    operations: Vec<Operation>,
}

#[derive(Debug, Serialize)]
struct Memory {
    /// Most that the process ever held; not known on every system.
    process_bytes_max: Option<u64>,
    /// Most that the engine ever held on its device, of which state and activations are parts.
    device_bytes_max: u64,
    /// Weights, gradients and both moments, from their sizes.
    state_bytes: u64,
    /// What the forward pass keeps for the backward pass, from sizes.
    activation_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Operation {
    #[serde(rename = "operation")]
    name: &'static str,
    calls_per_step: f64,
    forward_ms: f64,
    backward_ms: f64,
    /// Of all operations together.
    share: f64,
    /// Of the matrix products in it.
    gflops_per_s: Option<f64>,
}

/// How steps are measured.
pub(super) struct Plan {
    pub(super) device: Device,
    /// Steps that are not measured, before those that are.
    pub(super) warm_up: usize,
    pub(super) steps: NonZeroUsize,
}

impl Report {
    /// The most important of it in one line.
    pub(super) fn line(&self) -> String {
        format!(
            "{}, {}, batch {}: {:.1} ms, {:.0} images/s, {}",
            self.model,
            self.matmul_precision,
            self.batch,
            self.ms_per_step,
            self.images_per_s,
            human_bytes(self.memory.device_bytes_max)
        )
    }
}

pub(crate) fn run(arguments: &BenchStepArgs) -> anyhow::Result<()> {
    let config = configuration(arguments)?;
    let plan = Plan { device: arguments.device, warm_up: arguments.warm_up, steps: arguments.steps };
    let report = compute_pool(Some(config.train.threads))?.install(|| measure(&config, &plan))?;
    if arguments.json { print_json(&report) } else { print(&table(&report)) }
}

fn configuration(arguments: &BenchStepArgs) -> anyhow::Result<RunConfig> {
    for pair in &arguments.overrides {
        let key = pair.split('=').next().unwrap_or_default().trim();
        if !key.starts_with("model.") && !KEYS.contains(&key) {
            return Err(UserError::new(format!("--set {pair}: a step on random pixels depends on no such key"))
                .hint(format!("keys of the section model can be set here, and {}", KEYS.join(", ")))
                .into());
        }
    }
    let mut flags = Vec::new();
    flags.extend(arguments.model.clone().map(|preset| ("preset", preset)));
    let mut config = resolve(ConfigSource { saved: None, file: None, overrides: &arguments.overrides, flags })?;
    config.train.batch_size = arguments.batch.unwrap_or(config.train.batch_size);
    config.train.threads = arguments.threads.unwrap_or(config.train.threads);
    config.validate()?;
    Ok(config)
}

pub(super) fn measure(config: &RunConfig, plan: &Plan) -> anyhow::Result<Report> {
    let (model, batch_size) = (&config.model, config.train.batch_size.get());
    let visible = config.mask.visible_patches(model.patches());
    let mut engine = config.open_on(plan.device)?;
    let batch = SyntheticBatch::new(model, visible, batch_size, config.train.seed);
    let adamw = config.adamw(config.train.base_lr);
    // A batch that is there already, as where data never have to be waited for.
    let uploaded = engine.uploader()?.map(|mut uploader| uploader.upload(&batch.input())).transpose()?;
    let input =
        PatchInput { uploaded: uploaded.as_ref().map(|batch| UploadedRows { batch, first: 0 }), ..batch.input() };
    let ask = |engine: &mut dyn Engine| step::ask_for_step(engine, &input, config.train.accumulation.get(), &adamw);
    // As in training, a step is asked for before the one before it is reported, and takes from one report to the next.
    ask(engine.as_mut())?;
    for _ in 0..plan.warm_up {
        ask(engine.as_mut())?;
        engine.report()?;
    }
    let (mut times_ms, mut loss) = (Vec::new(), 0.0);
    for _ in 0..plan.steps.get() {
        let started = Instant::now();
        ask(engine.as_mut())?;
        loss = engine.report()?.loss;
        times_ms.push(1e3 * started.elapsed().as_secs_f64());
    }
    engine.report()?;
    engine.start_profile();
    for _ in 0..PROFILED_STEPS {
        ask(engine.as_mut())?;
        engine.report()?;
    }
    let operations = operations(&engine.stop_profile());

    times_ms.sort_by(f64::total_cmp);
    let ms_per_step = times_ms[times_ms.len() / 2];
    let gflop_per_step = model.flops_per_image(visible) as f64 * batch_size as f64 / 1e9;
    let at_once = batch_size.div_ceil(config.train.accumulation.get()) as u64;
    Ok(Report {
        model: config.preset.clone(),
        encoder_input: model.encoder_input,
        decoder_depth: model.decoder.depth,
        device: plan.device.to_string(),
        processor: machine::processor(),
        threads: config.train.threads.get(),
        matmul_precision: config.train.matmul_precision,
        batch: batch_size,
        accumulation: config.train.accumulation.get(),
        visible_patches: visible,
        patches: model.patches(),
        steps: times_ms.len(),
        ms_per_step,
        ms_min: times_ms[0],
        ms_max: times_ms[times_ms.len() - 1],
        images_per_s: 1e3 * batch_size as f64 / ms_per_step,
        gflop_per_step,
        gflop_counted: COUNTED,
        gflops_per_s: 1e3 * gflop_per_step / ms_per_step,
        loss,
        memory: Memory {
            process_bytes_max: machine::resident_bytes_max(),
            device_bytes_max: engine.memory_bytes_max(),
            state_bytes: model.state_bytes(),
            activation_bytes: model.activation_bytes_per_image(visible) * at_once,
        },
        operations,
    })
}

/// Of one step, the longest first.
fn operations(times: &[OperationTime]) -> Vec<Operation> {
    let total: Duration = times.iter().map(|time| time.forward + time.backward).sum();
    let ms_per_step = |time: Duration| 1e3 * time.as_secs_f64() / f64::from(PROFILED_STEPS);
    let mut operations: Vec<Operation> = times
        .iter()
        .map(|time| {
            let both = time.forward + time.backward;
            Operation {
                name: time.operation,
                calls_per_step: time.calls as f64 / f64::from(PROFILED_STEPS),
                forward_ms: ms_per_step(time.forward),
                backward_ms: ms_per_step(time.backward),
                share: both.as_secs_f64() / total.as_secs_f64(),
                gflops_per_s: (time.flops > 0).then(|| time.flops as f64 / both.as_secs_f64() / 1e9),
            }
        })
        .collect();
    operations.sort_by(|left, right| right.share.total_cmp(&left.share));
    operations
}

fn table(report: &Report) -> String {
    let Report { model, batch, threads, ms_per_step, ms_min, ms_max, images_per_s, .. } = report;
    let mut text = format!(
        "{model}, batch {batch}, {} of {} patches visible, {} ({threads} threads), {}\n",
        report.visible_patches, report.patches, report.device, report.matmul_precision
    );
    text += &format!(
        "{ms_per_step:.1} ms a step (median of {}; {ms_min:.1} to {ms_max:.1}), {images_per_s:.1} images/s\n",
        report.steps
    );
    text += &format!(
        "{:.2} GFLOP a step, {:.1} GFLOP/s: {}\n",
        report.gflop_per_step, report.gflops_per_s, "matrix products, 3 times forward"
    );
    text += &format!(
        "memory: {} at most; of it {} of state, {} of activations\n",
        human_bytes(report.memory.device_bytes_max),
        human_bytes(report.memory.state_bytes),
        human_bytes(report.memory.activation_bytes),
    );
    let heads = ["calls", "forward ms", "backward ms", "share", "GFLOP/s"];
    text += &format!(
        "\n{:18} {:>6} {:>11} {:>12} {:>7} {:>9}\n",
        "operation", heads[0], heads[1], heads[2], heads[3], heads[4]
    );
    for Operation { name, calls_per_step, forward_ms, backward_ms, share, gflops_per_s } in &report.operations {
        let rate = gflops_per_s.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"));
        text += &format!(
            "{name:18} {calls_per_step:>6.0} {forward_ms:>11.2} {backward_ms:>12.2} {:>6.1}% {rate:>9}\n",
            100.0 * share
        );
    }
    text
}
