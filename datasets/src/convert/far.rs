//! A destination in an object store, which a killed conversion can be resumed in.
//!
//! Each unit is made in a temporary folder of this machine, sent when it is finished, and removed here. Its record follows,
//! in `units/` of the destination, and the manifests come last of all: so there is a whole data set or none, and where a
//! record lies, its shards are whole. Names and bytes are those that a conversion on this machine would have.
//!
//! Nothing can be locked there. Two that make the same write the same bytes; two that do not are told apart by what `units/`
//! says is being made. A part has no manifest, and keeps its records: it is whole when those of all its units are there.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tempfile::TempDir;

use super::commit::{FinishedShard, FinishedUnit, ShardFile};
use super::head::{Begun, Head, Remains, Terms};
use super::names::{HEAD_FILE, LEDGER_FILE, UNITS, is_ours, is_record, record_name, split_folder};
use super::options::REST_SPLIT;
use super::record::{RECORD_BYTES_MAX, UnitRecord};
use crate::error::DatasetError;
use crate::manifest::{MANIFEST_BYTES_MAX, MANIFEST_FILE, Manifest};
use crate::remote::{Listed, RemoteFolder};

pub(super) struct RemoteStaging {
    folder: RemoteFolder,
    /// Where units are made. It goes away with this.
    scratch: TempDir,
    /// Units that are recorded at the destination.
    recorded: AtomicU64,
}

impl RemoteStaging {
    /// Looks at what lies at the destination, and says there what is being made.
    ///
    /// # Errors
    ///
    /// If something else lies there, or the remains of another conversion, or it cannot be reached or written to.
    pub(super) fn begin(location: &str, head: &Head, terms: &Terms<'_>) -> Result<Begun<RemoteStaging>, DatasetError> {
        let &Terms { remains, overwrite, temporary } = terms;
        let folder = RemoteFolder::open(location)?;
        let found = Found::look(&folder, head)?;
        let path = || PathBuf::from(folder.location());
        let mut resumes = false;
        if let Some(same) = found.finished(&path(), head) {
            match same {
                Ok(()) if remains != Remains::Clear => {
                    if head.part.is_none() {
                        // A conversion may have been killed right at its end.
                        folder.remove(&found.units())?;
                    }
                    return Ok(Begun::Finished);
                }
                Err(error) if !overwrite => return Err(error),
                _ => {}
            }
        } else if let Some(was) = &found.head {
            if remains == Remains::Resume {
                head.check_same(&path(), &was.configuration, was.part)?;
                resumes = true;
            } else if remains == Remains::Refuse && found.has_records() {
                return Err(DatasetError::DestinationUnfinished { path: path() });
            }
        } else if (found.has_splits || !found.here.objects.is_empty()) && !overwrite {
            return Err(DatasetError::DestinationExists { path: path() });
        }
        if !resumes {
            found.clear(&folder)?;
            let content = Bytes::from(serde_json::json!(head).to_string());
            if !folder.create(&in_units(HEAD_FILE), &content)? {
                return Err(DatasetError::DestinationBusy { path: path() });
            }
        }
        let scratch = tempfile::Builder::new().prefix("patchstream-").tempdir_in(temporary)?;
        for split in head.splits.iter().filter(|_| head.splits.len() > 1) {
            fs_err::create_dir(scratch.path().join(split))?;
        }
        Ok(Begun::Work(RemoteStaging { folder, scratch, recorded: AtomicU64::new(0) }))
    }

    pub(super) fn folder(&self) -> &Path {
        self.scratch.path()
    }

    pub(super) fn finished_units(&self, units: Range<u32>, splits: &[String]) -> Result<Vec<UnitRecord>, DatasetError> {
        let recorded: HashMap<String, u64> = self.folder.list(UNITS)?.objects.into_iter().collect();
        let names = units.clone().map(record_name).take_while(|name| recorded.contains_key(name));
        let found = self.folder.read_all(names.map(|name| in_units(&name)).collect(), RECORD_BYTES_MAX)?;
        let mut shards = HashMap::new();
        for split in splits {
            let folder = split_folder(splits.len(), split);
            let listed = self.folder.list(&folder.to_string_lossy())?;
            shards.extend(listed.objects.into_iter().map(|(name, bytes)| (folder.join(name), bytes)));
        }
        let mut records = Vec::new();
        for (unit, bytes) in units.zip(found) {
            let Some(record) = bytes.and_then(|bytes| UnitRecord::from_bytes(&bytes)) else { break };
            if !record.is_whole(unit, splits, |path| shards.get(path).copied()) {
                break;
            }
            records.push(record);
        }
        self.recorded.store(records.len() as u64, Ordering::Relaxed);
        Ok(records)
    }

    pub(super) fn commit(&self, unit: &FinishedUnit) -> Result<(), DatasetError> {
        for FinishedShard { file, name } in &unit.shards {
            self.folder.send(&name.to_string_lossy(), file.path())?;
            if let ShardFile::Ours(path, _) = file {
                fs_err::remove_file(path)?;
            }
        }
        self.folder.put(&in_units(&record_name(unit.number)), &unit.record.to_bytes().into())?;
        self.recorded.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Has the store copy a shard of a part to its place, so that its bytes need not come here. Where it cannot, as from
    /// another bucket, or above 5 GiB in S3, this is false.
    pub(super) fn copy_there(&self, part: &RemoteFolder, shard: &Path, bytes: u64) -> bool {
        self.folder.copy_from(part, &shard.to_string_lossy(), bytes)
    }

    /// Sends ledger and manifests, and removes the records. A part is whole when all records are there, and they stay.
    pub(super) fn publish(self, head: &Head) -> Result<(), DatasetError> {
        if head.part.is_some() {
            return Ok(());
        }
        self.send_manifests(head).map_err(|error| self.abandon(error))
    }

    fn send_manifests(&self, head: &Head) -> Result<(), DatasetError> {
        let ledger = self.scratch.path().join(LEDGER_FILE);
        if ledger.exists() {
            self.folder.send(LEDGER_FILE, &ledger)?;
        }
        for split in &head.splits {
            let manifest = split_folder(head.splits.len(), split).join(MANIFEST_FILE);
            self.folder.send(&manifest.to_string_lossy(), &self.scratch.path().join(&manifest))?;
        }
        let records = self.folder.list(UNITS)?;
        self.folder.remove(&records.objects.iter().map(|(name, _)| in_units(name)).collect::<Vec<_>>())
    }

    pub(super) fn abandon(self, error: DatasetError) -> DatasetError {
        let shards = self.recorded.load(Ordering::Relaxed);
        let is_final = matches!(error, DatasetError::BadImage { .. } | DatasetError::NoImages { .. });
        if shards > 0 && !is_final {
            return DatasetError::Unfinished { source: Box::new(error), shards };
        }
        let removed = Found::look_anew(&self.folder).and_then(|found| found.clear(&self.folder));
        if let Err(error) = removed {
            tracing::warn!("an unfinished conversion could not be removed: {error}");
        }
        error
    }
}

fn has_manifest(listed: &Listed) -> bool {
    listed.objects.iter().any(|(name, _)| name == MANIFEST_FILE)
}

fn in_units(name: &str) -> String {
    format!("{UNITS}/{name}")
}

/// What lies at a destination.
struct Found {
    here: Listed,
    units: Listed,
    /// What is being made there.
    head: Option<Head>,
    /// Whether data sets lie there that are splits of one.
    has_splits: bool,
    /// The manifests of all splits that shall be made, if all of them are there.
    manifests: Option<Vec<Manifest>>,
}

impl Found {
    fn look(folder: &RemoteFolder, head: &Head) -> Result<Found, DatasetError> {
        let mut manifests = Vec::new();
        for split in &head.splits {
            let path = split_folder(head.splits.len(), split).join(MANIFEST_FILE);
            let path = path.to_string_lossy();
            let Some(bytes) = folder.read(&path, MANIFEST_BYTES_MAX)? else { break };
            let name = format!("{}/{path}", folder.location());
            manifests.extend(Manifest::parse(bytes, &name).ok());
        }
        let are_all = manifests.len() == head.splits.len();
        Ok(Found { manifests: are_all.then_some(manifests), ..Found::look_anew(folder)? })
    }

    /// The same without a look at manifests.
    fn look_anew(folder: &RemoteFolder) -> Result<Found, DatasetError> {
        let here = folder.list("")?;
        let units = if here.folders.iter().any(|name| name == UNITS) { folder.list(UNITS)? } else { Listed::default() };
        let head = folder.read(&in_units(HEAD_FILE), RECORD_BYTES_MAX)?;
        let head = head.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let has_rest = here.folders.iter().any(|name| name == REST_SPLIT);
        let has_splits = has_rest && has_manifest(&folder.list(REST_SPLIT)?);
        Ok(Found { here, units, head, has_splits, manifests: None })
    }

    /// Whether what lies there is what shall be made, or how it differs; nothing if that is not finished.
    fn finished(&self, path: &Path, head: &Head) -> Option<Result<(), DatasetError>> {
        if let Some(manifests) = &self.manifests {
            return Some(manifests.iter().try_for_each(|was| head.check_same(path, was.conversion(), None)));
        }
        let was = self.head.as_ref().filter(|was| self.has_whole_part(was))?;
        Some(head.check_same(path, &was.configuration, was.part))
    }

    fn has_whole_part(&self, head: &Head) -> bool {
        let records: HashSet<&str> = self.units.objects.iter().map(|(name, _)| name.as_str()).collect();
        head.part.is_some_and(|part| part.units(head.units).all(|unit| records.contains(&*record_name(unit))))
    }

    fn units(&self) -> Vec<String> {
        self.units.objects.iter().map(|(name, _)| in_units(name)).collect()
    }

    fn has_records(&self) -> bool {
        self.units.objects.iter().any(|(name, _)| is_record(Path::new(name)))
    }

    /// Removes what a conversion has written: manifests first, so that nobody takes the rest for a data set.
    ///
    /// # Errors
    ///
    /// If something else lies beside it.
    fn clear(&self, folder: &RemoteFolder) -> Result<(), DatasetError> {
        let foreign = |reason: String| DatasetError::DestinationForeign { path: folder.location().into(), reason };
        let (mut manifests, mut others) = (Vec::new(), self.units());
        let mut take = |within: &str, listed: &Listed| {
            for (name, _) in &listed.objects {
                if !is_ours(name) {
                    return Err(foreign(format!("`{within}{name}` in it is not part of a data set")));
                }
                let to = if name == MANIFEST_FILE { &mut manifests } else { &mut others };
                to.push(format!("{within}{name}"));
            }
            Ok(())
        };
        take("", &self.here)?;
        let splits = self.head.as_ref().map_or(&[][..], |head| &head.splits);
        // Other folders are not looked into where nothing says that there are splits: there may be any number of them.
        let folders =
            self.here.folders.iter().filter(|name| *name != UNITS && (self.has_splits || splits.contains(name)));
        for name in folders {
            let listed = folder.list(name)?;
            if splits.contains(name) || has_manifest(&listed) {
                take(&format!("{name}/"), &listed)?;
            }
        }
        if self.head.is_none() && manifests.is_empty() && !self.here.objects.is_empty() {
            return Err(foreign(format!("it has no `{MANIFEST_FILE}`")));
        }
        folder.remove(&manifests)?;
        folder.remove(&others)
    }
}
