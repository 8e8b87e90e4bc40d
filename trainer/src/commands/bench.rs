//! `patchstream bench`: how fast the pipeline is, stage by stage, with nothing behind it.
//!
//! `bench/measure.rs` runs it, `bench/report.rs` turns counters into numbers, `bench/limit.rs` and `bench/predict.rs` draw
//! conclusions, `bench/table.rs` and `bench/page.rs` show them, `bench/compare.rs` runs other loaders.

mod compare;
mod limit;
pub(super) mod machine;
mod measure;
mod page;
mod predict;
mod report;
mod table;

use std::num::NonZeroUsize;
use std::sync::Arc;

use anyhow::Context as _;
use patchstream_datasets::error::Instead;
use patchstream_datasets::sources::{self, SourceOptions};
use patchstream_datasets::{Cursor, Dataset, DatasetError, Faults, LastBatch, Schedule, Share, Shuffle};
use patchstream_pipeline::{DecodeMode, PatchGrid, PipelineConfig};

use self::compare::PeerResult;
use self::measure::{Length, Measurement};
use self::report::{Machine, Report, Settings, StageCost};
use super::{print, print_json, threads};
use crate::cli::{BenchArgs, Decode};

pub(crate) fn run(arguments: &BenchArgs) -> anyhow::Result<()> {
    let dataset = Arc::new(open(&arguments.data, arguments.faults.as_ref())?);
    let config = pipeline(arguments)?;
    let schedule = schedule(arguments);
    let one = measure::run(&dataset, &schedule, &config, Length::Moment)?;
    let length = Length::Epochs(arguments.epochs.get());
    let measured = measure::run(&dataset, &schedule, &config, length)?;
    let mut report = report(arguments, &config, &one, &measured);
    if let Some(home) = &arguments.compare {
        report.peers = compare::peers(&dataset, home, arguments, config.workers.get())?;
        // A machine that has become slower or faster meanwhile would make the ratios meaningless.
        let again = measure::run(&dataset, &schedule, &config, length)?;
        report.peers.push(PeerResult::Measured {
            name: "Patchstream, again".to_owned(),
            images_per_s: report::median(&again.epoch_rates),
            cpu_us_per_image: cpu_us_per_image(&again),
            note: "ours once more, after the others".to_owned(),
        });
    }
    if let Some(path) = &arguments.report {
        fs_err::write(path, page::page(&report)).context("writing the report")?;
    }
    if arguments.json { print_json(&report) } else { print(&table::table(&report)) }
}

/// Opens shards, or else a source of images as it is.
fn open(data: &str, faults: Option<&Faults>) -> anyhow::Result<Dataset> {
    let opened = match faults {
        Some(faults) => Dataset::open_with_faults(data, faults.clone()),
        None => Dataset::open(data),
    };
    match opened {
        // No data set of ours, or a file, or a pattern of files.
        Err(DatasetError::ManifestMissing { instead: Instead::Nothing, .. } | DatasetError::Location { .. }) => {
            let source = sources::open(data, &SourceOptions::default())?;
            Ok(Dataset::of_source(source, faults.cloned())?)
        }
        opened => Ok(opened?),
    }
}

fn schedule(arguments: &BenchArgs) -> Schedule {
    Schedule {
        seed: arguments.seed,
        shuffle: Shuffle::Window(arguments.shuffle_window),
        batch_size: arguments.batch_size,
        share: Share { rank: arguments.rank, world: arguments.world },
        last_batch: LastBatch::Keep,
        start: Cursor::default(),
        end_epoch: None,
    }
}

fn pipeline(arguments: &BenchArgs) -> anyhow::Result<PipelineConfig> {
    let grid = PatchGrid::new(arguments.image_px, arguments.image_px, arguments.patch_px)?;
    let read_ahead_bytes = (arguments.read_ahead_mib.get() as usize).saturating_mul(1 << 20);
    Ok(PipelineConfig {
        workers: threads(arguments.workers),
        decode: match arguments.decode {
            Decode::Exact => DecodeMode::Exact,
            Decode::Fast => DecodeMode::Fast,
        },
        repeats: arguments.repeats,
        read_ahead_bytes: NonZeroUsize::new(read_ahead_bytes).context("the read-ahead is at least a MiB")?,
        ..PipelineConfig::for_grid(grid)
    })
}

fn cpu_us_per_image(measured: &Measurement) -> f64 {
    1e6 * measured.cpu_s / measured.images as f64
}

fn report(arguments: &BenchArgs, config: &PipelineConfig, one: &Measurement, measured: &Measurement) -> Report {
    let images_per_s = report::median(&measured.epoch_rates);
    let stages: Vec<StageCost> = report::stages(measured);
    let queues = report::queues(measured, f64::from(arguments.read_ahead_mib.get()));
    // Those that wait for the consumer, and the one that is being filled.
    let images_in_flight =
        (config.queue_batches.get() + 1) * arguments.batch_size.get().div_ceil(arguments.world.get());
    let prediction = report::predictions(one, measured, images_per_s, images_in_flight);
    let retries = |measured: &Measurement| measured.after.read.unwrap_or_default().retries;
    Report {
        data: arguments.data.clone(),
        machine: Machine {
            processor: machine::processor(),
            cores: machine::cores(),
            cores_used: measured.cpu_s / measured.seconds,
            cores_used_by_others: measured.others_cores,
        },
        settings: Settings {
            batch_size: arguments.batch_size.get(),
            image_px: arguments.image_px,
            patch_px: arguments.patch_px,
            decode: config.decode,
            repeats: config.repeats.get(),
            shuffle_window: arguments.shuffle_window.get(),
            read_ahead_mib: arguments.read_ahead_mib.get(),
            rank: arguments.rank,
            world: arguments.world.get(),
            seed: arguments.seed,
            faults: arguments.faults.as_ref().map(ToString::to_string),
        },
        images_per_s,
        images_per_s_min: measured.epoch_rates.iter().copied().fold(f64::INFINITY, f64::min),
        images_per_s_max: measured.epoch_rates.iter().copied().fold(0.0, f64::max),
        epoch_images_per_s: measured.epoch_rates.clone(),
        cpu_us_per_image: cpu_us_per_image(measured),
        one_worker_cpu_us_per_image: prediction.costs.total_us(),
        workers: config.workers.get(),
        images: measured.images / arguments.epochs.get(),
        epochs: arguments.epochs.get(),
        bytes_read_per_image: report::bytes_read(measured) / measured.images as f64,
        resident_bytes_max: machine::resident_bytes_max(),
        limit: limit::find(measured, &stages, &queues),
        timeline: report::timeline(measured, &queues),
        target: arguments.target.map(|target| prediction.costs.target(target)),
        stages,
        queues,
        retries: retries(measured),
        quarantined: measured.after.quarantined,
        replaced: measured.after.replaced - measured.before.replaced,
        prediction,
        peers: Vec::new(),
    }
}
