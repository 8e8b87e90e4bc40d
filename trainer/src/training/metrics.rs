//! What a run tells of itself: `metrics.jsonl` and `evaluation.jsonl`, one JSON object a line, appended while it goes on.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use patchstream_pipeline::PipelineSnapshot;
use serde::{Deserialize, Serialize};

use super::checkpoint::Position;
use super::digest::Digest;

/// Means over the steps since the line before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct MetricsLine {
    /// Steps done.
    pub(crate) step: u64,
    /// Epoch of the last step, counted from 0.
    pub(crate) epoch: u64,
    /// Nothing where every step was skipped.
    pub(crate) loss: Option<f64>,
    /// Rate of the last step.
    pub(crate) lr: f64,
    /// Before clipping.
    pub(crate) gradient_norm: Option<f64>,
    pub(crate) images_per_s: f64,
    /// Share of the time that the trainer waited for data.
    pub(crate) data_wait_share: f64,
    /// Share of the places for finished batches that were taken.
    pub(crate) queue_occupancy: f64,
    /// Of the process, now; nothing where the system does not tell.
    pub(crate) memory_mib: Option<u64>,
    /// Steps that were skipped so far because loss or gradient was not finite.
    pub(crate) skipped: u64,
    /// Samples that were replaced so far since the program started.
    pub(crate) quarantined: u64,
    /// Of all batches so far.
    pub(crate) digest: Digest,
}

/// Sums since the last line that do not depend on time. They are saved with a checkpoint, so that a run that goes on
/// writes the lines that it would have written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sums {
    steps: u64,
    loss: f64,
    gradient_norm: f64,
}

impl Sums {
    pub(crate) fn add(&mut self, loss: f64, gradient_norm: f64) {
        self.steps += 1;
        self.loss += loss;
        self.gradient_norm += gradient_norm;
    }

    fn mean(&self, sum: f64) -> Option<f64> {
        (self.steps > 0).then(|| sum / self.steps as f64)
    }
}

/// Time since the last line.
pub(crate) struct Clock {
    started: Instant,
    waited: Duration,
    images: usize,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { started: Instant::now(), waited: Duration::ZERO, images: 0 }
    }

    pub(crate) fn waited(&mut self, time: Duration) {
        self.waited += time;
    }

    pub(crate) fn images(&mut self, count: usize) {
        self.images += count;
    }

    /// A line of the steps since the last one; sums and clock start afresh.
    pub(crate) fn line(&mut self, position: &mut Position, epoch: u64, lr: f64, now: &PipelineSnapshot) -> MetricsLine {
        let Self { started, waited, images } = std::mem::replace(self, Self::start());
        let sums = std::mem::take(&mut position.sums);
        let seconds = started.elapsed().as_secs_f64().max(1e-9);
        let batches = now.queues.iter().find(|queue| queue.name == "batches");
        MetricsLine {
            step: position.step,
            epoch,
            loss: sums.mean(sums.loss),
            lr,
            gradient_norm: sums.mean(sums.gradient_norm),
            images_per_s: images as f64 / seconds,
            data_wait_share: waited.as_secs_f64() / seconds,
            queue_occupancy: batches.map_or(0.0, |queue| queue.items as f64 / queue.capacity.max(1) as f64),
            memory_mib: memory_mib(),
            skipped: position.skipped,
            quarantined: now.quarantined,
            digest: position.digest,
        }
    }
}

/// Memory that this process holds.
fn memory_mib() -> Option<u64> {
    let status = fs_err::read_to_string("/proc/self/status").ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(resident.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? / 1024)
}

/// A file of lines that each have a `step`.
pub(crate) struct JsonLines(fs_err::File);

impl JsonLines {
    /// Opens the file, and cuts what an earlier process wrote after step `resume_at`, since those steps come again.
    pub(crate) fn open(path: &Path, resume_at: u64) -> anyhow::Result<Self> {
        let written = match fs_err::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error.into()),
        };
        let kept: String = written
            .split_inclusive('\n')
            .filter(|line| {
                // A line torn by a kill does not parse, and goes too.
                let step = serde_json::from_str(line).ok().and_then(|line: serde_json::Value| line["step"].as_u64());
                line.ends_with('\n') && step.is_some_and(|step| step <= resume_at)
            })
            .collect();
        if kept != written {
            super::files::write_whole(path, kept.as_bytes())?;
        }
        let file = fs_err::OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self(file))
    }

    pub(crate) fn append(&mut self, line: &impl Serialize) -> anyhow::Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        self.0.write_all(text.as_bytes())?;
        Ok(())
    }

    /// Brings all lines to the disk, as a checkpoint that goes on behind them needs.
    pub(crate) fn sync(&self) -> anyhow::Result<()> {
        Ok(self.0.sync_data()?)
    }
}
