//! Where the files of a source lie: on this machine or far away.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::blob::Blob;
use crate::error::DatasetError;
use crate::remote::{RemoteFiles, is_remote};

/// This machine, or a bucket or host.
#[derive(Debug, Clone)]
pub(super) enum Root {
    Local,
    Remote(Arc<RemoteFiles>),
}

impl Root {
    pub(super) fn of(location: &str) -> Result<Root, DatasetError> {
        Ok(if is_remote(location) { Root::Remote(Arc::new(RemoteFiles::open(location)?)) } else { Root::Local })
    }

    /// A file; nothing if there is nothing of this name, or a folder.
    pub(super) fn blob(&self, location: &Path) -> Result<Option<Blob>, DatasetError> {
        let bytes = match self {
            Root::Remote(files) => files.bytes(&location.to_string_lossy())?,
            Root::Local => match fs_err::metadata(location) {
                Ok(metadata) if metadata.is_dir() => None,
                Ok(metadata) if metadata.is_file() => Some(metadata.len()),
                Ok(_) => {
                    let reason = "it is not a file".to_owned();
                    return Err(DatasetError::SourceUnknown { path: location.to_owned(), reason });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error.into()),
            },
        };
        Ok(bytes.map(|bytes| Blob::new(self.clone(), location.to_owned(), bytes)))
    }

    /// A file that must be there.
    pub(super) fn existing_blob(&self, location: &Path) -> Result<Blob, DatasetError> {
        self.blob(location)?.ok_or_else(|| DatasetError::SourceMissing { path: location.to_owned() })
    }

    /// The lengths of files, or why there are none.
    pub(super) fn sizes(&self, paths: Vec<PathBuf>) -> Result<Vec<Result<u64, &'static str>>, DatasetError> {
        match self {
            Root::Remote(files) => {
                let locations = paths.into_iter().map(|path| path.to_string_lossy().into_owned()).collect();
                let sizes = files.bytes_of_all(locations)?;
                Ok(sizes.into_iter().map(|size| size.ok_or("the file does not exist")).collect())
            }
            Root::Local => paths.iter().map(|path| Ok(size_here(path)?)).collect(),
        }
    }

    /// The names of what lies directly in a folder.
    pub(super) fn children(&self, folder: &Path) -> Result<Vec<String>, DatasetError> {
        match self {
            Root::Remote(files) => files.children(&folder.to_string_lossy()),
            Root::Local => {
                let mut names = Vec::new();
                for entry in fs_err::read_dir(folder)? {
                    names.extend(entry?.file_name().into_string());
                }
                Ok(names)
            }
        }
    }
}

/// The length of a file on this machine, or why there is none.
fn size_here(path: &Path) -> io::Result<Result<u64, &'static str>> {
    match fs_err::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(Ok(metadata.len())),
        Ok(_) => Ok(Err("it is not a file")),
        Err(error) if is_no_name(&error) => Ok(Err("the file does not exist")),
        Err(error) => Err(error),
    }
}

/// Whether there is no file because there can be none: rubbish in a list is not a failing disk.
fn is_no_name(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, InvalidInput, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | InvalidFilename | InvalidInput)
}
