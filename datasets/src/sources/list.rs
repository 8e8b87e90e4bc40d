//! Lists of images: CSV, TSV or JSON lines with a path and a class each.
//!
//! Paths are relative to the folder in which the list lies.

use std::path::Path;

use super::blob::Blob;
use super::catalog::{Catalog, Container, Content, Image, Images};
use super::labels::{LabelIndex, LabelTable};
use super::table::{Row, Syntax, read_rows};
use super::{SourceFormat, SourceOptions};
use crate::error::DatasetError;
use crate::location::here;
use crate::remote::is_remote;

/// So many files are looked at together.
const ROWS_AT_ONCE: usize = 4096;

/// Whether a file is called like a list.
pub(super) fn is_name(name: &str) -> bool {
    Syntax::of_name(name).is_some()
}

pub(super) fn open(location: &str, blob: &Blob, options: &SourceOptions) -> Result<Catalog, DatasetError> {
    let folder = blob.path().parent().unwrap_or(Path::new("")).to_owned();
    let mut listing = Listing::begin(&folder, blob);
    let syntax = Syntax::of_name(&blob.name()).unwrap_or(Syntax::Separated(b','));
    read_rows(blob, syntax, options, &mut |row| listing.take(row))?;
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
    /// Rows whose files have not been looked at yet.
    taken: Vec<Taken>,
}

struct Taken {
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

    /// Takes the image that a row of the list names.
    fn take(&mut self, Row { number, path, label }: Row<'_>) -> Result<(), DatasetError> {
        let label = self.labels.index(label);
        let (name, bad) = if path.is_empty() {
            (format!("{}, row {number}", self.blob.name()), Some("the list has no path there"))
        } else if is_remote(path) {
            (path.to_owned(), Some("it is a URL; paths are those of files below the folder of the list"))
        } else {
            match here(path) {
                Ok(path) => (path.into_owned(), None),
                Err(_) => (path.to_owned(), Some("it is a URL that names no file of this machine")),
            }
        };
        self.taken.push(Taken { name, label, bad });
        if self.taken.len() < ROWS_AT_ONCE { Ok(()) } else { self.look() }
    }

    /// Looks at the files of all rows that were taken; many at once, because each may be far away.
    fn look(&mut self) -> Result<(), DatasetError> {
        let taken = std::mem::take(&mut self.taken);
        let paths = taken.iter().filter(|row| row.bad.is_none()).map(|row| self.folder.join(&row.name)).collect();
        let mut sizes = self.blob.root().sizes(paths)?.into_iter();
        for Taken { name, label, bad } in taken {
            let image = Image { container: 0, name: &name, label, offset: 0, bytes: 0 };
            let size = if let Some(bad) = bad { Err(bad) } else { sizes.next().unwrap_or(Err("it was not looked at")) };
            match size {
                Ok(bytes) => self.images.push(&Image { bytes, ..image }),
                Err(reason) => self.images.push_bad(&image, reason.to_owned()),
            }
        }
        Ok(())
    }
}
