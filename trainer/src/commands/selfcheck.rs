//! `patchstream selfcheck`: whether training on a device is right, and what it costs there, in one file.
//!
//! `selfcheck/correct.rs` compares with golden numbers and with itself, `selfcheck/feeding.rs` measures how long training
//! waits for data; steps are timed as `bench-step` does it.

mod correct;
mod feeding;

use std::num::NonZeroUsize;
use std::sync::Arc;

use anyhow::Context as _;
use patchstream_datasets::Dataset;
use patchstream_model::{Bandwidth, Device, MatmulPrecision, ModelError};
use serde::Serialize;

use self::correct::{AgainstCpu, Golden, Repeats};
use self::feeding::Feeding;
use super::bench::machine;
use super::bench_step::{self, Plan};
use super::{compute_pool, print};
use crate::cli::SelfcheckArgs;
use crate::report::UserError;
use crate::settings::{ConfigSource, RunConfig, resolve};

const WARM_UP: usize = 3;

/// All that was found out.
#[derive(Debug, Serialize)]
struct Report {
    program: &'static str,
    version: &'static str,
    device: String,
    device_name: Option<String>,
    processor: Option<String>,
    threads: usize,
    golden: Golden,
    determinism: Repeats,
    /// In every precision of the device; of the CPU there is none.
    against_cpu: Vec<AgainstCpu>,
    steps: Vec<Timed<bench_step::Report>>,
    /// In every precision of the device; without `--data` there is none.
    feeding: Vec<Timed<Feeding>>,
    /// Of copies to the device; the CPU needs none.
    host_to_device: Option<Bandwidth>,
    /// All numbers are as they should be.
    right: bool,
    /// And everything could be measured, but for what memory is too small for.
    passed: bool,
}

/// Times of one batch size, or why there are none: what was measured before a device fails is worth having.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Timed<T> {
    Measured(Box<T>),
    Failed(Failed),
}

#[derive(Debug, Serialize)]
struct Failed {
    matmul_precision: MatmulPrecision,
    batch: usize,
    error: String,
    hint: Option<String>,
    /// There is too little memory for the size, which is a result like another.
    too_large: bool,
}

pub(crate) fn run(arguments: &SelfcheckArgs) -> anyhow::Result<()> {
    // Errors of the place to write to come before minutes of work.
    let folder = arguments.out.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return Err(UserError::new(format!("folder `{}` for the result does not exist", folder.display())).into());
    }
    let dataset = arguments.data.as_deref().map(Dataset::open).transpose()?.map(Arc::new);
    let on_cpu = arguments.device == Device::Cpu;
    let preset = arguments.model.clone().unwrap_or_else(|| if on_cpu { "vit_micro" } else { "vit_base" }.to_owned());
    let flags = vec![("preset", preset)];
    let mut config = resolve(ConfigSource { saved: None, file: None, overrides: &[], flags })?;
    if let Some(threads) = arguments.threads {
        (config.train.threads, config.data.workers) = (threads, threads);
    }
    let sizes = if on_cpu { [16, 64] } else { [64, 256] };
    let batches: Vec<NonZeroUsize> = match &arguments.batch[..] {
        [] => sizes.into_iter().filter_map(NonZeroUsize::new).collect(),
        given => given.to_vec(),
    };
    let report =
        compute_pool(Some(config.train.threads))?.install(|| check(&config, arguments, &batches, dataset.as_ref()))?;
    crate::training::write_whole(&arguments.out, (serde_json::to_string_pretty(&report)? + "\n").as_bytes())
        .with_context(|| format!("writing {}", arguments.out.display()))?;
    print(&summary(&report))?;
    if report.passed {
        return Ok(());
    }
    let (device, file) = (report.device, arguments.out.display());
    if report.right {
        return Err(UserError::new(format!("not all could be measured on {device}; {file} says why")).into());
    }
    Err(UserError::new(format!("training on {device} is not right; {file} says where"))
        .hint("do not train on it; a driver or library of another version may help")
        .into())
}

/// In which precisions a device multiplies.
fn precisions(device: Device) -> &'static [MatmulPrecision] {
    match device {
        Device::Cpu => &[MatmulPrecision::Float32],
        Device::Cuda(_) => &[MatmulPrecision::Float32, MatmulPrecision::Tf32],
    }
}

fn check(
    config: &RunConfig,
    arguments: &SelfcheckArgs,
    batches: &[NonZeroUsize],
    dataset: Option<&Arc<Dataset>>,
) -> anyhow::Result<Report> {
    let device = arguments.device;
    // The first to touch the device: whatever is wrong with it shows here.
    let golden = correct::golden(device)?;
    let determinism = correct::repeats(device, config.train.threads)?;
    let against_cpu = match device {
        Device::Cpu => Vec::new(),
        Device::Cuda(_) => {
            let each = precisions(device).iter().map(|&precision| correct::against_cpu(device, precision));
            each.collect::<Result<_, _>>()?
        }
    };
    let (device_name, host_to_device) = (device.name()?, device.bandwidth()?);

    let (mut steps, mut feeding) = (Vec::new(), Vec::new());
    for &precision in precisions(device) {
        let mut config = config.clone();
        config.train.matmul_precision = precision;
        for &batch in batches {
            config.train.batch_size = batch;
            let plan = Plan { device, warm_up: WARM_UP, steps: arguments.steps };
            steps.push(timed(&config, bench_step::measure(&config, &plan)));
        }
        if let Some(dataset) = dataset {
            config.train.batch_size = batches[0];
            feeding.push(timed(&config, feeding::measure(&config, dataset, device, arguments.steps)));
        }
    }
    let right = golden.passed && determinism.passed && against_cpu.iter().all(|cpu| cpu.passed);
    Ok(Report {
        program: "patchstream",
        version: env!("CARGO_PKG_VERSION"),
        device: device.to_string(),
        device_name,
        processor: machine::processor(),
        threads: config.train.threads.get(),
        right,
        passed: right && !steps.iter().any(Timed::is_broken) && !feeding.iter().any(Timed::is_broken),
        golden,
        determinism,
        against_cpu,
        steps,
        feeding,
        host_to_device,
    })
}

fn timed<T>(config: &RunConfig, measured: anyhow::Result<T>) -> Timed<T> {
    let error = match measured {
        Ok(measured) => return Timed::Measured(Box::new(measured)),
        Err(error) => error,
    };
    let known = error.downcast_ref::<ModelError>();
    Timed::Failed(Failed {
        matmul_precision: config.train.matmul_precision,
        batch: config.train.batch_size.get(),
        error: format!("{error:#}"),
        hint: known.and_then(ModelError::hint),
        too_large: matches!(known, Some(ModelError::BatchTooLarge { .. } | ModelError::StateTooLarge { .. })),
    })
}

impl<T> Timed<T> {
    fn is_broken(&self) -> bool {
        matches!(self, Timed::Failed(failed) if !failed.too_large)
    }

    fn line(&self, line: impl FnOnce(&T) -> String) -> String {
        match self {
            Timed::Measured(measured) => line(measured),
            Timed::Failed(Failed { matmul_precision, batch, error, .. }) => {
                format!("{matmul_precision}, batch {batch}: {error}")
            }
        }
    }
}

fn summary(report: &Report) -> String {
    let verdict = |passed: bool| if passed { "yes" } else { "NO" };
    let mut text = format!("device       {}", report.device);
    text += &report.device_name.as_ref().map(|name| format!(", {name}")).unwrap_or_default();
    text += &format!(
        "\ngolden       {}: {} numbers, the worst at {:.1}% of what is allowed\n",
        verdict(report.golden.passed),
        report.golden.compared,
        100.0 * report.golden.worst_share,
    );
    text += &format!("same twice   {}: {}\n", verdict(report.determinism.passed), report.determinism.what);
    for AgainstCpu { matmul_precision, passed, loss_error, state_error, features_error, .. } in &report.against_cpu {
        text += &format!(
            "as the CPU   {}, {matmul_precision}: losses {loss_error:.0e}, weights and moments {state_error:.0e}, \
             features {features_error:.0e} off\n",
            verdict(*passed)
        );
    }
    for step in &report.steps {
        text += &format!("step         {}\n", step.line(bench_step::Report::line));
    }
    for feeding in &report.feeding {
        text += &format!("waiting      {}\n", feeding.line(Feeding::line));
    }
    if let Some(Bandwidth { pageable_bytes_per_s, page_locked_bytes_per_s }) = report.host_to_device {
        let (pageable, locked) = (pageable_bytes_per_s / 1e9, page_locked_bytes_per_s / 1e9);
        text += &format!("to device    {pageable:.1} GB/s, page-locked {locked:.1} GB/s\n");
    }
    text
}
