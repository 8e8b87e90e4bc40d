//! The two columns of a list that matter, read with polars piece by piece.

use std::io::Cursor;
use std::sync::Arc;

use polars::prelude::{
    CsvReadOptions, DataFrame, DataType, JsonFormat, JsonReader, PlSmallStr, PolarsResult, Schema, SchemaRef, SerReader,
};

use super::SourceOptions;
use super::blob::Blob;
use super::pieces::{Piece, Pieces, Take};
use crate::error::{DatasetError, listed, shortened};
use crate::guard::guarded;

/// Columns with these names are taken for paths, in this order.
const PATH_NAMES: [&str; 8] = ["path", "image", "file", "file_name", "filename", "image_path", "img", "filepath"];
/// Columns with these names are taken for classes, in this order.
const LABEL_NAMES: [&str; 6] = ["label", "class", "cls", "class_name", "category", "target"];

/// How a list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Syntax {
    /// Values between separators, as in RFC 4180; the first line names the columns.
    Separated(u8),
    /// An object a line.
    JsonLines,
}

impl Syntax {
    pub(super) fn of_name(name: &str) -> Option<Syntax> {
        match name.rsplit_once('.')?.1.to_ascii_lowercase().as_str() {
            "csv" => Some(Self::Separated(b',')),
            "tsv" => Some(Self::Separated(b'\t')),
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            _ => None,
        }
    }

    fn has_header(self) -> bool {
        self != Self::JsonLines
    }

    /// The names of the columns, by the header or by objects.
    fn names(self, text: &[u8]) -> PolarsResult<Vec<String>> {
        let frame = match self {
            Self::Separated(separator) => csv_options(separator)
                .with_has_header(true)
                .with_infer_schema_length(Some(0))
                .into_reader_with_file_handle(Cursor::new(text))
                .finish()?,
            Self::JsonLines => json_reader(text).infer_schema_len(None).finish()?,
        };
        Ok(frame.get_column_names().into_iter().map(ToString::to_string).collect())
    }

    /// The rows of a piece behind the header.
    fn frame(self, text: &[u8], columns: &SchemaRef) -> PolarsResult<DataFrame> {
        match self {
            Self::Separated(separator) => csv_options(separator)
                .with_has_header(false)
                .with_schema(Some(columns.clone()))
                .into_reader_with_file_handle(Cursor::new(text))
                .finish(),
            Self::JsonLines => json_reader(text).with_schema(columns.clone()).finish(),
        }
    }
}

fn csv_options(separator: u8) -> CsvReadOptions {
    CsvReadOptions::default().map_parse_options(|options| options.with_separator(separator))
}

fn json_reader(text: &[u8]) -> JsonReader<'static, Cursor<&[u8]>> {
    JsonReader::new(Cursor::new(text)).with_json_format(JsonFormat::JsonLines)
}

/// A row of a list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    /// From 1 on, without header and empty lines.
    pub(super) number: u64,
    /// Empty where the list has none.
    pub(super) path: &'a str,
    /// Empty where the list has none.
    pub(super) label: &'a str,
}

/// Reads a list from front to back.
pub(super) fn read_rows(
    blob: &Blob,
    syntax: Syntax,
    options: &SourceOptions,
    take: &mut dyn FnMut(Row<'_>) -> Result<(), DatasetError>,
) -> Result<(), DatasetError> {
    let mut pieces = Pieces::new(blob.reader(), syntax.has_header());
    let mut columns: Option<Columns> = None;
    let mut rows = 0;
    loop {
        let is_header = columns.is_none() && syntax.has_header();
        let piece = pieces.next(if is_header { Take::One } else { Take::Many });
        let Some(piece) = piece.map_err(|error| blob.failure_of_reader(error))? else { break };
        if piece.text.trim_ascii().is_empty() {
            continue;
        }
        let columns = match &mut columns {
            // Where columns have no header, one of classes may begin later.
            Some(columns) if syntax.has_header() || columns.label.is_some() => columns,
            columns => {
                let names = each_record(blob, syntax, piece, |text| syntax.names(text))?;
                columns.insert(Columns::find(blob, syntax, names, options)?)
            }
        };
        if is_header {
            continue;
        }
        let frame = each_record(blob, syntax, piece, |text| syntax.frame(text, &columns.schema))?;
        columns.read(&frame, &mut rows, take)?;
    }
    if columns.is_some() { Ok(()) } else { Err(blob.damaged("it has no line")) }
}

/// Does something with a piece. If polars refuses that, which does not say where, the error names the first line that it
/// refuses alone.
fn each_record<T>(
    blob: &Blob,
    syntax: Syntax,
    piece: Piece<'_>,
    read: impl Fn(&[u8]) -> PolarsResult<T>,
) -> Result<T, DatasetError> {
    let read = |text: &[u8]| {
        guarded(|| {
            let read = read(text).map_err(|error| error.to_string());
            read.map_err(|reason| shortened(reason.lines().next().unwrap_or_default()))
        })
    };
    read(piece.text).map_err(|reason| {
        let mut records = Pieces::new(piece.text, syntax.has_header());
        while let Ok(Some(record)) = records.next(Take::One) {
            if !record.text.trim_ascii().is_empty()
                && let Err(reason) = read(record.text)
            {
                return blob.damaged(format!("line {}: {reason}", piece.line + record.line - 1));
            }
        }
        blob.damaged(format!("from line {} on: {reason}", piece.line))
    })
}

/// Which columns are read.
struct Columns {
    /// All of the list, or those that matter of objects; values of any type are taken as text.
    schema: SchemaRef,
    path: String,
    label: Option<String>,
}

impl Columns {
    /// Finds them by what was asked for, or by how they are called.
    fn find(blob: &Blob, syntax: Syntax, names: Vec<String>, options: &SourceOptions) -> Result<Columns, DatasetError> {
        let (image_column, label_column) = (options.image_column.as_deref(), options.label_column.as_deref());
        let path = choose(&names, image_column, &PATH_NAMES)
            .ok_or_else(|| no_column(blob, "image column", image_column, &names))?;
        let label = choose(&names, label_column, &LABEL_NAMES);
        if label.is_none() && label_column.is_some() {
            return Err(no_column(blob, "label column", label_column, &names));
        }
        let read = if syntax.has_header() {
            names
        } else {
            [Some(path.clone()), label.clone()].into_iter().flatten().collect()
        };
        let schema: Schema = read.iter().map(|name| (PlSmallStr::from(name.as_str()), DataType::String)).collect();
        Ok(Columns { schema: Arc::new(schema), path, label })
    }

    /// Gives the rows of a frame, but for those of empty lines.
    fn read(
        &self,
        frame: &DataFrame,
        rows: &mut u64,
        take: &mut dyn FnMut(Row<'_>) -> Result<(), DatasetError>,
    ) -> Result<(), DatasetError> {
        let paths = frame.column(&self.path)?.str()?;
        let labels = self.label.as_ref().map(|label| frame.column(label)?.str()).transpose()?;
        for row in 0..frame.height() {
            let (path, label) = (paths.get(row), labels.and_then(|labels| labels.get(row)));
            let is_empty = || frame.columns().iter().all(|column| column.get(row).is_ok_and(|value| value.is_null()));
            if path.is_none() && label.is_none() && is_empty() {
                continue;
            }
            *rows += 1;
            take(Row { number: *rows, path: path.unwrap_or_default(), label: label.unwrap_or_default() })?;
        }
        Ok(())
    }
}

/// The column that was asked for, or the first that is called like one of `known`, in any case.
fn choose(names: &[String], wanted: Option<&str>, known: &[&str]) -> Option<String> {
    let chosen = match wanted {
        Some(wanted) => names.iter().find(|name| *name == wanted),
        None => known.iter().find_map(|known| names.iter().find(|name| name.trim().eq_ignore_ascii_case(known))),
    };
    chosen.cloned()
}

/// The error about a column that was asked for, or about none that is called like paths.
fn no_column(blob: &Blob, option: &'static str, wanted: Option<&str>, names: &[String]) -> DatasetError {
    let path = blob.path();
    let names = listed(names.iter().map(String::as_str));
    if let Some(wanted) = wanted {
        let reason = format!("`{}` has no column `{wanted}`, only {names}", path.display());
        return DatasetError::InvalidOption { option, reason };
    }
    let reason = format!("no column is called like one of paths, only {names}");
    DatasetError::SourceUnknown { path: path.to_owned(), reason }
}
