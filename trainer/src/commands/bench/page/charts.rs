//! The charts of the page, one function each.

use super::svg::{Anchor, Frame, bar, dot, drawing, grouped, line, text, ticks};
use crate::commands::bench::compare::PeerResult;
use crate::commands::bench::report::Report;

const WIDTH: f64 = 780.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = WIDTH - 24.0;

/// Times from the start to the end of the run.
fn seconds(report: &Report) -> (f64, f64) {
    (0.0, report.timeline.seconds.last().copied().unwrap_or(1.0).max(f64::MIN_POSITIVE))
}

/// Round times that fit.
fn second_ticks(end: f64) -> Vec<f64> {
    ticks(end).into_iter().filter(|tick| *tick <= end).collect()
}

/// The warm-up's shade and a line at the end of each epoch.
fn marks(report: &Report, frame: &Frame) -> String {
    let marks = &report.timeline.marks_s;
    let end = frame.x.1;
    let shade = marks.first().map(|&mark| {
        let width = frame.at_x(mark.min(end)) - frame.left;
        bar("shade", (frame.left, frame.top), width, frame.bottom - frame.top)
    });
    let lines = marks
        .iter()
        .filter(|mark| **mark < end)
        .map(|&mark| line("mark", (frame.at_x(mark), frame.top), (frame.at_x(mark), frame.bottom)));
    shade.unwrap_or_default() + &lines.collect::<String>()
}

pub(super) fn throughput(report: &Report) -> String {
    let timeline = &report.timeline;
    let highest = timeline.images_per_s.iter().copied().fold(report.images_per_s, f64::max);
    let y_ticks = ticks(highest);
    let y = (0.0, y_ticks.last().copied().unwrap_or(1.0));
    let frame = Frame { left: LEFT, right: RIGHT, top: 14.0, bottom: 240.0, x: seconds(report), y };
    let median = frame.at_y(report.images_per_s);
    let content = marks(report, &frame)
        + &frame.y_axis(&y_ticks)
        + &frame.x_axis(&second_ticks(frame.x.1), " s")
        + &frame.curve(&timeline.seconds, &timeline.images_per_s, "blue")
        + &line("dash orange", (frame.left, median), (frame.right, median));
    drawing(WIDTH, 268.0, "Images a second over time", &content)
}

pub(super) fn stages(report: &Report) -> String {
    const ROW: f64 = 27.0;
    const NAMES: f64 = 110.0;
    const NUMBERS: f64 = 130.0;
    let longest = report.stages.iter().map(|stage| stage.cpu_us_per_image).fold(f64::MIN_POSITIVE, f64::max);
    let room = WIDTH - NAMES - NUMBERS;
    let mut content = String::new();
    for (index, stage) in report.stages.iter().enumerate() {
        let y = index as f64 * ROW + 4.0;
        // What makes pixels has one colour, what brings bytes and hands them on another.
        let class = match stage.name {
            "decode" | "resize" | "mask" | "patchify" => "fill-blue",
            "fetch" => "fill-green",
            _ => "fill-soft",
        };
        let width = room * stage.cpu_us_per_image / longest;
        let words = format!("{} \u{b5}s, {:.1}%", grouped(stage.cpu_us_per_image), 100.0 * stage.share);
        content += &text("", Anchor::End, (NAMES - 10.0, y + 15.0), stage.name);
        content += &bar(class, (NAMES, y), width.max(1.0), ROW - 7.0);
        content += &text("soft", Anchor::Start, (NAMES + width + 8.0, y + 15.0), &words);
    }
    drawing(WIDTH, report.stages.len() as f64 * ROW + 6.0, "CPU time of an image by stage", &content)
}

/// One strip for each queue and one for memory, on one axis of time.
pub(super) fn queues(report: &Report) -> String {
    const STRIP: f64 = 54.0;
    const GAP: f64 = 30.0;
    let timeline = &report.timeline;
    let mut strips: Vec<(String, &[f64], f64, &str)> = Vec::new();
    for (queue, levels) in report.queues.iter().zip(&timeline.occupancy) {
        let title = match queue.name {
            "read" => format!(
                "read ahead: row groups on their way to the dispatcher, full at {:.0} {}",
                queue.capacity, queue.unit
            ),
            "rows" => format!("rows: encoded images for the workers, full at {:.0}", queue.capacity),
            _ => format!("batches: finished ones for the consumer, full at {:.0}", queue.capacity),
        };
        strips.push((title, levels, 1.0, "green"));
    }
    let memory_max = timeline.resident_mib.iter().copied().fold(0.0, f64::max);
    if memory_max > 0.0 {
        let title = format!("memory of the process, {} MiB at most here", grouped(memory_max));
        strips.push((title, &timeline.resident_mib, memory_max * 1.1, "violet"));
    }
    let mut content = String::new();
    let mut top = 20.0;
    let mut bottom = top;
    for (index, (title, levels, most, color)) in strips.iter().enumerate() {
        bottom = top + STRIP;
        let frame = Frame { left: 10.0, right: RIGHT, top, bottom, x: seconds(report), y: (0.0, *most) };
        content += &marks(report, &frame);
        content += &text("", Anchor::Start, (frame.left, top - 6.0), title);
        content += &line("grid", (frame.left, top), (frame.right, top));
        content += &frame.curve(&timeline.seconds, levels, color);
        let is_last = index + 1 == strips.len();
        content += &if is_last {
            frame.x_axis(&second_ticks(frame.x.1)[1..], " s")
        } else {
            line("axis", (frame.left, bottom), (frame.right, bottom))
        };
        top = bottom + GAP;
    }
    drawing(WIDTH, bottom + 28.0, "How full the queues were, and memory", &content)
}

/// Both axes in powers, so that a straight line is perfect scaling.
pub(super) fn prediction(report: &Report) -> String {
    let by_cores = &report.prediction.by_cores;
    let (Some(first), Some(last)) = (by_cores.first(), by_cores.last()) else { return String::new() };
    let target = report.target.as_ref().map(|target| target.images_per_s);
    let lowest = first.images_per_s.min(report.images_per_s).min(target.unwrap_or(f64::INFINITY));
    let highest = last.images_per_s.max(report.images_per_s).max(target.unwrap_or(0.0));
    let (low, high) = (lowest.log2().floor(), highest.log2().ceil().max(lowest.log2().floor() + 1.0));
    let x = (0.0, (last.cores as f64).log2());
    let frame = Frame { left: LEFT, right: RIGHT, top: 16.0, bottom: 250.0, x, y: (low, high) };
    let mut content = String::new();
    // Halves and doubles of a thousand are rounder than powers of two.
    for power in -14..=14 {
        let value = 1000.0 * 2_f64.powi(power);
        if value.log2() >= low && value.log2() <= high {
            let y = frame.at_y(value.log2());
            content += &line("grid", (frame.left, y), (frame.right, y));
            content += &text("soft", Anchor::End, (frame.left - 8.0, y + 4.0), &grouped(value));
        }
    }
    content += &line("axis", (frame.left, frame.bottom), (frame.right, frame.bottom));
    let xs: Vec<f64> = by_cores.iter().map(|prediction| (prediction.cores as f64).log2()).collect();
    let ys: Vec<f64> = by_cores.iter().map(|prediction| prediction.images_per_s.log2()).collect();
    content += &frame.curve(&xs, &ys, "blue");
    for (prediction, (&x, &y)) in by_cores.iter().zip(xs.iter().zip(&ys)) {
        let place = (frame.at_x(x), frame.at_y(y));
        content += &dot("fill-blue", place, 3.5);
        let words = if prediction.cores == 1 { "1 core".to_owned() } else { prediction.cores.to_string() };
        content += &text("soft", Anchor::Middle, (place.0, frame.bottom + 18.0), &words);
    }
    if let Some(target) = target {
        let y = frame.at_y(target.log2());
        content += &line("dash orange", (frame.left, y), (frame.right, y));
        let words = format!("target {}", grouped(target));
        content += &text("", Anchor::Start, (frame.left + 8.0, y - 6.0), &words);
    }
    let cores = (report.workers.min(report.machine.cores) as f64).log2().min(x.1);
    let here = (frame.at_x(cores), frame.at_y(report.images_per_s.log2()));
    content += &dot("fill-orange", here, 5.5);
    let words = format!("measured here: {}", grouped(report.images_per_s));
    // Below the line, which rises to the right, but not on the axis.
    let y = (here.1 + 16.0).min(frame.bottom - 8.0);
    content += &text("", Anchor::Start, (here.0 + 11.0, y), &words);
    drawing(WIDTH, 278.0, "Images a second by number of cores, predicted", &content)
}

pub(super) fn peers(report: &Report) -> String {
    const ROW: f64 = 27.0;
    const NAMES: f64 = 250.0;
    const NUMBERS: f64 = 120.0;
    let mut bars = vec![("Patchstream", report.images_per_s, "fill-orange")];
    bars.extend(report.peers.iter().filter_map(|peer| match peer {
        PeerResult::Measured { name, images_per_s, .. } => {
            let is_ours = name.starts_with("Patchstream");
            Some((name.as_str(), *images_per_s, if is_ours { "fill-orange" } else { "fill-soft" }))
        }
        _ => None,
    }));
    bars.sort_by(|a, b| b.1.total_cmp(&a.1));
    let longest = bars.iter().map(|bar| bar.1).fold(f64::MIN_POSITIVE, f64::max);
    let mut content = String::new();
    for (index, &(name, images_per_s, class)) in bars.iter().enumerate() {
        let y = index as f64 * ROW + 4.0;
        let width = (WIDTH - NAMES - NUMBERS) * images_per_s / longest;
        let words = format!("{} ({:.2}x)", grouped(images_per_s), images_per_s / report.images_per_s);
        content += &text("", Anchor::End, (NAMES - 10.0, y + 15.0), name);
        content += &bar(class, (NAMES, y), width.max(1.0), ROW - 7.0);
        content += &text("soft", Anchor::Start, (NAMES + width + 8.0, y + 15.0), &words);
    }
    drawing(WIDTH, bars.len() as f64 * ROW + 6.0, "Images a second of each loader", &content)
}
