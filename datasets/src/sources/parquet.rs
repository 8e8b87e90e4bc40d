//! Parquet files with an image column: Hugging Face's image convention, or encoded images as plain binary values.
//!
//! Where a value lies in a Parquet file is known only once its pages are decoded, and each page holds many. So the files
//! are read once, front to back, and the images go to a temporary file.

use std::sync::Arc;

use arrow::array::{Array, AsArray, BinaryViewArray, RecordBatch, StringArray, StringViewArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::FOOTER_SIZE;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length};

use super::blob::{Blob, BlobReader};
use super::catalog::{Catalog, Container, Content, Image, Images};
use super::labels::{LabelIndex, LabelTable};
use super::parquet_columns::{Columns, choose_columns};
use super::spool::Spool;
use super::unpack::unpacks_too_far;
use super::{SourceFormat, SourceOptions};
use crate::error::DatasetError;
use crate::guard::guarded;
use crate::pages::{CheckedPages, checked_metadata};
use crate::ratio::unpacked_bytes_max;

/// Rows are decoded a few at a time, so that these stay below about so many bytes.
const BATCH_BYTES: u64 = 16 << 20;
/// However small the images are.
const BATCH_ROWS_MAX: u64 = 1024;
/// The metadata are in memory as a whole; a row group of ten columns takes a kilobyte of them.
const METADATA_BYTES_MAX: u64 = 256 << 20;
/// Longer paths are left out for the number of the row.
const PATH_BYTES_MAX: usize = 4096;

pub(super) fn open(location: &str, blobs: &[Blob], options: &SourceOptions) -> Result<Catalog, DatasetError> {
    let mut listing = Listing {
        containers: Vec::new(),
        images: Images::default(),
        labels: LabelTable::default(),
        class_names: None,
        spool: Spool::create(&options.spool_folder)?,
    };
    for blob in blobs {
        let mut failure = None;
        let read = guarded(|| listing.read(blob, options).map_err(|error| failure.insert(error).to_string()));
        if let Err(reason) = read {
            return Err(failure.unwrap_or_else(|| blob.damaged(reason)));
        }
    }
    Ok(Catalog {
        format: SourceFormat::Parquet,
        location: location.to_owned(),
        containers: listing.containers,
        images: listing.images,
        labels: match listing.class_names {
            Some(names) => listing.labels.finish_with_names(names),
            None => listing.labels.finish(),
        },
        skipped: 0,
        spool: Some(listing.spool.finish()?),
    })
}

struct Listing {
    containers: Vec<Container>,
    images: Images,
    labels: LabelTable,
    class_names: Option<Vec<String>>,
    spool: Spool,
}

impl Listing {
    fn read(&mut self, blob: &Blob, options: &SourceOptions) -> Result<(), DatasetError> {
        let damaged = |error: ParquetError| match error {
            ParquetError::External(inner) => match inner.downcast::<DatasetError>() {
                Ok(ours) => *ours,
                Err(other) => blob.damaged(other.to_string()),
            },
            error => blob.damaged(error.to_string()),
        };
        let metadata = Arc::new(metadata_of(blob)?);
        let metadata = ArrowReaderMetadata::try_new(metadata, ArrowReaderOptions::new()).map_err(damaged)?;
        let columns = choose_columns(blob, metadata.schema(), options)?;
        if self.containers.is_empty() {
            self.class_names.clone_from(&columns.class_names);
        } else if self.class_names != columns.class_names {
            return Err(blob.damaged("its class names differ from those of the files before"));
        }
        let file = metadata.metadata();
        let groups = file.row_groups();
        let image_bytes = groups.iter().map(RowGroupMetaData::total_byte_size);
        let expected_rows = groups.iter().map(|group| i128::from(group.num_rows())).sum::<i128>();
        let image_bytes = image_bytes.map(|bytes| u64::try_from(bytes).unwrap_or(0)).fold(0, u64::saturating_add);
        let mean_bytes = (image_bytes / u64::try_from(expected_rows.max(1)).unwrap_or(u64::MAX)).max(1);
        let batch_rows = (BATCH_BYTES / mean_bytes).clamp(1, BATCH_ROWS_MAX);
        let schema = Arc::new(viewed(metadata.schema(), columns.image));
        let options = ArrowReaderOptions::new().with_schema(schema);
        let metadata = ArrowReaderMetadata::try_new(file.clone(), options).map_err(damaged)?;
        let pages = CheckedPages { chunks: BlobChunks(blob.clone()), known_bytes: 0 };
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(pages, metadata);
        let roots = std::iter::once(columns.image).chain(columns.label);
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
        let reader = builder.with_projection(mask).with_batch_size(batch_rows as usize).build().map_err(damaged)?;
        let mut rows = 0_i128;
        let begin = self.spool.position();
        for batch in reader {
            let batch = batch.map_err(|error| blob.damaged(error.to_string()))?;
            self.take(blob, &columns, &batch, rows as u64, begin)?;
            rows += batch.num_rows() as i128;
        }
        if rows != expected_rows {
            return Err(blob.damaged(format!("expected {expected_rows} rows, got {rows}")));
        }
        self.containers.push(Container { name: String::new(), content: Content::Spooled });
        Ok(())
    }

    /// Takes the images of a few rows. `begin` is where those of this file begin in the spool.
    fn take(
        &mut self,
        blob: &Blob,
        columns: &Columns,
        batch: &RecordBatch,
        first_row: u64,
        begin: u64,
    ) -> Result<(), DatasetError> {
        // The projection keeps the order of the file, so the label may come before the image.
        let (image, label) = if columns.label.is_some_and(|label| label < columns.image) { (1, 0) } else { (0, 1) };
        let (bytes, paths) = image_parts(batch.column(image).as_ref())
            .ok_or_else(|| blob.damaged("the image column is not of the type that the schema says"))?;
        let label_texts = columns.label.map(|_| cast(batch.column(label), &DataType::Utf8)).transpose();
        let label_texts = label_texts.map_err(|error| blob.damaged(format!("its classes are no text: {error}")))?;
        let label_texts = label_texts.as_ref().and_then(|texts| texts.as_any().downcast_ref::<StringArray>());
        for row in 0..batch.num_rows() {
            let path = paths.filter(|paths| paths.is_valid(row)).map(|paths| paths.value(row));
            let name = match path {
                Some(path) if !path.is_empty() && path.len() <= PATH_BYTES_MAX => path.to_owned(),
                _ => format!("{}/{:08}", blob.name(), first_row + row as u64),
            };
            let label = label_texts.filter(|texts| texts.is_valid(row)).map(|texts| texts.value(row));
            let (label, wrong_label) = self.label(label);
            let offset = self.spool.position();
            let container = self.containers.len();
            let image = Image { container, name: &name, label, offset, bytes: 0 };
            if let Some(reason) = wrong_label {
                self.images.push_bad(&image, reason);
            } else if bytes.is_null(row) {
                self.images.push_bad(&image, "the row has no bytes of an image".to_owned());
            } else {
                let value = bytes.value(row);
                if offset - begin + value.len() as u64 > unpacked_bytes_max(blob.bytes()) {
                    return Err(unpacks_too_far(blob));
                }
                self.spool.append(value)?;
                self.images.push(&Image { bytes: value.len() as u64, ..image });
            }
        }
        Ok(())
    }

    /// The class, or why it is none. Hugging Face writes -1 where there is no class.
    fn label(&mut self, text: Option<&str>) -> (LabelIndex, Option<String>) {
        let (Some(text), Some(names)) = (text, &self.class_names) else {
            return (text.map_or(LabelIndex::NONE, |text| self.labels.index(text)), None);
        };
        match text.parse::<usize>() {
            Ok(class) if class < names.len() => (self.labels.index(text), None),
            _ if text == "-1" => (LabelIndex::NONE, None),
            _ => (LabelIndex::NONE, Some(format!("its class `{text}` is not one of {}", names.len()))),
        }
    }
}

/// What stands at the end of a file.
fn metadata_of(blob: &Blob) -> Result<ParquetMetaData, DatasetError> {
    let mut tail = Vec::new();
    let footer_bytes = blob.bytes().min(FOOTER_SIZE as u64);
    blob.append(blob.bytes() - footer_bytes, footer_bytes, &mut tail)?;
    let length = tail.first_chunk().map_or(0, |length| u64::from(u32::from_le_bytes(*length)));
    if length > METADATA_BYTES_MAX {
        return Err(blob.damaged(format!("expected at most {METADATA_BYTES_MAX} bytes of metadata, got {length}")));
    }
    let bytes = blob.bytes().min(length + footer_bytes);
    tail.clear();
    blob.append(blob.bytes() - bytes, bytes, &mut tail)?;
    let metadata = checked_metadata(&tail).map_err(|reason| blob.damaged(reason))?;
    ParquetMetaDataReader::decode_metadata(metadata).map_err(|error| blob.damaged(error.to_string()))
}

/// Bytes and paths of an image column.
fn image_parts(column: &dyn Array) -> Option<(&BinaryViewArray, Option<&StringViewArray>)> {
    let Some(image) = column.as_struct_opt() else { return Some((column.as_binary_view_opt()?, None)) };
    let bytes = image.column_by_name("bytes")?.as_binary_view_opt()?;
    let paths = image.column_by_name("path").and_then(|path| path.as_string_view_opt());
    Some((bytes, paths))
}

/// The schema, with views for the values of the image column: those share the memory of pages, so that a value that a
/// dictionary names a thousand times is in memory once.
fn viewed(schema: &Schema, image: usize) -> Schema {
    let fields = schema.fields().iter().enumerate();
    let fields: Fields =
        fields.map(|(at, field)| if at == image { view_field(field) } else { field.clone() }).collect();
    Schema::new(fields)
}

fn view_field(field: &FieldRef) -> FieldRef {
    let kind = match field.data_type() {
        DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(view_field).collect()),
        other => other.clone(),
    };
    Arc::new(Field::new(field.name(), kind, field.is_nullable()).with_metadata(field.metadata().clone()))
}

/// A file as the Parquet library reads it.
struct BlobChunks(Blob);

impl Length for BlobChunks {
    fn len(&self) -> u64 {
        self.0.bytes()
    }
}

impl BlobChunks {
    fn check(&self, start: u64, bytes: u64) -> Result<(), ParquetError> {
        if start.checked_add(bytes).is_some_and(|end| end <= self.0.bytes()) {
            return Ok(());
        }
        Err(ParquetError::EOF(format!("{bytes} bytes from byte {start} on, of {}", self.0.bytes())))
    }
}

impl ChunkReader for BlobChunks {
    type T = BlobReader;

    fn get_read(&self, start: u64) -> Result<BlobReader, ParquetError> {
        self.check(start, 0)?;
        let mut reader = self.0.reader();
        reader.skip(start);
        Ok(reader)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.check(start, length as u64)?;
        let mut bytes = Vec::new();
        self.0.append(start, length as u64, &mut bytes).map_err(|error| ParquetError::External(Box::new(error)))?;
        Ok(bytes.into())
    }
}
