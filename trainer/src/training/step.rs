//! One step: the batch in parts, the update, and what is done when a number is not finite.

use std::path::Path;

use patchstream_model::{AdamW, Engine, PatchInput, Pixels, StepReport};
use patchstream_pipeline::PatchBatch;
use serde::Serialize;

use super::metrics::JsonLines;
use crate::report::UserError;

/// Sample ids that an error message lists; the file beside the run has all.
const IDS_SHOWN: usize = 16;

/// Asks for training on a batch, in `accumulation` parts whose gradients add up to that of the whole. What it comes to, the
/// engine reports later.
pub(crate) fn ask_for_step(
    engine: &mut dyn Engine,
    batch: &PatchInput<'_>,
    accumulation: usize,
    adamw: &AdamW,
) -> anyhow::Result<()> {
    let rows = batch.rows;
    for part in 0..accumulation {
        let (start, end) = (part * rows / accumulation, (part + 1) * rows / accumulation);
        if start < end {
            engine.accumulate(&batch.part(start, end), (end - start) as f32 / rows as f32)?;
        }
    }
    Ok(engine.update(adamw)?)
}

/// What the engine sees of a batch; pixels stay bytes.
pub(crate) fn patch_input(batch: &PatchBatch) -> PatchInput<'_> {
    PatchInput {
        rows: batch.rows(),
        visible: Pixels::Bytes(batch.visible()),
        visible_index: batch.visible_index(),
        masked: Pixels::Bytes(batch.masked()),
        masked_index: batch.masked_index(),
        uploaded: None,
    }
}

/// A step whose numbers were not finite, as it is written to `nonfinite.jsonl`. JSON has no NaN, so they are words.
#[derive(Serialize)]
pub(crate) struct NotFinite<'a> {
    pub(crate) step: u64,
    pub(crate) lr: f64,
    loss: String,
    gradient_norm: String,
    sample_ids: &'a [u64],
}

impl<'a> NotFinite<'a> {
    pub(crate) fn new(step: u64, lr: f64, report: StepReport, batch: &'a PatchBatch) -> Self {
        let StepReport { loss, gradient_norm } = report;
        let (loss, gradient_norm) = (loss.to_string(), gradient_norm.to_string());
        Self { step, lr, loss, gradient_norm, sample_ids: batch.sample_ids() }
    }

    /// Writes it down for good.
    pub(crate) fn write(&self, run: &Path) -> anyhow::Result<()> {
        let mut file = JsonLines::open(&run.join("nonfinite.jsonl"), self.step.saturating_sub(1))?;
        file.append(self)
    }

    /// The error that ends a run.
    pub(crate) fn error(&self, run: &Path, saved: Option<&Path>) -> anyhow::Error {
        let saved = saved.map_or_else(|| "none yet".to_owned(), |path| path.display().to_string());
        let shown: Vec<String> = self.sample_ids.iter().take(IDS_SHOWN).map(u64::to_string).collect();
        let more = match self.sample_ids.len().saturating_sub(IDS_SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more in {}", run.join("nonfinite.jsonl").display()),
        };
        UserError::new(format!(
            "training diverged at step {}: loss {}, gradient norm {}, rate {:.3e}, samples {}{more}; last good checkpoint: {saved}",
            self.step,
            self.loss,
            self.gradient_norm,
            self.lr,
            shown.join(", ")
        ))
        .hint("a lower train.base_lr, a longer train.warmup_fraction or --on-nonfinite skip helps most often")
        .into()
    }
}
