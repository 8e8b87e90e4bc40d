use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::error::DatasetError;

fn entry(file: &str, offset: u64, rows: u32) -> RowGroupEntry {
    RowGroupEntry {
        file: Arc::from(file),
        offset,
        length: 1000,
        rows,
        image_bytes: 500,
        xxh3: u64::MAX - offset,
        first_sample_id: 0,
        row_group: 0,
    }
}

fn good() -> Manifest {
    let entries = vec![entry("a.parquet", 4, 10), entry("a.parquet", 1004, 5), entry("b.parquet", 4, 7)];
    let stats = PixelStats { mean: [0.1, 0.2, 0.3], std: [0.4, 0.5, 0.6], images: 3 };
    Manifest::new(entries, vec!["cat".into(), "dog".into()], serde_json::json!({ "seed": 7 }), Some(stats)).unwrap()
}

fn bytes_of(manifest: &Manifest) -> Vec<u8> {
    let mut bytes = Vec::new();
    manifest.write(&mut bytes).unwrap();
    bytes
}

#[test]
fn round_trip_keeps_everything() {
    let manifest = good();
    let read = Manifest::parse(Bytes::from(bytes_of(&manifest)), "m").unwrap();
    assert_eq!(read, manifest);
    assert_eq!(read.rows(), 22);
    assert_eq!(read.shards(), 2);
    assert_eq!(read.row_groups().iter().map(|entry| entry.row_group).collect::<Vec<_>>(), [0, 1, 0]);
    assert_eq!(
        [0, 9, 10, 15, 21, 22].map(|id| read.locate(id)),
        [Some((0, 0)), Some((0, 9)), Some((1, 0)), Some((2, 0)), Some((2, 6)), None]
    );
}

#[test]
fn fingerprint_depends_on_content() {
    let manifest = good();
    let mut other = manifest.clone();
    other.class_names.pop();
    assert_ne!(manifest.fingerprint(), other.fingerprint());
    let mut other = manifest.clone();
    other.row_groups[1].xxh3 ^= 1;
    assert_ne!(manifest.fingerprint(), other.fingerprint());
}

#[test]
fn broken_entries_are_refused() {
    let check = |entries: Vec<RowGroupEntry>, message: &str| {
        let error = Manifest::new(entries, Vec::new(), serde_json::Value::Null, None).unwrap_err();
        assert!(error.contains(message), "{error}");
    };
    for name in ["", "/etc/passwd", "../b.parquet", "a/../../b", "a\\b", "c:/x", "a//b", "./a"] {
        check(vec![entry(name, 4, 1)], "is not the name of a file in the data set");
    }
    check(vec![entry("a", 4, 0)], "it has no rows");
    check(vec![entry("a", 4, 251)], "do not fit in 1000");
    check(vec![entry("a", u64::MAX - 10, 1)], "does not fit in 64 bits");
    check(vec![RowGroupEntry { length: u64::MAX, ..entry("a", 4, 1) }], "expected at most");
    check(vec![entry("a", 4, 1), entry("a", 1003, 1)], "begins before the end");
    check(vec![entry("a", 4, 1), entry("b", 4, 1), entry("a", 1004, 1)], "do not stand together");
}

#[test]
fn other_versions_and_files_are_refused() {
    let bytes = bytes_of(&good());
    // The version is a text of one byte; its place is found by the key before it.
    let key = b"patchstream.schema_version";
    let at = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len();
    let digit = at + bytes[at..].iter().position(|&byte| byte == b'1').unwrap();
    let mut newer = bytes.clone();
    newer[digit] = b'2';
    let error = Manifest::parse(Bytes::from(newer), "m").unwrap_err();
    assert!(matches!(&error, DatasetError::ManifestVersion { expected: 1, got, .. } if got == "2"), "{error}");
    assert!(error.hint().is_some());

    for cut in [0, 3, 10, bytes.len() / 2, bytes.len() - 1] {
        let error = Manifest::parse(Bytes::copy_from_slice(&bytes[..cut]), "m").unwrap_err();
        assert!(matches!(error, DatasetError::ManifestCorrupt { .. }), "{error}");
    }
}

proptest! {
    /// Whatever bytes change: no panic, and never a manifest that differs in content without being noticed.
    #[test]
    fn mutated_bytes_never_pass_for_another_manifest(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let manifest = good();
        let mut bytes = bytes_of(&manifest);
        for (index, value) in changes {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(read) = Manifest::parse(Bytes::from(bytes), "m") {
            prop_assert_eq!(read.fingerprint(), manifest.fingerprint());
        }
    }
}
