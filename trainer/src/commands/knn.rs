//! `patchstream knn`: how well nearest neighbours among frozen features tell classes.

use serde::Serialize;

use super::{compute_pool, feature_options, print, print_json};
use crate::cli::KnnArgs;
use crate::evaluation::features::Labelled;
use crate::evaluation::knn;
use crate::report::UserError;
use crate::training::checkpoint::Checkpoint;

#[derive(Serialize)]
struct Report {
    top1: f64,
    top5: f64,
    neighbours: usize,
    temperature: f64,
    pool: &'static str,
    train_images: usize,
    test_images: usize,
    classes: usize,
    step: u64,
}

pub(crate) fn run(arguments: &KnnArgs) -> anyhow::Result<()> {
    let temperature = arguments.temperature;
    if !(temperature.is_finite() && temperature > 0.0) {
        return Err(UserError::new(format!("--temperature expects a number above 0, got {temperature}")).into());
    }
    let checkpoint = Checkpoint::open(&arguments.features.checkpoint)?;
    let options = feature_options(&arguments.features);
    let report = compute_pool(arguments.features.threads)?.install(|| {
        let train = Labelled::collect(&checkpoint, &arguments.data, options)?;
        let test = Labelled::collect(&checkpoint, &arguments.test, options)?;
        let classes = train.classes_with(&test)?;
        let accuracy = knn::classify(&train, &test, classes, arguments.neighbours.get(), temperature);
        anyhow::Ok(Report {
            top1: accuracy.top1,
            top5: accuracy.top5,
            neighbours: arguments.neighbours.get(),
            temperature,
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
        "top-1 {:.2}%, top-5 {:.2}%: {} neighbours of {} images vote on {} of {} classes, after step {}\n",
        100.0 * report.top1,
        100.0 * report.top5,
        report.neighbours,
        report.train_images,
        report.test_images,
        report.classes,
        report.step
    ))
}
