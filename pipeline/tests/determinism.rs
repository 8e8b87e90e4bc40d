//! The same batches whatever the number of workers, ranks and restarts, however slow the disk.

use std::io::Cursor as Bytes;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier, LazyLock, mpsc};
use std::time::Duration;

use image::{ImageFormat, Rgb, RgbImage};
use patchstream_datasets::sources::FolderSource;
use patchstream_datasets::{
    ConvertOptions, Cursor, Dataset, Faults, LastBatch, Schedule, Share, Shuffle, convert, random::RandomStream,
};
use patchstream_pipeline::{BadSamples, Budget, Examiner, PatchBatch, PatchGrid, PatchStream, PipelineConfig};
use proptest::prelude::*;

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

/// Shards of small noisy images, a few a row group; every ninth image is cut off where that is wanted.
struct Shards {
    folder: tempfile::TempDir,
    rows: u64,
}

impl Shards {
    fn new(images: u64, with_bad: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let photos = folder.path().join("photos");
        fs_err::create_dir(&photos).unwrap();
        for number in 0..images {
            let mut noise = RandomStream::new(&[number]);
            let picture = RgbImage::from_fn(11, 9, |_, _| Rgb(noise.next_u64().to_le_bytes()[..3].try_into().unwrap()));
            let mut png = Bytes::new(Vec::new());
            picture.write_to(&mut png, ImageFormat::Png).unwrap();
            let mut png = png.into_inner();
            if with_bad && number % 9 == 4 {
                png.truncate(png.len() / 2);
            }
            fs_err::write(photos.join(format!("{number:03}.png")), png).unwrap();
        }
        let options = ConvertOptions { row_group_bytes: NonZeroU64::new(1500).unwrap(), ..ConvertOptions::default() };
        convert(
            &FolderSource::open(&photos).unwrap(),
            &folder.path().join("shards"),
            &options,
            &Examiner::default(),
            &|_| (),
        )
        .unwrap();
        Self { folder, rows: images }
    }

    fn location(&self) -> PathBuf {
        self.folder.path().join("shards")
    }

    fn open(&self) -> Arc<Dataset> {
        open(&self.location())
    }

    /// A copy of them that a test may damage.
    fn copy(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        for entry in fs_err::read_dir(self.location()).unwrap().map(Result::unwrap) {
            fs_err::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
        copy
    }
}

fn open(location: &Path) -> Arc<Dataset> {
    Arc::new(Dataset::open(location.to_str().unwrap()).unwrap())
}

fn open_with(location: &Path, faults: &str) -> Arc<Dataset> {
    let faults: Faults = faults.parse().unwrap();
    Arc::new(Dataset::open_with_faults(location.to_str().unwrap(), faults).unwrap())
}

static SHARDS: LazyLock<Vec<Shards>> = LazyLock::new(|| {
    vec![Shards::new(1, false), Shards::new(23, false), Shards::new(64, true), Shards::new(80, false)]
});

fn config(workers: usize) -> PipelineConfig {
    PipelineConfig {
        workers: NonZeroUsize::new(workers).unwrap(),
        bad_samples: BadSamples { budget: Budget { count: 0, fraction: 0.5 }, ledger: None },
        ..PipelineConfig::for_grid(PatchGrid::new(8, 8, 4).unwrap())
    }
}

fn schedule(batch_size: usize) -> Schedule {
    Schedule {
        seed: 1,
        shuffle: Shuffle::Window(NonZeroUsize::new(3).unwrap()),
        batch_size: NonZeroUsize::new(batch_size).unwrap(),
        share: Share::WHOLE,
        last_batch: LastBatch::Drop,
        start: Cursor::default(),
        end_epoch: Some(2),
    }
}

fn share(rank: usize, world: usize) -> Share {
    Share { rank, world: NonZeroUsize::new(world).unwrap() }
}

fn collect(dataset: &Arc<Dataset>, schedule: &Schedule, config: &PipelineConfig) -> Vec<PatchBatch> {
    PatchStream::start(Arc::clone(dataset), schedule.clone(), config).unwrap().map(Result::unwrap).collect()
}

/// A row of a batch, with all that is in it.
type Row = (u64, Option<i64>, Vec<u8>, Vec<u16>, Vec<u8>, Vec<u16>);

fn rows(batch: &PatchBatch) -> impl Iterator<Item = Row> + '_ {
    let part = |of: usize, row: usize| of / batch.rows() * row..of / batch.rows() * (row + 1);
    (0..batch.rows()).map(move |row| {
        (
            batch.sample_ids()[row],
            batch.label(row),
            batch.visible()[part(batch.visible().len(), row)].to_vec(),
            batch.visible_index()[part(batch.visible_index().len(), row)].to_vec(),
            batch.masked()[part(batch.masked().len(), row)].to_vec(),
            batch.masked_index()[part(batch.masked_index().len(), row)].to_vec(),
        )
    })
}

/// The rows of all global batches, each with its batch.
fn placed(batches: &[PatchBatch]) -> Vec<(Cursor, Row)> {
    let cursor = |batch: &PatchBatch| Cursor { epoch: batch.epoch(), batch: batch.batch() };
    batches.iter().flat_map(|batch| rows(batch).map(move |row| (cursor(batch), row))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn workers_ranks_and_restarts_change_nothing(
        which in 0_usize..4,
        size in 1_usize..20,
        world in 1_usize..9,
        workers in 2_usize..5,
        window in 0_usize..7,
        seed: u64,
        keep: bool,
        start in (0_u64..2, 0_u64..12),
        read_ahead in prop::sample::select(vec![1_usize, 4000, 1 << 20]),
        queue in 1_usize..4,
    ) {
        let shards = &SHARDS[which];
        let batch_size = size.max(world);
        prop_assume!(keep || batch_size as u64 <= shards.rows);
        let batches_in_epoch = if keep { shards.rows.div_ceil(batch_size as u64) } else { shards.rows / batch_size as u64 };
        let start = Cursor { epoch: start.0, batch: start.1.min(batches_in_epoch) };
        let whole = Schedule {
            seed,
            shuffle: NonZeroUsize::new(window).map_or(Shuffle::Sequential, Shuffle::Window),
            last_batch: if keep { LastBatch::Keep } else { LastBatch::Drop },
            ..schedule(batch_size)
        };
        let (one, many) = within_deadline(move || {
            let dataset = shards.open();
            let one = placed(&collect(&dataset, &whole, &config(1)));
            let many: Vec<_> = (0..world)
                .map(|rank| {
                    let config = PipelineConfig {
                        read_ahead_bytes: NonZeroUsize::new(read_ahead).unwrap(),
                        queue_batches: NonZeroUsize::new(queue).unwrap(),
                        ..config(workers)
                    };
                    let part = Schedule { share: share(rank, world), start, ..whole.clone() };
                    collect(&dataset, &part, &config)
                })
                .collect();
            (one, many)
        });
        let full_epochs = 2 - start.epoch;
        for part in &many {
            let sizes: Vec<usize> = part.iter().map(PatchBatch::rows).collect();
            let expected = full_epochs * batches_in_epoch - start.batch;
            // No rank goes without rows before the last batch, and if that is dropped when it is not full, never.
            prop_assert!(sizes.iter().all(|&rows| rows > 0 && rows <= batch_size.div_ceil(world)), "{:?}", sizes);
            let missing = expected - sizes.len() as u64;
            prop_assert!(missing == 0 || keep && missing <= full_epochs, "{} of {}", sizes.len(), expected);
        }
        // Ranks take places of a global batch in order, so a stable sort by batch puts them together again.
        let mut union: Vec<_> = many.iter().flat_map(|part| placed(part)).collect();
        union.sort_by_key(|(cursor, _)| *cursor);
        let expected: Vec<_> = one.into_iter().filter(|(cursor, _)| *cursor >= start).collect();
        prop_assert!(union == expected, "{} rows, expected {}", union.len(), expected.len());
    }
}

/// Several crops of an image that is decoded once are those that decoding it for each would give.
#[test]
fn repeats_show_other_crops_of_the_same_samples_and_the_first_is_as_without() {
    within_deadline(|| {
        let dataset = SHARDS[2].open();
        let repeats = NonZeroUsize::new(3).unwrap();
        let once = collect(&dataset, &schedule(7), &config(2));
        let expected = collect(&dataset, &schedule(7), &PipelineConfig { repeats, ..config(1) });
        assert!(expected == collect(&dataset, &schedule(7), &PipelineConfig { repeats, ..config(4) }));
        let mut different = 0;
        for (one, three) in once.iter().zip(&expected) {
            assert_eq!((three.epoch(), three.batch(), three.rows()), (one.epoch(), one.batch(), 3 * one.rows()));
            let all: Vec<Row> = rows(three).collect();
            for (first, group) in rows(one).zip(all.chunks(3)) {
                assert!(group[0] == first, "the first repeat is the row that there is without repeats");
                assert!(group.iter().all(|row| row.0 == first.0 && row.1 == first.1), "all show the same sample");
                different += usize::from(group[1].2 != first.2 && group[2].2 != group[1].2);
            }
        }
        assert!(different * 10 > 9 * once.iter().map(PatchBatch::rows).sum::<usize>(), "{different} differ");
    });
}

/// What training on several devices does: every rank waits for all others after each batch. Were one to get fewer batches,
/// the others would wait for ever.
#[test]
fn eight_ranks_that_wait_for_each_other_come_to_the_end_of_every_epoch() {
    const WORLD: usize = 8;
    within_deadline(|| {
        let barrier = Arc::new(Barrier::new(WORLD));
        let ranks: Vec<_> = (0..WORLD)
            .map(|rank| {
                let (dataset, barrier) = (SHARDS[3].open(), Arc::clone(&barrier));
                std::thread::spawn(move || {
                    let schedule = Schedule { share: share(rank, WORLD), end_epoch: Some(3), ..schedule(11) };
                    let stream = PatchStream::start(dataset, schedule, &config(1)).unwrap();
                    stream.map(|batch| (batch.unwrap().rows(), barrier.wait()).0).collect::<Vec<_>>()
                })
            })
            .collect();
        let sizes: Vec<Vec<usize>> = ranks.into_iter().map(|rank| rank.join().unwrap()).collect();
        for batch in 0..3 * (80 / 11) {
            assert_eq!(sizes.iter().map(|sizes| sizes[batch]).sum::<usize>(), 11);
        }
    });
}

#[test]
fn a_slow_disk_that_fails_now_and_then_costs_time_alone_and_the_counters_say_where() {
    within_deadline(|| {
        let expected = collect(&SHARDS[3].open(), &schedule(8), &config(2));
        let dataset = open_with(&SHARDS[3].location(), "slow=30ms@0.5,fail@0.1");
        let config = PipelineConfig { read_ahead_bytes: NonZeroUsize::MIN, ..config(2) };
        let mut stream = PatchStream::start(dataset, schedule(8), &config).unwrap();
        let batches: Vec<_> = stream.by_ref().map(Result::unwrap).collect();
        assert!(batches == expected);
        let snapshot = stream.snapshot();
        let read = snapshot.read.unwrap();
        assert!(read.retries > 0, "{read:?}");
        // Whoever comes after the disk waits for it: the dispatcher for row groups, both workers for rows.
        let waited_ms = read.consumer_wait_ns / 1_000_000;
        assert!(waited_ms > 100 && snapshot.queues[0].take_wait_ns / 1_000_000 > waited_ms, "{snapshot:?}");
        assert_eq!(snapshot.queues[1].put_wait_ns / 1_000_000_000, 0, "nobody waits for the consumer");
    });
}

#[test]
fn a_disk_that_fails_for_good_is_an_error_and_no_bad_sample() {
    let folder = SHARDS[1].copy();
    within_deadline(move || {
        let dataset = open(folder.path());
        fs_err::remove_file(folder.path().join("train-00000.parquet")).unwrap();
        let mut stream = PatchStream::start(dataset, schedule(4), &config(2)).unwrap();
        let error = stream.next().unwrap().unwrap_err();
        assert!(error.to_string().contains("is missing"), "{error}");
        assert!(stream.next().is_none());
        assert_eq!(stream.snapshot().quarantined, 0);
    });
}

#[test]
fn a_closed_consumer_does_not_wait_for_what_is_queued() {
    for batches_taken in [0, 1, 5] {
        within_deadline(move || {
            let endless = Schedule { end_epoch: None, ..schedule(8) };
            let mut stream = PatchStream::start(SHARDS[3].open(), endless, &config(3)).unwrap();
            for _ in 0..batches_taken {
                stream.next().unwrap().unwrap();
            }
        });
    }
}

#[test]
fn a_closed_consumer_does_not_wait_for_a_disk_that_never_answers() {
    let folder = SHARDS[3].copy();
    let shard = folder.path().join("train-00000.parquet");
    fs_err::remove_file(&shard).unwrap();
    // Opening a pipe to which nobody writes waits for ever, as a dead network disk does.
    assert!(std::process::Command::new("mkfifo").arg(&shard).status().unwrap().success());
    let dataset = open(folder.path());
    within_deadline(move || {
        let stream = PatchStream::start(dataset, schedule(8), &config(2)).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        drop(stream);
    });
}
