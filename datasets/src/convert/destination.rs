//! Where a conversion goes: a folder of this machine, or one of an object store.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::commit::FinishedUnit;
use super::far::RemoteStaging;
use super::head::{Begun, Head, Remains};
use super::options::ConvertOptions;
use super::record::UnitRecord;
use super::staging::Staging;
use crate::error::DatasetError;
use crate::manifest::MANIFEST_BYTES_MAX;
use crate::remote::{RemoteFolder, is_remote};

pub(super) enum Destination {
    Here(Staging),
    Far(RemoteStaging),
}

impl Destination {
    /// Prepares the destination for what shall be made.
    pub(super) fn begin(
        destination: &Path,
        head: &Head,
        options: &ConvertOptions,
    ) -> Result<Begun<Destination>, DatasetError> {
        let remains = match (options.resume, options.overwrite) {
            (true, _) => Remains::Resume,
            (false, true) => Remains::Clear,
            (false, false) => Remains::Refuse,
        };
        Ok(match location_of(destination) {
            Some(location) => match RemoteStaging::begin(location, head, options, remains)? {
                Begun::Finished => Begun::Finished,
                Begun::Work(staging) => Begun::Work(Destination::Far(staging)),
            },
            None => match Staging::begin(destination, head, options.overwrite, remains)? {
                Begun::Finished => Begun::Finished,
                Begun::Work(staging) => Begun::Work(Destination::Here(staging)),
            },
        })
    }

    /// The folder of this machine that shards are written to.
    pub(super) fn folder(&self) -> &Path {
        match self {
            Destination::Here(staging) => staging.folder(),
            Destination::Far(staging) => staging.folder(),
        }
    }

    /// The folder of this machine for what is not finished.
    pub(super) fn units(&self) -> PathBuf {
        match self {
            Destination::Here(staging) => staging.units(),
            Destination::Far(staging) => staging.folder().to_owned(),
        }
    }

    /// The records of the units that are finished, from the first on.
    pub(super) fn finished_units(
        &self,
        units: Range<u32>,
        options: &ConvertOptions,
    ) -> Result<Vec<UnitRecord>, DatasetError> {
        match self {
            Destination::Here(staging) => staging.finished_units(units, options),
            Destination::Far(staging) => staging.finished_units(units, options),
        }
    }

    /// Brings to the disk what was written of a shard until now, where it shall stay on this disk.
    pub(super) fn flush(&self, file: &fs_err::File) -> Result<(), DatasetError> {
        match self {
            Destination::Here(_) => Ok(file.sync_data()?),
            Destination::Far(_) => Ok(()),
        }
    }

    /// Makes a unit safe from whatever happens next.
    pub(super) fn commit(&self, unit: &FinishedUnit) -> Result<(), DatasetError> {
        match self {
            Destination::Here(staging) => staging.commit(unit),
            Destination::Far(staging) => staging.commit(unit),
        }
    }

    /// Makes the data set appear.
    pub(super) fn publish(self, head: &Head) -> Result<(), DatasetError> {
        match self {
            Destination::Here(staging) => staging.publish(head).map(|_| ()),
            Destination::Far(staging) => staging.publish(head),
        }
    }

    /// Ends a conversion that failed. What is finished is kept where going on makes sense, and the error then says so.
    pub(super) fn abandon(self, error: DatasetError) -> DatasetError {
        match self {
            Destination::Here(staging) => staging.abandon(error),
            Destination::Far(staging) => staging.abandon(error),
        }
    }
}

/// A destination that is not on this machine.
pub(super) fn location_of(destination: &Path) -> Option<&str> {
    destination.to_str().filter(|location| is_remote(location))
}

/// The files of a finished data set, for the report on it.
pub(super) enum Finished<'a> {
    Here(&'a Path),
    Far(RemoteFolder),
}

impl Finished<'_> {
    pub(super) fn open(destination: &Path) -> Result<Finished<'_>, DatasetError> {
        Ok(match location_of(destination) {
            Some(location) => Finished::Far(RemoteFolder::open(location)?),
            None => Finished::Here(destination),
        })
    }

    /// A whole file; nothing if there is none.
    pub(super) fn read(&self, file: &str) -> Result<Option<Bytes>, DatasetError> {
        match self {
            Finished::Far(folder) => folder.read(file, MANIFEST_BYTES_MAX),
            Finished::Here(folder) => match fs_err::read(folder.join(file)) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                read => Ok(Some(read?.into())),
            },
        }
    }

    /// The lengths of the files directly in a folder, by name.
    pub(super) fn sizes(&self, folder: &str) -> Result<HashMap<String, u64>, DatasetError> {
        match self {
            Finished::Far(remote) => Ok(remote.list(folder)?.objects.into_iter().collect()),
            Finished::Here(destination) => {
                let mut sizes = HashMap::new();
                for entry in fs_err::read_dir(destination.join(folder))? {
                    let entry = entry?;
                    sizes.insert(entry.file_name().to_string_lossy().into_owned(), entry.metadata()?.len());
                }
                Ok(sizes)
            }
        }
    }
}
