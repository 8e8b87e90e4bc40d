//! Row groups in memory: from a fetched byte range to rows, without copying images.

use std::io::Read;
use std::sync::Arc;

use arrow::array::{
    Array, AsArray, BinaryViewArray, BinaryViewBuilder, Int64Array, ListArray, RecordBatch, StringViewArray,
};
use arrow::datatypes::{Int64Type, UInt32Type};
use bytes::{Buf, Bytes};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaDataReader;
use parquet::file::reader::{ChunkReader, Length};

use crate::error::DatasetError;
use crate::local::{LOST, is_lost};
use crate::manifest::RowGroupEntry;
use crate::pages::{CheckedPages, checked_metadata};
use crate::schema::{IMAGE, JPEG_SEGMENTS, LABEL, Layout};

/// One row group in memory. Its images are views into the bytes that were fetched.
#[derive(Debug)]
pub struct EncodedGroup {
    first_sample_id: u64,
    images: BinaryViewArray,
    paths: StringViewArray,
    labels: Int64Array,
    /// There if the data set has an index of restart segments.
    segments: Option<ListArray>,
}

/// One row of a row group, which it keeps in memory.
#[derive(Debug, Clone)]
pub struct EncodedRow {
    group: Arc<EncodedGroup>,
    row: u32,
}

impl EncodedGroup {
    /// How many rows it has.
    pub fn rows(&self) -> u32 {
        self.images.len() as u32
    }

    /// One of its rows; nothing if it has no such row.
    pub fn row(self: &Arc<Self>, row: u32) -> Option<EncodedRow> {
        (row < self.rows()).then(|| EncodedRow { group: self.clone(), row })
    }

    /// Images that lie one after the other in `bytes`, each up to its end, with their paths and classes.
    pub(crate) fn of_images(
        first_sample_id: u64,
        bytes: Vec<u8>,
        ends: &[u32],
        paths: Vec<String>,
        labels: Vec<Option<i64>>,
    ) -> EncodedGroup {
        let mut images = BinaryViewBuilder::with_capacity(ends.len());
        let block = images.append_block(bytes.into());
        let mut start = 0;
        for &end in ends {
            images.try_append_view(block, start, end - start).expect("images lie within the block");
            start = end;
        }
        let (paths, labels) = (StringViewArray::from_iter_values(paths), Int64Array::from(labels));
        EncodedGroup { first_sample_id, images: images.finish(), paths, labels, segments: None }
    }

    /// A copy that holds the images of some rows alone, and the bytes of those; its other rows are empty images. Nothing if
    /// images were lost, which [`EncodedRow::check`] of the rows tells.
    pub(crate) fn copy_of(&self, rows: &[u32]) -> Option<(EncodedGroup, u64)> {
        let length = rows.iter().map(|&row| self.images.value(row as usize).len()).sum();
        let mut bytes = Vec::with_capacity(length);
        let mut ranges = vec![(0, 0); self.images.len()];
        for &row in rows {
            let image = self.images.value(row as usize);
            ranges[row as usize] = (bytes.len() as u32, image.len() as u32);
            bytes.extend_from_slice(image);
        }
        if self.images.data_buffers().iter().any(|buffer| is_lost(buffer)) {
            return None;
        }
        let mut images = BinaryViewBuilder::with_capacity(ranges.len());
        let block = images.append_block(bytes.into());
        for (start, length) in ranges {
            images.try_append_view(block, start, length).expect("images lie within the block");
        }
        let (paths, labels, segments) = (self.paths.clone(), self.labels.clone(), self.segments.clone());
        let first_sample_id = self.first_sample_id;
        Some((EncodedGroup { first_sample_id, images: images.finish(), paths, labels, segments }, length as u64))
    }

    /// Decodes the columns of a row group whose bytes were fetched and verified.
    ///
    /// # Errors
    ///
    /// The reason why they are not what a shard holds.
    pub(crate) fn decode(entry: &RowGroupEntry, bytes: Bytes, footer: &Footer) -> Result<EncodedGroup, String> {
        let range = FetchedRanges { parts: vec![(entry.offset, bytes)] };
        let batch = footer.decode(entry, range, &[IMAGE, LABEL, JPEG_SEGMENTS])?;
        let image = batch.column(0).as_struct();
        let group = EncodedGroup {
            first_sample_id: entry.first_sample_id,
            images: image.column(0).as_binary_view().clone(),
            // Text must stay valid, whatever becomes of the file; and it must not keep all of the row group in memory.
            paths: image.column(1).as_string_view().gc(),
            labels: batch.column(1).as_primitive::<Int64Type>().clone(),
            segments: batch.column_by_name(JPEG_SEGMENTS).map(|column| column.as_list().clone()),
        };
        if image.null_count() + group.images.null_count() > 0 {
            return Err("it has rows without an image".to_owned());
        }
        Ok(group)
    }
}

impl EncodedRow {
    /// The row's position in manifest order.
    pub fn sample_id(&self) -> u64 {
        self.group.first_sample_id + u64::from(self.row)
    }

    /// The encoded image.
    pub fn bytes(&self) -> &[u8] {
        self.group.images.value(self.row as usize)
    }

    /// To be asked when all is done that shall be done with the bytes: whether they were there until now.
    ///
    /// # Errors
    ///
    /// [`DatasetError::ImageLost`] if the shard became shorter meanwhile, or the disk failed.
    pub fn check(&self) -> Result<(), DatasetError> {
        if is_lost(self.bytes()) {
            return Err(DatasetError::ImageLost { path: self.path().to_owned(), sample_id: self.sample_id() });
        }
        Ok(())
    }

    /// The path of the image below its source; empty where none is known.
    pub fn path(&self) -> &str {
        let (paths, row) = (&self.group.paths, self.row as usize);
        if paths.is_null(row) { "" } else { paths.value(row) }
    }

    /// Where the restart segments of the image begin, in bytes from its start; nothing where that is not known.
    ///
    /// The offsets are as the shard has them. Whoever uses them checks that each stands behind its restart marker.
    pub fn segments(&self) -> Option<&[u32]> {
        let (lists, row) = (self.group.segments.as_ref()?, self.row as usize);
        let range = lists.value_offsets()[row] as usize..lists.value_offsets()[row + 1] as usize;
        let values = lists.values().as_primitive::<UInt32Type>().values();
        (lists.is_valid(row) && !range.is_empty()).then(|| &values[range])
    }

    /// The class, as an index into the manifest's class names.
    pub fn label(&self) -> Option<i64> {
        let (labels, row) = (&self.group.labels, self.row as usize);
        labels.is_valid(row).then(|| labels.value(row))
    }
}

/// The footer of a shard, checked against the schema.
#[derive(Debug)]
pub(crate) struct Footer {
    metadata: ArrowReaderMetadata,
}

impl Footer {
    /// Reads the end of a shard, from somewhere before its metadata on.
    ///
    /// # Errors
    ///
    /// The reason why it is not the end of a shard.
    pub(crate) fn parse(tail: &[u8]) -> Result<Footer, String> {
        let metadata = checked_metadata(tail)?;
        let metadata = ParquetMetaDataReader::decode_metadata(metadata).map_err(|error| error.to_string())?;
        let columns = metadata.file_metadata().schema_descr().root_schema().get_fields();
        let segments = columns.iter().any(|column| column.name() == JPEG_SEGMENTS);
        let layout = Layout { segments, images_zstd_level: None };
        let options = ArrowReaderOptions::new().with_schema(layout.schema());
        let metadata = ArrowReaderMetadata::try_new(Arc::new(metadata), options).map_err(|error| error.to_string())?;
        Ok(Footer { metadata })
    }

    /// The byte ranges of the named columns of a row group, for readers that want no images.
    ///
    /// # Errors
    ///
    /// If the footer contradicts the manifest.
    pub(crate) fn column_ranges(&self, entry: &RowGroupEntry, columns: &[&str]) -> Result<Vec<(u64, u64)>, String> {
        let group = self.metadata.metadata().row_groups().get(entry.row_group as usize);
        let group = group.ok_or_else(|| format!("the footer has no row group {}", entry.row_group))?;
        if u64::try_from(group.num_rows()) != Ok(u64::from(entry.rows)) {
            return Err(format!("the manifest says {} rows, the footer {}", entry.rows, group.num_rows()));
        }
        let mut ranges = Vec::new();
        for column in group.columns() {
            let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
            let range = u64::try_from(start).ok().zip(u64::try_from(column.compressed_size()).ok());
            let inside = |&(start, length): &(u64, u64)| {
                start >= entry.offset && start.checked_add(length).is_some_and(|end| end <= entry.offset + entry.length)
            };
            let Some(range) = range.filter(inside) else {
                return Err(format!("column `{}` lies outside of the row group", column.column_path().string()));
            };
            if column.column_path().parts().first().is_some_and(|root| columns.contains(&&**root)) {
                ranges.push(range);
            }
        }
        Ok(ranges)
    }

    /// Decodes the named columns of a row group from the byte ranges that were fetched.
    ///
    /// # Errors
    ///
    /// The reason why that cannot be done.
    pub(crate) fn decode(
        &self,
        entry: &RowGroupEntry,
        fetched: FetchedRanges,
        columns: &[&str],
    ) -> Result<RecordBatch, String> {
        // Also makes sure that the Parquet library meets no range that it would panic over.
        self.column_ranges(entry, columns)?;
        let projection = ProjectionMask::columns(self.metadata.parquet_schema(), columns.iter().copied());
        let parts: Vec<Bytes> = fetched.parts.iter().map(|(_, bytes)| bytes.clone()).collect();
        let pages = CheckedPages { chunks: fetched, known_bytes: entry.image_bytes };
        let mut reader = ParquetRecordBatchReaderBuilder::new_with_metadata(pages, self.metadata.clone())
            .with_row_groups(vec![entry.row_group as usize])
            .with_projection(projection)
            .with_batch_size(entry.rows as usize)
            .build()
            .map_err(|error| error.to_string())?;
        let batch = reader.next().ok_or("it has no rows")?.map_err(|error| error.to_string())?;
        if parts.iter().any(|bytes| is_lost(bytes)) {
            Err(LOST.to_owned())
        } else if batch.num_rows() == entry.rows as usize {
            Ok(batch)
        } else {
            Err(format!("expected {} rows, got {}", entry.rows, batch.num_rows()))
        }
    }
}

/// Byte ranges of a file that are in memory, each with its offset in the file.
pub(crate) struct FetchedRanges {
    pub(crate) parts: Vec<(u64, Bytes)>,
}

impl FetchedRanges {
    fn slice_from(&self, start: u64) -> Result<Bytes, ParquetError> {
        for (offset, bytes) in &self.parts {
            if let Some(skip) = start.checked_sub(*offset)
                && skip < bytes.len() as u64
            {
                return Ok(bytes.slice(skip as usize..));
            }
        }
        Err(ParquetError::EOF(format!("byte {start} was not fetched")))
    }
}

impl Length for FetchedRanges {
    fn len(&self) -> u64 {
        self.parts.iter().map(|(offset, bytes)| offset + bytes.len() as u64).max().unwrap_or(0)
    }
}

impl ChunkReader for FetchedRanges {
    type T = Box<dyn Read>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(Box::new(self.slice_from(start)?.reader()))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let bytes = self.slice_from(start)?;
        if bytes.len() < length {
            return Err(ParquetError::EOF(format!("expected {length} bytes at {start}, got {}", bytes.len())));
        }
        Ok(bytes.slice(..length))
    }
}
