use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::plan::{Cursor, EpochPlan, LastBatch, Share, Shuffle, WindowOrder};
use crate::sources::{FolderSource, ImageSource as _};
use crate::testing::{dataset, open};

fn schedule(batch_size: usize) -> Schedule {
    Schedule {
        seed: 5,
        shuffle: Shuffle::Window(NonZeroUsize::new(3).unwrap()),
        batch_size: NonZeroUsize::new(batch_size).unwrap(),
        share: Share { rank: 0, world: NonZeroUsize::MIN },
        last_batch: LastBatch::Drop,
        start: Cursor::default(),
        end_epoch: Some(2),
    }
}

fn stream(dataset: &Arc<Dataset>, schedule: &Schedule, read_ahead_bytes: usize) -> RowStream {
    RowStream::open(dataset.clone(), schedule, NonZeroUsize::new(read_ahead_bytes).unwrap()).unwrap()
}

/// Epoch, batch, place in the global batch and sample of every row.
fn rows(stream: RowStream) -> Vec<(u64, u64, usize, u64)> {
    let row = |row: PlannedRow| (row.epoch, row.batch, row.global_place, row.row.sample_id());
    stream.map(|planned| row(planned.unwrap())).collect()
}

#[test]
fn rows_come_in_plan_order_whatever_the_read_ahead() {
    let (_parent, dataset) = dataset(60);
    let schedule = schedule(7);
    let mut expected = Vec::new();
    for epoch in 0..2 {
        let plan = EpochPlan::new(dataset.manifest(), schedule.seed, epoch, schedule.shuffle);
        for position in 0..56 {
            let (group, row) = plan.window(plan.window_of(position)).row_at(position);
            let sample_id = dataset.manifest().row_groups()[group].first_sample_id + u64::from(row);
            expected.push((epoch, position / 7, (position % 7) as usize, sample_id));
        }
    }
    // One byte is less than any row group: each passes alone.
    for read_ahead_bytes in [1, 5000, 1 << 30] {
        assert_eq!(rows(stream(&dataset, &schedule, read_ahead_bytes)), expected);
    }
    let start = Cursor { epoch: 1, batch: 3 };
    let resumed = rows(stream(&dataset, &Schedule { start, ..schedule }, 5000));
    assert_eq!(
        resumed,
        expected.into_iter().filter(|&(epoch, batch, ..)| (epoch, batch) >= (1, 3)).collect::<Vec<_>>()
    );
}

#[test]
fn ranks_share_the_rows_and_read_only_what_they_need() {
    let (_parent, dataset) = dataset(60);
    let whole =
        Schedule { shuffle: Shuffle::Sequential, last_batch: LastBatch::Keep, end_epoch: Some(1), ..schedule(40) };
    let all = rows(stream(&dataset, &whole, 1 << 30));
    assert_eq!(all.iter().map(|row| row.3).collect::<Vec<_>>(), (0..60).collect::<Vec<_>>());
    let mut shared = Vec::new();
    for rank in 0..3 {
        let share = Share { rank, world: NonZeroUsize::new(3).unwrap() };
        let mut part = stream(&dataset, &Schedule { share, ..whole.clone() }, 1 << 30);
        let stats = part.stats();
        let part: Vec<_> = part.by_ref().map(Result::unwrap).collect();
        assert!(part.iter().all(|row| row.place < row.rows_in_batch));
        assert!(stats.snapshot().groups < dataset.manifest().row_groups().len() as u64);
        shared.extend(part.into_iter().map(|row| row.row.sample_id()));
    }
    shared.sort_unstable();
    assert_eq!(shared, (0..60).collect::<Vec<_>>());
}

#[test]
fn window_and_read_ahead_keep_within_their_bound() {
    let (_parent, dataset) = dataset(60);
    let mut lengths: Vec<u64> = dataset.manifest().row_groups().iter().map(|entry| entry.length).collect();
    lengths.sort_unstable();
    let window_max: u64 = lengths.iter().rev().take(3).sum();
    for read_ahead_bytes in [1, 2 * lengths[0], 2 * window_max] {
        let schedule = Schedule { end_epoch: None, ..schedule(7) };
        let mut rows = stream(&dataset, &schedule, read_ahead_bytes as usize);
        let stats = rows.stats();
        for _ in 0..200 {
            rows.next().unwrap().unwrap();
            let snapshot = stats.snapshot();
            assert!(snapshot.ahead_bytes + snapshot.window_bytes <= window_max + read_ahead_bytes, "{snapshot:?}");
        }
        let snapshot = stats.snapshot();
        assert!(snapshot.consumer_wait_ns > 0 && snapshot.bytes > 0 && snapshot.window_bytes > 0, "{snapshot:?}");
        // Dropping a stream that would go on for ever must not hang.
        drop(rows);
    }
}

#[test]
fn the_next_window_is_there_before_the_current_one_ends_however_little_is_read_ahead() {
    let (_parent, dataset) = dataset(60);
    let mut rows = stream(&dataset, &schedule(7), 1);
    let plan = EpochPlan::new(dataset.manifest(), 5, 0, schedule(7).shuffle);
    let (window, next) = (plan.window(0), plan.window(1));
    for _ in 0..window.rows.len() - 1 {
        rows.next().unwrap().unwrap();
    }
    let bytes_of = |order: &WindowOrder| -> u64 {
        order.groups.iter().map(|&group| dataset.manifest().row_groups()[group as usize].length).sum()
    };
    // One image of the old window is left; the rest of its room holds the new one, save what the largest window of all
    // leaves over or one row group lacks.
    let wanted = bytes_of(&next).min(bytes_of(&window)) / 2;
    let deadline = Instant::now() + Duration::from_secs(20);
    while rows.stats().snapshot().ahead_bytes < wanted {
        assert!(Instant::now() < deadline, "{:?}, expected {wanted} bytes ahead", rows.stats().snapshot());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(rows.next().unwrap().unwrap().row.sample_id(), {
        let (group, row) = window.row_at(window.positions.end - 1);
        dataset.manifest().row_groups()[group].first_sample_id + u64::from(row)
    });
}

#[test]
fn rows_that_were_copied_together_are_still_theirs() {
    let (_parent, dataset) = dataset(60);
    for rank in 0..2 {
        let share = Share { rank, world: NonZeroUsize::new(2).unwrap() };
        for planned in stream(&dataset, &Schedule { share, ..schedule(7) }, 1) {
            let row = planned.unwrap().row;
            let (group, at) = dataset.manifest().locate(row.sample_id()).unwrap();
            let original = dataset.read_group(group).unwrap().row(at).unwrap();
            assert_eq!(
                (row.bytes(), row.path(), row.label()),
                (original.bytes(), original.path(), original.label()),
                "sample {}",
                row.sample_id()
            );
        }
    }
}

#[test]
fn a_source_is_served_like_shards() {
    let folder = crate::testing::source(60);
    let source = Box::new(FolderSource::open(folder.path()).unwrap());
    let expected: Vec<(String, Option<i64>, Vec<u8>)> = (0..60)
        .map(|image| {
            let mut bytes = Vec::new();
            source.read(image, &mut bytes).unwrap();
            (source.path(image), source.label(image), bytes)
        })
        .collect();
    let dataset = Arc::new(Dataset::of_source(source, Some("fail@0.2".parse().unwrap())).unwrap());
    assert_eq!((dataset.manifest().rows(), dataset.manifest().class_names().len()), (60, 3));
    let schedule = Schedule { last_batch: LastBatch::Keep, ..schedule(7) };
    let mut seen = Vec::new();
    for planned in stream(&dataset, &schedule, 1).filter(|planned| planned.as_ref().unwrap().epoch == 1) {
        let row = planned.unwrap().row;
        let sample = row.sample_id() as usize;
        assert_eq!((row.path().to_owned(), row.label(), row.bytes().to_vec()), expected[sample]);
        seen.push(sample);
    }
    assert!(!seen.is_sorted());
    seen.sort_unstable();
    assert_eq!(seen, (0..60).collect::<Vec<_>>());
}

#[test]
fn reads_that_are_slow_or_fail_now_and_then_change_nothing_but_the_time() {
    let (parent, dataset) = dataset(60);
    let expected = rows(stream(&dataset, &schedule(7), 1 << 30));
    let location = parent.path().join("set");
    let faulty = |faults: &str| Dataset::open_with_faults(location.to_str().unwrap(), faults.parse().unwrap());
    let dataset = Arc::new(faulty("slow=20ms@0.3,fail@0.2").unwrap());
    let mut stream_of_rows = stream(&dataset, &schedule(7), 1 << 30);
    let stats = stream_of_rows.stats();
    let row = |row: PlannedRow| (row.epoch, row.batch, row.global_place, row.row.sample_id());
    assert_eq!(stream_of_rows.by_ref().map(|planned| row(planned.unwrap())).collect::<Vec<_>>(), expected);
    assert!(stats.snapshot().retries > 0 && stats.snapshot().consumer_wait_ns > 20_000_000, "{:?}", stats.snapshot());
    let error = faulty("fail").unwrap_err().to_string();
    assert!(error.contains("manifest.parquet") && error.contains("4 attempts"), "{error}");
}

#[test]
fn a_disk_that_never_answers_ends_with_the_stream() {
    let (parent, _) = dataset(60);
    let shard = parent.path().join("set/train-00000.parquet");
    fs_err::remove_file(&shard).unwrap();
    // Opening a pipe to which nobody writes waits for ever, as a dead network disk does.
    assert!(std::process::Command::new("mkfifo").arg(&shard).status().unwrap().success());
    let (done, wait) = std::sync::mpsc::channel();
    let dataset = open(&parent.path().join("set"));
    std::thread::spawn(move || {
        let mut rows = stream(&dataset, &schedule(60), 1 << 20);
        let (stopper, replacer) = (rows.stopper(), rows.replacer());
        let replacement = std::thread::spawn(move || replacer.candidate(0, 0, 0, 0).map(|row| row.sample_id()));
        let stopping = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            stopper.stop();
        });
        assert!(rows.next().unwrap().is_err());
        assert!(replacement.join().unwrap().is_err());
        stopping.join().unwrap();
        drop(rows);
        drop(dataset);
        done.send(()).unwrap();
    });
    wait.recv_timeout(Duration::from_secs(20)).expect("all of this ends within the deadline");
}

#[test]
fn replacements_follow_the_batch_and_wrap_round() {
    let (_parent, dataset) = dataset(60);
    let schedule = schedule(7);
    let order = rows(stream(&dataset, &Schedule { last_batch: LastBatch::Keep, ..schedule.clone() }, 1 << 30));
    let stream = stream(&dataset, &schedule, 1 << 30);
    let replacer = stream.replacer();
    drop(stream);
    for (batch, place, attempt, position) in [(0, 0, 0, 7), (2, 3, 4, 28), (7, 6, 0, 2)] {
        let row = replacer.clone().candidate(1, batch, place, attempt).unwrap();
        assert_eq!(row.sample_id(), order[60 + position].3);
    }
}

#[test]
fn damaged_shards_are_named() {
    fn shard(parent: &tempfile::TempDir) -> PathBuf {
        parent.path().join("set/train-00000.parquet")
    }
    let check = |damage: fn(&PathBuf), message: &str| {
        let (parent, _) = dataset(60);
        damage(&shard(&parent));
        let dataset = open(&parent.path().join("set"));
        let error = stream(&dataset, &schedule(60), 1 << 20).find_map(Result::err).unwrap();
        assert!(error.to_string().contains("train-00000.parquet"), "{error}");
        assert!(error.to_string().contains(message) && error.hint().is_some(), "{error}");
    };
    check(|shard| fs_err::remove_file(shard).unwrap(), "is missing");
    check(|shard| fs_err::write(shard, b"PAR1").unwrap(), "is truncated: expected at least");
    check(
        |shard| {
            let mut bytes = fs_err::read(shard).unwrap();
            bytes.pop();
            fs_err::write(shard, bytes).unwrap();
        },
        "does not end like a Parquet file",
    );
    check(
        |shard| {
            let mut bytes = fs_err::read(shard).unwrap();
            bytes[1000] ^= 0x40;
            fs_err::write(shard, bytes).unwrap();
        },
        "expected XXH3-64",
    );
}

#[test]
fn images_are_views_into_the_bytes_that_were_fetched() {
    let (_parent, dataset) = dataset(60);
    let group = dataset.read_group(0).unwrap();
    let entry = &dataset.manifest().row_groups()[0];
    let addresses: Vec<usize> =
        (0..group.rows()).map(|row| group.row(row).unwrap().bytes().as_ptr() as usize).collect();
    // Behind each other, four bytes of length between them, as on the disk: nothing was copied together.
    for (row, pair) in addresses.windows(2).enumerate() {
        assert_eq!(pair[1] - pair[0], group.row(row as u32).unwrap().bytes().len() + 4);
    }
    assert!((addresses[addresses.len() - 1] - addresses[0]) as u64 <= entry.length);
}

#[test]
fn rows_of_a_shard_that_becomes_shorter_are_lost_and_say_so() {
    let (parent, dataset) = dataset(60);
    let group = dataset.read_group(0).unwrap();
    let last = group.row(group.rows() - 1).unwrap();
    last.check().unwrap();
    let shard = parent.path().join("set").join(dataset.manifest().row_groups()[0].file.as_ref());
    fs_err::OpenOptions::new().write(true).open(shard).unwrap().set_len(0).unwrap();
    assert!(last.bytes().iter().all(|&byte| byte == 0), "what is lost reads as zeros");
    let error = last.check().unwrap_err();
    assert!(matches!(&error, DatasetError::ImageLost { path, .. } if path == last.path()), "{error}");
    assert!(group.copy_of(&[0]).is_none());
    assert!(matches!(dataset.read_group(0).unwrap_err(), DatasetError::ShardTruncated { got: 0, .. }));
}
