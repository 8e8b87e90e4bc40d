//! Writing row groups into a shard, and remembering for the manifest where each lies.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryViewBuilder, Int64Array, ListArray, ListBuilder, RecordBatch, StringViewArray, StructArray,
    UInt32Array, UInt32Builder,
};
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use xxhash_rust::xxh3::Xxh3;

use super::record::GroupRecord;
use crate::error::DatasetError;
use crate::schema::{Layout, image_fields, segment_field};

/// A row of a shard.
pub(super) struct Row {
    pub(super) bytes: Vec<u8>,
    pub(super) path: String,
    pub(super) label: Option<i64>,
    pub(super) width_px: u32,
    pub(super) height_px: u32,
    pub(super) segments: Option<Vec<u32>>,
}

/// What all shards of a data set have in common.
#[derive(Clone)]
pub(super) struct ShardFormat {
    schema: SchemaRef,
    properties: WriterProperties,
}

impl ShardFormat {
    pub(super) fn new(layout: Layout, class_names: &[String]) -> Result<ShardFormat, ParquetError> {
        Ok(ShardFormat { schema: layout.schema(), properties: layout.properties(class_names)? })
    }
}

/// A shard that is being written.
pub(super) struct Shard {
    path: PathBuf,
    format: ShardFormat,
    writer: ArrowWriter<RangeHasher>,
    groups: Vec<GroupRecord>,
}

/// A shard that is written but perhaps not on the disk yet.
pub(super) struct WrittenShard {
    pub(super) file: Arc<fs_err::File>,
    pub(super) bytes: u64,
    pub(super) groups: Vec<GroupRecord>,
}

impl Shard {
    pub(super) fn create(path: &Path, format: &ShardFormat) -> Result<Shard, DatasetError> {
        let file = Arc::new(fs_err::File::create(path)?);
        let sink = RangeHasher { file, hasher: Xxh3::new(), position: 0 };
        let options =
            ArrowWriterOptions::new().with_properties(format.properties.clone()).with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(sink, format.schema.clone(), options)
            .map_err(|source| DatasetError::write(path, source))?;
        Ok(Shard { path: path.to_owned(), format: format.clone(), writer, groups: Vec::new() })
    }

    /// Writes a row group, adopting the images' bytes without a copy.
    pub(super) fn write_rows(&mut self, rows: Vec<Row>) -> Result<(), DatasetError> {
        let image_bytes = rows.iter().map(|row| row.bytes.len() as u64).sum();
        let batch = batch_of(rows, self.format.schema.clone());
        let batch = batch.map_err(|source| DatasetError::write(&self.path, source))?;
        self.write_batch(&batch, image_bytes)
    }

    /// Writes a row group whose images have so many bytes.
    pub(super) fn write_batch(&mut self, batch: &RecordBatch, image_bytes: u64) -> Result<(), DatasetError> {
        let written = self.write_range(batch).map_err(|source| DatasetError::write(&self.path, source))?;
        let (offset, length, xxh3) = written;
        self.groups.push(GroupRecord { offset, length, rows: batch.num_rows() as u32, image_bytes, xxh3 });
        Ok(())
    }

    /// The file, for whoever brings it to the disk meanwhile.
    pub(super) fn file(&self) -> &Arc<fs_err::File> {
        &self.writer.inner().file
    }

    /// Bytes written until now.
    pub(super) fn bytes(&self) -> u64 {
        self.writer.inner().position
    }

    /// Writes the footer.
    pub(super) fn finish(mut self) -> Result<WrittenShard, DatasetError> {
        self.writer.finish().map_err(|source| DatasetError::write(&self.path, source))?;
        let sink = self.writer.inner();
        Ok(WrittenShard { file: sink.file.clone(), bytes: sink.position, groups: self.groups })
    }

    /// Writes a row group; gives the byte range that it takes in the file, and the checksum of that.
    fn write_range(&mut self, batch: &RecordBatch) -> Result<(u64, u64, u64), ParquetError> {
        // The first flush brings out what stands before the row groups.
        self.writer.sync()?;
        let begin = self.writer.inner_mut().begin_range();
        self.writer.write(batch)?;
        self.writer.flush()?;
        self.writer.sync()?;
        let (end, xxh3) = self.writer.inner().end_range();
        let columns = self.writer.flushed_row_groups().last().map(|group| group.compressed_size() as u64);
        assert_eq!(columns, Some(end - begin), "the columns of a row group fill its byte range without gaps");
        Ok((begin, end - begin, xxh3))
    }
}

/// Arrow form of rows. Image bytes are adopted, not copied.
fn batch_of(rows: Vec<Row>, schema: SchemaRef) -> Result<RecordBatch, ParquetError> {
    let paths = StringViewArray::from_iter_values(rows.iter().map(|row| &row.path));
    let labels = rows.iter().map(|row| row.label).collect::<Int64Array>();
    let widths = UInt32Array::from_iter_values(rows.iter().map(|row| row.width_px));
    let heights = UInt32Array::from_iter_values(rows.iter().map(|row| row.height_px));
    let segments = segments_of(&rows);
    let mut bytes = BinaryViewBuilder::with_capacity(rows.len());
    for row in rows {
        let length = row.bytes.len() as u32;
        let block = bytes.append_block(Buffer::from_vec(row.bytes));
        bytes.try_append_view(block, 0, length)?;
    }
    let image_columns: Vec<ArrayRef> = vec![Arc::new(bytes.finish()), Arc::new(paths)];
    let image = StructArray::try_new(image_fields(), image_columns, None)?;
    let mut columns: Vec<ArrayRef> = vec![Arc::new(image), Arc::new(labels), Arc::new(widths), Arc::new(heights)];
    if schema.fields().len() > columns.len() {
        columns.push(Arc::new(segments));
    }
    Ok(RecordBatch::try_new(schema, columns)?)
}

/// A list for each row that has segments, null for all others.
fn segments_of(rows: &[Row]) -> ListArray {
    let mut lists = ListBuilder::new(UInt32Builder::new()).with_field(segment_field());
    for row in rows {
        if let Some(segments) = &row.segments {
            lists.values().append_slice(segments);
        }
        lists.append(row.segments.is_some());
    }
    lists.finish()
}

/// A file that sums up what is written to it.
struct RangeHasher {
    file: Arc<fs_err::File>,
    hasher: Xxh3,
    position: u64,
}

impl RangeHasher {
    fn begin_range(&mut self) -> u64 {
        self.hasher.reset();
        self.position
    }

    fn end_range(&self) -> (u64, u64) {
        (self.position, self.hasher.digest())
    }
}

impl Write for RangeHasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = (&*self.file).write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.position += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self.file).flush()
    }
}
