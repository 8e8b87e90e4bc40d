//! The report as text for a terminal.

use super::compare::PeerResult;
use super::report::{Predictions, Queue, Report, StageCost};
use crate::commands::human_bytes;

pub(super) fn table(report: &Report) -> String {
    let mut text = summary(report);
    text += &format!("\n{:15} {:>14} {:>8}\n", "stage", "CPU us/image", "share");
    for StageCost { name, cpu_us_per_image, share } in &report.stages {
        text += &format!("{name:15} {cpu_us_per_image:>14.1} {:>7.1}%\n", 100.0 * share);
    }
    let heads = ["full, waited", "empty, waited", "held", "of"];
    text += &format!("\n{:15} {:>13} {:>13} {:>13} {:>15}\n", "queue", heads[0], heads[1], heads[2], heads[3]);
    for Queue { name, unit, capacity, occupancy_mean, full, empty, .. } in &report.queues {
        let (full, empty, of) = (100.0 * full, 100.0 * empty, format!("{capacity:.0} {unit}"));
        text += &format!("{name:15} {full:>12.1}% {empty:>12.1}% {occupancy_mean:>13.1} {of:>15}\n");
    }
    text += &format!("\nLimited by {}: {}.\n", report.limit.stage, report.limit.why);
    text += &format!("What would help: {}.\n", report.limit.what_helps);
    text += &predictions(&report.prediction, report);
    if !report.peers.is_empty() {
        text += &peers(report);
    }
    text
}

fn summary(report: &Report) -> String {
    let Report { images_per_s, images_per_s_min, images_per_s_max, workers, images, epochs, .. } = report;
    let mut text = format!(
        "{images_per_s:.0} images/s with {workers} workers (median of {epochs} epochs of {images} images, {images_per_s_min:.0} to {images_per_s_max:.0})\n\
         {:.0} us of CPU an image ({:.0} with one worker), {} read an image",
        report.cpu_us_per_image,
        report.one_worker_cpu_us_per_image,
        human_bytes(report.bytes_read_per_image as u64),
    );
    if let Some(bytes) = report.resident_bytes_max {
        text += &format!(", {} of memory at most", human_bytes(bytes));
    }
    text += "\n";
    if report.settings.repeats > 1 {
        text += &format!("{} rows of each image that is decoded, all counted as images\n", report.settings.repeats);
    }
    if report.settings.world > 1 {
        text += &format!("rank {} of {}\n", report.settings.rank, report.settings.world);
    }
    if report.retries + report.replaced > 0 {
        text += &format!("{} reads tried again, {} rows of bad samples replaced\n", report.retries, report.replaced);
    }
    text
}

fn predictions(prediction: &Predictions, report: &Report) -> String {
    let Predictions { here_images_per_s, here_error, undisturbed_error, by_cores, .. } = prediction;
    let far = |error: f64| {
        format!("{:.0}% {} than measured", 100.0 * error.abs(), if error >= 0.0 { "more" } else { "less" })
    };
    let mut text = format!(
        "\nFrom the costs with one worker, {here_images_per_s:.0} images/s were predicted here: {}",
        far(*here_error)
    );
    if let Some(cores) = report.machine.cores_used_by_others.filter(|cores| *cores >= 0.05) {
        text += &format!(", {} when the {cores:.1} cores that others used are left out", far(*undisturbed_error));
    }
    text += ".\n\n  cores   images/s   read/s      limited by\n";
    for prediction in by_cores {
        let read = human_bytes(prediction.bytes_read_per_s as u64);
        text +=
            &format!("{:>7} {:>10.0}   {read:11} {}\n", prediction.cores, prediction.images_per_s, prediction.limit);
    }
    if let Some(target) = &report.target {
        let rate = target.images_per_s;
        text += &match target.cores {
            Some(cores) => format!(
                "\n{rate:.0} images/s need {cores} cores and {} of reads a second.\n",
                human_bytes(target.bytes_read_per_s as u64)
            ),
            None => format!(
                "\n{rate:.0} images/s are more than one process makes, which is at most {:.0}: use several (--rank and --world).\n",
                target.images_per_s_max
            ),
        };
    }
    text
}

fn peers(report: &Report) -> String {
    let mut text =
        format!("\n{:44} {:>9} {:>9} {:>13} {:>9}\n", "loader", "images/s", "ours is", "CPU us/image", "ours is");
    let row = |name: &str, rate: f64, cpu_us: f64| {
        format!(
            "{name:44} {rate:>9.0} {:>8.2}x {cpu_us:>13.0} {:>8.2}x\n",
            report.images_per_s / rate,
            report.cpu_us_per_image / cpu_us
        )
    };
    text += &row("Patchstream", report.images_per_s, report.cpu_us_per_image);
    for peer in &report.peers {
        text += &match peer {
            PeerResult::Measured { name, images_per_s, cpu_us_per_image, .. } => {
                row(name, *images_per_s, *cpu_us_per_image)
            }
            PeerResult::Failed { name, reason } => format!("{name:44} failed: {reason}\n"),
            PeerResult::Missing { name } => format!("{name:44} not installed\n"),
        };
    }
    text
}
