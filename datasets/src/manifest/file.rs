//! `manifest.parquet`: the manifest as bytes, and back.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, UInt32Type, UInt64Type};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, ParquetMetaDataReader};

use super::{Manifest, RowGroupEntry};
use crate::error::DatasetError;
use crate::guard::guarded;
use crate::pages::{CheckedPages, checked_metadata};
use crate::schema::{SCHEMA_VERSION, common_properties};

const VERSION_KEY: &str = "patchstream.schema_version";
const CLASSES_KEY: &str = "patchstream.class_names";
const CONVERSION_KEY: &str = "patchstream.conversion";
const PIXELS_KEY: &str = "patchstream.pixel_stats";
const FINGERPRINT_KEY: &str = "patchstream.fingerprint";

/// Rows of the manifest that are in a page, and in Arrow form at one time.
const BATCH_ROWS: usize = 8192;

fn manifest_schema() -> Arc<Schema> {
    let column = |name, kind| Field::new(name, kind, false);
    Arc::new(Schema::new(vec![
        column("file", DataType::Utf8),
        column("offset", DataType::UInt64),
        column("length", DataType::UInt64),
        column("rows", DataType::UInt32),
        column("image_bytes", DataType::UInt64),
        column("xxh3", DataType::UInt64),
    ]))
}

impl Manifest {
    /// Writes the manifest in the Parquet format.
    pub(crate) fn write(&self, to: impl Write + Send) -> Result<(), ParquetError> {
        let mut metadata = vec![
            (VERSION_KEY, SCHEMA_VERSION.to_string()),
            (CLASSES_KEY, serde_json::json!(self.class_names).to_string()),
            (CONVERSION_KEY, self.conversion.to_string()),
            (FINGERPRINT_KEY, format!("{:016x}", self.fingerprint())),
        ];
        if let Some(stats) = self.pixel_stats {
            metadata.push((PIXELS_KEY, serde_json::json!(stats).to_string()));
        }
        let metadata = metadata.into_iter().map(|(key, value)| KeyValue::new(key.to_owned(), value)).collect();
        // Pages of so many rows, for a reader need not have more than one of each column in memory.
        let properties = common_properties()?.set_data_page_row_count_limit(BATCH_ROWS);
        let properties = properties.set_key_value_metadata(Some(metadata)).build();
        let mut writer = ArrowWriter::try_new(to, manifest_schema(), Some(properties))?;
        for entries in self.row_groups.chunks(BATCH_ROWS) {
            writer.write(&batch_of(entries)?)?;
        }
        writer.close()?;
        Ok(())
    }

    /// Reads the bytes of a manifest; `path` is for messages.
    ///
    /// # Errors
    ///
    /// [`DatasetError::ManifestVersion`] for another version, [`DatasetError::ManifestCorrupt`] for anything that is
    /// not as [`Manifest::write`] writes it.
    pub(crate) fn parse(bytes: Bytes, path: &str) -> Result<Manifest, DatasetError> {
        let corrupt = |reason: String| DatasetError::ManifestCorrupt { path: path.to_owned(), reason };
        let open = || {
            let metadata = ParquetMetaDataReader::decode_metadata(checked_metadata(&bytes)?);
            let metadata =
                metadata.and_then(|read| ArrowReaderMetadata::try_new(read.into(), ArrowReaderOptions::new()));
            metadata.map_err(|error| error.to_string())
        };
        let metadata = guarded(open).map_err(corrupt)?;
        let pages = CheckedPages { chunks: bytes, known_bytes: 0 };
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(pages, metadata);
        let pairs = reader.metadata().file_metadata().key_value_metadata().cloned().unwrap_or_default();
        let value = |key: &str| pairs.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.clone());
        let version = value(VERSION_KEY).ok_or_else(|| corrupt(format!("the key `{VERSION_KEY}` is missing")))?;
        if version != SCHEMA_VERSION.to_string() {
            return Err(DatasetError::ManifestVersion {
                path: path.to_owned(),
                expected: SCHEMA_VERSION,
                got: version,
            });
        }
        if reader.schema().fields() != manifest_schema().fields() {
            return Err(corrupt("its columns are not those of a manifest".to_owned()));
        }
        let read_entries = || -> Result<Vec<RowGroupEntry>, String> {
            let mut entries = Vec::new();
            for batch in reader.with_batch_size(BATCH_ROWS).build().map_err(|error| error.to_string())? {
                append_entries(&batch.map_err(|error| error.to_string())?, &mut entries);
            }
            Ok(entries)
        };
        let entries = guarded(read_entries).map_err(corrupt)?;
        let json = |key: &str| value(key).unwrap_or_else(|| "null".to_owned());
        let parsed = |key: &str, error: serde_json::Error| corrupt(format!("the key `{key}` is not valid: {error}"));
        let class_names = serde_json::from_str(&json(CLASSES_KEY)).map_err(|error| parsed(CLASSES_KEY, error))?;
        let conversion = serde_json::from_str(&json(CONVERSION_KEY)).map_err(|error| parsed(CONVERSION_KEY, error))?;
        let pixel_stats = serde_json::from_str(&json(PIXELS_KEY)).map_err(|error| parsed(PIXELS_KEY, error))?;
        let manifest = Manifest::new(entries, class_names, conversion, pixel_stats).map_err(corrupt)?;
        let (expected, got) = (json(FINGERPRINT_KEY), format!("{:016x}", manifest.fingerprint()));
        if expected != got {
            return Err(corrupt(format!("expected fingerprint {expected}, got {got}")));
        }
        Ok(manifest)
    }
}

fn batch_of(entries: &[RowGroupEntry]) -> Result<RecordBatch, ParquetError> {
    let longs =
        |of: fn(&RowGroupEntry) -> u64| -> ArrayRef { Arc::new(UInt64Array::from_iter_values(entries.iter().map(of))) };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(entries.iter().map(|entry| &*entry.file))),
        longs(|entry| entry.offset),
        longs(|entry| entry.length),
        Arc::new(UInt32Array::from_iter_values(entries.iter().map(|entry| entry.rows))),
        longs(|entry| entry.image_bytes),
        longs(|entry| entry.xxh3),
    ];
    Ok(RecordBatch::try_new(manifest_schema(), columns)?)
}

/// Appends the rows of a batch whose schema was checked; file names are shared by neighbours.
fn append_entries(batch: &RecordBatch, entries: &mut Vec<RowGroupEntry>) {
    let files = batch.column(0).as_string::<i32>();
    let [offset, length, image_bytes, xxh3] = [1, 2, 4, 5].map(|at| batch.column(at).as_primitive::<UInt64Type>());
    let rows = batch.column(3).as_primitive::<UInt32Type>();
    for at in 0..files.len() {
        let name = files.value(at);
        let file = match entries.last() {
            Some(previous) if &*previous.file == name => previous.file.clone(),
            _ => Arc::from(name),
        };
        entries.push(RowGroupEntry {
            file,
            offset: offset.value(at),
            length: length.value(at),
            rows: rows.value(at),
            image_bytes: image_bytes.value(at),
            xxh3: xxh3.value(at),
            first_sample_id: 0,
            row_group: 0,
        });
    }
}
