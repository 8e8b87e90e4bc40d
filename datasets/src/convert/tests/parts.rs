//! Splits, duplicates and parts.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::*;

pub(super) fn numbered(number: u32, of: u32) -> Part {
    Part { number: NonZeroU32::new(number).unwrap(), of: NonZeroU32::new(of).unwrap() }
}

pub(super) fn splits(shares: &[(&str, f64)]) -> Vec<Split> {
    shares.iter().map(|&(name, share)| Split { name: name.to_owned(), share }).collect()
}

pub(super) fn merged(parts: &[PathBuf], destination: &Path) -> Result<ConvertReport, DatasetError> {
    merge(parts, destination, &MergeOptions { overwrite: false, temporary: std::env::temp_dir() }, &|_, _| {})
}

/// The paths of the images of a data set.
fn paths(folder: &Path) -> Vec<String> {
    let dataset = open(folder);
    let groups = (0..dataset.manifest().row_groups().len()).map(|group| dataset.read_group(group).unwrap());
    groups.flat_map(|group| (0..group.rows()).map(move |row| group.row(row).unwrap().path().to_owned())).collect()
}

#[test]
fn splits_are_data_sets_that_share_no_content() {
    let (source, parent) = (source(200), tempfile::tempdir().unwrap());
    for image in 0..200 {
        let class = ["ant", "bee", "cow"][image % 3];
        let from = source.path().join(format!("{class}/{image:04}.ppm"));
        fs_err::copy(from, source.path().join(format!("{class}/twin{image:04}.ppm"))).unwrap();
    }
    let options = |seed| ConvertOptions { splits: splits(&[("val", 0.25), ("test", 0.1)]), seed, ..small_options() };
    let report = run(source.path(), &parent.path().join("set"), &options(0)).unwrap();
    assert_eq!(report.rows, 400);
    assert_eq!(report.splits.values().sum::<u64>(), 400);
    let set = |name: &str| -> BTreeSet<String> { paths(&parent.path().join(name)).into_iter().collect() };
    let names = ["set/train", "set/val", "set/test"].map(set);
    // Of 200 different images 130, 50 and 20 are expected; four standard deviations either way.
    for (found, expected) in names.iter().zip([130.0_f64, 50.0, 20.0]) {
        let deviation = (expected * (1.0 - expected / 200.0)).sqrt();
        let different = found.len() as f64 / 2.0;
        assert!((different - expected).abs() < 4.0 * deviation, "{different} instead of {expected}");
        for path in found {
            let twin = path.replace('/', "/twin").replace("twintwin", "");
            assert!(found.contains(&twin), "{path} without its twin");
        }
    }
    let validation = open(&parent.path().join("set/val"));
    assert_eq!(validation.manifest().conversion()["split"], "val");
    assert!(validation.manifest().row_groups()[0].file.starts_with("val-00000"));
    run(source.path(), &parent.path().join("other"), &options(9)).unwrap();
    assert_eq!(names, ["other/train", "other/val", "other/test"].map(set), "the seed does not decide on the split");
}

#[test]
fn small_images_and_duplicates_are_left_out_and_listed() {
    let (source, parent) = (source(6), tempfile::tempdir().unwrap());
    fs_err::write(source.path().join("ant/again.ppm"), ppm(100, 20)).unwrap();
    let sorted = ConvertOptions { order: Order::Sorted, dedupe: true, ..small_options() };
    let report = run(source.path(), &parent.path().join("set"), &sorted).unwrap();
    assert_eq!((report.rows, report.duplicates, report.bad), (6, 1, 0));
    let ledger = fs_err::read_to_string(parent.path().join("set").join(LEDGER_FILE)).unwrap();
    assert!(
        ledger.starts_with(r#"{"kind":"duplicate","reason":"an image before it has the same bytes","source":"cow/"#)
    );
    let min_side_px = NonZeroU32::new(3);
    let error = run(source.path(), &parent.path().join("none"), &ConvertOptions { min_side_px, ..sorted.clone() });
    assert!(matches!(error, Err(DatasetError::NoImages { bad: 0, .. })));
    let min_side_px = NonZeroU32::new(2);
    assert_eq!(
        run(source.path(), &parent.path().join("all"), &ConvertOptions { min_side_px, ..sorted }).unwrap().small,
        0
    );
}

#[test]
fn splits_and_parts_that_cannot_be() {
    let (source, parent) = (source(1), tempfile::tempdir().unwrap());
    let check = |options: ConvertOptions, message: &str| {
        let error = run(source.path(), &parent.path().join("set"), &options).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    };
    let of = |shares: &[(&str, f64)]| ConvertOptions { splits: splits(shares), ..small_options() };
    check(of(&[("Val", 0.1)]), "lower-case letters");
    check(of(&[("../x", 0.1)]), "lower-case letters");
    check(of(&[("train", 0.1)]), "`train` is there already");
    check(of(&[("val", 0.1), ("val", 0.1)]), "`val` is there already");
    check(of(&[("val", 0.0)]), "above 0");
    check(of(&[("val", f64::NAN)]), "above 0");
    check(of(&[("val", 0.6), ("test", 0.5)]), "leave something for `train`");
    check(ConvertOptions { part: Some(numbered(3, 2)), ..small_options() }, "expected 1 to 2");
}

#[test]
fn merged_parts_are_what_one_machine_makes() {
    let (source, parent) = (source(90), tempfile::tempdir().unwrap());
    fs_err::write(source.path().join("bee/broken.jpg"), b"not a jpeg").unwrap();
    for image in 0..40 {
        fs_err::copy(source.path().join("ant/0006.ppm"), source.path().join(format!("cow/copy{image}.ppm"))).unwrap();
    }
    let whole = ConvertOptions {
        splits: splits(&[("val", 0.2)]),
        dedupe: true,
        measure: NonZeroU64::new(9),
        tile_index: NonZeroU16::new(4),
        ..small_options()
    };
    for (name, options) in [("plain", small_options()), ("everything", whole)] {
        let folder = parent.path().join(name);
        fs_err::create_dir(&folder).unwrap();
        let one = run(source.path(), &folder.join("one"), &options).unwrap();
        assert!(one.shards > 3, "{one:?}");
        let parts: Vec<PathBuf> = [3, 1, 2].map(|number| folder.join(format!("part{number}"))).into();
        for (part, number) in parts.iter().zip([3, 1, 2]) {
            let options = ConvertOptions { part: Some(numbered(number, 3)), ..options.clone() };
            let report = run(source.path(), part, &options).unwrap();
            assert_eq!(run(source.path(), part, &options).unwrap(), ConvertReport { unchanged: true, ..report });
        }
        let before: Vec<_> = parts.iter().map(|part| all_files(part)).collect();
        let whole = merged(&parts, &folder.join("merged")).unwrap();
        assert_eq!(whole, one);
        assert!(all_files(&folder.join("merged")) == all_files(&folder.join("one")));
        assert!(before == parts.iter().map(|part| all_files(part)).collect::<Vec<_>>(), "parts stay as they are");
        assert!(merged(&parts, &folder.join("merged")).unwrap().unchanged);

        let check = |parts: &[PathBuf], message: &str| {
            let error = merged(parts, &folder.join("new")).unwrap_err();
            assert!(error.to_string().contains(message) && !folder.join("new").exists(), "{error}");
        };
        check(&parts[..2], "part 2 of 3 is missing");
        check(&[parts[0].clone(), parts[0].clone(), parts[1].clone(), parts[2].clone()], "part 3 of 3 is there twice");
        check(&[folder.join("one")], "it is not what `--part` writes");
        check(&[], "expected at least one");
    }
    let (plain, everything) = (parent.path().join("plain/part1"), parent.path().join("everything/part1"));
    let error = merged(&[plain.clone(), everything], &parent.path().join("new")).unwrap_err();
    assert!(error.to_string().contains("comes from another conversion"), "{error}");
    let options = ConvertOptions { part: Some(numbered(2, 3)), ..small_options() };
    let error = run(source.path(), &plain, &options).unwrap_err();
    assert!(error.to_string().ends_with("--part was 1/3, now 2/3"), "{error}");
    fs_err::remove_file(plain.join("units/00000.json")).unwrap();
    let parts = [1, 2, 3].map(|number| parent.path().join(format!("plain/part{number}")));
    let error = merged(&parts, &parent.path().join("new")).unwrap_err();
    assert!(matches!(error, DatasetError::PartIncomplete { unit: 0, .. }), "{error}");
}
