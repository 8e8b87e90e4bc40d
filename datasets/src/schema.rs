//! The layout of a shard: what its columns are, and how they are stored.
//!
//! `image: struct<bytes: binary, path: string>`, `label: int64` (nullable), `width: uint32`, `height: uint32`. This is the
//! image convention of Hugging Face `datasets`, whose description of the columns lies under the schema key
//! `huggingface`, so that it, and every Parquet reader, opens a shard as it is.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use parquet::basic::{Compression, ZstdLevel};
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

/// The Arrow schema of a shard, image bytes and paths as views, so that neither writing nor reading copies them.
///
/// Files carry no Arrow schema of their own: other readers then see plain binary and string columns.
pub(crate) fn shard_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(IMAGE, DataType::Struct(image_fields()), true),
        Field::new(LABEL, DataType::Int64, true),
        Field::new(WIDTH, DataType::UInt32, false),
        Field::new(HEIGHT, DataType::UInt32, false),
    ]))
}

/// The fields of the image column. They are nullable, as Hugging Face `datasets` writes them, though no row has nulls.
pub(crate) fn image_fields() -> Fields {
    Fields::from(vec![Field::new(BYTES, DataType::BinaryView, true), Field::new(PATH, DataType::Utf8View, true)])
}

/// How shards are written: image bytes plain, uncompressed and without statistics, which would repeat whole images;
/// everything else with zstd.
///
/// # Errors
///
/// If the zstd level is not one that the Parquet library knows.
pub(crate) fn shard_properties(class_names: &[String]) -> Result<WriterProperties, ParquetError> {
    let bytes = ColumnPath::from(vec![IMAGE.to_owned(), BYTES.to_owned()]);
    let description = huggingface_description(class_names);
    Ok(common_properties()?
        .set_column_compression(bytes.clone(), Compression::UNCOMPRESSED)
        .set_column_dictionary_enabled(bytes.clone(), false)
        .set_column_statistics_enabled(bytes, EnabledStatistics::None)
        .set_key_value_metadata(Some(vec![KeyValue::new("huggingface".to_owned(), description)]))
        .build())
}

/// What shards and manifest have in common.
pub(crate) fn common_properties() -> Result<WriterPropertiesBuilder, ParquetError> {
    Ok(WriterProperties::builder()
        // The bytes of a data set must not depend on the version of a library, as far as that is in our hands.
        .set_created_by("patchstream".to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        // Row groups are cut by whoever writes them, never by the library.
        .set_max_row_group_row_count(None))
}

fn huggingface_description(class_names: &[String]) -> String {
    let label = if class_names.is_empty() {
        json!({ "dtype": "int64", "_type": "Value" })
    } else {
        json!({ "names": class_names, "_type": "ClassLabel" })
    };
    let pixels = json!({ "dtype": "uint32", "_type": "Value" });
    let features = json!({ IMAGE: { "_type": "Image" }, LABEL: label, WIDTH: pixels, HEIGHT: pixels });
    json!({ "info": { "features": features } }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn description_names_the_classes() {
        let description: serde_json::Value =
            serde_json::from_str(&huggingface_description(&["cat".to_owned(), "dog".to_owned()])).unwrap();
        let features = &description["info"]["features"];
        assert_eq!(features["image"]["_type"], "Image");
        assert_eq!(features["label"]["names"], json!(["cat", "dog"]));
        assert_eq!(huggingface_description(&[]).matches("ClassLabel").count(), 0);
    }
}
