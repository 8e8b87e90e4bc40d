//! What each command does: arguments become settings of the libraries, their results become text or JSON.

pub(crate) mod bench;
pub(crate) mod bench_step;
pub(crate) mod convert;
pub(crate) mod dry_run;
pub(crate) mod export;
pub(crate) mod features;
pub(crate) mod inspect;
mod judge;
pub(crate) mod knn;
pub(crate) mod merge;
pub(crate) mod pretrain;
pub(crate) mod probe;
pub(crate) mod reconstruct;
pub(crate) mod selfcheck;
pub(crate) mod verify;

use std::io::Write as _;
use std::num::NonZeroUsize;

use anyhow::Context as _;
use serde::Serialize;

use crate::cli::FeatureArgs;
use crate::evaluation::features::FeatureOptions;
use crate::printable::printable;

/// Writes a result to standard output.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(printable(text).as_bytes())?;
    Ok(out.flush()?)
}

/// Writes a result as one JSON object.
fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print(&(serde_json::to_string_pretty(value)? + "\n"))
}

/// As many threads as asked for, or as there are cores.
fn threads(asked: Option<NonZeroUsize>) -> NonZeroUsize {
    asked.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
}

/// The threads that a model computes on.
fn compute_pool(asked: Option<NonZeroUsize>) -> anyhow::Result<rayon::ThreadPool> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads(asked).get())
        .thread_name(|index| format!("compute-{index}"))
        .build()
        .context("the threads that compute could not be started")
}

fn feature_options(arguments: &FeatureArgs) -> FeatureOptions {
    let FeatureArgs { device, pool, batch_size, threads: asked, .. } = *arguments;
    FeatureOptions { device, pool, batch_size, workers: threads(asked) }
}

/// `1 shard`, `2 shards`.
fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// A size as people read it.
fn human_bytes(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

/// Progress over images on a terminal; nothing elsewhere.
struct ImageBar(Option<indicatif::ProgressBar>);

impl ImageBar {
    fn start(doing: &'static str, quiet: bool) -> Self {
        if quiet {
            return Self(None);
        }
        // indicatif draws on standard error, and only if that is a terminal.
        let bar = indicatif::ProgressBar::new(0).with_message(doing);
        if let Ok(style) = indicatif::ProgressStyle::with_template("{msg} {bar:24} {pos}/{len} {per_sec} {eta} left") {
            bar.set_style(style);
        }
        Self(Some(bar))
    }

    fn show(&self, progress: patchstream_datasets::convert::Progress) {
        if let Self(Some(bar)) = self {
            bar.set_length(progress.total);
            bar.set_position(progress.done);
        }
    }

    fn finish(&self) {
        if let Self(Some(bar)) = self {
            bar.finish_and_clear();
        }
    }
}
