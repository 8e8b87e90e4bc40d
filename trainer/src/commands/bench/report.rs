//! What a measurement says, as plain numbers: printed as JSON, as a table, and drawn on a page.

use patchstream_pipeline::{DecodeMode, PipelineSnapshot};
use serde::Serialize;

use super::compare::PeerResult;
use super::limit::Limit;
use super::machine;
use super::measure::{Measurement, Sample};
use super::predict::{Prediction, Target, UnitCosts};

/// Where the time of the measured epochs went.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    pub(super) data: String,
    pub(super) machine: Machine,
    pub(super) settings: Settings,
    /// Median of the measured epochs.
    pub(super) images_per_s: f64,
    pub(super) images_per_s_min: f64,
    pub(super) images_per_s_max: f64,
    pub(super) epoch_images_per_s: Vec<f64>,
    /// CPU time of the whole process.
    pub(super) cpu_us_per_image: f64,
    /// The same with one worker, from a short run before; reading is that of the measured epochs.
    pub(super) one_worker_cpu_us_per_image: f64,
    pub(super) workers: usize,
    /// Images of an epoch that this process takes.
    pub(super) images: u64,
    pub(super) epochs: u64,
    pub(super) bytes_read_per_image: f64,
    pub(super) resident_bytes_max: Option<u64>,
    pub(super) stages: Vec<StageCost>,
    pub(super) queues: Vec<Queue>,
    pub(super) retries: u64,
    pub(super) quarantined: u64,
    pub(super) replaced: u64,
    pub(super) limit: Limit,
    pub(super) prediction: Predictions,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) target: Option<Target>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) peers: Vec<PeerResult>,
    pub(super) timeline: Timeline,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Machine {
    pub(super) processor: Option<String>,
    pub(super) cores: usize,
    /// Cores that this process kept busy, on average.
    pub(super) cores_used: f64,
    /// Cores that others kept busy meanwhile.
    pub(super) cores_used_by_others: Option<f64>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Settings {
    pub(super) batch_size: usize,
    pub(super) image_px: u32,
    pub(super) patch_px: u32,
    pub(super) decode: DecodeMode,
    /// Rows that are made of one image, all of which count as images here.
    pub(super) repeats: usize,
    pub(super) shuffle_window: usize,
    pub(super) read_ahead_mib: u32,
    pub(super) rank: usize,
    pub(super) world: usize,
    pub(super) seed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) faults: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct StageCost {
    pub(super) name: &'static str,
    pub(super) cpu_us_per_image: f64,
    /// Of the CPU time of the whole process.
    pub(super) share: f64,
}

/// How full a queue was, and how long its two sides waited for each other.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Queue {
    pub(super) name: &'static str,
    /// What is counted: `MiB`, `images` or `batches`.
    pub(super) unit: &'static str,
    pub(super) capacity: f64,
    pub(super) occupancy_mean: f64,
    pub(super) occupancy_max: f64,
    /// Share of the time in which whoever fills the queue waited for room: what comes after it is slower.
    pub(super) full: f64,
    /// Share of the time in which whoever empties it waited, a mean over threads: what comes before it is slower.
    pub(super) empty: f64,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Predictions {
    /// What an image cost with one worker; the predictions rest on this.
    pub(super) costs: UnitCosts,
    /// What this predicts for the workers and cores of this measurement.
    pub(super) here_images_per_s: f64,
    /// How much more was predicted than measured, as a share of what was measured.
    pub(super) here_error: f64,
    /// The same for the cores that others left over.
    pub(super) undisturbed_error: f64,
    pub(super) by_cores: Vec<Prediction>,
}

/// The run over time, from the start of the warm-up.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Timeline {
    pub(super) seconds: Vec<f64>,
    /// Images a second between a moment and the one before.
    pub(super) images_per_s: Vec<f64>,
    /// Fullness of the queues at each moment, in the order of `queues`, 0 to 1.
    pub(super) occupancy: Vec<Vec<f64>>,
    pub(super) resident_mib: Vec<f64>,
    /// Where the warm-up and each epoch ended.
    pub(super) marks_s: Vec<f64>,
}

/// Points of a timeline at most.
const POINTS_MAX: usize = 240;
const MIB: f64 = (1 << 20) as f64;

/// The stages and what they cost an image; the last ones are what threads do besides.
pub(super) fn stages(measured: &Measurement) -> Vec<StageCost> {
    let images = measured.images as f64;
    let (before, after) = (&measured.before, &measured.after);
    let us = |after_ns: u64, before_ns: u64| (after_ns - before_ns) as f64 / 1e3 / images;
    let mut costs: Vec<(&'static str, f64)> = Vec::new();
    let (worker_us, dispatch_us) =
        (us(after.worker_cpu_ns, before.worker_cpu_ns), us(after.dispatch_cpu_ns, before.dispatch_cpu_ns));
    let consumer_us = 1e6 * measured.consumer_cpu_s / images;
    let total_us = 1e6 * measured.cpu_s / images;
    // Whatever is neither worker nor dispatcher nor consumer reads shards.
    costs.push(("fetch", (total_us - worker_us - dispatch_us - consumer_us).max(0.0)));
    costs.push(("dispatch", dispatch_us));
    let mut named_us = 0.0;
    for (before, after) in before.stages.iter().zip(&after.stages) {
        let cost_us = us(after.cpu_ns, before.cpu_ns);
        named_us += cost_us;
        costs.push((after.name, cost_us));
    }
    costs.push(("hand over", (worker_us - named_us).max(0.0)));
    costs.push(("consume", consumer_us));
    let cost = |(name, cpu_us_per_image)| StageCost { name, cpu_us_per_image, share: cpu_us_per_image / total_us };
    costs.into_iter().map(cost).collect()
}

fn unit_costs(measured: &Measurement, images_in_flight: usize) -> UnitCosts {
    let mut costs = UnitCosts {
        workers_us: 0.0,
        fetch_us: 0.0,
        dispatch_us: 0.0,
        consumer_us: 0.0,
        bytes_read: bytes_read(measured) / measured.images as f64,
        images_in_flight,
    };
    for stage in stages(measured) {
        match stage.name {
            "fetch" => costs.fetch_us += stage.cpu_us_per_image,
            "dispatch" => costs.dispatch_us += stage.cpu_us_per_image,
            "consume" => costs.consumer_us += stage.cpu_us_per_image,
            _ => costs.workers_us += stage.cpu_us_per_image,
        }
    }
    costs
}

pub(super) fn bytes_read(measured: &Measurement) -> f64 {
    let read = |snapshot: &PipelineSnapshot| snapshot.read.unwrap_or_default().bytes;
    (read(&measured.after) - read(&measured.before)) as f64
}

/// How full each queue is, in its own unit.
fn occupancy(snapshot: &PipelineSnapshot) -> [f64; 3] {
    let read = snapshot.read.unwrap_or_default();
    let items = |queue: usize| snapshot.queues.get(queue).map_or(0.0, |queue| queue.items as f64);
    [read.ahead_bytes as f64 / MIB, items(0), items(1)]
}

/// The queues in order, with waits and occupancy of the measured epochs.
pub(super) fn queues(measured: &Measurement, read_ahead_mib: f64) -> Vec<Queue> {
    let Measurement { before, after, seconds, marks_s, samples, .. } = measured;
    let (read_before, read_after) = (before.read.unwrap_or_default(), after.read.unwrap_or_default());
    let share = |after_ns: u64, before_ns: u64| (after_ns - before_ns) as f64 / 1e9 / seconds;
    let begin = marks_s.first().copied().unwrap_or(0.0);
    let counted: Vec<[f64; 3]> =
        samples.iter().filter(|sample| sample.seconds >= begin).map(|sample| occupancy(&sample.snapshot)).collect();
    let queue = |index: usize, name, unit, capacity: f64, full, empty| Queue {
        name,
        unit,
        capacity,
        occupancy_mean: counted.iter().map(|levels| levels[index]).sum::<f64>() / counted.len().max(1) as f64,
        occupancy_max: counted.iter().map(|levels| levels[index]).fold(0.0, f64::max),
        full,
        empty,
    };
    let mut queues = vec![queue(
        0,
        "read",
        "MiB",
        read_ahead_mib,
        share(read_after.fetcher_wait_ns, read_before.fetcher_wait_ns),
        share(read_after.consumer_wait_ns, read_before.consumer_wait_ns),
    )];
    for (index, (before, after)) in before.queues.iter().zip(&after.queues).enumerate() {
        let takers = if after.name == "rows" { measured.after.workers as f64 } else { 1.0 };
        queues.push(queue(
            index + 1,
            after.name,
            if after.name == "rows" { "images" } else { "batches" },
            after.capacity as f64,
            share(after.put_wait_ns, before.put_wait_ns),
            share(after.take_wait_ns, before.take_wait_ns) / takers,
        ));
    }
    queues
}

/// The samples as at most [`POINTS_MAX`] points. Sizes of the queues scale to what they hold at most.
pub(super) fn timeline(measured: &Measurement, queues: &[Queue]) -> Timeline {
    let mut timeline = Timeline { marks_s: measured.marks_s.clone(), ..Timeline::default() };
    timeline.occupancy = vec![Vec::new(); queues.len()];
    let step = measured.samples.len().div_ceil(POINTS_MAX).max(4);
    for part in measured.samples.chunks(step) {
        let [first, .., last] = part else { continue };
        timeline.seconds.push(last.seconds);
        let images = (last.snapshot.images - first.snapshot.images) as f64;
        timeline.images_per_s.push(images / (last.seconds - first.seconds));
        for (index, (queue, levels)) in queues.iter().zip(&mut timeline.occupancy).enumerate() {
            let full = queue.capacity.max(queue.occupancy_max).max(f64::MIN_POSITIVE);
            let mean = part.iter().map(|sample| occupancy(&sample.snapshot)[index]).sum::<f64>() / part.len() as f64;
            levels.push((mean / full).min(1.0));
        }
        timeline.resident_mib.push(resident_mib(last));
    }
    timeline
}

fn resident_mib(sample: &Sample) -> f64 {
    sample.resident_bytes.unwrap_or(0) as f64 / MIB
}

/// Predictions from the costs of `one`, held against what `measured` found.
pub(super) fn predictions(
    one: &Measurement,
    measured: &Measurement,
    images_per_s: f64,
    images_in_flight: usize,
) -> Predictions {
    // The short run is still taking memory for row groups, which makes its reading dearer than it is later.
    let UnitCosts { fetch_us, bytes_read, .. } = unit_costs(measured, images_in_flight);
    let costs = UnitCosts { fetch_us, bytes_read, ..unit_costs(one, images_in_flight) };
    let (workers, cores) = (measured.after.workers, machine::cores() as f64);
    let error = |cores: f64| costs.predict(cores, workers).images_per_s / images_per_s - 1.0;
    let left_over = (cores - measured.others_cores.unwrap_or(0.0)).max(0.1);
    Predictions {
        here_images_per_s: costs.predict(cores, workers).images_per_s,
        here_error: error(cores),
        undisturbed_error: error(left_over),
        by_cores: costs.table(),
        costs,
    }
}

/// The middle one of some numbers; of an even count the mean of both.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        count => f64::midpoint(sorted[(count - 1) / 2], sorted[count / 2]),
    }
}
