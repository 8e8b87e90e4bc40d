use std::num::NonZeroU64;

use super::*;
use crate::testing::{PpmExaminer, dataset, open, source};

#[test]
fn summary_counts_everything() {
    let (_parent, dataset) = dataset(61);
    let summary = summarize(&dataset).unwrap();
    assert_eq!((summary.rows, summary.rows_examined, summary.unlabelled), (61, 61, 0));
    let classes: Vec<_> = summary.classes.iter().map(|class| (class.name.as_str(), class.rows)).collect();
    assert_eq!(classes, [("ant", 21), ("bee", 20), ("cow", 20)]);
    assert_eq!(summary.width_px, Distribution { min: 2, median: 2.0, mean: 2.0, max: 2 });
    assert_eq!(summary.height_px.max, 3);
    assert_eq!(summary.oddities, Oddities { tiny_images: 61, ..Oddities::default() });
    assert_eq!(summary.formats.keys().collect::<Vec<_>>(), ["pnm"]);
    assert_eq!(summary.image_bytes, (0..61).map(|image| 29 + 10 * image).sum::<u64>());
    assert!(summary.shards > 1 && summary.row_groups > summary.shards, "{summary:?}");
    assert!(serde_json::to_string(&summary).unwrap().contains("row_group_bytes"));
}

#[test]
fn samples_are_spread_and_pixels_measured() {
    let (_parent, dataset) = dataset(61);
    let ids = |count, seed| -> Vec<u64> {
        sample_rows(&dataset, NonZeroU64::new(count).unwrap(), seed).map(|row| row.unwrap().sample_id()).collect()
    };
    assert_eq!(ids(100, 3), (0..61).collect::<Vec<_>>());
    let six = ids(6, 0);
    assert!(six.len() == 6 && six.windows(2).all(|pair| (10..=11).contains(&(pair[1] - pair[0]))), "{six:?}");
    assert!((1..20).any(|seed| ids(6, seed) != six), "the seed decides");

    let stats = measure_pixels(&dataset, &PpmExaminer, NonZeroU64::new(9).unwrap(), 0).unwrap().unwrap();
    assert!(stats.images == 9 && (stats.mean[0] - 100.0 / 255.0).abs() < 1e-12, "{stats:?}");
}

#[test]
fn verification_names_damaged_groups_and_rows() {
    let (parent, whole) = dataset(40);
    let found = verify(&whole, Some(&PpmExaminer), &|_| {}).unwrap();
    assert_eq!((found.rows, found.damaged_groups.len(), found.damaged_rows.len()), (40, 0, 0));

    let entry = whole.manifest().row_groups()[1].clone();
    let shard = parent.path().join("set").join(&*entry.file);
    let mut bytes = fs_err::read(&shard).unwrap();
    bytes[(entry.offset + entry.length / 2) as usize] ^= 1;
    fs_err::write(&shard, bytes).unwrap();
    let found = verify(&open(&parent.path().join("set")), None, &|_| {}).unwrap();
    assert_eq!(found.damaged_groups.len(), 1);
    assert_eq!((found.damaged_groups[0].group, found.damaged_groups[0].row_group), (1, 1));
    assert!(found.damaged_groups[0].reason.contains("expected XXH3-64"), "{found:?}");
    assert_eq!(found.rows, 40 - u64::from(entry.rows));
}

#[test]
fn verification_survives_decoders_that_panic() {
    let (source, parent) = (source(3), tempfile::tempdir().unwrap());
    fs_err::write(source.path().join("ant/13.ppm"), crate::testing::ppm(13, 0)).unwrap();
    fs_err::write(source.path().join("ant/14.ppm"), crate::testing::ppm(14, 0)).unwrap();
    let destination = parent.path().join("set");
    let source = crate::sources::FolderSource::open(source.path()).unwrap();
    crate::convert(&source, &destination, &crate::testing::small_options(), &PpmExaminer, &|_| {}).unwrap();
    let found = verify(&open(&destination), Some(&PpmExaminer), &|_| {}).unwrap();
    let mut rows: Vec<_> = found.damaged_rows.iter().map(|row| (row.path.as_str(), row.reason.as_str())).collect();
    rows.sort_unstable();
    assert_eq!(rows, [("ant/13.ppm", "unlucky"), ("ant/14.ppm", "the decoder panicked")]);
}
