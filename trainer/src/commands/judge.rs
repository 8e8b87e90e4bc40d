//! What `knn` and `probe` share: the features of a training set and of a test set, which each judges in its own way.

use serde::Serialize;

use super::{compute_pool, feature_options};
use crate::cli::FeatureArgs;
use crate::evaluation::features::Labelled;
use crate::training::checkpoint::Checkpoint;

/// Whose features of which images were judged.
#[derive(Serialize)]
pub(super) struct Judged {
    pub(super) pool: &'static str,
    pub(super) train_images: usize,
    pub(super) test_images: usize,
    pub(super) classes: usize,
    pub(super) step: u64,
}

/// Encodes both sets and has them judged by training set, test set and number of classes.
pub(super) fn judge<T: Send>(
    arguments: &FeatureArgs,
    (train, test): (&str, &str),
    judge: impl FnOnce(&Labelled, &Labelled, usize) -> T + Send,
) -> anyhow::Result<(T, Judged)> {
    let checkpoint = Checkpoint::open(&arguments.checkpoint)?;
    let options = feature_options(arguments);
    compute_pool(arguments.threads)?.install(|| {
        let train = Labelled::collect(&checkpoint, train, options)?;
        let test = Labelled::collect(&checkpoint, test, options)?;
        let classes = train.classes_with(&test)?;
        let judged = Judged {
            pool: arguments.pool.name(),
            train_images: train.rows(),
            test_images: test.rows(),
            classes,
            step: checkpoint.position.step,
        };
        Ok((judge(&train, &test, classes), judged))
    })
}
