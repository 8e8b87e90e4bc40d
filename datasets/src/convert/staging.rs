//! A folder that appears whole or not at all.
//!
//! Everything is written to a hidden folder beside the destination and renamed at the end. The folder is locked while it
//! is in use, so a second conversion to the same destination is told apart from the remains of one that was killed.

use std::fs::TryLockError;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::{LEDGER_FILE, SHARD_PREFIX};
use crate::error::DatasetError;
use crate::manifest::{MANIFEST_FILE, Manifest};

pub(super) struct Staging {
    destination: PathBuf,
    /// What is being written.
    partial: PathBuf,
    /// What is being replaced, for the moment between two renames.
    replaced: PathBuf,
    /// The open folder `partial`; its lock ends with it.
    lock: fs_err::File,
    published: bool,
}

impl Staging {
    /// Prepares an empty folder beside `destination`, after removing what a killed conversion left there.
    ///
    /// # Errors
    ///
    /// If the destination exists and may not be replaced, if another conversion writes to it, or if its parent cannot
    /// be written to.
    pub(super) fn begin(destination: &Path, overwrite: bool) -> Result<Staging, DatasetError> {
        let destination = std::path::absolute(destination)?;
        let (Some(name), Some(parent)) = (destination.file_name(), destination.parent()) else {
            return Err(DatasetError::InvalidOption {
                option: "destination",
                reason: format!("`{}` is not the name of a new folder", destination.display()),
            });
        };
        let beside = |suffix: &str| {
            let mut hidden = std::ffi::OsString::from(".");
            hidden.push(name);
            hidden.push(suffix);
            parent.join(hidden)
        };
        let (partial, replaced) = (beside(".patchstream-partial"), beside(".patchstream-replaced"));
        fs_err::create_dir_all(parent)?;
        if exists(&replaced)? && !exists(&destination)? {
            // A conversion was killed between its two renames: what it meant to replace is still whole.
            fs_err::rename(&replaced, &destination)?;
        }
        check_destination(&destination, overwrite)?;
        let lock = lock_folder(&partial, &destination)?;
        remove_contents(&partial)?;
        if exists(&replaced)? {
            fs_err::remove_dir_all(&replaced)?;
        }
        Ok(Staging { destination, partial, replaced, lock, published: false })
    }

    /// The folder to write to.
    pub(super) fn folder(&self) -> &Path {
        &self.partial
    }

    /// Makes the folder appear at the destination. Its files must have been synced.
    ///
    /// Where something is replaced, that takes two renames; a crash between them is repaired by the next conversion to
    /// the same destination.
    pub(super) fn publish(mut self, overwrite: bool) -> Result<(), DatasetError> {
        self.lock.sync_all()?;
        // What lies there may have changed since the conversion began.
        check_destination(&self.destination, overwrite)?;
        let replaces = exists(&self.destination)?;
        if replaces {
            fs_err::rename(&self.destination, &self.replaced)?;
        }
        if let Err(error) = fs_err::rename(&self.partial, &self.destination) {
            if replaces {
                fs_err::rename(&self.replaced, &self.destination)?;
            }
            return Err(error.into());
        }
        self.published = true;
        if let Some(parent) = self.destination.parent() {
            fs_err::File::open(parent)?.sync_all()?;
        }
        if replaces {
            fs_err::remove_dir_all(&self.replaced)?;
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.published
            && let Err(error) = fs_err::remove_dir_all(&self.partial)
        {
            tracing::warn!("an unfinished conversion could not be removed: {error}");
        }
    }
}

fn exists(path: &Path) -> io::Result<bool> {
    match fs_err::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A destination is free, or a data set with nothing else in its folder that may be replaced.
fn check_destination(destination: &Path, overwrite: bool) -> Result<(), DatasetError> {
    if !exists(destination)? {
        return Ok(());
    }
    if !overwrite {
        return Err(DatasetError::DestinationExists { path: destination.to_owned() });
    }
    let foreign = |reason: String| DatasetError::DestinationForeign { path: destination.to_owned(), reason };
    if !fs_err::symlink_metadata(destination)?.is_dir() {
        return Err(foreign("it is not a folder".to_owned()));
    }
    let manifest = destination.join(MANIFEST_FILE);
    if !exists(&manifest)? {
        return Err(foreign(format!("it has no `{MANIFEST_FILE}`")));
    }
    match Manifest::parse(Bytes::from(fs_err::read(&manifest)?), &manifest.to_string_lossy()) {
        Ok(_) | Err(DatasetError::ManifestVersion { .. }) => {}
        Err(error) => return Err(foreign(error.to_string())),
    }
    for entry in fs_err::read_dir(destination)? {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        let is_shard = text.strip_prefix(SHARD_PREFIX).is_some_and(|rest| rest.ends_with(".parquet"));
        if !is_shard && text != MANIFEST_FILE && text != LEDGER_FILE {
            return Err(foreign(format!("`{text}` in it is not part of one")));
        }
    }
    Ok(())
}

/// Makes the folder `partial` if it is missing, and takes the lock on it.
fn lock_folder(partial: &Path, destination: &Path) -> Result<fs_err::File, DatasetError> {
    let busy = || DatasetError::DestinationBusy { path: destination.to_owned() };
    match fs_err::create_dir(partial) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
        _ => {}
    }
    let lock = fs_err::File::open(partial)?;
    match lock.file().try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(busy()),
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    // Between opening and locking, whoever held the lock may have published the folder under its final name.
    let (locked, there) = (lock.metadata()?, fs_err::metadata(partial).map_err(|_| busy())?);
    if (locked.dev(), locked.ino()) == (there.dev(), there.ino()) { Ok(lock) } else { Err(busy()) }
}

fn remove_contents(folder: &Path) -> io::Result<()> {
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs_err::remove_dir_all(entry.path())?;
        } else {
            fs_err::remove_file(entry.path())?;
        }
    }
    Ok(())
}
