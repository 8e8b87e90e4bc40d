//! `patchstream pretrain`: pre-train a masked autoencoder on a data set.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use patchstream_datasets::Dataset;
use patchstream_model::DfdxEngine;

use super::{compute_pool, print};
use crate::cli::PretrainArgs;
use crate::report::UserError;
use crate::settings::{ConfigSource, RunConfig, differences, resolve};
use crate::training::checkpoint::{self, Checkpoint};
use crate::training::{self, Length, Outcome, Run};

/// Keys that may change when a run goes on: they alter its speed or what it keeps, not what it computes.
const FREE_ON_RESUME: [&str; 7] = [
    "checkpoint.every_steps",
    "checkpoint.keep",
    "data.path",
    "data.queue_batches",
    "data.read_ahead_mib",
    "data.workers",
    "train.threads",
];

pub(crate) fn run(arguments: &PretrainArgs, quiet: bool) -> anyhow::Result<()> {
    let existing = checkpoint::list(&arguments.out)?;
    let resume = match (arguments.resume, existing.last()) {
        (true, Some(newest)) => Some(Checkpoint::open(newest)?),
        (true, None) => {
            return Err(UserError::new(format!("`{}` holds no checkpoint to go on from", arguments.out.display()))
                .hint("leave --resume out to start from the beginning")
                .into());
        }
        (false, Some(_)) if !arguments.show_config => {
            return Err(UserError::new(format!("`{}` already holds a run", arguments.out.display()))
                .hint("go on with --resume, or name another folder")
                .into());
        }
        (false, _) => None,
    };

    let mut config = resolve(source(arguments, resume.as_ref())?)?;
    if config.data.path.is_empty() {
        return Err(UserError::new("no data set is named").hint("add --data SHARDS, or data.path to the file").into());
    }
    if arguments.show_config && !Path::new(&config.data.path).exists() {
        return print(&toml::to_string(&config)?);
    }
    let dataset = Arc::new(Dataset::open(&config.data.path)?);
    config.fill_pixel_scale(dataset.manifest().pixel_stats());
    if arguments.show_config {
        return print(&toml::to_string(&config)?);
    }
    if let Some(checkpoint) = &resume {
        refuse_another_meaning(checkpoint, &config, &dataset)?;
    }
    let length = Length::of(&config, dataset.manifest().rows())?;

    fs_err::create_dir_all(&arguments.out)?;
    training::write_whole(&arguments.out.join("config.toml"), toml::to_string(&config)?.as_bytes())?;
    print(&describe(&config, &dataset, length, resume.as_ref()))?;

    let pool = compute_pool(Some(config.train.threads))?;
    let interrupted = stop_on_ctrl_c()?;
    let outcome = pool.install(|| {
        let engine = Box::new(DfdxEngine::new(config.model.clone(), config.pixel_scale(), config.train.seed)?);
        training::train(Run { folder: arguments.out.clone(), config, dataset, engine, resume, interrupted, quiet })
    })?;
    report(arguments, &outcome)
}

fn source<'a>(arguments: &'a PretrainArgs, resume: Option<&Checkpoint>) -> anyhow::Result<ConfigSource<'a>> {
    let mut flags = Vec::new();
    flags.extend(arguments.data.clone().map(|path| ("data.path", path)));
    flags.extend(arguments.model.clone().map(|preset| ("preset", preset)));
    let saved = resume.map(|checkpoint| toml::Table::try_from(&checkpoint.config)).transpose()?;
    Ok(ConfigSource { saved, file: arguments.config.as_deref(), overrides: &arguments.overrides, flags })
}

/// A resumed run must compute what it would have computed.
fn refuse_another_meaning(checkpoint: &Checkpoint, config: &RunConfig, dataset: &Dataset) -> anyhow::Result<()> {
    let expected = &checkpoint.position.manifest_fingerprint;
    let got = format!("{:016x}", dataset.manifest().fingerprint());
    if *expected != got {
        return Err(UserError::new(format!(
            "`{}` is not the data set of this run: expected fingerprint {expected}, got {got}",
            config.data.path
        ))
        .hint("name the data set that the run was started with")
        .into());
    }
    let changed = differences(&checkpoint.config, config)?;
    if let Some((key, before, after)) = changed.iter().find(|(key, ..)| !FREE_ON_RESUME.contains(&key.as_str())) {
        return Err(UserError::new(format!("`{key}` cannot change when a run goes on: it was {before}, got {after}"))
            .hint("start a new run with another --out")
            .into());
    }
    Ok(())
}

fn describe(config: &RunConfig, dataset: &Dataset, length: Length, resume: Option<&Checkpoint>) -> String {
    let model = &config.model;
    let rows = dataset.manifest().rows();
    let batch = config.train.batch_size;
    let (visible, patches) = (config.mask.visible_patches(model.patches()), model.patches());
    let mut text = format!(
        "data    {rows} images from {}\nmodel   {}: {:.2} M parameters, {} x {} pixels, {visible} of {patches} patches visible\n\
         run     {} steps of {batch} images, {} to an epoch, on {} threads\n",
        config.data.path,
        config.preset,
        model.parameter_count() as f64 / 1e6,
        model.image_height_px,
        model.image_width_px,
        length.total_steps,
        length.steps_per_epoch,
        config.train.threads,
    );
    if let Some(checkpoint) = resume {
        text += &format!("resume  step {} from {}\n", checkpoint.position.step, checkpoint.path.display());
    }
    text
}

/// The first Ctrl-C lets the step end and a checkpoint be saved; the second ends the process.
fn stop_on_ctrl_c() -> anyhow::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(1);
        }
    })
    .context("Ctrl-C cannot be caught")?;
    Ok(interrupted)
}

fn report(arguments: &PretrainArgs, outcome: &Outcome) -> anyhow::Result<()> {
    let Outcome { steps, total_steps, loss, checkpoint, interrupted } = outcome;
    if *interrupted {
        return Err(UserError::new(format!(
            "interrupted after step {steps} of {total_steps}; saved {}",
            checkpoint.display()
        ))
        .hint(format!("go on with: patchstream pretrain --out {} --resume", arguments.out.display()))
        .into());
    }
    let loss = loss.map(|loss| format!(", loss {loss:.4}")).unwrap_or_default();
    print(&format!("done    {steps} steps{loss}; saved {}\n", checkpoint.display()))
}
