//! `patchstream pretrain`: pre-train a masked autoencoder on a data set.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use patchstream_datasets::Dataset;

use super::{compute_pool, dry_run, print};
use crate::cli::{PretrainArgs, Resume};
use crate::exchange::import::{Imported, import};
use crate::report::UserError;
use crate::settings::{ConfigSource, RunConfig, differences, resolve};
use crate::training::checkpoint::{self, Checkpoint};
use crate::training::held_out::HeldOut;
use crate::training::{self, Length, Outcome, Run};

/// Keys that may change when a run goes on: they alter its speed or what it keeps, not what it computes.
const FREE_ON_RESUME: [&str; 14] = [
    "checkpoint.every_minutes",
    "checkpoint.every_steps",
    "checkpoint.keep",
    "checkpoint.keep_every_steps",
    "data.path",
    "data.queue_batches",
    "data.read_ahead_mib",
    "data.workers",
    "evaluate.data",
    "evaluate.every_steps",
    "evaluate.images",
    "evaluate.pictures",
    // A run that stopped at such a step may go on by skipping it.
    "train.on_nonfinite",
    "train.threads",
];

pub(crate) fn run(arguments: &PretrainArgs, quiet: bool) -> anyhow::Result<()> {
    let resume = checkpoint_to_resume(arguments)?;
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
    let held_out = HeldOut::open(&config)?;
    let pool = compute_pool(Some(config.train.threads))?;
    let mut engine = pool.install(|| config.open_on(arguments.device))?;
    let imported = match (&config.train.init, &resume) {
        (Some(path), None) => Some(import(Path::new(path), engine.as_mut())?),
        _ => None,
    };
    let mut description = describe(&config, &dataset, length, resume.as_ref());
    description.extend(imported.as_ref().map(describe_import));
    if arguments.dry_run {
        print(&format!("{}\n{description}", toml::to_string(&config)?))?;
        let steps_left = length.total_steps - resume.map_or(0, |checkpoint| checkpoint.position.step);
        return pool.install(|| dry_run::run(&config, dataset, engine.as_mut(), steps_left));
    }

    fs_err::create_dir_all(&arguments.out)?;
    training::write_whole(&arguments.out.join("config.toml"), toml::to_string(&config)?.as_bytes())?;
    print(&description)?;
    let interrupted = stop_on_ctrl_c()?;
    let folder = arguments.out.clone();
    let outcome = pool
        .install(|| training::train(Run { folder, config, dataset, held_out, engine, resume, interrupted, quiet }))?;
    report(arguments, &outcome)
}

fn checkpoint_to_resume(arguments: &PretrainArgs) -> anyhow::Result<Option<Checkpoint>> {
    let out = arguments.out.display();
    match (arguments.resume, checkpoint::list(&arguments.out)?.last()) {
        (Some(_), Some(newest)) => Ok(Some(Checkpoint::open(newest)?)),
        (Some(Resume::Existing), None) => Err(UserError::new(format!("`{out}` holds no checkpoint to go on from"))
            .hint("leave --resume out to start from the beginning, or --resume auto to do so where there is none")
            .into()),
        (None, Some(_)) if !arguments.show_config && !arguments.dry_run => {
            Err(UserError::new(format!("`{out}` already holds a run"))
                .hint("go on with --resume, or name another folder")
                .into())
        }
        (Some(Resume::Auto) | None, _) => Ok(None),
    }
}

fn source<'a>(arguments: &'a PretrainArgs, resume: Option<&Checkpoint>) -> anyhow::Result<ConfigSource<'a>> {
    let mut flags = Vec::new();
    flags.extend(arguments.data.clone().map(|path| ("data.path", path)));
    flags.extend(arguments.model.clone().map(|preset| ("preset", preset)));
    flags.extend(arguments.init.clone().map(|path| ("train.init", path)));
    flags.extend(arguments.on_nonfinite.clone().map(|what| ("train.on_nonfinite", what)));
    let saved = resume.map(|checkpoint| toml::Table::try_from(&checkpoint.config)).transpose()?;
    Ok(ConfigSource { saved, file: arguments.config.as_deref(), overrides: &arguments.overrides, flags })
}

/// A resumed run must compute what it would have computed.
fn refuse_another_meaning(checkpoint: &Checkpoint, config: &RunConfig, dataset: &Dataset) -> anyhow::Result<()> {
    checkpoint.refuse_another_data_set(dataset)?;
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

fn describe_import(imported: &Imported) -> String {
    let Imported { taken, fresh_decoder, new_positions, unused } = imported;
    let mut text = format!("init    {taken} tensors");
    if *fresh_decoder {
        text += "; no decoder, which starts afresh";
    }
    if !new_positions.is_empty() {
        text += &format!("; made for this grid: {}", new_positions.join(", "));
    }
    if !unused.is_empty() {
        text += &format!("; not used: {}", unused.join(", "));
    }
    text + "\n"
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
    let Outcome { steps, total_steps, loss, skipped, checkpoint, interrupted } = outcome;
    if *interrupted {
        return Err(UserError::new(format!(
            "interrupted after step {steps} of {total_steps}; saved {}",
            checkpoint.display()
        ))
        .hint(format!("go on with: patchstream pretrain --out {} --resume", arguments.out.display()))
        .into());
    }
    let loss = loss.map(|loss| format!(", loss {loss:.4}")).unwrap_or_default();
    let skipped = if *skipped == 0 { String::new() } else { format!(", {skipped} skipped") };
    print(&format!("done    {steps} steps{loss}{skipped}; saved {}\n", checkpoint.display()))
}
