//! The report as one page: no script, no font and no picture from anywhere else, light or dark as the reader's system is.

mod charts;
mod svg;

use self::svg::{escape, grouped};
use super::compare::PeerResult;
use super::report::Report;
use crate::commands::human_bytes;

const STYLE: &str = include_str!("page/style.css");

pub(super) fn page(report: &Report) -> String {
    let Report { images_per_s, workers, .. } = report;
    let title = format!("{} images/s with {workers} workers", grouped(*images_per_s));
    let mut body = format!(
        "<header><p class=\"over\">patchstream bench</p><h1><b>{}</b> images/s</h1><p class=\"under\">{}</p></header>\n",
        grouped(*images_per_s),
        escape(&what_was_measured(report)),
    );
    body += &facts(report);
    body += &format!(
        "<p class=\"limit\"><b>Limited by {}:</b> {}. <b>What would help:</b> {}.</p>\n",
        escape(report.limit.stage),
        escape(&report.limit.why),
        escape(&report.limit.what_helps),
    );
    body += &section(
        "Throughput",
        "Images a second over time. The warm-up is shaded; lines part the epochs; the dashed line is their median.",
        &charts::throughput(report),
    );
    body +=
        &section("CPU time of an image", "Microseconds in each stage, summed over threads.", &charts::stages(report));
    body += &section(
        "Queues and memory",
        "How full each queue was. A queue that is always full waits for what comes after it, an empty one for what comes \
         before.",
        &charts::queues(report),
    );
    body += &section("On other machines", &prediction_words(report), &charts::prediction(report));
    if report.peers.iter().any(|peer| matches!(peer, PeerResult::Measured { .. })) {
        let words = "Images a second on the same images, with as many workers, one loader after the other.";
        body += &section("Beside other loaders", words, &charts::peers(report));
    }
    body += &section("Queues in numbers", "", &queue_table(report));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n<main>\n{body}</main>\n</body>\n</html>\n",
        escape(&title)
    )
}

fn section(title: &str, words: &str, content: &str) -> String {
    let words = if words.is_empty() { String::new() } else { format!("<p>{}</p>\n", escape(words)) };
    format!("<section><h2>{}</h2>\n{words}<div class=\"wide\">{content}</div></section>\n", escape(title))
}

fn what_was_measured(report: &Report) -> String {
    let Report { data, workers, epochs, images, settings, machine, .. } = report;
    let mut words = format!(
        "{data}: median of {epochs} epochs of {} images, {workers} workers, crops of {} px, batches of {}",
        grouped(*images as f64),
        settings.image_px,
        settings.batch_size
    );
    if settings.repeats > 1 {
        words += &format!(", {} rows of each image that is decoded, all counted", settings.repeats);
    }
    if settings.world > 1 {
        words += &format!(", rank {} of {}", settings.rank, settings.world);
    }
    if let Some(faults) = &settings.faults {
        words += &format!(", reads with faults ({faults})");
    }
    if let Some(processor) = &machine.processor {
        words += &format!("; {processor}, {} cores", machine.cores);
    }
    words
}

fn facts(report: &Report) -> String {
    let mut facts = vec![
        ("CPU an image", format!("{} \u{b5}s", grouped(report.cpu_us_per_image))),
        ("with one worker", format!("{} \u{b5}s", grouped(report.one_worker_cpu_us_per_image))),
        ("read an image", human_bytes(report.bytes_read_per_image as u64)),
        ("cores kept busy", format!("{:.2}", report.machine.cores_used)),
    ];
    if let Some(cores) = report.machine.cores_used_by_others {
        facts.push(("used by others", format!("{cores:.2}")));
    }
    if let Some(bytes) = report.resident_bytes_max {
        facts.push(("memory at most", human_bytes(bytes)));
    }
    let items = facts.iter().map(|(name, value)| format!("<div><dt>{name}</dt><dd>{}</dd></div>", escape(value)));
    format!("<dl>{}</dl>\n", items.collect::<String>())
}

fn prediction_words(report: &Report) -> String {
    let prediction = &report.prediction;
    let mut words = format!(
        "Predicted from the costs of an image with one worker. For this machine that gives {} images/s, {:.0}% {} than measured",
        grouped(prediction.here_images_per_s),
        100.0 * prediction.here_error.abs(),
        if prediction.here_error >= 0.0 { "more" } else { "less" },
    );
    if let Some(cores) = report.machine.cores_used_by_others.filter(|cores| *cores >= 0.05) {
        words += &format!(
            " ({:.0}% {} if the {cores:.1} cores that others used are left out)",
            100.0 * prediction.undisturbed_error.abs(),
            if prediction.undisturbed_error >= 0.0 { "more" } else { "less" },
        );
    }
    if let Some(target) = &report.target {
        words += &match target.cores {
            Some(cores) => format!(". {} images/s need {cores} cores", grouped(target.images_per_s)),
            None => format!(". {} images/s are more than one process makes", grouped(target.images_per_s)),
        };
    }
    words + "."
}

fn queue_table(report: &Report) -> String {
    let mut rows = String::new();
    for queue in &report.queues {
        rows += &format!(
            "<tr><th>{}</th><td>{:.1} of {:.0} {}</td><td>{:.1}%</td><td>{:.1}%</td></tr>",
            escape(queue.name),
            queue.occupancy_mean,
            queue.capacity,
            escape(queue.unit),
            100.0 * queue.full,
            100.0 * queue.empty,
        );
    }
    format!(
        "<table><thead><tr><th>queue</th><th>held on average</th><th>full: filling waited</th>\
         <th>empty: taking waited</th></tr></thead><tbody>{rows}</tbody></table>"
    )
}
