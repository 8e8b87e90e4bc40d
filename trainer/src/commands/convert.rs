//! `patchstream convert`: images become Parquet shards.

mod remote;

use std::num::NonZeroU64;
use std::path::Path;

use patchstream_datasets::convert::{Check, ConvertOptions, ConvertReport, OnBad, Order};
use patchstream_datasets::{is_remote, sources};
use patchstream_pipeline::Examiner;

use super::{ImageBar, count, human_bytes, print, print_json, threads};
use crate::cli::{self, ConvertArgs};

const MIB: u64 = 1 << 20;

pub(crate) fn run(arguments: &ConvertArgs, quiet: bool) -> anyhow::Result<()> {
    let options = options(arguments);
    let source = sources::open(&arguments.source, &arguments.from.options())?;
    let destination = arguments.destination.to_string_lossy();
    let bar = ImageBar::start("converting", quiet);
    let show = |progress| bar.show(progress);
    let convert = |destination: &Path| {
        let examiner = Examiner::default();
        Ok(patchstream_datasets::convert(source.as_ref(), destination, &options, &examiner, &show)?)
    };
    let report = if is_remote(&destination) {
        remote::through_temporary_folder(arguments, &destination, convert)
    } else {
        convert(&arguments.destination)
    };
    bar.finish();
    let report = report?;
    if arguments.json { print_json(&report) } else { print(&describe(arguments, &report)) }
}

fn options(arguments: &ConvertArgs) -> ConvertOptions {
    let mib =
        |count: std::num::NonZeroU32| NonZeroU64::from(count).saturating_mul(NonZeroU64::MIN.saturating_add(MIB - 1));
    ConvertOptions {
        seed: arguments.seed,
        order: match arguments.order {
            cli::RowOrder::Shuffled => Order::Shuffled,
            cli::RowOrder::Sorted => Order::Sorted,
        },
        limit: arguments.limit,
        row_group_bytes: mib(arguments.row_group_mib),
        shard_bytes: mib(arguments.shard_mib),
        check: match arguments.check {
            cli::CheckDepth::Header => Check::Header,
            cli::CheckDepth::Decode => Check::Decode,
        },
        on_bad: match arguments.on_bad {
            cli::OnBad::Skip => OnBad::Skip,
            cli::OnBad::Fail => OnBad::Fail,
        },
        bad_budget: arguments.max_bad,
        measure: NonZeroU64::new(arguments.pixel_stats),
        workers: threads(arguments.workers),
        overwrite: arguments.overwrite,
    }
}

fn describe(arguments: &ConvertArgs, report: &ConvertReport) -> String {
    let mut text = format!(
        "{}: {}, {} classes, {} in {} of {}\n",
        arguments.destination.display(),
        count(report.rows, "image"),
        report.classes,
        human_bytes(report.image_bytes),
        count(report.row_groups, "row group"),
        count(report.shards, "shard"),
    );
    if let Some(stats) = report.pixel_stats {
        let [mean, std] = [stats.mean, stats.std].map(|values| values.map(|value| format!("{value:.3}")).join(" "));
        text += &format!("pixels: mean {mean}, deviation {std}, from {} images\n", stats.images);
    }
    if report.bad > 0 {
        let ledger = arguments.destination.join("quarantine.jsonl");
        text += &format!("left out: {}, listed in {}\n", count(report.bad, "bad image"), ledger.display());
    }
    if report.skipped > 0 {
        text += &format!("skipped: {} by name and content no image\n", count(report.skipped, "file"));
    }
    text
}
