//! Checkpoints: a folder with all that is needed to go on as if the run had never stopped.
//!
//! `weights.safetensors` (published MAE names), `adamw.safetensors` (`exp_avg.NAME`, `exp_avg_sq.NAME`), `config.toml`
//! and `state.json`. The folder appears whole or not at all, and every file is checked by hash when it is read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use patchstream_datasets::{Cursor, Dataset};
use patchstream_model::{Device, Engine, MatmulPrecision, StatePart};
use patchstream_pipeline::PatchBatch;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::digest::Digest;
use super::files;
use super::metrics::Sums;
use crate::report::UserError;
use crate::settings::RunConfig;
use crate::tensors::{from_safetensors, to_safetensors};

const FORMAT: u32 = 2;
const WEIGHTS: &str = "weights.safetensors";
const MOMENTS: &str = "adamw.safetensors";
const CONFIG: &str = "config.toml";
const STATE: &str = "state.json";
const FIRST_MOMENT: &str = "exp_avg.";
const SECOND_MOMENT: &str = "exp_avg_sq.";

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// Steps done.
    pub(crate) step: u64,
    /// Epoch and global batch that come next.
    pub(crate) epoch: u64,
    pub(crate) batch: u64,
    /// Of the data set that the run reads.
    pub(crate) manifest_fingerprint: String,
    /// Of all batches so far.
    pub(crate) digest: Digest,
    /// Steps that changed nothing because loss or gradient was not finite.
    pub(crate) skipped: u64,
    /// Of the steps since the last line of metrics.
    pub(crate) sums: Sums,
}

impl Position {
    /// Before the first step.
    pub(crate) fn start(manifest_fingerprint: u64) -> Self {
        Self {
            step: 0,
            epoch: 0,
            batch: 0,
            manifest_fingerprint: format!("{manifest_fingerprint:016x}"),
            digest: Digest::default(),
            skipped: 0,
            sums: Sums::default(),
        }
    }

    /// Moves on behind a batch.
    pub(crate) fn advance(&mut self, batch: &PatchBatch, steps_per_epoch: u64) {
        self.step += 1;
        self.digest = self.digest.after(batch);
        let next = batch.batch() + 1;
        (self.epoch, self.batch) = if next == steps_per_epoch { (batch.epoch() + 1, 0) } else { (batch.epoch(), next) };
    }

    pub(crate) fn cursor(&self) -> Cursor {
        Cursor { epoch: self.epoch, batch: self.batch }
    }
}

#[derive(Serialize, Deserialize)]
struct StateFile {
    format: u32,
    #[serde(flatten)]
    position: Position,
    /// XXH3-64 of each other file, as 16 hexadecimal digits.
    files: BTreeMap<String, String>,
}

/// A checkpoint that was read and found whole.
pub(crate) struct Checkpoint {
    pub(crate) path: PathBuf,
    pub(crate) position: Position,
    pub(crate) config: RunConfig,
    weights: Vec<u8>,
    moments: Vec<u8>,
}

/// The folder of checkpoints of a run.
pub(crate) fn folder(run: &Path) -> PathBuf {
    run.join("checkpoints")
}

/// Checkpoints of a run, oldest first.
pub(crate) fn list(run: &Path) -> anyhow::Result<Vec<PathBuf>> {
    Ok(numbered(run)?.into_iter().map(|(_, path)| path).collect())
}

/// The same with their steps.
fn numbered(run: &Path) -> anyhow::Result<Vec<(u64, PathBuf)>> {
    let folder = folder(run);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs_err::read_dir(&folder)? {
        let path = entry?.path();
        let step = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_prefix("step-")?.parse::<u64>().ok());
        found.extend(step.map(|step| (step, path)));
    }
    found.sort();
    Ok(found)
}

/// Writes a checkpoint of a run and removes the oldest beyond those to keep.
pub(crate) fn save(
    run: &Path,
    engine: &dyn Engine,
    config: &RunConfig,
    position: &Position,
) -> anyhow::Result<PathBuf> {
    let path = folder(run).join(format!("step-{:08}", position.step));
    if path.exists() {
        // A step has one state: it was saved when this step was reached before.
        return Ok(path);
    }
    let weights = to_safetensors(&[("", engine.export(StatePart::Weights)?)])?;
    let moments = to_safetensors(&[
        (FIRST_MOMENT, engine.export(StatePart::FirstMoments)?),
        (SECOND_MOMENT, engine.export(StatePart::SecondMoments)?),
    ])?;
    let contents = [(WEIGHTS, weights), (MOMENTS, moments), (CONFIG, toml::to_string(config)?.into_bytes())];
    let hashes =
        contents.iter().map(|(name, bytes)| ((*name).to_owned(), format!("{:016x}", xxh3_64(bytes)))).collect();
    let state = StateFile { format: FORMAT, position: position.clone(), files: hashes };

    files::folder_whole(&path, |partial| {
        for (name, bytes) in &contents {
            files::write_synced(&partial.join(name), bytes)?;
        }
        Ok(files::write_synced(&partial.join(STATE), &serde_json::to_vec_pretty(&state)?)?)
    })
    .with_context(|| format!("the checkpoint of step {} could not be written", position.step))?;

    let saved = numbered(run)?;
    for (step, old) in saved.iter().rev().skip(config.checkpoint.keep.get() as usize) {
        if config.checkpoint.keep_every_steps.is_none_or(|every| *step % every != 0) {
            // A name that is no checkpoint's comes first, so that a kill half-way leaves no half a checkpoint.
            let leaving = old.with_extension("partial");
            fs_err::rename(old, &leaving)?;
            fs_err::remove_dir_all(&leaving)?;
        }
    }
    Ok(path)
}

/// Removes what a killed process left half-written.
pub(crate) fn clean(run: &Path) -> anyhow::Result<()> {
    let folder = folder(run);
    if folder.is_dir() {
        for entry in fs_err::read_dir(&folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "partial") {
                fs_err::remove_dir_all(path)?;
            }
        }
    }
    Ok(())
}

impl Checkpoint {
    /// Reads a checkpoint; `path` is one, or a run whose newest is meant.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        if !path.exists() {
            return Err(UserError::new(format!("checkpoint `{}` does not exist", path.display())).into());
        }
        let path = if path.join(STATE).is_file() {
            path.to_owned()
        } else {
            list(path)?.pop().ok_or_else(|| {
                UserError::new(format!("`{}` holds no checkpoint", path.display()))
                    .hint("name a run made by `patchstream pretrain`, or one of the folders in its `checkpoints`")
            })?
        };
        let state: StateFile = serde_json::from_slice(&fs_err::read(path.join(STATE))?)
            .with_context(|| format!("{} is damaged", path.join(STATE).display()))?;
        if state.format != FORMAT {
            return Err(UserError::new(format!(
                "checkpoint `{}` has format {}, expected {FORMAT}",
                path.display(),
                state.format
            ))
            .hint("it was written by another version of patchstream")
            .into());
        }
        let read = |name: &str| read_checked(&path, name, state.files.get(name));
        let (weights, moments, config) = (read(WEIGHTS)?, read(MOMENTS)?, read(CONFIG)?);
        let config =
            toml::from_slice(&config).with_context(|| format!("{} is damaged", path.join(CONFIG).display()))?;
        Ok(Self { position: state.position, config, weights, moments, path })
    }

    /// The model as it was saved, to predict with.
    pub(crate) fn engine(&self, device: Device) -> anyhow::Result<Box<dyn Engine>> {
        let RunConfig { model, train, .. } = &self.config;
        let mut engine = device.open(MatmulPrecision::Float32, model.clone(), self.config.pixel_scale(), train.seed)?;
        self.load_weights(engine.as_mut())?;
        Ok(engine)
    }

    fn load_weights(&self, engine: &mut dyn Engine) -> anyhow::Result<()> {
        let weights = from_safetensors(&self.weights, "").with_context(|| self.named(WEIGHTS))?;
        engine.import(StatePart::Weights, &weights).with_context(|| self.named(WEIGHTS))
    }

    /// Gives all of the state to an engine, enough to go on training.
    pub(crate) fn load_all(&self, engine: &mut dyn Engine) -> anyhow::Result<()> {
        self.load_weights(engine)?;
        for (part, prefix) in [(StatePart::FirstMoments, FIRST_MOMENT), (StatePart::SecondMoments, SECOND_MOMENT)] {
            let tensors = from_safetensors(&self.moments, prefix).with_context(|| self.named(MOMENTS))?;
            engine.import(part, &tensors).with_context(|| self.named(MOMENTS))?;
        }
        engine.set_updates(self.position.step - self.position.skipped);
        Ok(())
    }

    /// A run is bound to its data set, wherever that lies.
    pub(crate) fn refuse_another_data_set(&self, dataset: &Dataset) -> anyhow::Result<()> {
        let expected = &self.position.manifest_fingerprint;
        let got = format!("{:016x}", dataset.manifest().fingerprint());
        if *expected == got {
            return Ok(());
        }
        Err(UserError::new(format!(
            "`{}` is not the data set of this run: expected fingerprint {expected}, got {got}",
            dataset.location()
        ))
        .hint("name the data set that the run was started with")
        .into())
    }

    fn named(&self, file: &str) -> String {
        format!("{} does not fit", self.path.join(file).display())
    }
}

fn read_checked(checkpoint: &Path, name: &str, expected: Option<&String>) -> anyhow::Result<Vec<u8>> {
    let path = checkpoint.join(name);
    let bytes = fs_err::read(&path)?;
    let got = format!("{:016x}", xxh3_64(&bytes));
    if expected != Some(&got) {
        let expected = expected.map_or("none", String::as_str);
        return Err(UserError::new(format!("`{}` is damaged: expected XXH3 {expected}, got {got}", path.display()))
            .hint("go back to an older checkpoint of the run, or start anew")
            .into());
    }
    Ok(bytes)
}
