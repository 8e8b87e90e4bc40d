//! `patchstream bench`: how fast the pipeline is, stage by stage, with nothing behind it.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use patchstream_datasets::{Cursor, Dataset, LastBatch, Schedule, Share, Shuffle};
use patchstream_pipeline::{DecodeMode, PatchGrid, PatchStream, PipelineConfig, PipelineSnapshot};
use serde::Serialize;

use super::{human_bytes, print, print_json, threads};
use crate::cli::{BenchArgs, Decode};

/// Where the time of the measured epochs went.
#[derive(Serialize)]
struct Report {
    /// Median of the measured epochs.
    images_per_s: f64,
    images_per_s_min: f64,
    images_per_s_max: f64,
    /// CPU time of the whole process.
    cpu_us_per_image: f64,
    workers: NonZeroUsize,
    /// Images of an epoch.
    images: u64,
    epochs: u64,
    batch_size: usize,
    decode: DecodeMode,
    bytes_read_per_image: f64,
    stages: Vec<StageCost>,
    waits: Vec<Wait>,
}

#[derive(Serialize)]
struct StageCost {
    name: &'static str,
    cpu_us_per_image: f64,
    /// Of the CPU time of the whole process.
    share: f64,
}

/// How long the two sides of a queue waited for each other.
#[derive(Serialize)]
struct Wait {
    queue: &'static str,
    /// Share of the time in which whoever fills the queue waited for room: what comes after it is slower.
    full: f64,
    /// Share of the time in which whoever empties it waited, summed over threads: what comes before it is slower.
    empty: f64,
}

/// Rows are mixed as in training.
const SHUFFLE_WINDOW: NonZeroUsize = NonZeroUsize::new(4).unwrap();

pub(crate) fn run(arguments: &BenchArgs) -> anyhow::Result<()> {
    let dataset = Arc::new(Dataset::open(&arguments.data)?);
    let images = dataset.manifest().rows();
    let config = pipeline(arguments)?;
    let schedule = Schedule {
        seed: arguments.seed,
        shuffle: Shuffle::Window(SHUFFLE_WINDOW),
        batch_size: arguments.batch_size,
        share: Share::WHOLE,
        last_batch: LastBatch::Keep,
        start: Cursor::default(),
        end_epoch: Some(arguments.epochs.get() + 1),
    };
    let mut stream = PatchStream::start(dataset, schedule, &config)?;

    epoch(&mut stream, images)?;
    let (before, cpu_before, started) = (stream.snapshot(), process_cpu_seconds(), Instant::now());
    let mut rates = Vec::new();
    for number in 0..arguments.epochs.get() {
        rates.push(epoch(&mut stream, images)?);
        tracing::info!(epoch = number, images_per_s = rates.last(), "epoch done");
    }
    let (after, cpu_seconds, seconds) =
        (stream.snapshot(), process_cpu_seconds() - cpu_before, started.elapsed().as_secs_f64());

    let report = Measurement { before, after, cpu_seconds, seconds, rates }.report(arguments, &config, images);
    if arguments.json { print_json(&report) } else { print(&table(&report)) }
}

/// Takes one epoch's batches; images a second. Those of the next epoch are being made meanwhile, as in training.
fn epoch(stream: &mut PatchStream, images: u64) -> anyhow::Result<f64> {
    let started = Instant::now();
    let mut seen = 0;
    while seen < images {
        seen += stream.next().context("the pipeline ended in mid-epoch")??.rows() as u64;
    }
    Ok(images as f64 / started.elapsed().as_secs_f64())
}

fn pipeline(arguments: &BenchArgs) -> anyhow::Result<PipelineConfig> {
    let grid = PatchGrid::new(arguments.image_px, arguments.image_px, arguments.patch_px)?;
    Ok(PipelineConfig {
        workers: threads(arguments.workers),
        decode: match arguments.decode {
            Decode::Exact => DecodeMode::Exact,
            Decode::Fast => DecodeMode::Fast,
        },
        ..PipelineConfig::for_grid(grid)
    })
}

struct Measurement {
    before: PipelineSnapshot,
    after: PipelineSnapshot,
    cpu_seconds: f64,
    seconds: f64,
    rates: Vec<f64>,
}

impl Measurement {
    fn report(mut self, arguments: &BenchArgs, config: &PipelineConfig, images: u64) -> Report {
        let Self { before, after, cpu_seconds, seconds, rates } = &mut self;
        // Workers are ahead of the consumer by what the queues hold, as much at the end as at the start.
        let measured = (images * arguments.epochs.get()) as f64;
        let stages = before.stages.iter().zip(&after.stages).map(|(before, after)| {
            let cpu_us = (after.cpu_ns - before.cpu_ns) as f64 / 1e3;
            StageCost { name: after.name, cpu_us_per_image: cpu_us / measured, share: cpu_us / 1e6 / *cpu_seconds }
        });
        let wait = |queue, [full, empty]: [u64; 2]| Wait {
            queue,
            full: full as f64 / 1e9 / *seconds,
            empty: empty as f64 / 1e9 / *seconds,
        };
        let (read_before, read_after) = (before.read.unwrap_or_default(), after.read.unwrap_or_default());
        let read = wait(
            "read",
            [
                read_after.fetcher_wait_ns - read_before.fetcher_wait_ns,
                read_after.consumer_wait_ns - read_before.consumer_wait_ns,
            ],
        );
        let queues = before.queues.iter().zip(&after.queues).map(|(before, after)| {
            wait(after.name, [after.put_wait_ns - before.put_wait_ns, after.take_wait_ns - before.take_wait_ns])
        });
        rates.sort_by(f64::total_cmp);
        Report {
            images_per_s: f64::midpoint(rates[(rates.len() - 1) / 2], rates[rates.len() / 2]),
            images_per_s_min: rates[0],
            images_per_s_max: rates[rates.len() - 1],
            cpu_us_per_image: 1e6 * *cpu_seconds / measured,
            workers: config.workers,
            images,
            epochs: arguments.epochs.get(),
            batch_size: arguments.batch_size.get(),
            decode: config.decode,
            bytes_read_per_image: (read_after.bytes - read_before.bytes) as f64 / measured,
            stages: stages.collect(),
            waits: std::iter::once(read).chain(queues).collect(),
        }
    }
}

fn table(report: &Report) -> String {
    let Report { images_per_s, images_per_s_min, images_per_s_max, workers, images, epochs, .. } = report;
    let mut text = format!(
        "{images_per_s:.0} images/s with {workers} workers (median of {epochs} epochs of {images} images, {images_per_s_min:.0} to {images_per_s_max:.0})\n\
         {:.0} us of CPU an image, {} read an image\n\n",
        report.cpu_us_per_image,
        human_bytes(report.bytes_read_per_image as u64),
    );
    text += &format!("{:15} {:>14} {:>8}\n", "stage", "CPU us/image", "share");
    for StageCost { name, cpu_us_per_image, share } in &report.stages {
        text += &format!("{name:15} {cpu_us_per_image:>14.1} {:>7.1}%\n", 100.0 * share);
    }
    let named: f64 = report.stages.iter().map(|stage| stage.cpu_us_per_image).sum();
    let rest = (report.cpu_us_per_image - named).max(0.0);
    text += &format!("{:15} {rest:>14.1} {:>7.1}%\n\n", "everything else", 100.0 * rest / report.cpu_us_per_image);
    text += &format!("{:15} {:>14} {:>14}\n", "queue", "full, waited", "empty, waited");
    for Wait { queue, full, empty } in &report.waits {
        text += &format!("{queue:15} {:>13.1}% {:>13.1}%\n", 100.0 * full, 100.0 * empty);
    }
    text
}

/// User and system time of all threads so far.
fn process_cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
