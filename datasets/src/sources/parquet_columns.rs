//! Which columns of a Parquet file hold images and classes.

use arrow::datatypes::{DataType, Schema};
use serde_json::Value;

use super::SourceOptions;
use super::blob::Blob;
use crate::error::{DatasetError, listed};

/// Columns with these names are taken for images where nothing else tells.
const IMAGE_NAMES: [&str; 6] = ["image", "img", "jpg", "jpeg", "png", "webp"];
/// Columns with these names are taken for classes where nothing else tells.
const LABEL_NAMES: [&str; 4] = ["label", "labels", "cls", "class"];

/// The columns that are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns {
    /// The position of the image column.
    pub(super) image: usize,
    /// The position of the column with classes.
    pub(super) label: Option<usize>,
    /// The names of the classes, where the file has them.
    pub(super) class_names: Option<Vec<String>>,
}

/// Takes the columns that were asked for, or those that the file's `huggingface` metadata tells, or those with usual names.
pub(super) fn choose_columns(blob: &Blob, schema: &Schema, options: &SourceOptions) -> Result<Columns, DatasetError> {
    let features = huggingface_features(schema);
    let of_type = |kind: &str| -> Vec<usize> {
        let is_kind = |name: &str| features.get(name).is_some_and(|feature| feature["_type"] == kind);
        (0..schema.fields().len()).filter(|&at| is_kind(schema.field(at).name())).collect()
    };
    let named = |names: &[&str], fits: fn(&DataType) -> bool| -> Option<usize> {
        let at = names.iter().find_map(|name| schema.index_of(name).ok())?;
        fits(schema.field(at).data_type()).then_some(at)
    };
    let all = || listed(schema.fields().iter().map(|field| field.name().as_str()));
    let column = |option: &'static str, name: &str, fits: fn(&DataType) -> bool, kinds: &str| {
        let at = schema.index_of(name).map_err(|_| DatasetError::InvalidOption {
            option,
            reason: format!("`{}` has no column `{name}`, only {}", blob.path().display(), all()),
        })?;
        if fits(schema.field(at).data_type()) {
            return Ok(at);
        }
        let reason = format!("expected {kinds}, got a column of type {}", schema.field(at).data_type());
        Err(DatasetError::InvalidOption { option, reason })
    };
    let unclear = |reason: String| DatasetError::SourceUnknown { path: blob.path().to_owned(), reason };

    let image = if let Some(name) = &options.image_column {
        column("image column", name, is_image, "binary values or a struct with `bytes`")?
    } else {
        let fit = |at: &usize| is_image(schema.field(*at).data_type());
        let mut candidates: Vec<usize> = of_type("Image").into_iter().filter(fit).collect();
        if candidates.is_empty() {
            candidates.extend(named(&IMAGE_NAMES, is_image));
        }
        if candidates.is_empty() {
            candidates = (0..schema.fields().len()).filter(fit).collect();
        }
        match *candidates {
            [image] => image,
            [] => return Err(unclear(format!("no column holds images, only {}", all()))),
            _ => return Err(unclear(format!("several columns may hold images: {}", all()))),
        }
    };
    let label = match &options.label_column {
        Some(name) => Some(column("label column", name, is_label, "whole numbers or text")?),
        None => match *of_type("ClassLabel") {
            [label] => Some(label),
            _ => named(&LABEL_NAMES, is_label).filter(|&label| label != image),
        },
    };
    let class_names = label.and_then(|label| names_of(features.get(schema.field(label).name())?));
    if let Some(label) = label
        && !is_label(schema.field(label).data_type())
    {
        return Err(unclear(format!("its classes are of type {}", schema.field(label).data_type())));
    }
    Ok(Columns { image, label, class_names })
}

fn huggingface_features(schema: &Schema) -> Value {
    let metadata = schema.metadata().get("huggingface").and_then(|text| serde_json::from_str::<Value>(text).ok());
    metadata.map_or(Value::Null, |mut metadata| metadata["info"]["features"].take())
}

fn names_of(feature: &Value) -> Option<Vec<String>> {
    if feature["_type"] != "ClassLabel" {
        return None;
    }
    feature["names"].as_array()?.iter().map(|name| name.as_str().map(str::to_owned)).collect()
}

fn is_binary(kind: &DataType) -> bool {
    matches!(kind, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

fn is_image(kind: &DataType) -> bool {
    match kind {
        DataType::Struct(fields) => fields.iter().any(|field| field.name() == "bytes" && is_binary(field.data_type())),
        kind => is_binary(kind),
    }
}

fn is_label(kind: &DataType) -> bool {
    kind.is_integer() || matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}
