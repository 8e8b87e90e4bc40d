//! `patchstream knn`: how well nearest neighbours among frozen features tell classes.

use serde::Serialize;

use super::judge::{Judged, judge};
use super::{print, print_json};
use crate::cli::KnnArgs;
use crate::evaluation::{Accuracy, knn};
use crate::report::UserError;

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    accuracy: Accuracy,
    neighbours: usize,
    temperature: f64,
    #[serde(flatten)]
    judged: Judged,
}

pub(crate) fn run(arguments: &KnnArgs) -> anyhow::Result<()> {
    let (neighbours, temperature) = (arguments.neighbours.get(), arguments.temperature);
    if !(temperature.is_finite() && temperature > 0.0) {
        return Err(UserError::new(format!("--temperature expects a number above 0, got {temperature}")).into());
    }
    let (accuracy, judged) = judge(&arguments.features, (&arguments.data, &arguments.test), |train, test, classes| {
        knn::classify(train, test, classes, neighbours, temperature)
    })?;
    if arguments.features.json {
        return print_json(&Report { accuracy, neighbours, temperature, judged });
    }
    let Judged { train_images, test_images, classes, step, .. } = judged;
    print(&format!(
        "top-1 {:.2}%, top-5 {:.2}%: {neighbours} neighbours of {train_images} images vote on {test_images} of {classes} \
         classes, after step {step}\n",
        100.0 * accuracy.top1,
        100.0 * accuracy.top5,
    ))
}
