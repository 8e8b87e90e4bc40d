//! A folder with a data set or a part of one, here or in an object store, for whoever reads it.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::commit::ShardFile;
use super::head::Head;
use super::names::{HEAD_FILE, UNITS, record_name};
use super::record::{RECORD_BYTES_MAX, UnitRecord};
use crate::error::DatasetError;
use crate::location::path_here;
use crate::manifest::MANIFEST_BYTES_MAX;
use crate::remote::{RemoteFolder, is_remote};

pub(super) enum Folder {
    Here(PathBuf),
    Far(RemoteFolder),
}

impl Folder {
    pub(super) fn open(place: &Path) -> Result<Folder, DatasetError> {
        Ok(match location_of(place) {
            Some(location) => Folder::Far(RemoteFolder::open(location)?),
            None => Folder::Here(path_here(place)?.into_owned()),
        })
    }

    /// Where it lies, for messages.
    pub(super) fn path(&self) -> &Path {
        match self {
            Folder::Here(path) => path,
            Folder::Far(remote) => Path::new(remote.location()),
        }
    }

    /// A whole file; nothing if there is none.
    pub(super) fn read(&self, file: &str) -> Result<Option<Bytes>, DatasetError> {
        match self {
            Folder::Far(remote) => remote.read(file, MANIFEST_BYTES_MAX),
            Folder::Here(folder) => Ok(if_there(fs_err::read(folder.join(file)))?.map(Bytes::from)),
        }
    }

    /// The lengths of the files directly in a folder below this one, by name; none if there is no such folder.
    pub(super) fn sizes(&self, below: &str) -> Result<HashMap<String, u64>, DatasetError> {
        match self {
            Folder::Far(remote) => Ok(remote.list(below)?.objects.into_iter().collect()),
            Folder::Here(folder) => {
                let mut sizes = HashMap::new();
                for entry in if_there(fs_err::read_dir(folder.join(below)))?.into_iter().flatten() {
                    let entry = entry?;
                    sizes.insert(entry.file_name().to_string_lossy().into_owned(), entry.metadata()?.len());
                }
                Ok(sizes)
            }
        }
    }

    /// What is being made there, or a part that was.
    pub(super) fn head(&self) -> Result<Option<Head>, DatasetError> {
        Ok(self.read(&format!("{UNITS}/{HEAD_FILE}"))?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// The records of units, in order; nothing for those that are not finished.
    pub(super) fn records(&self, units: Range<u32>) -> Result<Vec<Option<UnitRecord>>, DatasetError> {
        match self {
            Folder::Here(folder) => units.map(|unit| UnitRecord::load(&folder.join(UNITS), unit)).collect(),
            Folder::Far(remote) => {
                let names = units.map(|unit| format!("{UNITS}/{}", record_name(unit))).collect();
                let found = remote.read_all(names, RECORD_BYTES_MAX)?.into_iter();
                Ok(found.map(|bytes| UnitRecord::from_bytes(&bytes?)).collect())
            }
        }
    }

    /// A file of so many bytes: as it lies here, or fetched to `scratch`.
    pub(super) fn bring(&self, file: &Path, bytes: u64, scratch: PathBuf) -> Result<ShardFile, DatasetError> {
        match self {
            Folder::Here(folder) => Ok(ShardFile::OfPart(folder.join(file))),
            Folder::Far(remote) => {
                let fetched = remote.fetch_file(&file.to_string_lossy(), bytes, &scratch)?;
                Ok(ShardFile::Ours(scratch, fetched.into()))
            }
        }
    }
}

/// A place that is not on this machine.
pub(super) fn location_of(place: &Path) -> Option<&str> {
    place.to_str().filter(|location| is_remote(location))
}

fn if_there<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        found => found.map(Some),
    }
}
