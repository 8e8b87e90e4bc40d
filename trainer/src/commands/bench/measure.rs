//! Running the pipeline with nothing behind it, and what was counted meanwhile.
//!
//! A measured epoch lasts from its first batch to the first batch of the next one. By then the queues hold as much as at its
//! start, so what was made in that time is what was taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use patchstream_datasets::{Cursor, Dataset, Schedule};
use patchstream_pipeline::{PatchBatch, PatchStream, PipelineConfig, PipelineSnapshot, Probe};
use rustix::time::{ClockId, clock_gettime};

use super::machine;

/// How often queues and memory are looked at.
const SAMPLE_EVERY: Duration = Duration::from_millis(25);
/// Samples that are kept: where there are as many, every second one goes, and from then on they come half as often.
const SAMPLES_MAX: usize = 4096;
/// How long a short run is, and the batches before it.
const MOMENT: Duration = Duration::from_millis(2500);
const MOMENT_WARM_UP_BATCHES: u64 = 6;

/// The pipeline at one moment.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    /// Since the start of the stream.
    pub(super) seconds: f64,
    pub(super) snapshot: PipelineSnapshot,
    pub(super) resident_bytes: Option<u64>,
}

/// CPU time in seconds, of the process and of those threads that are told apart.
#[derive(Debug, Clone, Copy)]
struct CpuTime {
    process: f64,
    consumer: f64,
    sampler: f64,
    machine: Option<f64>,
}

/// What lies between two moments of a run.
#[derive(Debug, Clone)]
pub(super) struct Measurement {
    pub(super) images: u64,
    pub(super) seconds: f64,
    /// CPU seconds of the whole process, without the thread that looked on.
    pub(super) cpu_s: f64,
    pub(super) consumer_cpu_s: f64,
    /// Cores that other processes kept busy, where the system tells.
    pub(super) others_cores: Option<f64>,
    pub(super) before: PipelineSnapshot,
    pub(super) after: PipelineSnapshot,
    /// Images a second of each epoch.
    pub(super) epoch_rates: Vec<f64>,
    /// When the warm-up ended and when each epoch did, since the start.
    pub(super) marks_s: Vec<f64>,
    pub(super) samples: Vec<Sample>,
}

/// How long a run is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Length {
    /// So many epochs after one that is not counted.
    Epochs(u64),
    /// A moment, after some batches that are not counted: enough to learn what an image costs.
    Moment,
}

/// A run that is going on.
struct Run {
    length: Length,
    started: Instant,
    /// The time of each mark, and the images taken until then.
    marks: Vec<(Instant, u64)>,
    epoch: u64,
    batches: u64,
    images: u64,
}

impl Run {
    /// Whether something that is measured begins or ends with this batch.
    fn is_mark(&self, batch: &PatchBatch) -> bool {
        match self.length {
            Length::Epochs(_) => batch.epoch() > self.epoch,
            Length::Moment => self.batches >= MOMENT_WARM_UP_BATCHES,
        }
    }

    fn is_done(&self) -> bool {
        match (self.length, &self.marks[..]) {
            (Length::Epochs(epochs), _) => self.marks.len() as u64 > epochs,
            (Length::Moment, [(begin, _), .., (now, _)]) => *now - *begin > MOMENT,
            (Length::Moment, _) => false,
        }
    }
}

/// Runs the pipeline and counts.
pub(super) fn run(
    dataset: &Arc<Dataset>,
    schedule: &Schedule,
    config: &PipelineConfig,
    length: Length,
) -> anyhow::Result<Measurement> {
    let endless = Schedule { start: Cursor::default(), end_epoch: None, ..schedule.clone() };
    let mut run = Run { length, started: Instant::now(), marks: Vec::new(), epoch: 0, batches: 0, images: 0 };
    let mut stream = PatchStream::start(Arc::clone(dataset), endless, config)?;
    let sampler = Sampler::start(stream.probe(), run.started)?;
    let mut begin = None;
    loop {
        let batch = stream.next().context("the pipeline ended although its plan does not")??;
        if run.is_mark(&batch) {
            run.marks.push((Instant::now(), run.images));
            let (before, cpu_before) = begin.get_or_insert_with(|| (stream.snapshot(), cpu_time(&sampler)));
            if run.is_done() {
                return Ok(finish(&run, before.clone(), *cpu_before, stream.snapshot(), sampler));
            }
        }
        run.epoch = batch.epoch();
        run.batches += 1;
        run.images += batch.rows() as u64;
    }
}

fn finish(
    run: &Run,
    before: PipelineSnapshot,
    cpu_before: CpuTime,
    after: PipelineSnapshot,
    sampler: Sampler,
) -> Measurement {
    let cpu_after = cpu_time(&sampler);
    let now = Instant::now();
    let (start, images_before) = run.marks[0];
    let seconds = (now - start).as_secs_f64();
    let process_s = cpu_after.process - cpu_before.process;
    let cpu_s = process_s - (cpu_after.sampler - cpu_before.sampler);
    let others = cpu_after.machine.zip(cpu_before.machine).map(|(after, before)| after - before - process_s);
    let rates = run.marks.windows(2).map(|pair| {
        let [(begin, images_before), (end, images)] = [pair[0], pair[1]];
        (images - images_before) as f64 / (end - begin).as_secs_f64()
    });
    Measurement {
        images: run.images - images_before,
        seconds,
        cpu_s,
        consumer_cpu_s: cpu_after.consumer - cpu_before.consumer,
        others_cores: others.map(|others| others.max(0.0) / seconds),
        before,
        after,
        epoch_rates: rates.collect(),
        marks_s: run.marks.iter().map(|(mark, _)| (*mark - run.started).as_secs_f64()).collect(),
        samples: sampler.stop(),
    }
}

/// A thread that looks at the pipeline at regular times.
struct Sampler {
    thread: Option<JoinHandle<Vec<Sample>>>,
    stop: Arc<AtomicBool>,
    cpu_ns: Arc<AtomicU64>,
}

impl Sampler {
    fn start(probe: Probe, started: Instant) -> anyhow::Result<Self> {
        let (stop, cpu_ns) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, used_ns) = (Arc::clone(&stop), Arc::clone(&cpu_ns));
        let look = move || {
            let (mut samples, mut pause) = (Vec::with_capacity(SAMPLES_MAX), SAMPLE_EVERY);
            while !stopped.load(Ordering::Relaxed) {
                let seconds = started.elapsed().as_secs_f64();
                samples.push(Sample { seconds, snapshot: probe.snapshot(), resident_bytes: machine::resident_bytes() });
                used_ns.store((1e9 * cpu_seconds(ClockId::ThreadCPUTime)) as u64, Ordering::Relaxed);
                if samples.len() == SAMPLES_MAX {
                    let mut is_kept = false;
                    samples.retain(|_| {
                        is_kept = !is_kept;
                        is_kept
                    });
                    pause *= 2;
                }
                std::thread::sleep(pause);
            }
            samples
        };
        let thread = std::thread::Builder::new().name("bench-sampler".to_owned()).spawn(look)?;
        Ok(Self { thread: Some(thread), stop, cpu_ns })
    }

    /// A panic of the thread is a defect of ours, and goes on here.
    fn stop(mut self) -> Vec<Sample> {
        self.stop.store(true, Ordering::Relaxed);
        let joined = self.thread.take().map(JoinHandle::join);
        joined.map(|samples| samples.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).unwrap_or_default()
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn cpu_time(sampler: &Sampler) -> CpuTime {
    CpuTime {
        process: cpu_seconds(ClockId::ProcessCPUTime),
        consumer: cpu_seconds(ClockId::ThreadCPUTime),
        sampler: sampler.cpu_ns.load(Ordering::Relaxed) as f64 / 1e9,
        machine: machine::busy_seconds(),
    }
}

/// User and system time so far.
fn cpu_seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
