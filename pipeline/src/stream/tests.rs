//! The stream on scripted rows: order, determinism, and every way to end.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc;
use std::time::Duration;

use super::source::{EncodedImage, PlacedRow};
use super::*;
use crate::geometry::PatchGrid;
use crate::quarantine::Budget;
use crate::{BadSamples, PipelineError};

const ROWS: u64 = 24;
const BATCH: u64 = 6;
const BATCHES_IN_EPOCH: u64 = ROWS / BATCH;

/// An image of a made-up data set, in which some misbehave.
#[derive(Clone)]
struct TestImage {
    sample_id: u64,
    bytes: Arc<Vec<u8>>,
    panics: bool,
    delay: Duration,
}

impl EncodedImage for TestImage {
    fn sample_id(&self) -> u64 {
        self.sample_id
    }

    fn bytes(&self) -> &[u8] {
        // The dispatcher asks for the bytes as well; only a worker shall panic.
        let in_worker = std::thread::current().name().is_some_and(|name| name.starts_with("patch-worker"));
        if in_worker {
            std::thread::sleep(self.delay);
            assert!(!self.panics, "a scripted panic");
        }
        &self.bytes
    }

    fn segments(&self) -> Option<&[u32]> {
        None
    }

    fn path(&self) -> &'static str {
        "made/up.jpg"
    }

    fn label(&self) -> Option<i64> {
        (!self.sample_id.is_multiple_of(3)).then_some(self.sample_id as i64)
    }

    fn check(&self) -> Result<(), PipelineError> {
        Ok(())
    }
}

/// Rows 0 to `ROWS` of `images` in order, epoch after epoch, from a batch on.
#[derive(Clone)]
struct Script {
    images: Arc<Vec<TestImage>>,
    position: u64,
    end: u64,
    /// Fails, or panics, at this position.
    fails_at: Option<u64>,
    panics_at: Option<u64>,
    /// How many rows were taken, by whomever.
    taken: Arc<AtomicU64>,
}

impl Script {
    fn new(images: Vec<TestImage>, epochs: u64) -> Self {
        let end = epochs * ROWS;
        Self { images: Arc::new(images), position: 0, end, fails_at: None, panics_at: None, taken: Arc::default() }
    }

    fn starting_at(mut self, batch: u64) -> Self {
        self.position = batch * BATCH;
        self
    }
}

impl Iterator for Script {
    type Item = Result<PlacedRow<TestImage>, PipelineError>;

    fn next(&mut self) -> Option<Self::Item> {
        let position = self.position;
        self.position += 1;
        assert_ne!(Some(position), self.panics_at, "a scripted panic");
        if Some(position) == self.fails_at {
            return Some(Err(PipelineError::UnknownFormat { first_bytes: vec![1] }));
        }
        self.taken.fetch_add(1, Ordering::Relaxed);
        let place = (position % BATCH) as usize;
        let row = PlacedRow {
            epoch: position / ROWS,
            batch: position % ROWS / BATCH,
            place,
            global_place: place,
            rows_in_batch: BATCH as usize,
            row: self.images[(position % ROWS) as usize].clone(),
        };
        (position < self.end).then_some(Ok(row))
    }
}

impl RowSource for Script {
    type Row = TestImage;
}

impl Replacements<TestImage> for Script {
    fn candidate(&self, _: u64, batch: u64, place: usize, attempt: u64) -> Result<TestImage, PipelineError> {
        Ok(self.images[(((batch + 1) * BATCH + place as u64 + attempt) % ROWS) as usize].clone())
    }
}

/// The photographs again and again, as `ROWS` samples.
fn images() -> Vec<TestImage> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data");
    let names = [
        "photos/space/rocket.jpg",
        "photos/objects/coffee.jpg",
        "odd/tiny_9x7.jpg",
        "odd/rgba.png",
        "photos/animals/chelsea.jpg",
    ];
    let files: Vec<_> = names.iter().map(|name| Arc::new(fs_err::read(root.join(name)).unwrap())).collect();
    (0..ROWS)
        .map(|sample_id| TestImage {
            sample_id,
            bytes: Arc::clone(&files[sample_id as usize % files.len()]),
            panics: false,
            delay: Duration::ZERO,
        })
        .collect()
}

fn config(workers: usize) -> PipelineConfig {
    PipelineConfig {
        workers: NonZeroUsize::new(workers).unwrap(),
        queue_batches: NonZeroUsize::MIN,
        bad_samples: BadSamples { budget: Budget { count: 3, fraction: 0.0 }, ledger: None },
        ..PipelineConfig::for_grid(PatchGrid::new(64, 96, 16).unwrap())
    }
}

fn start(script: &Script, config: &PipelineConfig) -> PatchStream {
    config.validate().unwrap();
    PatchStream::run(script.clone(), script, ROWS, 5, config).unwrap()
}

/// Fails when `body` takes longer than anything here should, instead of hanging.
fn within_deadline<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, wait) = mpsc::channel();
    let thread = std::thread::spawn(move || done.send(body()));
    match wait.recv_timeout(Duration::from_mins(1)) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("not done within the deadline"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(thread.join().expect_err("the body panicked"))
        }
    }
}

fn collect(stream: &mut PatchStream) -> Vec<PatchBatch> {
    stream.map(Result::unwrap).collect()
}

#[test]
fn batches_are_the_same_for_any_number_of_workers_and_any_start() {
    within_deadline(|| {
        // Images that take their time make workers finish out of turn.
        let mut slow = images();
        slow.iter_mut().step_by(5).for_each(|image| image.delay = Duration::from_millis(20));
        let script = Script::new(slow, 2);
        let expected = collect(&mut start(&script, &config(1)));
        assert_eq!(expected.len() as u64, 2 * BATCHES_IN_EPOCH);
        assert_ne!(
            expected[0].visible(),
            expected[BATCHES_IN_EPOCH as usize].visible(),
            "another epoch shows other crops"
        );
        for workers in [2, 5] {
            let batches = collect(&mut start(&script, &config(workers)));
            assert!(batches == expected, "{workers} workers");
        }
        for first in [1, 3, 5] {
            let batches = collect(&mut start(&script.clone().starting_at(first), &config(2)));
            assert!(batches == expected[first as usize..], "from batch {first} on");
        }
    });
}

#[test]
fn a_consumer_that_keeps_all_batches_does_not_lock_up() {
    within_deadline(|| {
        let batches: Vec<_> = start(&Script::new(images(), 3), &config(2)).collect();
        assert_eq!(batches.len() as u64, 3 * BATCHES_IN_EPOCH);
    });
}

#[test]
fn the_pipeline_runs_ahead_by_its_queue_and_no_further() {
    within_deadline(|| {
        let script = Script::new(images(), 1000);
        let mut stream = start(&script, &config(2));
        for _ in 0..3 {
            stream.next().unwrap().unwrap();
        }
        let settled = || {
            let mut before = u64::MAX;
            loop {
                let now = script.taken.load(Ordering::Relaxed);
                if now == before {
                    return now;
                }
                before = now;
                std::thread::sleep(Duration::from_millis(200));
            }
        };
        // Three delivered, two with permits (queue_batches 1, and the one being filled), and the first row of the
        // next, for which the dispatcher waits with a permit.
        assert_eq!(settled(), (3 + 2) * BATCH + 1);
        let snapshot = stream.snapshot();
        assert_eq!(snapshot.images, 5 * BATCH);
        assert_eq!(snapshot.queues[1].items, 2);
        assert!(snapshot.queues[1].bytes > 0 && snapshot.queues[0].items == 0);
        assert!(snapshot.stages.iter().all(|stage| stage.count > 0 && stage.cpu_ns > 0), "{:?}", snapshot.stages);
        serde_json::to_string(&snapshot).unwrap();
    });
}

#[test]
fn dropping_the_stream_early_ends_all_threads() {
    within_deadline(|| {
        let script = Script::new(images(), u64::MAX / ROWS);
        let mut stream = start(&script, &config(3));
        stream.next().unwrap().unwrap();
        drop(stream);
        // Threads own clones of the script; only this one is left when all of them have ended.
        assert_eq!(Arc::strong_count(&script.taken), 1);
        drop(start(&script, &config(2)));
        assert_eq!(Arc::strong_count(&script.taken), 1);
    });
}

#[test]
fn a_panic_in_a_worker_is_an_error_after_the_batches_before_it() {
    for workers in [1, 3] {
        within_deadline(move || {
            let mut images = images();
            images[BATCH as usize * 2 + 1].panics = true;
            let mut stream = start(&Script::new(images, 2), &config(workers));
            stream.next().unwrap().unwrap();
            stream.next().unwrap().unwrap();
            let error = stream.next().unwrap().unwrap_err();
            assert_eq!(error.to_string(), "a pipeline thread panicked: a scripted panic");
            assert!(stream.next().is_none());
        });
    }
}

#[test]
fn a_panic_or_an_error_of_the_source_comes_after_the_batches_before_it() {
    for (fails_at, panics_at) in
        [(Some(BATCH), None), (Some(BATCH + 2), None), (None, Some(BATCH)), (None, Some(BATCH + 2))]
    {
        within_deadline(move || {
            let script = Script { fails_at, panics_at, ..Script::new(images(), 1) };
            let mut stream = start(&script, &config(2));
            stream.next().unwrap().unwrap();
            let error = stream.next().unwrap().unwrap_err();
            assert_eq!(matches!(error, PipelineError::Panicked { .. }), panics_at.is_some(), "{error}");
            assert!(stream.next().is_none());
        });
    }
}

#[test]
fn bad_samples_are_replaced_in_the_same_way_by_any_number_of_workers() {
    within_deadline(|| {
        let directory = tempfile::tempdir().unwrap();
        let mut images = images();
        for sample in [3, 9] {
            images[sample].bytes = Arc::new(b"no image".to_vec());
        }
        let script = Script::new(images, 2);
        let batches = [1, 4].map(|workers| {
            let mut config = config(workers);
            config.bad_samples.ledger = Some(directory.path().join(format!("bad-{workers}.jsonl")));
            let mut stream = start(&script, &config);
            let batches = collect(&mut stream);
            let snapshot = stream.snapshot();
            assert_eq!((snapshot.quarantined, snapshot.replaced), (2, 4));
            let ledger = fs_err::read_to_string(config.bad_samples.ledger.unwrap()).unwrap();
            assert_eq!(ledger.lines().count(), 2);
            batches
        });
        // Sample 3 is replaced by 9, its place in the next batch; that is bad too, so 10 follows, under its own id.
        assert_eq!(batches[0][0].sample_ids(), [0, 1, 2, 10, 4, 5]);
        assert_eq!(batches[0][0].label(3), Some(10));
        assert_eq!(batches[0][1].sample_ids(), [6, 7, 8, 15, 10, 11]);
        assert!(batches[0] == batches[1]);
    });
}

#[test]
fn beyond_the_budget_the_run_ends_even_when_everything_is_bad() {
    for budget in [Budget { count: 3, fraction: 0.0 }, Budget { count: 1000, fraction: 1.0 }] {
        within_deadline(move || {
            let mut images = images();
            for image in &mut images {
                image.bytes = Arc::default();
            }
            let mut config = config(2);
            config.bad_samples.budget = budget;
            let mut stream = start(&Script::new(images, 1), &config);
            let error = stream.next().unwrap().unwrap_err();
            assert!(matches!(error, PipelineError::BudgetExceeded { .. }), "{error}");
            assert!(stream.next().is_none());
        });
    }
}

/// Photographs, so JPEG: the region that several crops need is larger than that of one.
#[test]
fn a_crop_is_the_same_when_others_of_its_image_are_made_with_it() {
    within_deadline(|| {
        let script = Script::new(images(), 1);
        let repeats = NonZeroUsize::new(4).unwrap();
        let alone = collect(&mut start(&script, &config(2)));
        let together = collect(&mut start(&script, &PipelineConfig { repeats, ..config(2) }));
        for (alone, together) in alone.iter().zip(&together) {
            let row_bytes = alone.visible().len() / alone.rows();
            for (row, expected) in alone.visible().chunks(row_bytes).enumerate() {
                assert_eq!(together.sample_ids()[row * 4..][..4], [alone.sample_ids()[row]; 4]);
                assert!(&together.visible()[row * 4 * row_bytes..][..row_bytes] == expected, "row {row}");
            }
        }
    });
}

/// Images that are made to harm whoever decodes them: sizes that no memory holds, ends that never come.
#[test]
fn poisoned_images_are_replaced_like_any_bad_sample() {
    within_deadline(|| {
        let photo = images()[0].bytes.clone();
        let frame = photo.windows(2).position(|marker| marker == [0xFF, 0xC0] || marker == [0xFF, 0xC2]).unwrap();
        let mut huge = photo.to_vec();
        huge[frame + 5..frame + 9].copy_from_slice(&[0xFF, 0xFF, 0xFF, 0xFF]);
        let mut empty = photo.to_vec();
        empty[frame + 5..frame + 9].fill(0);
        let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        png.extend([0, 0, 0xFF, 0xFF, 0, 0, 0xFF, 0xFF, 8, 2, 0, 0, 0]);
        let endless_markers = [vec![0xFF, 0xD8], vec![0xFF; 70_000]].concat();
        let poison = [huge, empty, png, endless_markers, photo[..photo.len() / 2].to_vec(), photo[..3].to_vec()];
        let mut images = images();
        let count = poison.len();
        for (image, poison) in images.iter_mut().skip(5).zip(poison) {
            image.bytes = Arc::new(poison);
        }
        let script = Script::new(images, 1);
        let batches = [1, 3].map(|workers| {
            let mut config = config(workers);
            config.bad_samples.budget = Budget { count: count as u64, fraction: 0.0 };
            let mut stream = start(&script, &config);
            let batches = collect(&mut stream);
            let snapshot = stream.snapshot();
            assert_eq!((snapshot.quarantined, snapshot.replaced), (count as u64, count as u64));
            batches
        });
        assert!(batches[0] == batches[1]);
    });
}

#[test]
fn configurations_that_cannot_work_are_refused() {
    let refused = |change: fn(&mut PipelineConfig)| {
        let mut config = config(1);
        change(&mut config);
        config.validate().unwrap_err().to_string()
    };
    let check = |got: &str, expected: &str| assert_eq!(got, expected);
    check(
        &refused(|c| c.grid.width_px = 100),
        "grid: expected a height and width that are multiples of the patch, got 64 x 100 pixels in patches of 16",
    );
    check(&refused(|c| c.masking.ratio = 1.0), "masking.ratio: expected at least 0 and below 1, got 1");
    check(&refused(|c| c.repeats = NonZeroUsize::new(65).unwrap()), "repeats: expected 1 to 64, got 65");
    check(
        &refused(|c| c.bad_samples.budget.fraction = f64::NAN),
        "bad_samples.budget.fraction: expected 0 to 1, got NaN",
    );
    check(
        &refused(|c| c.transform = crate::Transform::Evaluate(crate::EvaluateTransform { resize_px: 90 })),
        "transform.resize_px: expected 96 to 65536, got 90",
    );
}
