//! Where images come from.
//!
//! A source lists its images first: how many there are, what each is called, its class and how many bytes it has. So row
//! groups can be cut before anything is read, and any image can be read at any time from any thread.

mod blob;
mod braces;
mod catalog;
mod cifar;
mod detect;
mod failure;
mod folder;
mod idx;
mod labels;
mod list;
mod parquet;
mod parquet_columns;
mod pieces;
mod pixels;
mod remote_folder;
mod root;
mod split;
mod spool;
mod table;
mod tar;
mod tar_header;
#[cfg(test)]
mod tests;
mod unpack;

use std::path::PathBuf;

pub use self::detect::open;
pub use self::failure::ReadFailure;
pub use self::folder::FolderSource;
pub use self::split::ALL_SPLITS;

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
    /// CSV, TSV or JSON lines with paths and classes.
    List,
    /// Tar archives as WebDataset has them.
    Tar,
    /// Parquet files with an image column.
    Parquet,
    /// MNIST's IDX files.
    Idx,
    /// CIFAR-10 and CIFAR-100 in their binary version.
    Cifar,
}

impl SourceFormat {
    /// The name by which it is chosen on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Folder => "folder",
            Self::List => "list",
            Self::Tar => "tar",
            Self::Parquet => "parquet",
            Self::Idx => "idx",
            Self::Cifar => "cifar",
        }
    }
}

/// How to open a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceOptions {
    /// What kind it is; found out by looking unless given.
    pub format: Option<SourceFormat>,
    /// Take only this part of a source that has parts as `train` and `val`, or [`ALL_SPLITS`].
    pub split: Option<String>,
    /// The column with images (Parquet) or paths (lists); found out by looking unless given.
    pub image_column: Option<String>,
    /// The column with classes (Parquet, lists); found out by looking unless given.
    pub label_column: Option<String>,
    /// Where temporary files are made, which take as much room as the images of compressed tars and of Parquet files.
    pub spool_folder: PathBuf,
}

impl Default for SourceOptions {
    fn default() -> Self {
        SourceOptions {
            format: None,
            split: None,
            image_column: None,
            label_column: None,
            spool_folder: std::env::temp_dir(),
        }
    }
}
