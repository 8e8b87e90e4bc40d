//! `metrics.jsonl`: one JSON object a line, appended while the run goes on.

use std::io::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Means over the steps since the line before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct MetricsLine {
    /// Steps done.
    pub(crate) step: u64,
    /// Epoch of the last step, counted from 0.
    pub(crate) epoch: u64,
    pub(crate) loss: f64,
    /// Rate of the last step.
    pub(crate) lr: f64,
    pub(crate) gradient_norm: f64,
    pub(crate) images_per_s: f64,
    /// Share of the time that the trainer waited for data.
    pub(crate) data_wait_share: f64,
    /// Samples that were replaced so far since the program started.
    pub(crate) quarantined: u64,
}

/// Appends lines to a run's metrics.
pub(crate) struct MetricsFile(fs_err::File);

impl MetricsFile {
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
                serde_json::from_str::<MetricsLine>(line).is_ok_and(|line| line.step <= resume_at)
            })
            .collect();
        if kept != written {
            super::files::write_whole(path, kept.as_bytes())?;
        }
        let file = fs_err::OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self(file))
    }

    pub(crate) fn append(&mut self, line: &MetricsLine) -> anyhow::Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        self.0.write_all(text.as_bytes())?;
        Ok(())
    }
}
