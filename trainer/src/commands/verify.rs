//! `patchstream verify`: proof that a run saw what its configuration says.

use std::sync::Arc;

use patchstream_datasets::Dataset;
use serde::Serialize;

use super::{print, print_json, threads};
use crate::cli::VerifyArgs;
use crate::report::UserError;
use crate::training::checkpoint::{self, Checkpoint};
use crate::training::verify::{recorded, replay};

#[derive(Serialize)]
struct Report {
    run: String,
    steps: u64,
    images: u64,
    /// Steps whose digest was on record, and agreed.
    compared: usize,
    digest: String,
}

pub(crate) fn run(arguments: &VerifyArgs) -> anyhow::Result<()> {
    let run = arguments.run.display().to_string();
    let Some(newest) = checkpoint::list(&arguments.run)?.pop() else {
        return Err(UserError::new(format!("`{run}` holds no checkpoint"))
            .hint("name a run made by `patchstream pretrain`")
            .into());
    };
    let newest = Checkpoint::open(&newest)?;
    let recorded = recorded(&arguments.run, &newest)?;
    let mut config = newest.config.clone();
    config.data.workers = threads(arguments.workers);
    let dataset = Arc::new(Dataset::open(arguments.data.as_deref().unwrap_or(&config.data.path))?);
    newest.refuse_another_data_set(&dataset)?;
    let verified = replay(&config, dataset, &recorded, |step| tracing::debug!(step, "replayed"))?;
    let (steps, images, compared) = (verified.steps, verified.images, verified.compared);
    let report = Report { run, steps, images, compared, digest: verified.digest.to_string() };
    if arguments.json {
        return print_json(&report);
    }
    print(&format!(
        "{}: {steps} steps of {images} images are what the configuration says; {compared} digests agree, the last is {}\n",
        report.run, report.digest
    ))
}
