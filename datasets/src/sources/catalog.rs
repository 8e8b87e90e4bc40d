//! Images that lie at known places of a few files: what most kinds of sources come down to once they are listed.

use std::collections::HashMap;
use std::path::PathBuf;

use super::blob::Blob;
use super::folder::read_file;
use super::labels::{LabelIndex, Labels};
use super::pixels::Pixels;
use super::root::Root;
use super::spool::FinishedSpool;
use super::{ImageSource, ReadFailure, SourceFormat};
use crate::error::DatasetError;

/// A listed source. It takes about 40 bytes an image, and the image's name.
pub(super) struct Catalog {
    pub(super) format: SourceFormat,
    pub(super) location: String,
    pub(super) containers: Vec<Container>,
    pub(super) images: Images,
    pub(super) labels: Labels,
    pub(super) skipped: u64,
    /// For images that are read out of a temporary file.
    pub(super) spool: Option<FinishedSpool>,
}

/// A file that holds images.
pub(super) struct Container {
    /// What stands before the names of its images; nothing if they stand for themselves.
    pub(super) name: String,
    pub(super) content: Content,
}

/// How to get at the images of a container.
pub(super) enum Content {
    /// Encoded images, at places of this file.
    File(Blob),
    /// Encoded images, at places of the temporary file.
    Spooled,
    /// Raw pixels, at places of this file.
    RawFile(Blob, Pixels),
    /// Raw pixels, at places of the temporary file.
    RawSpooled(Pixels),
    /// Each image is a file of its own, below this folder.
    Files(Root, PathBuf),
}

/// One image while it is listed.
pub(super) struct Image<'a> {
    pub(super) container: usize,
    pub(super) name: &'a str,
    pub(super) label: LabelIndex,
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

/// The images of a source, in few allocations.
#[derive(Default)]
pub(super) struct Images {
    entries: Vec<Entry>,
    names: Vec<u8>,
    /// Why an image cannot be had; few have an entry.
    bad: HashMap<usize, String>,
}

struct Entry {
    offset: u64,
    bytes: u64,
    name_end: u64,
    container: u32,
    label: LabelIndex,
}

impl Images {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn push(&mut self, image: &Image) {
        self.names.extend_from_slice(image.name.as_bytes());
        self.entries.push(Entry {
            offset: image.offset,
            bytes: image.bytes,
            name_end: self.names.len() as u64,
            container: image.container as u32,
            label: image.label,
        });
    }

    /// An image that is named but cannot be had.
    pub(super) fn push_bad(&mut self, image: &Image, reason: String) {
        self.bad.insert(self.entries.len(), reason);
        self.push(&Image { bytes: 0, ..*image });
    }

    fn name(&self, image: usize) -> &str {
        let start = if image == 0 { 0 } else { self.entries[image - 1].name_end };
        let bytes = &self.names[start as usize..self.entries[image].name_end as usize];
        std::str::from_utf8(bytes).expect("names are cut where they were put together")
    }
}

impl ImageSource for Catalog {
    fn format(&self) -> SourceFormat {
        self.format
    }

    fn location(&self) -> &str {
        &self.location
    }

    fn len(&self) -> usize {
        self.images.len()
    }

    fn class_names(&self) -> &[String] {
        self.labels.names()
    }

    fn skipped(&self) -> u64 {
        self.skipped
    }

    fn path(&self, image: usize) -> String {
        let container = &self.containers[self.images.entries[image].container as usize].name;
        let name = self.images.name(image);
        if container.is_empty() { name.to_owned() } else { format!("{container}/{name}") }
    }

    fn label(&self, image: usize) -> Option<i64> {
        self.labels.value(self.images.entries[image].label)
    }

    fn bytes(&self, image: usize) -> u64 {
        let entry = &self.images.entries[image];
        match &self.containers[entry.container as usize].content {
            Content::RawFile(_, pixels) | Content::RawSpooled(pixels) => pixels.encoded_bytes(),
            _ => entry.bytes,
        }
    }

    fn read(&self, image: usize, into: &mut Vec<u8>) -> Result<(), ReadFailure> {
        if let Some(reason) = self.images.bad.get(&image) {
            return Err(ReadFailure::Bad(reason.clone()));
        }
        let Entry { offset, bytes, container, .. } = self.images.entries[image];
        let spool = || self.spool.as_ref().ok_or(DatasetError::Internal { what: "the temporary file" });
        match &self.containers[container as usize].content {
            Content::File(blob) => blob.append(offset, bytes, into)?,
            Content::Spooled => spool()?.append(offset, bytes, into)?,
            Content::RawFile(blob, pixels) => {
                let mut raw = Vec::new();
                blob.append(offset, bytes, &mut raw)?;
                pixels.encode(&raw, into);
            }
            Content::RawSpooled(pixels) => {
                let mut raw = Vec::new();
                spool()?.append(offset, bytes, &mut raw)?;
                pixels.encode(&raw, into);
            }
            Content::Files(Root::Local, folder) => read_file(folder.join(self.images.name(image)), bytes, into)?,
            Content::Files(root, folder) => {
                Blob::new(root.clone(), folder.join(self.images.name(image)), bytes).append(0, bytes, into)?;
            }
        }
        Ok(())
    }
}
