//! How fast the pipeline would be on other numbers of cores.
//!
//! The model is plain: every image costs CPU time in each stage, work divides evenly over cores, and some of it can run on
//! one thread only. Which of these bounds is lowest is the prediction. It knows nothing of memory bandwidth, clocks that
//! fall when many cores are busy, or cores that share an execution unit; docs/scaling.md says what those are worth.

use serde::Serialize;

/// Threads that read, verify and unpack row groups.
const FETCH_THREADS: f64 = 4.0;
/// Core counts that are predicted.
const CORES: [usize; 11] = [1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64];
/// No target is looked for beyond this.
const CORES_MAX: usize = 4096;

/// CPU microseconds an image, by where they are spent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct UnitCosts {
    /// On the workers: decode, resize, mask, patchify, assemble.
    pub(super) workers_us: f64,
    /// On the threads that read shards.
    pub(super) fetch_us: f64,
    /// On the one thread that hands rows out.
    pub(super) dispatch_us: f64,
    /// On the one thread that takes batches.
    pub(super) consumer_us: f64,
    /// Bytes read from storage an image.
    pub(super) bytes_read: f64,
    /// Images of all batches that can be on their way; more workers than these have nothing to do.
    pub(super) images_in_flight: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Prediction {
    pub(super) cores: usize,
    pub(super) images_per_s: f64,
    pub(super) bytes_read_per_s: f64,
    /// What stops it from being more.
    pub(super) limit: &'static str,
}

/// What a target takes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Target {
    pub(super) images_per_s: f64,
    /// Nothing where no number of cores would do.
    pub(super) cores: Option<usize>,
    pub(super) bytes_read_per_s: f64,
    /// What the pipeline never exceeds, in one process.
    pub(super) images_per_s_max: f64,
}

impl UnitCosts {
    pub(super) fn total_us(&self) -> f64 {
        self.workers_us + self.fetch_us + self.dispatch_us + self.consumer_us
    }

    /// What `workers` workers make on `cores` cores.
    pub(super) fn predict(&self, cores: f64, workers: usize) -> Prediction {
        let per_second = |threads: f64, us: f64| if us > 0.0 { threads * 1e6 / us } else { f64::INFINITY };
        let bounds = [
            ("cores", per_second(cores, self.total_us())),
            ("workers", per_second(workers as f64, self.workers_us)),
            ("the batches in flight", per_second(self.images_in_flight as f64, self.workers_us)),
            ("the reading threads", per_second(FETCH_THREADS, self.fetch_us)),
            ("the thread that hands rows out", per_second(1.0, self.dispatch_us)),
            ("the thread that takes batches", per_second(1.0, self.consumer_us)),
        ];
        let (limit, images_per_s) = bounds.into_iter().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or(("cores", 0.0));
        Prediction {
            cores: cores.round() as usize,
            images_per_s,
            bytes_read_per_s: images_per_s * self.bytes_read,
            limit,
        }
    }

    /// With as many workers as cores.
    pub(super) fn on_cores(&self, cores: usize) -> Prediction {
        self.predict(cores as f64, cores)
    }

    pub(super) fn table(&self) -> Vec<Prediction> {
        CORES.iter().map(|&cores| self.on_cores(cores)).collect()
    }

    pub(super) fn target(&self, images_per_s: f64) -> Target {
        // More cores never make it slower, so the first that are enough are found by halving.
        let is_enough = |cores: usize| self.on_cores(cores).images_per_s >= images_per_s;
        let cores = is_enough(CORES_MAX).then(|| {
            let (mut too_few, mut enough) = (0, CORES_MAX);
            while enough - too_few > 1 {
                let middle = usize::midpoint(too_few, enough);
                if is_enough(middle) { enough = middle } else { too_few = middle }
            }
            enough
        });
        Target {
            images_per_s,
            cores,
            bytes_read_per_s: images_per_s * self.bytes_read,
            images_per_s_max: self.on_cores(CORES_MAX * CORES_MAX).images_per_s,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COSTS: UnitCosts = UnitCosts {
        workers_us: 900.0,
        fetch_us: 80.0,
        dispatch_us: 10.0,
        consumer_us: 10.0,
        bytes_read: 1e5,
        images_in_flight: 192,
    };

    #[test]
    fn cores_limit_until_the_reading_threads_do() {
        let table = COSTS.table();
        assert!((table[1].images_per_s - 2000.0).abs() < 1e-6 && table[1].limit == "cores", "{:?}", table[1]);
        assert!((table[1].bytes_read_per_s - 2e8).abs() < 1e-3);
        // Four reading threads at 80 us an image.
        assert!((table[10].images_per_s - 50_000.0).abs() < 1e-6, "{:?}", table[10]);
        assert_eq!(table[10].limit, "the reading threads");
    }

    #[test]
    fn tiny_batches_keep_few_workers_busy() {
        let prediction = UnitCosts { images_in_flight: 12, ..COSTS }.on_cores(32);
        assert_eq!(prediction.limit, "the batches in flight");
        assert!((prediction.images_per_s - 12e6 / 900.0).abs() < 1e-6);
    }

    #[test]
    fn fewer_workers_than_cores_leave_cores_idle() {
        let prediction = COSTS.predict(8.0, 2);
        assert_eq!(prediction.limit, "workers");
        assert!((prediction.images_per_s - 2e6 / 900.0).abs() < 1e-6);
    }

    #[test]
    fn a_target_takes_the_fewest_cores_that_reach_it_or_none() {
        assert_eq!(COSTS.target(7000.0).cores, Some(7));
        assert_eq!(COSTS.target(7001.0).cores, Some(8));
        assert_eq!(COSTS.target(1.0).cores, Some(1));
        let beyond = COSTS.target(60_000.0);
        assert_eq!(beyond.cores, None);
        assert!((beyond.images_per_s_max - 50_000.0).abs() < 1e-6);
    }
}
