//! A folder that appears whole or not at all, and that a killed conversion can be resumed in.
//!
//! Everything is written to a hidden folder beside the destination and renamed at the end. It has a folder `units` with what
//! is being made ([`Head`]) and a record of each finished unit; that goes away when the data set is whole. The hidden folder
//! is locked while it is in use, so a second conversion to the same destination is told apart from one that was killed.

use std::fs::TryLockError;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::commit::{FinishedShard, FinishedUnit, ShardFile};
use super::folder::Folder;
use super::head::{Begun, Head, Remains, Terms};
use super::names::{HEAD_FILE, UNITS, is_ours, is_record};
use super::record::UnitRecord;
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
    overwrite: bool,
}

impl Staging {
    /// Prepares the folder beside `destination`.
    ///
    /// # Errors
    ///
    /// If the destination is something else than `head` and may not be replaced, if another conversion writes to it, if there
    /// are remains of another one, or if its parent cannot be written to.
    pub(super) fn begin(destination: &Path, head: &Head, terms: &Terms<'_>) -> Result<Begun<Staging>, DatasetError> {
        let &Terms { remains, overwrite, .. } = terms;
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
        if exists(&destination)? {
            let resumes = remains == Remains::Resume && exists(&partial)?;
            if (!overwrite || remains == Remains::Resume) && !resumes && is_finished(&destination, head, overwrite)? {
                return Ok(Begun::Finished);
            }
            check_replaceable(&destination, overwrite)?;
        }
        let lock = lock_folder(&partial, &destination)?;
        let staging = Staging { destination, partial, replaced, lock, overwrite };
        staging.prepare(head, remains)?;
        if exists(&staging.replaced)? {
            fs_err::remove_dir_all(&staging.replaced)?;
        }
        Ok(Begun::Work(staging))
    }

    /// Empties the folder, or makes sure that what is in it belongs to `head`.
    fn prepare(&self, head: &Head, remains: Remains) -> Result<(), DatasetError> {
        match read_head(&self.partial)? {
            Some(found) if remains == Remains::Resume => {
                return head.check_same(&self.destination, &found.configuration, found.part);
            }
            // Without a finished unit nothing is lost by beginning anew.
            Some(_) if remains == Remains::Refuse && self.count_records() > 0 => {
                return Err(DatasetError::DestinationUnfinished { path: self.destination.clone() });
            }
            _ => {}
        }
        remove_contents(&self.partial)?;
        fs_err::create_dir(self.units())?;
        if head.splits.len() > 1 {
            for split in &head.splits {
                fs_err::create_dir(self.partial.join(split))?;
            }
        }
        // The last thing, because a folder with this file in it is ready.
        write_whole(&self.units().join(HEAD_FILE), serde_json::json!(head).to_string().as_bytes())
    }

    /// The folder to write to.
    pub(super) fn folder(&self) -> &Path {
        &self.partial
    }

    /// The folder of the records.
    pub(super) fn units(&self) -> PathBuf {
        self.partial.join(UNITS)
    }

    /// The records of the units that are finished, from the first on.
    pub(super) fn finished_units(&self, units: Range<u32>, splits: &[String]) -> Result<Vec<UnitRecord>, DatasetError> {
        let mut records = Vec::new();
        for unit in units {
            let Some(record) = UnitRecord::load(&self.units(), unit)? else { break };
            let bytes_of = |path: &Path| Some(fs_err::metadata(self.partial.join(path)).ok()?.len());
            if !record.is_whole(unit, splits, bytes_of) {
                break;
            }
            records.push(record);
        }
        Ok(records)
    }

    /// Brings a unit to the disk and records it.
    pub(super) fn commit(&self, unit: &FinishedUnit) -> Result<(), DatasetError> {
        for FinishedShard { file, name } in &unit.shards {
            let to = self.partial.join(name);
            match file {
                ShardFile::Ours(preliminary, file) => {
                    file.sync_all()?;
                    fs_err::rename(preliminary, to)?;
                }
                ShardFile::OfPart(path) => take_file(path, &to)?,
            }
        }
        unit.record.save(&self.units(), unit.number)
    }

    fn count_records(&self) -> u64 {
        let entries = fs_err::read_dir(self.units()).into_iter().flatten().flatten();
        entries.filter(|entry| is_record(&entry.path())).count() as u64
    }

    /// Makes the folder appear at the destination. Its files must have been synced. The records stay with a
    /// part and go with all else.
    ///
    /// Where something is replaced, that takes two renames; a crash between them is repaired by the next conversion to
    /// the same destination.
    pub(super) fn publish(self, head: &Head) -> Result<(), DatasetError> {
        if head.splits.len() > 1 {
            for split in &head.splits {
                fs_err::File::open(self.partial.join(split))?.sync_all()?;
            }
        }
        self.lock.sync_all()?;
        let replaces = exists(&self.destination)?;
        if replaces {
            // What lies there may have changed since the conversion began.
            check_replaceable(&self.destination, self.overwrite)?;
            fs_err::rename(&self.destination, &self.replaced)?;
        }
        if let Err(error) = fs_err::rename(&self.partial, &self.destination) {
            if replaces {
                fs_err::rename(&self.replaced, &self.destination)?;
            }
            return Err(error.into());
        }
        if let Some(parent) = self.destination.parent() {
            fs_err::File::open(parent)?.sync_all()?;
        }
        if head.part.is_none() {
            fs_err::remove_dir_all(self.destination.join(UNITS))?;
        }
        if replaces {
            fs_err::remove_dir_all(&self.replaced)?;
        }
        Ok(())
    }

    /// Ends a conversion that failed. What is finished is kept where going on makes sense, and the error then says so.
    pub(super) fn abandon(self, error: DatasetError) -> DatasetError {
        let shards = self.count_records();
        let is_final = matches!(error, DatasetError::BadImage { .. } | DatasetError::NoImages { .. });
        if shards > 0 && !is_final {
            return DatasetError::Unfinished { source: Box::new(error), shards };
        }
        if let Err(error) = fs_err::remove_dir_all(&self.partial) {
            tracing::warn!("an unfinished conversion could not be removed: {error}");
        }
        error
    }
}

/// What a folder that is being written, or holds a part, is meant to be.
fn read_head(folder: &Path) -> Result<Option<Head>, DatasetError> {
    Folder::Here(folder.to_owned()).head()
}

/// Writes a file that appears whole.
pub(super) fn write_whole(path: &Path, content: &[u8]) -> Result<(), DatasetError> {
    use std::io::Write;
    let beside = path.with_extension("new");
    let mut file = fs_err::File::create(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    Ok(fs_err::rename(&beside, path)?)
}

fn exists(path: &Path) -> io::Result<bool> {
    match fs_err::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether what lies at the destination is what shall be made; if it is another data set and may not be replaced, how it
/// differs is the error.
fn is_finished(destination: &Path, head: &Head, overwrite: bool) -> Result<bool, DatasetError> {
    let first = head.splits.first().map_or("", |name| name);
    let manifests = [destination.join(MANIFEST_FILE), destination.join(first).join(MANIFEST_FILE)];
    let manifest = manifests.iter().find_map(|path| {
        let bytes = fs_err::read(path).ok()?;
        Manifest::parse(Bytes::from(bytes), &path.to_string_lossy()).ok()
    });
    let same = match (manifest, read_head(destination)?) {
        (Some(manifest), _) => head.check_same(destination, manifest.conversion(), None),
        (None, Some(found)) => head.check_same(destination, &found.configuration, found.part),
        (None, None) => return Ok(false),
    };
    if same.is_ok() && head.part.is_none() && exists(&destination.join(UNITS))? {
        // A conversion was killed right at its end.
        fs_err::remove_dir_all(destination.join(UNITS))?;
    }
    if overwrite { Ok(same.is_ok()) } else { same.map(|()| true) }
}

/// What may be replaced is a data set with nothing else in its folder.
fn check_replaceable(destination: &Path, overwrite: bool) -> Result<(), DatasetError> {
    if !overwrite {
        return Err(DatasetError::DestinationExists { path: destination.to_owned() });
    }
    let foreign = |reason: String| DatasetError::DestinationForeign { path: destination.to_owned(), reason };
    if !fs_err::symlink_metadata(destination)?.is_dir() {
        return Err(foreign("it is not a folder".to_owned()));
    }
    let is_set = |folder: &Path| exists(&folder.join(MANIFEST_FILE));
    let mut splits = Vec::new();
    for entry in fs_err::read_dir(destination)? {
        let path = entry?.path();
        if path.is_dir() && is_set(&path)? {
            splits.push(path);
        }
    }
    if !is_set(destination)? && splits.is_empty() && read_head(destination)?.is_none() {
        return Err(foreign(format!("it has no `{MANIFEST_FILE}`")));
    }
    for folder in splits.iter().map(PathBuf::as_path).chain([destination]) {
        check_contents(folder, &splits).map_err(foreign)?;
    }
    Ok(())
}

/// Whether a folder holds nothing but what a conversion writes.
fn check_contents(folder: &Path, splits: &[PathBuf]) -> Result<(), String> {
    let manifest = folder.join(MANIFEST_FILE);
    if let Ok(bytes) = fs_err::read(&manifest) {
        match Manifest::parse(Bytes::from(bytes), &manifest.to_string_lossy()) {
            Ok(_) | Err(DatasetError::ManifestVersion { .. }) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    for entry in fs_err::read_dir(folder).map_err(|error| error.to_string())? {
        let entry = entry.map_err(|error| error.to_string())?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        if !is_ours(&text) && !splits.contains(&entry.path()) {
            return Err(format!("`{text}` in it is not part of one"));
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

/// Makes a shard of a part appear here, too: as a second name where the file system has that, as a copy elsewhere.
fn take_file(from: &Path, to: &Path) -> Result<(), DatasetError> {
    // What lies there may be a second name of the part's own file: writing to it would destroy that.
    if exists(to)? {
        fs_err::remove_file(to)?;
    }
    if fs_err::hard_link(from, to).is_ok() {
        return Ok(());
    }
    fs_err::copy(from, to)?;
    Ok(fs_err::File::open(to)?.sync_all()?)
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
