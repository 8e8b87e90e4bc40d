//! Brings finished units to the disk, or to where they are sent, in order, while the next ones are being written.
//!
//! Syncing takes as long as writing, or longer. So shards are synced from here while they grow, and a unit's last sync goes
//! on while the next unit is made.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, Scope, ScopedJoinHandle};

use crossbeam::channel::{Receiver, Sender, bounded};

use super::destination::Destination;
use super::record::UnitRecord;
use crate::error::DatasetError;

/// Finished units that wait. A crash loses these, the one that is being brought to the disk, and the one that is being made.
const QUEUE: usize = 1;

/// What the committer is asked for.
pub(super) enum Job {
    /// Bring to the disk what was written of a shard until now.
    Flush(Arc<fs_err::File>),
    /// Bring a unit to the disk and record it.
    Commit(FinishedUnit),
}

/// A unit whose shards are written.
pub(super) struct FinishedUnit {
    pub(super) number: u32,
    pub(super) shards: Vec<FinishedShard>,
    pub(super) record: UnitRecord,
}

/// A shard that is written, but not where it belongs.
pub(super) struct FinishedShard {
    pub(super) file: ShardFile,
    /// Its place below the destination.
    pub(super) name: PathBuf,
}

/// The file of a shard on this machine.
pub(super) enum ShardFile {
    /// Made for the destination, perhaps not on the disk yet. It goes away from here.
    Ours(PathBuf, Arc<fs_err::File>),
    /// One of a part, which stays as it is.
    OfPart(PathBuf),
}

impl ShardFile {
    pub(super) fn path(&self) -> &Path {
        match self {
            ShardFile::Ours(path, _) | ShardFile::OfPart(path) => path,
        }
    }
}

/// The thread; it ends when the sender of jobs is dropped.
pub(super) struct Committer<'scope> {
    thread: ScopedJoinHandle<'scope, Result<Vec<UnitRecord>, DatasetError>>,
}

impl<'scope> Committer<'scope> {
    /// Starts the thread.
    pub(super) fn start(
        scope: &'scope Scope<'scope, '_>,
        destination: &'scope Destination,
    ) -> Result<(Self, Sender<Job>), DatasetError> {
        let (sender, receiver) = bounded(QUEUE);
        let thread = thread::Builder::new()
            .name("patchstream-commit".to_owned())
            .spawn_scoped(scope, move || commit_all(destination, &receiver))?;
        Ok((Committer { thread }, sender))
    }

    /// Waits for the end; gives the records of the units that were committed, in order.
    pub(super) fn join(self) -> Result<Vec<UnitRecord>, DatasetError> {
        self.thread.join().unwrap_or(Err(DatasetError::Internal { what: "the committer" }))
    }
}

fn commit_all(destination: &Destination, jobs: &Receiver<Job>) -> Result<Vec<UnitRecord>, DatasetError> {
    let mut records = Vec::new();
    for job in jobs {
        match job {
            // The kernel reports a failed write once only, so its error counts here as it does at the end.
            Job::Flush(file) => destination.flush(&file)?,
            Job::Commit(mut unit) => {
                destination.commit(&unit)?;
                unit.record.forget_rows();
                records.push(unit.record);
            }
        }
    }
    Ok(records)
}
