//! Writing row groups into shards, and remembering for the manifest where each lies.

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

use super::{ConvertOptions, Encode, SHARD_PREFIX};
use crate::error::DatasetError;
use crate::manifest::RowGroupEntry;
use crate::schema::{Layout, image_fields, segment_field};

/// Parquet numbers the row groups of a file with 16 bits, and every reader of one parses the footer of all.
const SHARD_GROUPS_MAX: u32 = 10_000;

/// A row of a shard.
pub(super) struct Row {
    pub(super) bytes: Vec<u8>,
    pub(super) path: String,
    pub(super) label: Option<i64>,
    pub(super) width_px: u32,
    pub(super) height_px: u32,
    pub(super) segments: Option<Vec<u32>>,
}

/// Writes row groups to shards of bounded size in a folder.
///
/// Shards are cut by the sizes of the sources, bad ones included, so that where the cuts fall is known before anything
/// is decoded.
pub(super) struct ShardSet<'a> {
    folder: &'a Path,
    shard_bytes: u64,
    schema: SchemaRef,
    properties: WriterProperties,
    current: Option<Shard>,
    /// Row groups of the current shard, those without rows included.
    groups: u32,
    /// Bytes of the sources of those row groups.
    source_bytes: u64,
    shards: u32,
    /// Bytes of the finished shards.
    output_bytes: u64,
    entries: Vec<RowGroupEntry>,
}

impl<'a> ShardSet<'a> {
    pub(super) fn new(
        folder: &'a Path,
        options: &ConvertOptions,
        class_names: &[String],
    ) -> Result<Self, DatasetError> {
        let layout = Layout {
            segments: options.tile_index.is_some(),
            images_zstd_level: match options.encode {
                Encode::Raw { zstd_level, .. } => zstd_level,
                Encode::Keep | Encode::Jpeg { .. } => None,
            },
        };
        let properties = layout.properties(class_names).map_err(|source| DatasetError::write(folder, source))?;
        Ok(ShardSet {
            folder,
            shard_bytes: options.shard_bytes.get(),
            schema: layout.schema(),
            properties,
            current: None,
            groups: 0,
            source_bytes: 0,
            shards: 0,
            output_bytes: 0,
            entries: Vec::new(),
        })
    }

    /// Writes a row group; one without rows only counts towards the size of the shard.
    pub(super) fn write_group(&mut self, rows: Vec<Row>, source_bytes: u64) -> Result<(), DatasetError> {
        let full = self.source_bytes.saturating_add(source_bytes) > self.shard_bytes;
        if self.groups > 0 && (full || self.groups == SHARD_GROUPS_MAX) {
            self.close_shard()?;
        }
        self.groups += 1;
        self.source_bytes += source_bytes;
        if rows.is_empty() {
            return Ok(());
        }
        let mut shard = match self.current.take() {
            Some(shard) => shard,
            None => self.next_shard()?,
        };
        self.entries.push(shard.write_group(rows)?);
        self.current = Some(shard);
        Ok(())
    }

    /// Closes the last shard; gives the entries of all row groups, and the bytes of all shards.
    pub(super) fn finish(mut self) -> Result<(Vec<RowGroupEntry>, u64), DatasetError> {
        self.close_shard()?;
        Ok((self.entries, self.output_bytes))
    }

    fn next_shard(&mut self) -> Result<Shard, DatasetError> {
        let name = format!("{SHARD_PREFIX}{:05}.parquet", self.shards);
        self.shards += 1;
        Shard::create(self.folder, &name, self.schema.clone(), self.properties.clone())
    }

    fn close_shard(&mut self) -> Result<(), DatasetError> {
        self.groups = 0;
        self.source_bytes = 0;
        if let Some(shard) = self.current.take() {
            self.output_bytes += shard.close()?;
        }
        Ok(())
    }
}

struct Shard {
    path: PathBuf,
    name: Arc<str>,
    schema: SchemaRef,
    writer: ArrowWriter<RangeHasher>,
}

impl Shard {
    fn create(
        folder: &Path,
        name: &str,
        schema: SchemaRef,
        properties: WriterProperties,
    ) -> Result<Shard, DatasetError> {
        let path = folder.join(name);
        let file = RangeHasher { file: fs_err::File::create(&path)?, hasher: Xxh3::new(), position: 0 };
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(file, schema.clone(), options)
            .map_err(|source| DatasetError::write(&path, source))?;
        Ok(Shard { path, name: Arc::from(name), schema, writer })
    }

    fn write_group(&mut self, rows: Vec<Row>) -> Result<RowGroupEntry, DatasetError> {
        let (row_count, image_bytes) = (rows.len() as u32, rows.iter().map(|row| row.bytes.len() as u64).sum());
        let (offset, length, xxh3) =
            self.write_range(rows).map_err(|source| DatasetError::write(&self.path, source))?;
        Ok(RowGroupEntry {
            file: self.name.clone(),
            offset,
            length,
            rows: row_count,
            image_bytes,
            xxh3,
            first_sample_id: 0,
            row_group: 0,
        })
    }

    /// Writes a row group; gives the byte range that it takes in the file, and the checksum of that.
    fn write_range(&mut self, rows: Vec<Row>) -> Result<(u64, u64, u64), ParquetError> {
        // The first flush brings out what stands before the row groups.
        self.writer.sync()?;
        let begin = self.writer.inner_mut().begin_range();
        self.writer.write(&batch_of(rows, self.schema.clone())?)?;
        self.writer.flush()?;
        self.writer.sync()?;
        let (end, xxh3) = self.writer.inner().end_range();
        let columns = self.writer.flushed_row_groups().last().map(|group| group.compressed_size() as u64);
        assert_eq!(columns, Some(end - begin), "the columns of a row group fill its byte range without gaps");
        Ok((begin, end - begin, xxh3))
    }

    /// Finishes the file and brings it to the disk; gives its length in bytes.
    fn close(mut self) -> Result<u64, DatasetError> {
        self.writer.finish().map_err(|source| DatasetError::write(&self.path, source))?;
        let sink = self.writer.inner();
        sink.file.sync_all()?;
        Ok(sink.position)
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
    file: fs_err::File,
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
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.position += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
