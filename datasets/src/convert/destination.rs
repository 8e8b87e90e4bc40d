//! Where a conversion goes: a folder of this machine, or one of an object store.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::commit::FinishedUnit;
use super::far::RemoteStaging;
use super::folder::{Folder, location_of};
use super::head::{Begun, Head, Terms};
use super::record::UnitRecord;
use super::staging::Staging;
use crate::error::DatasetError;

pub(super) enum Destination {
    Here(Staging),
    Far(RemoteStaging),
}

impl Destination {
    /// Prepares the destination for what shall be made.
    pub(super) fn begin(
        destination: &Path,
        head: &Head,
        terms: &Terms<'_>,
    ) -> Result<Begun<Destination>, DatasetError> {
        Ok(match location_of(destination) {
            Some(location) => match RemoteStaging::begin(location, head, terms)? {
                Begun::Finished => Begun::Finished,
                Begun::Work(staging) => Begun::Work(Destination::Far(staging)),
            },
            None => match Staging::begin(destination, head, terms)? {
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
    pub(super) fn finished_units(&self, units: Range<u32>, splits: &[String]) -> Result<Vec<UnitRecord>, DatasetError> {
        match self {
            Destination::Here(staging) => staging.finished_units(units, splits),
            Destination::Far(staging) => staging.finished_units(units, splits),
        }
    }

    /// Brings to the disk what was written of a shard until now, where it shall stay on this disk.
    pub(super) fn flush(&self, file: &fs_err::File) -> Result<(), DatasetError> {
        match self {
            Destination::Here(_) => Ok(file.sync_data()?),
            Destination::Far(_) => Ok(()),
        }
    }

    /// Has the store copy a shard of a part to its place; false where that cannot be, or not in this way.
    pub(super) fn copy_there(&self, part: &Folder, shard: &Path, bytes: u64) -> bool {
        match (self, part) {
            (Destination::Far(staging), Folder::Far(part)) => staging.copy_there(part, shard, bytes),
            _ => false,
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
            Destination::Here(staging) => staging.publish(head),
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
