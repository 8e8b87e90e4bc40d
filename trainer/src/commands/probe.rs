//! `patchstream probe`: how well a linear layer on frozen features tells classes.

use serde::Serialize;

use super::{compute_pool, feature_options, print, print_json};
use crate::cli::ProbeArgs;
use crate::evaluation::features::Labelled;
use crate::evaluation::{Accuracy, logistic};
use crate::report::UserError;
use crate::training::checkpoint::Checkpoint;

#[derive(Serialize)]
struct Report {
    /// On the test images.
    top1: f64,
    top5: f64,
    train: Accuracy,
    l2: f64,
    iterations: u32,
    /// Whether L-BFGS came to the minimum before its last step.
    converged: bool,
    pool: &'static str,
    train_images: usize,
    test_images: usize,
    classes: usize,
    step: u64,
}

pub(crate) fn run(arguments: &ProbeArgs) -> anyhow::Result<()> {
    if let Some(l2) = arguments.l2.filter(|l2| !(l2.is_finite() && *l2 >= 0.0)) {
        return Err(UserError::new(format!("--l2 expects a number from 0 up, got {l2}")).into());
    }
    let checkpoint = Checkpoint::open(&arguments.features.checkpoint)?;
    let options = feature_options(&arguments.features);
    let report = compute_pool(arguments.features.threads)?.install(|| {
        let train = Labelled::collect(&checkpoint, &arguments.data, options)?;
        let test = Labelled::collect(&checkpoint, &arguments.test, options)?;
        let classes = train.classes_with(&test)?;
        let probe = logistic::probe(&train, &test, classes, arguments.l2, arguments.max_iterations.get());
        anyhow::Ok(Report {
            top1: probe.test.top1,
            top5: probe.test.top5,
            train: probe.train,
            l2: probe.l2,
            iterations: probe.minimum.iterations,
            converged: probe.minimum.converged,
            pool: arguments.features.pool.name(),
            train_images: train.rows(),
            test_images: test.rows(),
            classes,
            step: checkpoint.position.step,
        })
    })?;
    if arguments.features.json {
        return print_json(&report);
    }
    print(&format!(
        "top-1 {:.2}%, top-5 {:.2}% on {} images of {} classes; {:.2}% on the {} it was fitted to\n\
         after step {}, {} features, l2 {:.0e}, {} steps of L-BFGS{}\n",
        100.0 * report.top1,
        100.0 * report.top5,
        report.test_images,
        report.classes,
        100.0 * report.train.top1,
        report.train_images,
        report.step,
        report.pool,
        report.l2,
        report.iterations,
        if report.converged { "" } else { " (not at the minimum yet: see --max-iterations)" },
    ))
}
