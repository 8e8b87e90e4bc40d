//! The layout of a shard: what its columns are, and how they are stored.
//!
//! `image: struct<bytes: binary, path: string>`, `label: int64` (nullable), `width: uint32`, `height: uint32`. This is the
//! image convention of Hugging Face `datasets`, whose description of the columns lies under the schema key
//! `huggingface`, so that it, and every Parquet reader, opens a shard as it is. By option there is a fifth column,
//! `jpeg_segments: list<uint32>` (nullable).

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use serde_json::json;

/// The version of shards and manifest that this crate writes and reads.
pub const SCHEMA_VERSION: u32 = 1;
/// The column that holds image bytes and path.
pub const IMAGE: &str = "image";
/// The field of [`IMAGE`] that holds the encoded image.
pub const BYTES: &str = "bytes";
/// The field of [`IMAGE`] that holds the path of the image below its source.
pub const PATH: &str = "path";
/// The column that holds the class.
pub const LABEL: &str = "label";
/// The column that holds the width in pixels, as the image's header tells it.
pub const WIDTH: &str = "width";
/// The column that holds the height in pixels, as the image's header tells it.
pub const HEIGHT: &str = "height";

/// The column that tells where the restart segments of a JPEG begin; null for images that have none.
pub const JPEG_SEGMENTS: &str = "jpeg_segments";

/// What may differ between data sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Whether there is the column [`JPEG_SEGMENTS`].
    pub(crate) segments: bool,
    /// The level of zstd for the images; without it they are stored as they are.
    pub(crate) images_zstd_level: Option<i32>,
}

impl Layout {
    /// The Arrow schema of a shard, image bytes and paths as views, so that neither writing nor reading copies them.
    ///
    /// Files carry no Arrow schema of their own: other readers then see plain binary and string columns.
    pub(crate) fn schema(self) -> SchemaRef {
        let mut fields = vec![
            Field::new(IMAGE, DataType::Struct(image_fields()), true),
            Field::new(LABEL, DataType::Int64, true),
            Field::new(WIDTH, DataType::UInt32, false),
            Field::new(HEIGHT, DataType::UInt32, false),
        ];
        if self.segments {
            fields.push(Field::new(JPEG_SEGMENTS, DataType::List(segment_field()), true));
        }
        Arc::new(Schema::new(fields))
    }

    /// How shards are written: image bytes plain, uncompressed unless asked for, and without statistics, which would repeat
    /// whole images; offsets of segments as differences; everything else with zstd.
    ///
    /// # Errors
    ///
    /// If the zstd level is not one that the Parquet library knows.
    pub(crate) fn properties(self, class_names: &[String]) -> Result<WriterProperties, ParquetError> {
        let bytes = ColumnPath::from(vec![IMAGE.to_owned(), BYTES.to_owned()]);
        let compression = match self.images_zstd_level {
            Some(level) => Compression::ZSTD(ZstdLevel::try_new(level)?),
            None => Compression::UNCOMPRESSED,
        };
        let segments = ColumnPath::from(vec![JPEG_SEGMENTS.to_owned(), "list".to_owned(), "element".to_owned()]);
        let description = huggingface_description(class_names, self.segments);
        Ok(common_properties()?
            .set_column_compression(bytes.clone(), compression)
            .set_column_dictionary_enabled(bytes.clone(), false)
            .set_column_statistics_enabled(bytes, EnabledStatistics::None)
            .set_column_dictionary_enabled(segments.clone(), false)
            .set_column_encoding(segments.clone(), Encoding::DELTA_BINARY_PACKED)
            .set_column_statistics_enabled(segments, EnabledStatistics::None)
            .set_key_value_metadata(Some(vec![KeyValue::new("huggingface".to_owned(), description)]))
            .build())
    }
}

/// An element of the column [`JPEG_SEGMENTS`], under the name that the Parquet specification gives it.
pub(crate) fn segment_field() -> FieldRef {
    Arc::new(Field::new("element", DataType::UInt32, false))
}

/// The fields of the image column. They are nullable, as Hugging Face `datasets` writes them, though no row has nulls.
pub(crate) fn image_fields() -> Fields {
    Fields::from(vec![Field::new(BYTES, DataType::BinaryView, true), Field::new(PATH, DataType::Utf8View, true)])
}

/// What shards and manifest have in common.
pub(crate) fn common_properties() -> Result<WriterPropertiesBuilder, ParquetError> {
    Ok(WriterProperties::builder()
        // The bytes of a data set must not depend on the version of a library, as far as that is in our hands.
        .set_created_by("patchstream".to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        // Readers take memory for each page. A column of a row group is one, whose length Parquet has 31 bits for.
        .set_data_page_size_limit(i32::MAX as usize)
        .set_data_page_row_count_limit(usize::MAX)
        // Row groups are cut by whoever writes them, never by the library.
        .set_max_row_group_row_count(None))
}

fn huggingface_description(class_names: &[String], segments: bool) -> String {
    let label = if class_names.is_empty() {
        json!({ "dtype": "int64", "_type": "Value" })
    } else {
        json!({ "names": class_names, "_type": "ClassLabel" })
    };
    let pixels = json!({ "dtype": "uint32", "_type": "Value" });
    let mut features = json!({ IMAGE: { "_type": "Image" }, LABEL: label, WIDTH: &pixels, HEIGHT: &pixels });
    if segments {
        features[JPEG_SEGMENTS] = json!({ "feature": pixels, "_type": "Sequence" });
    }
    json!({ "info": { "features": features } }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn description_names_the_classes() {
        let description: serde_json::Value =
            serde_json::from_str(&huggingface_description(&["cat".to_owned(), "dog".to_owned()], true)).unwrap();
        let features = &description["info"]["features"];
        assert_eq!(features["image"]["_type"], "Image");
        assert_eq!(features["label"]["names"], json!(["cat", "dog"]));
        assert_eq!(features["jpeg_segments"]["feature"]["dtype"], "uint32");
        assert_eq!(huggingface_description(&[], false).matches("ClassLabel").count(), 0);
    }
}
