//! Conversions that were interrupted, and what becomes of their remains.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::sources::{ReadFailure, SourceFormat};

/// A source that fails after so many images, as a disk or network does.
pub(super) struct Failing<'a> {
    pub(super) inner: &'a dyn ImageSource,
    pub(super) left: AtomicU64,
}

impl ImageSource for Failing<'_> {
    fn format(&self) -> SourceFormat {
        self.inner.format()
    }
    fn location(&self) -> &str {
        self.inner.location()
    }
    fn len(&self) -> usize {
        self.inner.len()
    }
    fn class_names(&self) -> &[String] {
        self.inner.class_names()
    }
    fn skipped(&self) -> u64 {
        self.inner.skipped()
    }
    fn path(&self, image: usize) -> String {
        self.inner.path(image)
    }
    fn label(&self, image: usize) -> Option<i64> {
        self.inner.label(image)
    }
    fn bytes(&self, image: usize) -> u64 {
        self.inner.bytes(image)
    }
    fn read(&self, image: usize, into: &mut Vec<u8>) -> Result<(), ReadFailure> {
        if self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err() {
            return Err(io::Error::other("the network is down").into());
        }
        self.inner.read(image, into)
    }
}

/// Everything that has to survive an interruption: splits, duplicates, small and bad images, measured pixels.
pub(super) fn everything() -> ConvertOptions {
    ConvertOptions {
        splits: vec![Split { name: "val".to_owned(), share: 0.3 }],
        dedupe: true,
        measure: NonZeroU64::new(20),
        check: Check::Decode,
        ..small_options()
    }
}

/// A source with bad images and with duplicates.
pub(super) fn mixed_source() -> tempfile::TempDir {
    let source = source(80);
    fs_err::write(source.path().join("bee/unlucky.ppm"), ppm(13, 40)).unwrap();
    for image in 0..30 {
        fs_err::copy(source.path().join("ant/0006.ppm"), source.path().join(format!("cow/copy{image}.ppm"))).unwrap();
    }
    source
}

#[test]
fn resuming_gives_the_bytes_of_an_undisturbed_run() {
    let (folder, parent) = (mixed_source(), tempfile::tempdir().unwrap());
    let source = FolderSource::open(folder.path()).unwrap();
    let straight = parent.path().join("straight");
    let report = convert(&source, &straight, &everything(), &PpmExaminer, &|_| {}).unwrap();
    assert_eq!((report.rows, report.bad, report.duplicates), (80, 1, 30));
    assert!(report.shards >= 6, "{report:?}");
    let expected = all_files(&straight);
    let destination = parent.path().join("broken");
    let resume = ConvertOptions { resume: true, ..everything() };
    let mut interruptions = 0;
    // Every run gets 23 images further at most, and begins at the last shard that was finished.
    loop {
        let failing = Failing { inner: &source, left: AtomicU64::new(60) };
        match convert(&failing, &destination, &resume, &PpmExaminer, &|_| {}) {
            Ok(done) => {
                assert_eq!(done, report);
                break;
            }
            Err(error) => {
                interruptions += 1;
                assert!(error.to_string().contains("the network is down") && !destination.exists(), "{error}");
                assert!(error.hint().unwrap().contains("go on with `--resume`"), "{error:?}");
            }
        }
        assert!(interruptions < 20, "no run gets any further");
    }
    assert!(interruptions > 1);
    assert!(all_files(&destination) == expected);
    let again = convert(&source, &destination, &resume, &PpmExaminer, &|_| {}).unwrap();
    assert_eq!(again, ConvertReport { unchanged: true, ..report });
}

/// Leaves an unfinished conversion of the source at the destination.
fn interrupt(source: &Path, destination: &Path) {
    let source = FolderSource::open(source).unwrap();
    let failing = Failing { inner: &source, left: AtomicU64::new(55) };
    let error = convert(&failing, destination, &small_options(), &PpmExaminer, &|_| {}).unwrap_err();
    assert!(matches!(error, DatasetError::Unfinished { .. }), "{error}");
}

#[test]
fn remains_are_neither_lost_nor_taken_for_something_else() {
    let (source, parent) = (source(60), tempfile::tempdir().unwrap());
    let destination = parent.path().join("set");
    interrupt(source.path(), &destination);
    let error = run(source.path(), &destination, &small_options()).unwrap_err();
    assert!(matches!(error, DatasetError::DestinationUnfinished { .. }), "{error}");
    assert!(error.hint().unwrap().contains("--resume"));
    let other = ConvertOptions { seed: 3, resume: true, ..small_options() };
    let error = run(source.path(), &destination, &other).unwrap_err();
    assert!(error.to_string().ends_with("--seed was 0, now 3"), "{error}");

    // A shard that is damaged by its length, as after a power failure, is made again.
    let partial = parent.path().join(".set.patchstream-partial");
    fs_err::write(partial.join("train-00000.parquet"), b"half a shard").unwrap();
    run(source.path(), &destination, &ConvertOptions { resume: true, ..small_options() }).unwrap();
    let straight = parent.path().join("straight");
    run(source.path(), &straight, &small_options()).unwrap();
    assert!(all_files(&destination) == all_files(&straight));

    interrupt(source.path(), &parent.path().join("other"));
    run(source.path(), &parent.path().join("other"), &ConvertOptions { overwrite: true, ..small_options() }).unwrap();
    assert!(all_files(&parent.path().join("other")) == all_files(&straight));
}

#[test]
fn conversions_that_are_running_or_were_killed_while_publishing() {
    let (source, parent) = (source(5), tempfile::tempdir().unwrap());
    let destination = parent.path().join("set");
    let partial = parent.path().join(".set.patchstream-partial");
    // Killed before it had written what it is: nothing is lost by beginning anew.
    fs_err::create_dir(&partial).unwrap();
    fs_err::write(partial.join("train-00007.parquet"), b"half a shard").unwrap();
    let other = fs_err::File::open(&partial).unwrap();
    other.file().lock().unwrap();
    let error = run(source.path(), &destination, &small_options()).unwrap_err();
    assert!(matches!(error, DatasetError::DestinationBusy { .. }), "{error}");
    drop(other);
    let first = run(source.path(), &destination, &small_options()).unwrap();
    assert!(!partial.exists() && !destination.join("train-00007.parquet").exists());

    // Killed between the two renames of a replacement: what was there comes back.
    fs_err::rename(&destination, parent.path().join(".set.patchstream-replaced")).unwrap();
    assert_eq!(run(source.path(), &destination, &small_options()).unwrap(), ConvertReport { unchanged: true, ..first });

    // Killed before the records were removed.
    fs_err::create_dir(destination.join("units")).unwrap();
    fs_err::write(destination.join("units/00000.json"), b"{}").unwrap();
    run(source.path(), &destination, &small_options()).unwrap();
    assert!(!destination.join("units").exists());
}
