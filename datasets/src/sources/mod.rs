//! Where images come from.
//!
//! A source lists its images first: how many there are, what each is called, its class and how many bytes it has. So row
//! groups can be cut before anything is read, and any image can be read at any time from any thread.

mod failure;
mod folder;

use std::path::Path;

pub use self::failure::ReadFailure;
pub use self::folder::FolderSource;
use crate::error::DatasetError;

/// Images that have been listed and can be read in any order, from several threads at once.
///
/// Invariant: what the functions say about an image never changes while the source is open. An image that changes
/// meanwhile is an error when it is read.
pub trait ImageSource: Send + Sync {
    /// What kind of source it is.
    fn format(&self) -> SourceFormat;

    /// Where it lies, as it was given, without what must stay secret.
    fn location(&self) -> &str;

    /// How many images there are.
    fn len(&self) -> usize;

    /// Whether nothing is taken for an image.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The names of the classes, in the order of the labels; none if labels have no names.
    fn class_names(&self) -> &[String];

    /// How many files are left out because they are no images.
    fn skipped(&self) -> u64;

    /// The path of an image in the source, with `/` between its components; what is not Unicode is replaced.
    fn path(&self, image: usize) -> String;

    /// The class of an image.
    fn label(&self, image: usize) -> Option<i64>;

    /// How many bytes [`read`](ImageSource::read) appends.
    fn bytes(&self, image: usize) -> u64;

    /// Appends the encoded image to `into`, exactly as many bytes as [`bytes`](ImageSource::bytes) says.
    ///
    /// # Errors
    ///
    /// [`ReadFailure`] tells a bad image from a source that cannot be read; `into` is then as it was before.
    fn read(&self, image: usize, into: &mut Vec<u8>) -> Result<(), ReadFailure>;

    /// Where an image lies, for messages.
    fn full_path(&self, image: usize) -> String {
        format!("{}/{}", self.location().trim_end_matches('/'), self.path(image))
    }
}

/// The kinds of sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceFormat {
    /// Folders of image files.
    Folder,
}

impl SourceFormat {
    /// The name by which it is chosen on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Folder => "folder",
        }
    }
}

/// Opens a source and lists its images.
///
/// # Errors
///
/// If there is no such source, or its images cannot be listed. A source without images is no error here.
pub fn open(location: &str) -> Result<Box<dyn ImageSource>, DatasetError> {
    Ok(Box::new(FolderSource::open(Path::new(location))?))
}
