//! Which stage limits, in words, and what would help.

use serde::Serialize;

use super::measure::Measurement;
use super::report::{Queue, StageCost};

#[derive(Debug, Clone, Serialize)]
pub(super) struct Limit {
    /// The stage, or `cores` where others use them.
    pub(super) stage: &'static str,
    pub(super) why: String,
    pub(super) what_helps: String,
}

/// Waiting for less than this share of the time is no bottleneck.
const WAITS_MUCH: f64 = 0.2;
/// Workers that have work and get less of a core than this share it with something else.
const GETS_LITTLE: f64 = 0.85;

pub(super) fn find(measured: &Measurement, stages: &[StageCost], queues: &[Queue]) -> Limit {
    let workers = measured.after.workers as f64;
    let empty = |name: &str| queues.iter().find(|queue| queue.name == name).map_or(0.0, |queue| queue.empty);
    let idle = empty("rows");
    let percent = |share: f64| format!("{:.0}%", 100.0 * share);
    if idle > WAITS_MUCH && empty("read") > WAITS_MUCH {
        return Limit {
            stage: "read",
            why: format!(
                "the workers had nothing to do for {} of the time, because row groups were not there: whoever hands out their \
                 rows waited for reads {} of it",
                percent(idle),
                percent(empty("read"))
            ),
            what_helps: "a faster disk or network, or more read ahead (--read-ahead-mib); more workers would only wait"
                .to_owned(),
        };
    }
    if idle > WAITS_MUCH {
        return Limit {
            stage: "dispatch",
            why: format!(
                "the workers had nothing to do for {} of the time, although rows were read: handing them out, which one \
                 thread does, or the end of a batch, held them up",
                percent(idle)
            ),
            what_helps: "larger batches, or fewer workers and a second process (--rank and --world)".to_owned(),
        };
    }
    let worker_cpu_s = (measured.after.worker_cpu_ns - measured.before.worker_cpu_ns) as f64 / 1e9;
    let got = worker_cpu_s / measured.seconds / workers / (1.0 - idle);
    if got < GETS_LITTLE {
        let others =
            measured.others_cores.map_or(String::new(), |cores| format!("; other processes used {cores:.1} of them"));
        return Limit {
            stage: "cores",
            why: format!(
                "the workers had work {} of the time but ran {} of that: there are more busy threads than cores{others}",
                percent(1.0 - idle),
                percent(got)
            ),
            what_helps: "an idle machine, more cores, or fewer --workers".to_owned(),
        };
    }
    let on_workers = |stage: &&StageCost| !matches!(stage.name, "fetch" | "dispatch" | "consume");
    let slowest = stages
        .iter()
        .filter(on_workers)
        .max_by(|a, b| a.cpu_us_per_image.total_cmp(&b.cpu_us_per_image))
        .map_or(("decode", 0.0), |stage| (stage.name, stage.share));
    Limit {
        stage: slowest.0,
        why: format!(
            "the workers were busy {} of the time, and {} takes {} of all CPU time",
            percent(1.0 - idle),
            slowest.0,
            percent(slowest.1)
        ),
        what_helps: match slowest.0 {
            "decode" => "more cores with a worker each; `convert --tile-index`, so that a crop skips most of a JPEG; \
                         smaller images, by `convert --encode jpeg --max-side`"
                .to_owned(),
            "resize" => "more cores with a worker each; --decode fast; smaller images, by `convert --encode jpeg \
                         --max-side`"
                .to_owned(),
            _ => "more cores with a worker each".to_owned(),
        },
    }
}
