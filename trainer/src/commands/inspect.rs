//! `patchstream inspect`: what is in a data set, and whether it is whole.

use std::fmt::Write as _;

use patchstream_datasets::Dataset;
use patchstream_datasets::inspect::{
    ClassCount, Distribution, Summary, Verification, measure_pixels, summarize, verify,
};
use patchstream_pipeline::Examiner;
use serde::Serialize;

use super::{ImageBar, count, human_bytes, print, print_json};
use crate::cli::InspectArgs;
use crate::contact_sheet;
use crate::report::UserError;

/// Of many classes, so many are shown.
const CLASSES_MAX: usize = 20;
/// Of much damage, so many lines are shown.
const DAMAGE_MAX: usize = 20;
/// Characters of the longest bar of the histogram.
const BAR_MAX: u64 = 30;

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    summary: Summary,
    #[serde(skip_serializing_if = "Option::is_none")]
    verification: Option<Verification>,
}

pub(crate) fn run(arguments: &InspectArgs, quiet: bool) -> anyhow::Result<()> {
    let dataset = Dataset::open(&arguments.data)?;
    // Damage first: statistics may be impossible to read from a damaged data set.
    let verification = if arguments.verify { Some(verified(arguments, &dataset, quiet)?) } else { None };
    let examiner = Examiner::default();
    let mut summary = summarize(&dataset)?;
    if let Some(images) = arguments.pixel_stats {
        summary.pixel_stats = measure_pixels(&dataset, &examiner, images, arguments.seed)?;
    }
    let mut text = describe(&summary);
    if verification.is_some() {
        text += "verified   every checksum and every image\n";
    }
    if let Some(path) = &arguments.contact_sheet {
        let samples = contact_sheet::write(path, &dataset, &examiner, arguments.seed)?;
        text += &format!("sheet      {} in {}\n", count(samples, "sample"), path.display());
    }
    if arguments.json { print_json(&Report { summary, verification }) } else { print(&text) }
}

/// What verification found, if that is nothing.
fn verified(arguments: &InspectArgs, dataset: &Dataset, quiet: bool) -> anyhow::Result<Verification> {
    let bar = ImageBar::start("verifying", quiet);
    let show = |progress| bar.show(progress);
    let verification = verify(dataset, Some(&Examiner::default()), &show)?;
    bar.finish();
    if verification.damaged_groups.is_empty() && verification.damaged_rows.is_empty() {
        return Ok(verification);
    }
    if arguments.json {
        print_json(&verification)?;
    } else {
        print(&describe_damage(&verification))?;
    }
    Err(UserError::new(format!(
        "`{}` is damaged: {}, {}",
        arguments.data,
        count(verification.damaged_groups.len() as u64, "row group"),
        count(verification.damaged_rows.len() as u64, "image")
    ))
    .hint("convert the data set again, or copy the damaged files again")
    .into())
}

fn describe(summary: &Summary) -> String {
    let Summary { rows, rows_examined, unlabelled, oddities, .. } = summary;
    let mut text = format!(
        "data set   {}\nrows       {rows}\nbytes      {} in images, {} in {} of {}\n",
        summary.location,
        human_bytes(summary.image_bytes),
        human_bytes(summary.bytes),
        count(summary.row_groups, "row group"),
        count(summary.shards, "shard"),
    );
    if rows_examined < rows {
        text += &format!("examined   {rows_examined} rows, evenly spread\n");
    }
    text += &format!("width      {}\nheight     {}\n", pixels(&summary.width_px), pixels(&summary.height_px));
    let formats: Vec<String> = summary.formats.iter().map(|(name, count)| format!("{name} {count}")).collect();
    text += &format!("formats    {} (of {} images)\n", formats.join(", "), summary.formats_examined);
    if summary.conversion["encode"] != "keep" || !summary.conversion["tile_index"].is_null() {
        text += &format!("stored     {}\n", stored(&summary.conversion));
    }
    if let Some(stats) = &summary.pixel_stats {
        let [mean, std] = [stats.mean, stats.std].map(|values| values.map(|value| format!("{value:.3}")).join(" "));
        text += &format!("pixels     mean {mean}, deviation {std} (of {} images)\n", stats.images);
    }
    text += &format!("classes    {}", summary.classes.len());
    text += &if *unlabelled > 0 { format!(", {unlabelled} rows without a label\n") } else { "\n".to_owned() };
    text += &histogram(&summary.classes);
    let odd = [
        (oddities.tiny_images, "with a side below 32 pixels"),
        (oddities.extreme_aspects, "more than 4 times as long as wide"),
        (oddities.empty_classes.len() as u64, "classes without an image"),
        (oddities.labels_without_class, "with a label that has no class name"),
    ];
    for (count, what) in odd.into_iter().filter(|(count, _)| *count > 0) {
        text += &format!("odd        {count} {what}\n");
    }
    text
}

/// In which form the images are stored, by the configuration of the conversion.
fn stored(conversion: &serde_json::Value) -> String {
    let encode = &conversion["encode"];
    let mut text = match encode.as_object().and_then(|fields| fields.iter().next()) {
        Some((format, options)) => {
            let side = &options["max_side_px"];
            let side = if side.is_null() { String::new() } else { format!(", no side longer than {side} pixels") };
            let quality = &options["quality"];
            let quality = if quality.is_null() { String::new() } else { format!(" of quality {quality}") };
            format!("encoded anew as {format}{quality}{side}")
        }
        None => "as they came".to_owned(),
    };
    let interval = &conversion["tile_index"];
    if !interval.is_null() {
        text += &format!(", JPEGs with a restart marker every {interval} MCUs");
    }
    text
}

fn pixels(distribution: &Distribution) -> String {
    let Distribution { min, median, mean, max } = distribution;
    format!("{min} to {max} pixels, median {median:.0}, mean {mean:.0}")
}

fn histogram(classes: &[ClassCount]) -> String {
    let most = classes.iter().map(|class| class.rows).max().unwrap_or(0).max(1);
    let name_width =
        classes.iter().take(CLASSES_MAX).map(|class| class.name.chars().count()).max().unwrap_or(0).min(30);
    let mut text = String::new();
    for ClassCount { name, rows } in classes.iter().take(CLASSES_MAX) {
        let bar = "#".repeat((rows * BAR_MAX).div_ceil(most) as usize);
        let name: String = name.chars().take(name_width).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {name:name_width$} {rows:>8} {bar}");
    }
    if classes.len() > CLASSES_MAX {
        text += &format!("  and {} more\n", classes.len() - CLASSES_MAX);
    }
    text
}

fn describe_damage(verification: &Verification) -> String {
    let groups = verification
        .damaged_groups
        .iter()
        .map(|group| format!("{} row group {}: {}\n", group.file, group.row_group, group.reason));
    let rows =
        verification.damaged_rows.iter().map(|row| format!("image {} ({}): {}\n", row.sample_id, row.path, row.reason));
    let mut lines: Vec<String> = groups.chain(rows).collect();
    let all = lines.len();
    lines.truncate(DAMAGE_MAX);
    if all > DAMAGE_MAX {
        lines.push(format!("and {} more\n", all - DAMAGE_MAX));
    }
    lines.concat()
}
