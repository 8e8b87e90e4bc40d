//! `patchstream selfcheck`: whether training on a device is right, and what it costs there, in one file.
//!
//! `selfcheck/correct.rs` compares with golden numbers and with itself, `selfcheck/feeding.rs` measures how long training
//! waits for data; steps are timed as `bench-step` does it.

mod correct;
mod feeding;

use std::num::NonZeroUsize;

use anyhow::Context as _;
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
    steps: Vec<Timed>,
    /// In every precision of the device; without `--data` there is none.
    feeding: Vec<Feeding>,
    /// Of copies to the device; the CPU needs none.
    host_to_device: Option<Bandwidth>,
    passed: bool,
}

/// Steps of one batch size, or why there are none.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Timed {
    Measured(Box<bench_step::Report>),
    Failed { matmul_precision: MatmulPrecision, batch: usize, error: String, hint: Option<String> },
}

pub(crate) fn run(arguments: &SelfcheckArgs) -> anyhow::Result<()> {
    // Errors of the place to write to come before minutes of work.
    let folder = arguments.out.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return Err(UserError::new(format!("folder `{}` for the result does not exist", folder.display())).into());
    }
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
    let report = compute_pool(Some(config.train.threads))?.install(|| check(&config, arguments, &batches))?;
    crate::training::write_whole(&arguments.out, (serde_json::to_string_pretty(&report)? + "\n").as_bytes())
        .with_context(|| format!("writing {}", arguments.out.display()))?;
    print(&summary(&report))?;
    if report.passed {
        return Ok(());
    }
    let problem =
        UserError::new(format!("training on {} is not right; {} says where", report.device, arguments.out.display()));
    Err(problem.hint("do not train on it; a driver or library of another version may help").into())
}

/// In which precisions a device multiplies.
fn precisions(device: Device) -> &'static [MatmulPrecision] {
    match device {
        Device::Cpu => &[MatmulPrecision::Float32],
        Device::Cuda(_) => &[MatmulPrecision::Float32, MatmulPrecision::Tf32],
    }
}

fn check(config: &RunConfig, arguments: &SelfcheckArgs, batches: &[NonZeroUsize]) -> anyhow::Result<Report> {
    let device = arguments.device;
    // The first to touch the device: whatever is wrong with it shows here.
    let golden = correct::golden(device)?;
    let determinism = correct::repeats(device, config.train.threads)?;
    let (mut against_cpu, mut steps, mut feeding) = (Vec::new(), Vec::new(), Vec::new());
    for &precision in precisions(device) {
        let mut config = config.clone();
        config.train.matmul_precision = precision;
        if device != Device::Cpu {
            against_cpu.push(correct::against_cpu(device, precision)?);
        }
        for &batch in batches {
            config.train.batch_size = batch;
            steps.push(timed(&config, arguments));
        }
        if let Some(data) = &arguments.data {
            data.clone_into(&mut config.data.path);
            config.train.batch_size = batches[0];
            feeding.push(feeding::measure(&config, device, arguments.steps)?);
        }
    }
    Ok(Report {
        program: "patchstream",
        version: env!("CARGO_PKG_VERSION"),
        device: device.to_string(),
        device_name: device.name()?,
        processor: machine::processor(),
        threads: config.train.threads.get(),
        passed: golden.passed && determinism.passed && against_cpu.iter().all(|cpu| cpu.passed),
        golden,
        determinism,
        against_cpu,
        steps,
        feeding,
        host_to_device: device.bandwidth()?,
    })
}

fn timed(config: &RunConfig, arguments: &SelfcheckArgs) -> Timed {
    let plan = Plan { device: arguments.device, warm_up: WARM_UP, steps: arguments.steps };
    match bench_step::measure(config, &plan) {
        Ok(report) => Timed::Measured(Box::new(report)),
        // Too little memory for a size is a result.
        Err(error) => Timed::Failed {
            matmul_precision: config.train.matmul_precision,
            batch: config.train.batch_size.get(),
            hint: error.downcast_ref::<ModelError>().and_then(ModelError::hint),
            error: error.to_string(),
        },
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
    for timed in &report.steps {
        text += &match timed {
            Timed::Measured(step) => format!("step         {}\n", step.line()),
            Timed::Failed { matmul_precision, batch, error, .. } => {
                format!("step         {matmul_precision}, batch {batch}: {error}\n")
            }
        };
    }
    for feeding in &report.feeding {
        text += &format!("waiting      {}\n", feeding.line());
    }
    if let Some(Bandwidth { pageable_bytes_per_s, page_locked_bytes_per_s }) = report.host_to_device {
        let (pageable, locked) = (pageable_bytes_per_s / 1e9, page_locked_bytes_per_s / 1e9);
        text += &format!("to device    {pageable:.1} GB/s, page-locked {locked:.1} GB/s\n");
    }
    text
}
