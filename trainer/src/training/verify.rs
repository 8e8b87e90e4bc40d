//! Proof that a run saw what its configuration says: its batches are made again and their digests compared.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use patchstream_datasets::{Cursor, Dataset};
use patchstream_pipeline::PatchStream;

use super::checkpoint::{self, Checkpoint};
use super::data_schedule;
use super::digest::Digest;
use super::metrics::MetricsLine;
use crate::report::UserError;
use crate::settings::RunConfig;

/// What was compared.
pub(crate) struct Verified {
    pub(crate) steps: u64,
    pub(crate) images: u64,
    /// Steps whose digest was on record.
    pub(crate) compared: usize,
    pub(crate) digest: Digest,
}

/// A digest that a run left behind.
pub(crate) struct Recorded {
    digest: Digest,
    /// The file that says so.
    source: String,
}

/// Digests by step, of every checkpoint that is kept and of every line of metrics up to the newest of them.
pub(crate) fn recorded(run: &Path, newest: &Checkpoint) -> anyhow::Result<BTreeMap<u64, Vec<Recorded>>> {
    let mut all: BTreeMap<u64, Vec<Recorded>> = BTreeMap::new();
    let path = run.join("metrics.jsonl");
    for (number, line) in fs_err::read_to_string(&path)?.lines().enumerate() {
        let source = format!("{}:{}", path.display(), number + 1);
        let line: MetricsLine = serde_json::from_str(line).with_context(|| format!("{source} is damaged"))?;
        if line.step <= newest.position.step {
            all.entry(line.step).or_default().push(Recorded { digest: line.digest, source });
        }
    }
    for path in checkpoint::list(run)? {
        let position = Checkpoint::open(&path)?.position;
        let source = path.display().to_string();
        all.entry(position.step).or_default().push(Recorded { digest: position.digest, source });
    }
    Ok(all)
}

/// Makes the batches of a run again, from the first on, and compares every digest that is on record.
pub(crate) fn replay(
    config: &RunConfig,
    dataset: Arc<Dataset>,
    recorded: &BTreeMap<u64, Vec<Recorded>>,
    mut each_step: impl FnMut(u64),
) -> anyhow::Result<Verified> {
    let last = recorded.keys().next_back().copied().context("the run has no record of its batches")?;
    let mut stream = PatchStream::start(dataset, data_schedule(config, Cursor::default()), &config.pipeline(None)?)?;
    let mut verified = Verified { steps: 0, images: 0, compared: 0, digest: Digest::default() };
    let mut agreed = 0;
    while verified.steps < last {
        let batch = stream.next().context("the pipeline ended early")??;
        verified.steps += 1;
        verified.images += batch.rows() as u64;
        verified.digest = verified.digest.after(&batch);
        let records = recorded.get(&verified.steps).map_or(&[][..], Vec::as_slice);
        for Recorded { digest, source } in records {
            if *digest != verified.digest {
                return Err(UserError::new(format!(
                    "the run did not see what its configuration says: between steps {agreed} and {} its batches differ; \
                     {source} has digest {digest}, expected {}",
                    verified.steps, verified.digest
                ))
                .hint("data, configuration or record were changed, or another version of patchstream decoded otherwise")
                .into());
            }
        }
        if !records.is_empty() {
            agreed = verified.steps;
            verified.compared += 1;
        }
        each_step(verified.steps);
    }
    Ok(verified)
}
