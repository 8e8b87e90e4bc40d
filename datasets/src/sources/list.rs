//! Lists of images: CSV, TSV or JSON lines with a path and a class each.
//!
//! Paths are relative to the folder in which the list lies.

use std::path::Path;

use serde_json::{Map, Value};

use super::blob::Blob;
use super::catalog::{Catalog, Container, Content, Image, Images};
use super::labels::{LabelIndex, LabelTable};
use super::separated::{Records, read_line};
use super::{SourceFormat, SourceOptions};
use crate::error::DatasetError;
use crate::location::here;
use crate::remote::is_remote;

/// So many files are looked at together.
const LINES_AT_ONCE: usize = 4096;

/// Columns with these names are taken for paths, in this order.
const PATH_NAMES: [&str; 8] = ["path", "image", "file", "file_name", "filename", "image_path", "img", "filepath"];
/// Columns with these names are taken for classes, in this order.
const LABEL_NAMES: [&str; 6] = ["label", "class", "cls", "class_name", "category", "target"];

/// How a list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Syntax {
    Comma,
    Tab,
    JsonLines,
}

impl Syntax {
    fn of_name(name: &str) -> Option<Syntax> {
        match name.rsplit_once('.')?.1.to_ascii_lowercase().as_str() {
            "csv" => Some(Self::Comma),
            "tsv" => Some(Self::Tab),
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            _ => None,
        }
    }
}

/// Whether a file is called like a list.
pub(super) fn is_name(name: &str) -> bool {
    Syntax::of_name(name).is_some()
}

pub(super) fn open(location: &str, blob: &Blob, options: &SourceOptions) -> Result<Catalog, DatasetError> {
    let folder = blob.path().parent().unwrap_or(Path::new("")).to_owned();
    let mut listing = Listing::begin(&folder, blob);
    match Syntax::of_name(&blob.name()).unwrap_or(Syntax::Comma) {
        Syntax::Comma => read_table(',', options, &mut listing)?,
        Syntax::Tab => read_table('\t', options, &mut listing)?,
        Syntax::JsonLines => read_objects(options, &mut listing)?,
    }
    listing.look()?;
    let Listing { images, labels, .. } = listing;
    Ok(Catalog {
        format: SourceFormat::List,
        location: location.to_owned(),
        containers: vec![Container { name: String::new(), content: Content::Files(blob.root().clone(), folder) }],
        images,
        labels: labels.finish(),
        skipped: 0,
        spool: None,
    })
}

struct Listing<'a> {
    folder: &'a Path,
    blob: &'a Blob,
    images: Images,
    labels: LabelTable,
    /// Lines whose files have not been looked at yet.
    taken: Vec<Line>,
}

struct Line {
    /// The path in the list, or where in the list a path is missing.
    name: String,
    label: LabelIndex,
    /// Why there can be no image, where that is plain from the list.
    bad: Option<&'static str>,
}

impl<'a> Listing<'a> {
    fn begin(folder: &'a Path, blob: &'a Blob) -> Listing<'a> {
        Listing { folder, blob, images: Images::default(), labels: LabelTable::default(), taken: Vec::new() }
    }

    /// Takes the image that a line of the list names.
    fn take(&mut self, line: u64, path: &str, label: &str) -> Result<(), DatasetError> {
        let label = self.labels.index(label);
        let (name, bad) = if path.is_empty() {
            (format!("{}:{line}", self.blob.name()), Some("the list has no path there"))
        } else if is_remote(path) {
            (path.to_owned(), Some("it is a URL; paths are those of files below the folder of the list"))
        } else {
            match here(path) {
                Ok(path) => (path.into_owned(), None),
                Err(_) => (path.to_owned(), Some("it is a URL that names no file of this machine")),
            }
        };
        self.taken.push(Line { name, label, bad });
        if self.taken.len() < LINES_AT_ONCE { Ok(()) } else { self.look() }
    }

    /// Looks at the files of all lines that were taken; many at once, because each may be far away.
    fn look(&mut self) -> Result<(), DatasetError> {
        let taken = std::mem::take(&mut self.taken);
        let paths = taken.iter().filter(|line| line.bad.is_none()).map(|line| self.folder.join(&line.name)).collect();
        let mut sizes = self.blob.root().sizes(paths)?.into_iter();
        for Line { name, label, bad } in taken {
            let image = Image { container: 0, name: &name, label, offset: 0, bytes: 0 };
            let size = if let Some(bad) = bad { Err(bad) } else { sizes.next().unwrap_or(Err("it was not looked at")) };
            match size {
                Ok(bytes) => self.images.push(&Image { bytes, ..image }),
                Err(reason) => self.images.push_bad(&image, reason.to_owned()),
            }
        }
        Ok(())
    }

    fn damaged(&self, line: u64, reason: impl std::fmt::Display) -> DatasetError {
        self.blob.damaged(format!("line {line}: {reason}"))
    }

    /// The error about a column that was asked for, or about none that is called like paths.
    fn no_column(&self, option: &'static str, wanted: Option<&str>, names: &[String]) -> DatasetError {
        let path = self.blob.path();
        let names = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        if let Some(wanted) = wanted {
            let reason = format!("`{}` has no column `{wanted}`, only {names}", path.display());
            return DatasetError::InvalidOption { option, reason };
        }
        let reason = format!("no column is called like one of paths, only {names}");
        DatasetError::SourceUnknown { path: path.to_owned(), reason }
    }
}

/// The position of the column that was asked for, or of the first that is called like one of `known`, in any case.
fn position(names: &[String], wanted: Option<&str>, known: &[&str]) -> Option<usize> {
    match wanted {
        Some(wanted) => names.iter().position(|name| name == wanted),
        None => known.iter().find_map(|known| names.iter().position(|name| name.trim().eq_ignore_ascii_case(known))),
    }
}

/// Paths and classes of values that are separated by a character, the first line of which names the columns.
fn read_table(separator: char, options: &SourceOptions, listing: &mut Listing) -> Result<(), DatasetError> {
    let blob = listing.blob.clone();
    let mut records = Records::new(blob.reader(), separator);
    let failure = |error| blob.failure_of_reader(error);
    let mut names = records.next().map_err(failure)?.unwrap_or_default();
    if let Some(first) = names.first_mut() {
        // Spreadsheets begin with a mark of the byte order.
        *first = first.trim_start_matches('\u{feff}').to_owned();
    }
    let (image_column, label_column) = (options.image_column.as_deref(), options.label_column.as_deref());
    let path = position(&names, image_column, &PATH_NAMES)
        .ok_or_else(|| listing.no_column("image column", image_column, &names))?;
    let label = position(&names, label_column, &LABEL_NAMES);
    if label.is_none() && label_column.is_some() {
        return Err(listing.no_column("label column", label_column, &names));
    }
    loop {
        let line = records.line();
        let Some(values) = records.next().map_err(failure)? else { return Ok(()) };
        if values.len() != names.len() {
            return Err(listing.damaged(line, format!("expected {} values, got {}", names.len(), values.len())));
        }
        listing.take(line, &values[path], label.map_or("", |label| &*values[label]))?;
    }
}

/// Paths and classes of JSON objects, one a line.
fn read_objects(options: &SourceOptions, listing: &mut Listing) -> Result<(), DatasetError> {
    let (blob, mut text) = (listing.blob.clone(), String::new());
    let mut reader = blob.reader();
    for line in 1.. {
        text.clear();
        if read_line(&mut reader, &mut text).map_err(|error| blob.failure_of_reader(error))? == 0 {
            break;
        }
        if text.trim().is_empty() {
            continue;
        }
        let object: Map<String, Value> = serde_json::from_str(&text).map_err(|error| listing.damaged(line, error))?;
        let names: Vec<String> = object.keys().cloned().collect();
        let value = |wanted: Option<&str>, known: &[&str]| {
            position(&names, wanted, known).map(|at| match &object[&names[at]] {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            })
        };
        let path = value(options.image_column.as_deref(), &PATH_NAMES);
        let path = path.ok_or_else(|| listing.no_column("image column", options.image_column.as_deref(), &names))?;
        // An object may leave its class out.
        let label = value(options.label_column.as_deref(), &LABEL_NAMES).unwrap_or_default();
        listing.take(line, &path, &label)?;
    }
    Ok(())
}
