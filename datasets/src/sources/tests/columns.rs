use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Int64Array, LargeBinaryArray, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use super::*;

const BYTES: [Option<&[u8]>; 4] = [Some(b"one"), None, Some(b""), Some(&[4; 300])];

fn write(path: &Path, columns: Vec<(&str, ArrayRef)>, huggingface: Option<&str>) {
    write_packed(path, columns, huggingface, Compression::SNAPPY);
}

fn write_packed(path: &Path, columns: Vec<(&str, ArrayRef)>, huggingface: Option<&str>, compression: Compression) {
    let fields: Vec<Field> =
        columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    let metadata: std::collections::HashMap<String, String> =
        huggingface.map(|text| ("huggingface".to_owned(), text.to_owned())).into_iter().collect();
    let schema = Arc::new(Schema::new(fields).with_metadata(metadata));
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
    let properties = WriterProperties::builder().set_compression(compression).set_max_row_group_row_count(Some(3));
    let file = fs_err::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, schema, Some(properties.build())).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// As Hugging Face `datasets` writes images.
pub(super) fn hugging_face(path: &Path, names: &[&str]) {
    let bytes: ArrayRef = Arc::new(BinaryArray::from_opt_vec(BYTES.to_vec()));
    let paths: ArrayRef = Arc::new(StringArray::from(vec![Some("a/1.jpg"), Some("2.jpg"), None, Some("")]));
    let image = StructArray::from(vec![
        (Arc::new(Field::new("bytes", DataType::Binary, true)), bytes),
        (Arc::new(Field::new("path", DataType::Utf8, true)), paths),
    ]);
    let labels = Int64Array::from(vec![Some(1), Some(0), Some(-1), Some(9)]);
    let features = serde_json::json!({"info": {"features": {
        "class": {"names": names, "_type": "ClassLabel"}, "photo": {"_type": "Image"}, "depth": {"_type": "Value"},
    }}});
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("class", Arc::new(labels)),
        ("depth", Arc::new(BinaryArray::from_opt_vec(BYTES.to_vec()))),
        ("photo", Arc::new(image)),
    ];
    write(path, columns, Some(&features.to_string()));
}

#[test]
fn the_convention_of_hugging_face() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train-0.parquet");
    hugging_face(&path, &["ant", "bee"]);
    let source = source(folder.path());
    let expected = [
        good("a/1.jpg", Some(1), b"one"),
        bad("2.jpg", Some(0), "the row has no bytes of an image"),
        good("train-0.parquet/00000002", None, b""),
        bad("train-0.parquet/00000003", None, "its class `9` is not one of 2"),
    ];
    assert_eq!(images(source.as_ref()), expected);
    assert_eq!((source.class_names(), source.format().name()), (&["ant", "bee"].map(str::to_owned)[..], "parquet"));

    hugging_face(&folder.path().join("train-1.parquet"), &["ant", "cow"]);
    assert!(refused(folder.path(), &SourceOptions::default()).contains("class names differ"));
    hugging_face(&folder.path().join("test-1.parquet"), &["ant", "bee"]);
    assert!(refused(folder.path(), &SourceOptions::default()).contains("has the splits `test`, `train`"));
}

#[test]
fn every_usual_compression() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.parquet");
    for compression in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(parquet::basic::GzipLevel::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
        Compression::ZSTD(parquet::basic::ZstdLevel::default()),
    ] {
        let image: ArrayRef = Arc::new(BinaryArray::from_vec(vec![b"one", &[7; 5000]]));
        write_packed(&path, vec![("image", image)], None, compression);
        let expected = [good("x.parquet/00000000", None, b"one"), good("x.parquet/00000001", None, &[7; 5000])];
        assert_eq!(images(source(&path).as_ref()), expected, "{compression}");
    }
}

#[test]
fn plain_columns_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.parquet");
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("thumb", Arc::new(BinaryArray::from_opt_vec(BYTES.to_vec()))),
        ("full", Arc::new(LargeBinaryArray::from_opt_vec(BYTES.to_vec()))),
        ("kind", Arc::new(StringArray::from(vec![Some("dog"), None, Some("cat"), Some("dog")]))),
    ];
    write(&path, columns, None);
    assert!(refused(&path, &SourceOptions::default()).contains("several columns may hold images"));
    let options = |image: &str, label: &str| SourceOptions {
        image_column: Some(image.to_owned()),
        label_column: Some(label.to_owned()),
        ..SourceOptions::default()
    };
    let source = open(path.to_str().unwrap(), &options("full", "kind")).unwrap();
    let expected = [
        good("x.parquet/00000000", Some(1), b"one"),
        bad("x.parquet/00000001", None, "the row has no bytes of an image"),
        good("x.parquet/00000002", Some(0), b""),
        good("x.parquet/00000003", Some(1), &[4; 300]),
    ];
    assert_eq!(images(source.as_ref()), expected);
    assert_eq!(source.class_names(), ["cat", "dog"]);
    assert!(refused(&path, &options("kind", "kind")).contains("expected binary values"));
    assert!(refused(&path, &options("full", "thumb")).contains("expected whole numbers or text"));
    assert!(refused(&path, &options("half", "kind")).contains("no column `half`, only `thumb`, `full`, `kind`"));
}

#[test]
fn our_own_shards_come_back_with_their_paths() {
    let (parent, dataset) = crate::testing::dataset(20);
    let source = source(&parent.path().join("set"));
    let rows = (0..dataset.manifest().row_groups().len()).flat_map(|group| {
        let group = dataset.read_group(group).unwrap();
        (0..group.rows()).map(|row| group.row(row).unwrap()).collect::<Vec<_>>()
    });
    let rows: Vec<Image> = rows.map(|row| good(row.path(), row.label(), row.bytes())).collect();
    assert_eq!(images(source.as_ref()), rows);
    assert_eq!(source.class_names(), dataset.manifest().class_names());
}

#[test]
fn counts_that_lie_and_dictionaries_that_explode_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.parquet");
    fs_err::write(&path, b"PAR1\xff\xff\xff\x7fPAR1").unwrap();
    assert!(refused(&path, &SourceOptions::default()).contains("is damaged"));

    hugging_face(&path, &["ant", "bee"]);
    let whole = fs_err::read(&path).unwrap();
    let footer_bytes = u32::from_le_bytes(whole[whole.len() - 8..whole.len() - 4].try_into().unwrap()) as usize;
    let footer = whole.len() - 8 - footer_bytes;
    // The counts in the footer are single bytes of variable length; every byte of it is made to lie in turn.
    let mut refusals = 0;
    for at in footer..whole.len() - 8 {
        let mut lying = whole.clone();
        lying[at] ^= 0x7e;
        fs_err::write(&path, lying).unwrap();
        if let Ok(source) = open(path.to_str().unwrap(), &SourceOptions::default()) {
            images(source.as_ref());
        } else {
            refusals += 1;
        }
    }
    assert!(refusals > 20, "only {refusals} lies were found out");

    // One value of 1 MiB, named by a hundred rows, in a file of some kilobytes.
    let value = vec![0; 1 << 20];
    let image: ArrayRef = Arc::new(BinaryArray::from_opt_vec(vec![Some(&value[..]); 100]));
    let batch = RecordBatch::try_from_iter([("image", image)]).unwrap();
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(parquet::basic::ZstdLevel::default()))
        .set_dictionary_page_size_limit(1 << 30);
    let file = fs_err::File::create(&path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties.build())).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    assert!(fs_err::metadata(&path).unwrap().len() < 1 << 18);
    assert!(refused(&path, &SourceOptions::default()).contains("unpack to more than"));
}
