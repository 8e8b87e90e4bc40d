//! Conversions and merges in object stores, which here are buckets in memory.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;

use super::parts::{merged, numbered, splits};
use super::resuming::{Failing, everything, mixed_source};
use super::*;
use crate::remote::{RemoteFiles, RemoteFolder};

const BYTES_MAX: u64 = 1 << 30;

fn far(place: &str) -> RemoteFolder {
    RemoteFolder::open(place).unwrap()
}

/// Every object below a location, by its name.
fn objects(location: &str) -> BTreeMap<String, Vec<u8>> {
    let names = RemoteFiles::open(location).unwrap().files_below(location).unwrap();
    let folder = far(location);
    names.into_iter().map(|(name, _)| (name.clone(), folder.read(&name, BYTES_MAX).unwrap().unwrap().into())).collect()
}

/// What lies at a place, here or far away.
fn found(place: &Path) -> BTreeMap<String, Vec<u8>> {
    let text = place.to_str().unwrap();
    if text.starts_with("memory://") { objects(text) } else { all_files(place) }
}

/// Converts a source in three parts: the first and the third into buckets, the second to this machine.
fn three_parts(source: &Path, bucket: &str, folder: &Path, options: &ConvertOptions) -> [PathBuf; 3] {
    let places = [format!("memory://{bucket}/sets/part1").into(), folder.join("part2"), {
        PathBuf::from(format!("memory://{bucket}-other/part 3"))
    }];
    for (place, number) in places.iter().zip(1..) {
        let options = ConvertOptions { part: Some(numbered(number, 3)), ..options.clone() };
        let report = run(source, place, &options).unwrap();
        assert!(report.shards > 0 && !report.unchanged);
        assert_eq!(run(source, place, &options).unwrap(), ConvertReport { unchanged: true, ..report });
    }
    places
}

#[test]
fn parts_here_and_in_stores_are_merged_to_what_one_machine_makes() {
    let (source, parent) = (mixed_source(), tempfile::tempdir().unwrap());
    let everything = ConvertOptions { tile_index: NonZeroU16::new(4), ..everything() };
    for (name, options) in [("plain", small_options()), ("everything", everything)] {
        let folder = parent.path().join(name);
        fs_err::create_dir(&folder).unwrap();
        let one = run(source.path(), &folder.join("one"), &options).unwrap();
        let expected = all_files(&folder.join("one"));
        let mut parts = three_parts(source.path(), name, &folder, &options);
        parts.rotate_left(1);
        let before = parts.each_ref().map(|part| found(part));
        // From the bucket of the first part and from elsewhere, from all over to this machine.
        for destination in [format!("memory://{name}/sets/whole").into(), folder.join("whole")] {
            assert_eq!(merged(&parts, &destination).unwrap(), one, "{name}");
            assert!(found(&destination) == expected, "{name}");
            assert!(merged(&parts, &destination).unwrap().unchanged);
            let converted = run(source.path(), &destination, &options).unwrap();
            assert_eq!(converted, ConvertReport { unchanged: true, ..one.clone() });
        }
        assert!(parts.each_ref().map(|part| found(part)) == before, "parts stay as they are");
    }
}

#[test]
fn parts_in_stores_are_resumed_and_taken_for_nothing_else() {
    let folder = mixed_source();
    let source = FolderSource::open(folder.path()).unwrap();
    let straight = Path::new("memory://resumed/straight");
    let everything = ConvertOptions { shard_bytes: NonZeroU64::new(5000).unwrap(), ..everything() };
    let part = ConvertOptions { part: Some(numbered(2, 2)), ..everything.clone() };
    let report = run(folder.path(), straight, &part).unwrap();
    assert!(report.shards >= 4 && report.splits["val"] > 0, "{report:?}");
    let expected = found(straight);
    assert!(expected.contains_key("units/conversion.json") && !expected.contains_key("train/manifest.parquet"));

    let place = Path::new("memory://resumed/part");
    let resume = ConvertOptions { resume: true, ..part.clone() };
    let mut interruptions = 0;
    loop {
        let failing = Failing { inner: &source, left: AtomicU64::new(25) };
        match convert(&failing, place, &resume, &PpmExaminer, &|_| {}) {
            Ok(done) => break assert_eq!(done, report),
            Err(error) => assert!(error.hint().unwrap().contains("go on with `--resume`"), "{error:?}"),
        }
        interruptions += 1;
        assert!(interruptions < 20, "no run gets any further");
        let error = run(folder.path(), place, &part).unwrap_err();
        assert!(matches!(error, DatasetError::DestinationUnfinished { .. }), "{error}");
        let error = merged(&[place.to_owned(), straight.to_owned()], Path::new("memory://resumed/x")).unwrap_err();
        assert!(error.to_string().starts_with("part `memory://resumed/part` is incomplete: shard "), "{error}");
    }
    assert!(interruptions > 1);
    assert!(found(place) == expected);

    let check = |options: ConvertOptions, message: &str| {
        let error = run(folder.path(), place, &options).unwrap_err();
        assert!(error.to_string().ends_with(message), "{error}");
    };
    check(ConvertOptions { part: Some(numbered(1, 2)), ..everything.clone() }, "--part was 2/2, now 1/2");
    check(everything, "--part was 2/2, now not given");
    check(ConvertOptions { seed: 4, ..resume.clone() }, "--seed was 0, now 4");
    assert!(found(place) == expected);
    // A record that got lost is made again, and nothing else is.
    let last = expected.keys().rfind(|name| name.starts_with("units/0")).unwrap().clone();
    far("memory://resumed/part").remove(&[last]).unwrap();
    assert!(!run(folder.path(), place, &resume).unwrap().unchanged);
    assert!(found(place) == expected);
    let other = ConvertOptions { overwrite: true, seed: 4, ..part };
    run(folder.path(), place, &other).unwrap();
    assert!(found(place) != expected);
    assert!(run(folder.path(), place, &other).is_ok_and(|report| !report.unchanged), "`--overwrite` makes it anew");
}

#[test]
fn parts_without_a_unit_are_parts() {
    let (source, parent) = (source(3), tempfile::tempdir().unwrap());
    let parts = [1, 2].map(|number| PathBuf::from(format!("memory://few/part{number}")));
    for (part, number) in parts.iter().zip(1..) {
        let options = ConvertOptions { part: Some(numbered(number, 2)), ..small_options() };
        assert_eq!(run(source.path(), part, &options).unwrap().shards, u64::from(number == 2));
        assert!(run(source.path(), part, &options).unwrap().unchanged);
    }
    let whole = merged(&parts, &parent.path().join("merged")).unwrap();
    assert_eq!(whole, run(source.path(), &parent.path().join("one"), &small_options()).unwrap());

    let all_are_small =
        ConvertOptions { min_side_px: NonZeroU32::new(9), part: Some(numbered(1, 1)), ..small_options() };
    run(source.path(), Path::new("memory://few/small"), &all_are_small).unwrap();
    let error = merged(&["memory://few/small".into()], Path::new("memory://few/none")).unwrap_err();
    assert!(error.to_string().starts_with("no usable image in `memory://few/small`: 0 files"), "{error}");
    assert!(objects("memory://few/none").is_empty());
}

#[test]
fn merges_that_were_interrupted_go_on() {
    let (source, parent) = (mixed_source(), tempfile::tempdir().unwrap());
    let one = run(source.path(), &parent.path().join("one"), &everything()).unwrap();
    let parts = three_parts(source.path(), "halves", parent.path(), &everything());
    let before = parts.each_ref().map(|part| found(part));
    let third = far("memory://halves-other/part 3");
    let shard = before[2].keys().rfind(|name| name.starts_with("train/")).unwrap();
    let partial = parent.path().join(".whole.patchstream-partial");
    for destination in [PathBuf::from("memory://halves/whole"), parent.path().join("whole")] {
        third.remove(std::slice::from_ref(shard)).unwrap();
        let error = merged(&parts, &destination).unwrap_err();
        assert!(error.to_string() == format!("shard `memory://halves-other/part 3/{shard}` is missing"), "{error}");
        assert!(error.hint().unwrap().ends_with("shards are merged: the same command goes on"), "{error:?}");
        assert!(crate::Dataset::open(destination.join("train").to_str().unwrap()).is_err(), "it is not whole");
        let other = ConvertOptions { seed: 1, overwrite: false, ..everything() };
        let error = run(source.path(), &destination, &ConvertOptions { resume: true, ..other }).unwrap_err();
        assert!(error.to_string().ends_with("--seed was 0, now 1"), "{error}");
        if partial.exists() {
            // Killed between a shard, which may be a second name of the part's, and its record.
            fs_err::remove_file(partial.join("units/00001.json")).unwrap();
        }
        third.put(shard, &Bytes::from(before[2][shard].clone())).unwrap();
        let units = Mutex::new(Vec::new());
        let options = MergeOptions { overwrite: false, temporary: parent.path().to_owned() };
        let whole = merge(&parts, &destination, &options, &|done, _| units.lock().unwrap().push(done)).unwrap();
        assert_eq!(whole, one);
        assert!(units.into_inner().unwrap()[0] > 1, "what was merged is not merged again");
        assert!(found(&destination) == all_files(&parent.path().join("one")));
    }
    assert!(parts.each_ref().map(|part| found(part)) == before, "parts stay as they are");
    let left: Vec<_> = fs_err::read_dir(parent.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "no temporary files: {left:?}");
}

#[test]
fn parts_that_cannot_be_merged_are_named_by_their_urls() {
    let (source, parent) = (source(90), tempfile::tempdir().unwrap());
    let [first, second, third] = three_parts(source.path(), "refused", parent.path(), &small_options());
    let check = |parts: &[&PathBuf], destination: &str, message: &str| {
        let parts: Vec<PathBuf> = parts.iter().map(|&part| part.clone()).collect();
        let error = merged(&parts, Path::new(destination)).unwrap_err();
        assert!(error.to_string().contains(message) && error.hint().is_some(), "{error}");
    };
    let new = "memory://refused/new";
    check(&[&first, &third], new, "`memory://refused/sets/part1`: part 2 of 3 is missing beside it");
    check(&[&third, &second, &first, &third], new, "`memory://refused-other/part 3`: part 3 of 3 is there twice");
    let nothing = PathBuf::from("memory://refused/nothing");
    check(&[&first, &second, &nothing], new, "`memory://refused/nothing`: it is not what `--part` writes");
    let split = ConvertOptions { splits: splits(&[("val", 0.2)]), part: Some(numbered(3, 3)), ..small_options() };
    let foreign = PathBuf::from("memory://refused/foreign");
    run(source.path(), &foreign, &split).unwrap();
    let reason = "`memory://refused/foreign`: it comes from another conversion than `memory://refused/sets/part1`";
    check(&[&first, &second, &foreign], new, reason);
    let all = [&first, &second, &third];
    for place in [first.to_str().unwrap(), second.to_str().unwrap()] {
        check(&all, place, "it is a part itself, and cannot be the destination, too");
    }
    check(&all, foreign.to_str().unwrap(), "`memory://refused/foreign` comes from another conversion");
    check(&all, "https://example.com/x", "data sets are written to folders, s3://, gs:// or az://");
    assert!(objects(new).is_empty(), "nothing was begun");

    let bucket = far("memory://refused/sets/part1");
    let head = String::from_utf8(bucket.read("units/conversion.json", BYTES_MAX).unwrap().unwrap().into()).unwrap();
    for (was, is) in
        [(r#"["train"]"#, r#"["../../x"]"#), (r#""of":3"#, r#""of":0"#), (r#""number":1"#, r#""number":4"#)]
    {
        assert!(head.contains(was), "{head}");
        bucket.put("units/conversion.json", &head.replace(was, is).into()).unwrap();
        check(&all, new, "cannot merge `memory://refused/sets/part1`: ");
    }
    bucket.put("units/conversion.json", &head.into()).unwrap();
    bucket
        .put("units/00000.json", &Bytes::from_static(br#"{"splits":[],"left_out":[],"images":1,"source_bytes":1}"#))
        .unwrap();
    check(&all, new, "part `memory://refused/sets/part1` is incomplete: shard 0 is missing");
    let again = ConvertOptions { overwrite: true, part: Some(numbered(1, 3)), ..small_options() };
    run(source.path(), &first, &again).unwrap();
    bucket.put("train-00000.parquet", &Bytes::from_static(b"half a shard")).unwrap();
    check(&all, new, "shard `memory://refused/sets/part1/train-00000.parquet` is truncated: expected at least ");
    run(source.path(), &first, &again).unwrap();
    merged(&all.map(PathBuf::clone), Path::new(new)).unwrap();
}
