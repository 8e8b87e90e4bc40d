mod far;
mod parts;
mod resuming;

use std::collections::BTreeMap;
use std::num::{NonZeroU16, NonZeroU32, NonZeroU64, NonZeroUsize};
use std::os::unix::fs::symlink;

use super::shards::{Row, Shard};
use super::*;
use crate::sources::FolderSource;
use crate::testing::{PpmExaminer, open, ppm, small_options, source};

fn photos() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/photos"))
}

fn run(source: &Path, destination: &Path, options: &ConvertOptions) -> Result<ConvertReport, DatasetError> {
    convert(&FolderSource::open(source)?, destination, options, &PpmExaminer, &|_| {})
}

/// Every file of a folder, by name.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs_err::read(&path).unwrap()))
        .collect()
}

/// Every file below a folder, by its path.
fn all_files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() {
            all.extend(all_files(&entry.path()).into_iter().map(|(path, bytes)| (format!("{name}/{path}"), bytes)));
        } else {
            all.insert(name, fs_err::read(entry.path()).unwrap());
        }
    }
    all
}

fn workers(count: usize) -> ConvertOptions {
    ConvertOptions { workers: NonZeroUsize::new(count).unwrap(), measure: NonZeroU64::new(7), ..small_options() }
}

#[test]
fn photos_come_back_byte_for_byte() {
    let parent = tempfile::tempdir().unwrap();
    let destination = parent.path().join("deep/er/set");
    let report = run(photos(), &destination, &ConvertOptions::default()).unwrap();
    assert_eq!((report.rows, report.bad, report.skipped, report.classes), (12, 0, 1, 5));
    let dataset = open(&destination);
    let mut seen = 0;
    for group in 0..dataset.manifest().row_groups().len() {
        let group = dataset.read_group(group).unwrap();
        for row in (0..group.rows()).map(|row| group.row(row).unwrap()) {
            assert_eq!(row.sample_id(), seen);
            assert_eq!(row.bytes(), fs_err::read(photos().join(row.path())).unwrap(), "{}", row.path());
            let class = &dataset.manifest().class_names()[row.label().unwrap() as usize];
            assert!(row.path().starts_with(&format!("{class}/")));
            seen += 1;
        }
    }
    assert_eq!(seen, 12);
}

#[test]
fn output_is_the_same_for_any_number_of_workers() {
    let (source, parent) = (source(60), tempfile::tempdir().unwrap());
    fs_err::write(source.path().join("bee/broken.jpg"), b"not a jpeg").unwrap();
    let outputs = [1, 2, 7].map(|count| {
        let destination = parent.path().join(count.to_string());
        run(source.path(), &destination, &workers(count)).unwrap();
        files(&destination)
    });
    assert_eq!(outputs[0].keys().filter(|name| name.starts_with("train-")).count(), 2);
    assert!(outputs[0] == outputs[1] && outputs[0] == outputs[2]);
    assert_eq!(open(&parent.path().join("1")).manifest().pixel_stats().unwrap().images, 7);
    assert_eq!(String::from_utf8_lossy(&outputs[0][LEDGER_FILE]).lines().count(), 1);
}

#[test]
fn seed_order_and_limit_decide_what_is_written() {
    let (source, parent) = (source(30), tempfile::tempdir().unwrap());
    let paths = |name: &str, options: ConvertOptions| -> Vec<String> {
        let destination = parent.path().join(name);
        run(source.path(), &destination, &options).unwrap();
        let dataset = open(&destination);
        let groups = (0..dataset.manifest().row_groups().len()).map(|group| dataset.read_group(group).unwrap());
        groups.flat_map(|group| (0..group.rows()).map(move |row| group.row(row).unwrap().path().to_owned())).collect()
    };
    let sorted = paths("sorted", ConvertOptions { order: Order::Sorted, ..small_options() });
    assert!(sorted.is_sorted() && sorted.len() == 30);
    let shuffled = paths("a", small_options());
    assert_ne!(shuffled, sorted);
    assert_ne!(shuffled, paths("b", ConvertOptions { seed: 1, ..small_options() }));
    assert_eq!(paths("c", ConvertOptions { limit: NonZeroU64::new(5), ..small_options() }), shuffled[..5]);
}

#[test]
fn row_groups_and_shards_are_bounded() {
    let (source, parent) = (source(60), tempfile::tempdir().unwrap());
    fs_err::write(source.path().join("big.ppm"), ppm(1, 50_000)).unwrap();
    run(source.path(), &parent.path().join("set"), &small_options()).unwrap();
    let dataset = open(&parent.path().join("set"));
    for entry in dataset.manifest().row_groups() {
        assert!(entry.image_bytes <= 4000 || entry.rows == 1, "{entry:?}");
    }
}

#[test]
fn bad_images_are_skipped_counted_or_fatal() {
    let (source, parent) = (source(10), tempfile::tempdir().unwrap());
    fs_err::write(source.path().join("ant/unlucky.ppm"), ppm(13, 0)).unwrap();
    fs_err::write(source.path().join("ant/panics.ppm"), ppm(14, 0)).unwrap();
    fs_err::write(source.path().join("ant/empty.png"), b"").unwrap();
    fs_err::write(source.path().join("ant/notes.txt"), b"no image").unwrap();
    let destination = parent.path().join("set");
    let decode = ConvertOptions { check: Check::Decode, order: Order::Sorted, ..small_options() };

    let error =
        run(source.path(), &destination, &ConvertOptions { on_bad: OnBad::Fail, ..decode.clone() }).unwrap_err();
    assert!(error.to_string().ends_with("ant/empty.png`: the file is empty"), "{error}");
    let error =
        run(source.path(), &destination, &ConvertOptions { bad_budget: Some(2), ..decode.clone() }).unwrap_err();
    assert!(matches!(error, DatasetError::BadBudgetExceeded { bad: 3, budget: 2, .. }), "{error}");
    assert!(error.hint().is_some());
    assert!(files(parent.path()).is_empty(), "a failed conversion leaves nothing behind");

    let report = run(source.path(), &destination, &ConvertOptions { bad_budget: Some(3), ..decode }).unwrap();
    assert_eq!((report.rows, report.bad, report.skipped), (10, 3, 1));
    let ledger = String::from_utf8(files(&destination)[LEDGER_FILE].clone()).unwrap();
    let lines: Vec<serde_json::Value> = ledger.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[1]["source"], "ant/panics.ppm");
    assert_eq!(lines[2]["reason"], "unlucky");
    assert_eq!(lines[0]["xxh3"], "2d06800538d394c2", "the XXH3-64 of nothing");
}

#[test]
fn transcoded_images_come_back_with_their_segments() {
    let (source, parent) = (source(60), tempfile::tempdir().unwrap());
    let options = ConvertOptions { tile_index: NonZeroU16::new(4), ..small_options() };
    run(source.path(), &parent.path().join("set"), &options).unwrap();
    let dataset = open(&parent.path().join("set"));
    let groups = (0..dataset.manifest().row_groups().len()).map(|group| dataset.read_group(group).unwrap());
    let mut indexed = 0;
    for row in groups.flat_map(|group| (0..group.rows()).map(move |row| group.row(row).unwrap())) {
        let original = fs_err::read(source.path().join(row.path())).unwrap();
        assert!(row.bytes().iter().eq(original.iter().rev()), "{}", row.path());
        let expected: Vec<u32> = (0..original.len() as u32 / 10).map(|segment| segment * 10).collect();
        let expected = (original.len() / 10).is_multiple_of(2).then_some(expected);
        assert_eq!(row.segments(), expected.as_deref());
        indexed += usize::from(expected.is_some());
    }
    assert!(indexed > 0 && indexed < 60, "{indexed}");
}

#[test]
fn compressed_raw_images_come_back() {
    let (source, parent) = (source(20), tempfile::tempdir().unwrap());
    let set = |name: &str, zstd_level| {
        let encode = Encode::Raw { max_side_px: NonZeroU32::new(30).unwrap(), zstd_level };
        let options = ConvertOptions { encode, order: Order::Sorted, ..small_options() };
        let report = run(source.path(), &parent.path().join(name), &options).unwrap();
        (report, open(&parent.path().join(name)))
    };
    let ((plain, plain_set), (packed, packed_set)) = (set("plain", None), set("packed", Some(3)));
    assert_eq!(plain.image_bytes, packed.image_bytes);
    assert!(packed.output_bytes < plain.output_bytes, "{packed:?} {plain:?}");
    // Four thousand bytes hold one raw image of 30 x 30 pixels.
    assert_eq!(plain_set.manifest().row_groups().len(), 20);
    for group in 0..20 {
        let [plain, packed] = [&plain_set, &packed_set].map(|set| set.read_group(group).unwrap().row(0).unwrap());
        assert_eq!(plain.bytes(), packed.bytes());
        assert_eq!(plain.segments(), None);
    }
}

#[test]
fn options_that_cannot_be_are_refused() {
    let (source, parent) = (source(1), tempfile::tempdir().unwrap());
    let check = |options: ConvertOptions, message: &str| {
        let error = run(source.path(), &parent.path().join("set"), &options).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    };
    let raw = |side, zstd_level| Encode::Raw { max_side_px: NonZeroU32::new(side).unwrap(), zstd_level };
    let jpeg = Encode::Jpeg { max_side_px: None, quality: 101.try_into().unwrap() };
    check(ConvertOptions { encode: jpeg, ..small_options() }, "expected 1 to 100, got 101");
    check(ConvertOptions { encode: raw(2049, None), ..small_options() }, "expected at most 2048 pixels");
    check(ConvertOptions { encode: raw(256, Some(23)), ..small_options() }, "expected 1 to 22, got 23");
    let tile_index = NonZeroU16::new(8);
    check(ConvertOptions { encode: raw(256, None), tile_index, ..small_options() }, "no restart segments");
    check(ConvertOptions { row_group_bytes: NonZeroU64::MAX, ..small_options() }, "invalid row group size");
}

#[test]
fn sources_without_images_are_errors() {
    let (source, parent) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs_err::write(source.path().join("README.md"), b"no images here").unwrap();
    let check = |message: &str| {
        let error = run(source.path(), &parent.path().join("set"), &small_options()).unwrap_err();
        assert!(error.to_string().contains(message) && error.hint().is_some(), "{error}");
    };
    check("1 files are no images, 0 images are bad");
    fs_err::write(source.path().join("a.jpg"), b"nor this").unwrap();
    check("1 files are no images, 1 images are bad");
}

#[test]
fn destinations_are_respected() {
    let (source, parent) = (source(5), tempfile::tempdir().unwrap());
    let destination = parent.path().join("set");
    let overwrite = ConvertOptions { overwrite: true, limit: NonZeroU64::new(2), ..small_options() };
    let first = run(source.path(), &destination, &small_options()).unwrap();
    let before = files(&destination);
    let second = run(source.path(), &destination, &ConvertOptions { workers: NonZeroUsize::MIN, ..small_options() });
    assert_eq!(second.unwrap(), ConvertReport { unchanged: true, ..first });
    let error = run(source.path(), &destination, &ConvertOptions { seed: 5, ..small_options() }).unwrap_err();
    assert!(error.to_string().ends_with("--seed was 0, now 5") && error.hint().is_some(), "{error}");
    assert!(before == files(&destination));
    assert_eq!(run(source.path(), &destination, &overwrite).unwrap().rows, 2);
    assert_eq!(open(&destination).manifest().rows(), 2);
    fs_err::write(source.path().join("ant/new.ppm"), ppm(7, 0)).unwrap();
    let error =
        run(source.path(), &destination, &ConvertOptions { overwrite: false, ..overwrite.clone() }).unwrap_err();
    assert!(error.to_string().contains("the list of images, their sizes or classes was"), "{error}");

    fs_err::write(destination.join("thesis.txt"), b"years of work").unwrap();
    let error = run(source.path(), &destination, &overwrite).unwrap_err();
    assert!(error.to_string().contains("`thesis.txt` in it is not part of one"), "{error}");
    let error = run(source.path(), source.path(), &overwrite).unwrap_err();
    assert!(error.to_string().contains("it has no `manifest.parquet`"), "{error}");
    let error = run(source.path(), source.path(), &small_options()).unwrap_err();
    assert!(matches!(error, DatasetError::DestinationExists { .. }) && error.hint().is_some(), "{error}");
    symlink(source.path(), parent.path().join("link")).unwrap();
    let error = run(source.path(), &parent.path().join("link"), &overwrite).unwrap_err();
    assert!(error.to_string().contains("it is not a folder"), "{error}");
}

#[test]
fn a_full_disk_is_an_error_with_a_hint() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("train-00000.parquet");
    // Whatever is written to this device fails as on a full disk.
    symlink("/dev/full", &path).unwrap();
    let format = ShardFormat::new(small_options().layout(), &[]).unwrap();
    let mut shard = Shard::create(&path, &format).unwrap();
    let row =
        Row { bytes: ppm(1, 100_000), path: String::new(), label: None, width_px: 2, height_px: 3, segments: None };
    let error = shard.write_rows(vec![row]).unwrap_err();
    assert!(error.to_string().contains("train-00000.parquet"), "{error}");
    assert!(error.hint().unwrap().contains("free some space"));
}
