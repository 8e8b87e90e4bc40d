//! Files of every kind with bytes changed, cut or doubled: each gives images or an error, and never a panic.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::tars::{archive, file, gzip};
use super::*;

/// A file of every kind, by the name that it is opened under.
static WHOLE: LazyLock<Vec<(&str, Vec<u8>)>> = LazyLock::new(|| {
    let tar = archive(&[
        file("a/1.jpg", b"one"),
        file("a/1.cls", b"7"),
        file("2.json", b"{\"label\": 3}"),
        file("2.png", &[2; 99]),
    ]);
    let folder = tempfile::tempdir().unwrap();
    let parquet = folder.path().join("x.parquet");
    super::columns::hugging_face(&parquet, &["ant", "bee"]);
    let idx = [&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3][..], &[5; 12]].concat();
    vec![
        ("s.tar.zst", zstd::encode_all(&*tar, 3).unwrap()),
        ("s.tar.gz", gzip(&tar)),
        ("s.tar", tar),
        ("x.parquet", fs_err::read(parquet).unwrap()),
        ("images-idx3-ubyte.gz", gzip(&idx)),
        ("images-idx3-ubyte", idx),
        ("data_batch_1.bin", vec![1; 2 * 3073]),
        ("l.csv", b"path,label\na.jpg,cat\n\"b c.jpg\",dog\n".to_vec()),
        ("l.tsv", b"path\tlabel\na.jpg\t1\n".to_vec()),
        ("l.jsonl", b"{\"path\": \"a.jpg\", \"label\": 1}\n{\"path\": \"b.jpg\"}\n".to_vec()),
    ]
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_is_more_than_an_error(
        which in 0..10_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        doubled in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let (name, mut bytes) = WHOLE[which].clone();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(from) = doubled {
            let tail = bytes[from.index(bytes.len())..].to_vec();
            bytes.extend(tail);
        }
        if let Some(length) = cut {
            bytes.truncate(length.index(bytes.len()));
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs_err::write(&path, &bytes).unwrap();
        if let Ok(source) = open(path.to_str().unwrap(), &SourceOptions::default()) {
            images(source.as_ref());
        }
    }
}
