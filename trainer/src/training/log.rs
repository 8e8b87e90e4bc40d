//! Where a run tells what it does: JSON lines, `TensorBoard`, and the person who watches.

use std::path::Path;

use super::held_out::{EvaluationLine, Picture};
use super::metrics::{JsonLines, MetricsLine};
use super::progress::Progress;
use super::tensorboard::{EventFile, Summary};

pub(crate) struct RunLog {
    metrics: JsonLines,
    /// Nothing without held-out data.
    evaluation: Option<JsonLines>,
    events: EventFile,
    pub(crate) progress: Progress,
}

impl RunLog {
    /// Opens the files of a run that goes on after step `resume_at`.
    pub(crate) fn open(run: &Path, resume_at: u64, evaluates: bool, progress: Progress) -> anyhow::Result<Self> {
        let evaluation = evaluates.then(|| JsonLines::open(&run.join("evaluation.jsonl"), resume_at));
        Ok(Self {
            metrics: JsonLines::open(&run.join("metrics.jsonl"), resume_at)?,
            evaluation: evaluation.transpose()?,
            events: EventFile::new(&run.join("tensorboard"), resume_at),
            progress,
        })
    }

    pub(crate) fn metrics(&mut self, line: &MetricsLine) -> anyhow::Result<()> {
        self.metrics.append(line)?;
        self.progress.show(line);
        let always = [
            ("train/lr", line.lr),
            ("train/epoch", line.epoch as f64),
            ("train/skipped", line.skipped as f64),
            ("data/images_per_s", line.images_per_s),
            ("data/wait_share", line.data_wait_share),
            ("data/queue_occupancy", line.queue_occupancy),
            ("data/quarantined", line.quarantined as f64),
        ];
        let sometimes = [
            ("train/loss", line.loss),
            ("train/gradient_norm", line.gradient_norm),
            ("process/memory_mib", line.memory_mib.map(|mib| mib as f64)),
        ];
        let there = sometimes.into_iter().filter_map(|(tag, value)| Some((tag, value?)));
        let values: Vec<_> = there.chain(always).map(|(tag, value)| (tag, Summary::Scalar(value as f32))).collect();
        self.events.append(line.step, &values)
    }

    pub(crate) fn evaluation(&mut self, line: &EvaluationLine, picture: Option<&Picture>) -> anyhow::Result<()> {
        if let Some(file) = &mut self.evaluation {
            file.append(line)?;
        }
        let mut values = vec![("evaluation/loss", Summary::Scalar(line.loss as f32))];
        if let Some(Picture { width, height, png }) = picture {
            values.push(("evaluation/reconstructions", Summary::Picture { width: *width, height: *height, png }));
        }
        self.events.append(line.step, &values)
    }

    /// Brings the lines to the disk.
    pub(crate) fn sync(&self) -> anyhow::Result<()> {
        self.metrics.sync()?;
        self.evaluation.iter().try_for_each(JsonLines::sync)
    }
}
