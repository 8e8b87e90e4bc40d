//! `patchstream convert`: images become Parquet shards.

use std::num::{NonZeroU8, NonZeroU64, NonZeroUsize};
use std::path::Path;

use patchstream_datasets::convert::{Check, ConvertOptions, ConvertReport, Encode, OnBad, Order, Part};
use patchstream_datasets::{is_remote, sources};
use patchstream_pipeline::Examiner;

use super::{ImageBar, count, human_bytes, print, print_json, threads};
use crate::cli::{self, ConvertArgs, Encoding};
use crate::report::UserError;

const MIB: u64 = 1 << 20;
/// What most viewers and data sets take for indistinguishable from the original.
const QUALITY: NonZeroU8 = NonZeroU8::new(90).unwrap();

/// Threads that read from far away mostly wait.
const REMOTE_WORKERS: NonZeroUsize = NonZeroUsize::new(16).unwrap();

pub(crate) fn run(arguments: &ConvertArgs, quiet: bool) -> anyhow::Result<()> {
    patchstream_pipeline::memory::reuse_freed_memory();
    let options = options(arguments)?;
    let source = sources::open(&arguments.source, &arguments.from.options())?;
    let bar = ImageBar::start("converting", quiet);
    let show = |progress| bar.show(progress);
    let examiner = Examiner::default();
    let report = patchstream_datasets::convert(source.as_ref(), &arguments.destination, &options, &examiner, &show);
    bar.finish();
    let report = report?;
    if arguments.json {
        return print_json(&report);
    }
    print(&match arguments.part {
        None => describe(&arguments.destination, &report),
        Some(part) => describe_part(&arguments.destination, part, &report),
    })
}

fn options(arguments: &ConvertArgs) -> anyhow::Result<ConvertOptions> {
    let mib =
        |count: std::num::NonZeroU32| NonZeroU64::from(count).saturating_mul(NonZeroU64::MIN.saturating_add(MIB - 1));
    Ok(ConvertOptions {
        seed: arguments.seed,
        order: match arguments.order {
            cli::RowOrder::Shuffled => Order::Shuffled,
            cli::RowOrder::Sorted => Order::Sorted,
        },
        limit: arguments.limit,
        row_group_bytes: mib(arguments.row_group_mib),
        shard_bytes: mib(arguments.shard_mib),
        encode: encode(arguments)?,
        tile_index: arguments.tile_index,
        check: match arguments.check {
            cli::CheckDepth::Header => Check::Header,
            cli::CheckDepth::Decode => Check::Decode,
        },
        on_bad: match arguments.on_bad {
            cli::OnBad::Skip => OnBad::Skip,
            cli::OnBad::Fail => OnBad::Fail,
        },
        bad_budget: arguments.max_bad,
        splits: arguments.split.clone(),
        dedupe: arguments.dedupe,
        min_side_px: arguments.filter_min_side,
        part: arguments.part,
        measure: NonZeroU64::new(arguments.pixel_stats),
        workers: match arguments.workers {
            None if is_remote(&arguments.source) => REMOTE_WORKERS,
            asked => threads(asked),
        },
        overwrite: arguments.overwrite,
        resume: arguments.resume,
        temporary: arguments.from.temporary_folder(),
    })
}

/// How images are stored. An option that would have no effect is refused, so that nobody believes it had one.
fn encode(arguments: &ConvertArgs) -> anyhow::Result<Encode> {
    let ConvertArgs { encode, max_side, quality, zstd, .. } = arguments;
    let has_no_effect = |option: &str, needs: &str| {
        Err(UserError::new(format!("`{option}` has no effect without `{needs}`"))
            .hint(format!("add `{needs}`, or leave `{option}` out"))
            .into())
    };
    match encode {
        Encoding::Keep if max_side.is_some() => return has_no_effect("--max-side", "--encode jpeg"),
        Encoding::Keep | Encoding::Raw if quality.is_some() => return has_no_effect("--quality", "--encode jpeg"),
        Encoding::Keep | Encoding::Jpeg if zstd.is_some() => return has_no_effect("--zstd", "--encode raw"),
        _ => {}
    }
    Ok(match (encode, max_side) {
        (Encoding::Keep, _) => Encode::Keep,
        (Encoding::Jpeg, &max_side_px) => Encode::Jpeg { max_side_px, quality: quality.unwrap_or(QUALITY) },
        (Encoding::Raw, &Some(max_side_px)) => Encode::Raw { max_side_px, zstd_level: *zstd },
        (Encoding::Raw, None) => {
            let error = UserError::new("`--encode raw` needs `--max-side`: raw pixels of large images fill any disk");
            return Err(error.hint("for instance `--max-side 256`").into());
        }
    })
}

/// What was made, for a person.
pub(super) fn describe(destination: &Path, report: &ConvertReport) -> String {
    let mut text = format!(
        "{}: {}, {} class{}, {} in {} of {}\n",
        destination.display(),
        count(report.rows, "image"),
        report.classes,
        if report.classes == 1 { "" } else { "es" },
        human_bytes(report.image_bytes),
        count(report.row_groups, "row group"),
        count(report.shards, "shard"),
    );
    if report.unchanged {
        text += "nothing to do: it was finished before, with the same options and images\n";
    }
    for (name, rows) in &report.splits {
        text += &format!("split: {} in {}\n", count(*rows, "image"), destination.join(name).display());
    }
    if let Some(stats) = report.pixel_stats {
        let [mean, std] = [stats.mean, stats.std].map(|values| values.map(|value| format!("{value:.3}")).join(" "));
        text += &format!("pixels: mean {mean}, deviation {std}, from {} images\n", stats.images);
    }
    let left_out = [(report.bad, "bad image"), (report.small, "small image"), (report.duplicates, "duplicate")];
    let left_out: Vec<String> =
        left_out.into_iter().filter(|(images, _)| *images > 0).map(|(images, what)| count(images, what)).collect();
    if !left_out.is_empty() {
        let ledger = destination.join("quarantine.jsonl");
        text += &format!("left out: {}, listed in {}\n", left_out.join(", "), ledger.display());
    }
    if report.skipped > 0 {
        text += &format!("skipped: {} by name and content no image\n", count(report.skipped, "file"));
    }
    text
}

/// What was made of one part, which is no data set yet.
fn describe_part(destination: &Path, part: Part, report: &ConvertReport) -> String {
    let mut text = format!(
        "{}: part {part}, {}, {} in {}\n",
        destination.display(),
        count(report.rows, "image"),
        human_bytes(report.image_bytes),
        count(report.shards, "shard"),
    );
    if report.unchanged {
        text += "nothing to do: it was finished before, with the same options and images\n";
    }
    if report.shards == 0 {
        text += "it has nothing to do, because there are fewer shards than parts: `--shard-mib` makes them smaller\n";
    }
    if report.bad > 0 {
        text += &format!("left out: {}\n", count(report.bad, "bad image"));
    }
    text + "`patchstream merge` makes a data set of all parts\n"
}
