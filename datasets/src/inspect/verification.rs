//! Reading everything, to find what is damaged.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, available_parallelism};

use crossbeam::channel::bounded;

use crate::convert::Progress;
use crate::dataset::Dataset;
use crate::error::DatasetError;
use crate::examine::ImageExaminer;
use crate::group::EncodedGroup;

/// A row group that cannot be read as it was written.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DamagedGroup {
    /// Its number in the data set.
    pub group: usize,
    /// The shard, relative to the data set.
    pub file: String,
    /// Its number in the shard.
    pub row_group: u32,
    /// What is wrong.
    pub reason: String,
}

/// A row whose image does not decode.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DamagedRow {
    /// The sample.
    pub sample_id: u64,
    /// Its path below the source.
    pub path: String,
    /// What is wrong.
    pub reason: String,
}

/// What verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Verification {
    /// Row groups looked at.
    pub groups: u64,
    /// Rows of those that are not damaged.
    pub rows: u64,
    /// Row groups that are damaged, in order.
    pub damaged_groups: Vec<DamagedGroup>,
    /// Rows that do not decode, in order.
    pub damaged_rows: Vec<DamagedRow>,
}

/// Verifies every checksum, and every image if an examiner is given. Calls `progress` for every row group, from this
/// thread.
///
/// # Errors
///
/// Damage is no error here but part of the result; only threads that cannot be started are.
pub fn verify(
    dataset: &Dataset,
    examiner: Option<&dyn ImageExaminer>,
    progress: &dyn Fn(Progress),
) -> Result<Verification, DatasetError> {
    let manifest = dataset.manifest();
    let groups = manifest.row_groups().len();
    let workers = available_parallelism().unwrap_or(NonZeroUsize::MIN).get().min(groups.max(1));
    let next_group = AtomicUsize::new(0);
    let mut found = Verification::default();
    let mut done = Progress { total: manifest.rows(), ..Progress::default() };
    thread::scope(|scope| -> Result<(), DatasetError> {
        let (sender, receiver) = bounded(workers);
        for worker in 0..workers {
            let (sender, next_group) = (sender.clone(), &next_group);
            let work = move || {
                loop {
                    let group = next_group.fetch_add(1, Ordering::Relaxed);
                    if group >= groups {
                        break;
                    }
                    let read = dataset.read_group(group).map(|rows| examine(&rows, examiner));
                    if sender.send((group, read)).is_err() {
                        break;
                    }
                }
            };
            thread::Builder::new().name(format!("patchstream-verify-{worker}")).spawn_scoped(scope, work)?;
        }
        drop(sender);
        for (group, read) in receiver {
            let entry = &manifest.row_groups()[group];
            found.groups += 1;
            done.done += u64::from(entry.rows);
            done.bytes += entry.length;
            match read {
                Ok(damaged) => {
                    found.rows += u64::from(entry.rows);
                    done.bad += damaged.len() as u64;
                    found.damaged_rows.extend(damaged);
                }
                Err(error) => {
                    done.bad += u64::from(entry.rows);
                    found.damaged_groups.push(DamagedGroup {
                        group,
                        file: entry.file.to_string(),
                        row_group: entry.row_group,
                        reason: error.to_string(),
                    });
                }
            }
            progress(done);
        }
        Ok(())
    })?;
    found.damaged_groups.sort_by_key(|damaged| damaged.group);
    found.damaged_rows.sort_by_key(|damaged| damaged.sample_id);
    Ok(found)
}

fn examine(group: &Arc<EncodedGroup>, examiner: Option<&dyn ImageExaminer>) -> Vec<DamagedRow> {
    let Some(examiner) = examiner else { return Vec::new() };
    let rows = (0..group.rows()).filter_map(|row| group.row(row));
    let damaged = rows.filter_map(|row| {
        // A decoder that panics over one image shall not end the verification.
        let checked = catch_unwind(AssertUnwindSafe(|| examiner.check(row.bytes())));
        let checked = checked.unwrap_or_else(|_| Err("the decoder panicked".to_owned()));
        let reason = checked.and_then(|()| row.check().map_err(|error| error.to_string())).err()?;
        Some(DamagedRow { sample_id: row.sample_id(), path: row.path().to_owned(), reason })
    });
    damaged.collect()
}
