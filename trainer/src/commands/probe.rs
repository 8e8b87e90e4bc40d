//! `patchstream probe`: how well a linear layer on frozen features tells classes.

use serde::Serialize;

use super::judge::{Judged, judge};
use super::{print, print_json};
use crate::cli::ProbeArgs;
use crate::evaluation::{Accuracy, logistic};
use crate::report::UserError;

#[derive(Serialize)]
struct Report {
    /// On the test images.
    #[serde(flatten)]
    test: Accuracy,
    train: Accuracy,
    l2: f64,
    iterations: u32,
    /// Whether L-BFGS came to the minimum before its last step.
    converged: bool,
    #[serde(flatten)]
    judged: Judged,
}

pub(crate) fn run(arguments: &ProbeArgs) -> anyhow::Result<()> {
    if let Some(l2) = arguments.l2.filter(|l2| !(l2.is_finite() && *l2 >= 0.0)) {
        return Err(UserError::new(format!("--l2 expects a number from 0 up, got {l2}")).into());
    }
    let (probe, judged) = judge(&arguments.features, (&arguments.data, &arguments.test), |train, test, classes| {
        logistic::probe(train, test, classes, arguments.l2, arguments.max_iterations.get())
    })?;
    let logistic::Probe { test, train, l2, minimum } = probe;
    let (iterations, converged) = (minimum.iterations, minimum.converged);
    let report = Report { test, train, l2, iterations, converged, judged };
    if arguments.features.json {
        return print_json(&report);
    }
    let Judged { pool, train_images, test_images, classes, step } = report.judged;
    print(&format!(
        "top-1 {:.2}%, top-5 {:.2}% on {test_images} images of {classes} classes; {:.2}% on the {train_images} it was \
         fitted to\nafter step {step}, {pool} features, l2 {:.0e}, {iterations} steps of L-BFGS{}\n",
        100.0 * report.test.top1,
        100.0 * report.test.top5,
        100.0 * report.train.top1,
        report.l2,
        if converged { "" } else { " (not at the minimum yet: see --max-iterations)" },
    ))
}
