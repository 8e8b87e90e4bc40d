//! From photographs through real shards to batches.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use patchstream_datasets::convert::{Check, ConvertOptions, convert};
use patchstream_datasets::sources::FolderSource;
use patchstream_datasets::{Cursor, Dataset, LastBatch, Schedule, Share, Shuffle};
use patchstream_pipeline::{
    BadSamples, Budget, DecodeMode, EvaluateTransform, Examiner, MaskKind, Masking, PatchBatch, PatchGrid, PatchStream,
    PipelineConfig, Transform,
};

fn shards(photos: &Path, directory: &Path) -> Arc<Dataset> {
    let options = ConvertOptions {
        row_group_bytes: NonZeroU64::new(200_000).unwrap(),
        check: Check::Header,
        ..ConvertOptions::default()
    };
    let source = FolderSource::open(photos).unwrap();
    convert(&source, directory, &options, &Examiner::default(), &|_| ()).unwrap();
    Arc::new(Dataset::open(directory.to_str().unwrap()).unwrap())
}

fn photos() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/photos")
}

/// A folder of all the photographs and all the awkward files.
fn photos_and_odd_files(parent: &Path) -> PathBuf {
    let all = parent.join("all");
    for entry in fs_err::read_dir(photos()).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_dir()) {
        copy_files(&entry.path(), &all.join(entry.file_name()));
    }
    copy_files(&photos().join("../odd"), &all.join("odd"));
    all
}

fn copy_files(from: &Path, to: &Path) {
    fs_err::create_dir_all(to).unwrap();
    for entry in fs_err::read_dir(from).unwrap().map(Result::unwrap) {
        fs_err::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn schedule(start: Cursor, last_batch: LastBatch) -> Schedule {
    Schedule {
        seed: 3,
        shuffle: Shuffle::Window(NonZeroUsize::new(2).unwrap()),
        batch_size: NonZeroUsize::new(5).unwrap(),
        share: Share { rank: 0, world: NonZeroUsize::MIN },
        last_batch,
        start,
        end_epoch: Some(3),
    }
}

const BEGINNING: Cursor = Cursor { epoch: 0, batch: 0 };

fn config(workers: usize) -> PipelineConfig {
    PipelineConfig {
        workers: NonZeroUsize::new(workers).unwrap(),
        ..PipelineConfig::for_grid(PatchGrid::new(96, 64, 16).unwrap())
    }
}

fn collect(dataset: &Arc<Dataset>, schedule: Schedule, config: &PipelineConfig) -> Vec<PatchBatch> {
    PatchStream::start(Arc::clone(dataset), schedule, config).unwrap().map(Result::unwrap).collect()
}

#[test]
fn batches_of_shards_do_not_depend_on_workers_or_on_where_they_start() {
    let directory = tempfile::tempdir().unwrap();
    let dataset = shards(&photos_and_odd_files(directory.path()), &directory.path().join("shards"));
    assert_eq!(dataset.manifest().rows(), 19, "all photographs, the odd files too");
    for (kind, decode) in [(MaskKind::Random, DecodeMode::Exact), (MaskKind::Block, DecodeMode::Fast)] {
        let config = |workers| PipelineConfig { masking: Masking { kind, ratio: 0.6 }, decode, ..config(workers) };
        let expected = collect(&dataset, schedule(BEGINNING, LastBatch::Drop), &config(1));
        assert_eq!(expected.len(), 3 * 3);
        for workers in [2, 5] {
            let batches = collect(&dataset, schedule(BEGINNING, LastBatch::Drop), &config(workers));
            assert!(batches == expected, "{workers} workers");
        }
        let start = Cursor { epoch: 1, batch: 2 };
        let resumed = collect(&dataset, schedule(start, LastBatch::Drop), &config(2));
        assert!(resumed == expected[5..]);
        assert_eq!((resumed[0].epoch(), resumed[0].batch()), (1, 2));
    }
}

#[test]
fn evaluation_shows_every_sample_once_and_the_same_each_epoch() {
    let directory = tempfile::tempdir().unwrap();
    let dataset = shards(&photos_and_odd_files(directory.path()), &directory.path().join("shards"));
    let evaluate = PipelineConfig {
        transform: Transform::Evaluate(EvaluateTransform { resize_px: 100 }),
        masking: Masking { kind: MaskKind::Grid, ratio: 0.75 },
        apply_exif: true,
        ..config(2)
    };
    let schedule = Schedule { shuffle: Shuffle::Sequential, ..schedule(BEGINNING, LastBatch::Keep) };
    let batches = collect(&dataset, schedule, &evaluate);
    let (epoch, others) = batches.split_at(4);
    let samples: Vec<u64> = epoch.iter().flat_map(PatchBatch::sample_ids).copied().collect();
    assert_eq!(samples, (0..19).collect::<Vec<_>>());
    assert_eq!(epoch[3].rows(), 4);
    for (batch, again) in epoch.iter().cycle().zip(others) {
        assert_eq!(batch.record_batch(), again.record_batch(), "in epoch {}", again.epoch());
    }
}

/// One corrupt photograph among good ones, and one that ends too early.
#[test]
fn corrupt_photographs_are_replaced_and_entered_in_the_ledger() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("photos");
    fs_err::create_dir_all(&folder).unwrap();
    for entry in fs_err::read_dir(photos().join("space")).unwrap() {
        let entry = entry.unwrap();
        fs_err::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    let whole = fs_err::read(photos().join("animals/chelsea.jpg")).unwrap();
    fs_err::write(folder.join("cut_off.jpg"), &whole[..whole.len() / 2]).unwrap();
    let dataset = shards(&folder, &directory.path().join("shards"));
    assert_eq!(dataset.manifest().rows(), 5);

    let ledger = directory.path().join("bad.jsonl");
    let bad_samples = BadSamples { budget: Budget { count: 1, fraction: 0.0 }, ledger: Some(ledger.clone()) };
    let tolerant = PipelineConfig { bad_samples, ..config(2) };
    let batches = collect(&dataset, schedule(BEGINNING, LastBatch::Drop), &tolerant);
    assert_eq!(batches.len(), 3);
    let lines = fs_err::read_to_string(ledger).unwrap();
    assert_eq!(lines.lines().count(), 1);
    assert!(lines.contains("cut_off.jpg") && lines.contains("cut off"), "{lines}");

    let bad_samples = BadSamples { budget: Budget { count: 0, fraction: 0.0 }, ledger: None };
    let strict = PipelineConfig { bad_samples, ..config(2) };
    let mut stream = PatchStream::start(dataset, schedule(BEGINNING, LastBatch::Drop), &strict).unwrap();
    let error = stream.next().unwrap().unwrap_err();
    assert!(error.to_string().starts_with("1 bad samples: expected at most 0"), "{error}");
}

#[test]
fn shards_that_become_shorter_end_the_stream_with_an_error_and_no_wrong_batch() {
    let directory = tempfile::tempdir().unwrap();
    let dataset = shards(&photos(), &directory.path().join("shards"));
    let config = PipelineConfig { queue_batches: NonZeroUsize::MIN, ..config(2) };
    let expected = collect(&dataset, schedule(BEGINNING, LastBatch::Drop), &config);
    let mut stream = PatchStream::start(Arc::clone(&dataset), schedule(BEGINNING, LastBatch::Drop), &config).unwrap();
    let first = stream.next().unwrap().unwrap();
    for entry in dataset.manifest().row_groups() {
        let shard = directory.path().join("shards").join(entry.file.as_ref());
        fs_err::OpenOptions::new().write(true).open(shard).unwrap().set_len(0).unwrap();
    }
    let mut batches = vec![first];
    let error = loop {
        match stream.next().expect("an error before the end") {
            Ok(batch) => batches.push(batch),
            Err(error) => break error,
        }
    };
    assert!(batches == expected[..batches.len()]);
    let message = error.to_string();
    assert!(["lost", "truncated", "shorter"].iter().any(|word| message.contains(word)), "{message}");
}
