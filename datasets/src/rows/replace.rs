//! Replacements for bad rows.

use std::sync::{Arc, Mutex, PoisonError};

use super::Stopper;
use crate::dataset::Dataset;
use crate::error::DatasetError;
use crate::group::{EncodedGroup, EncodedRow};
use crate::plan::{Batches, EpochPlan, Schedule, Shuffle, WindowOrder};

/// Finds replacements for rows that turn out to be bad.
///
/// The candidates are a pure function of the schedule and the bad row's place, so every rank, and any number of workers,
/// finds the same. Clones share what they have read.
#[derive(Debug, Clone)]
pub struct Replacer {
    dataset: Arc<Dataset>,
    seed: u64,
    shuffle: Shuffle,
    batches: Batches,
    stopper: Stopper,
    recent: Arc<Mutex<Recent>>,
}

/// Bad rows come in clusters, so what the last one needed is kept.
#[derive(Debug, Default)]
struct Recent {
    plan: Option<(u64, EpochPlan)>,
    window: Option<WindowOrder>,
    group: Option<(usize, Arc<EncodedGroup>)>,
}

impl Replacer {
    pub(super) fn new(dataset: Arc<Dataset>, schedule: &Schedule, batches: Batches, stopper: Stopper) -> Replacer {
        Replacer { dataset, seed: schedule.seed, shuffle: schedule.shuffle, batches, stopper, recent: Arc::default() }
    }

    /// The row to take in place of one that is bad: the epoch's order after the batch, from `global_place + attempt` on,
    /// wrapping round to the start of the epoch. Blocks while its row group is read.
    ///
    /// Two bad rows of a batch begin at different candidates.
    ///
    /// # Errors
    ///
    /// If the row group cannot be read or is damaged, or the stream is stopped meanwhile.
    pub fn candidate(
        &self,
        epoch: u64,
        batch: u64,
        global_place: usize,
        attempt: u64,
    ) -> Result<EncodedRow, DatasetError> {
        let position = self.batches.replacement(batch, global_place as u64, attempt);
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let (group, row) = self.locate(&mut recent, epoch, position);
        let encoded = match &recent.group {
            Some((number, encoded)) if *number == group => encoded.clone(),
            _ => self.read(group)?,
        };
        recent.group = Some((group, encoded.clone()));
        encoded.row(row).ok_or(DatasetError::OutOfRange {
            what: "row",
            got: u64::from(row),
            count: u64::from(encoded.rows()),
        })
    }

    fn read(&self, group: usize) -> Result<Arc<EncodedGroup>, DatasetError> {
        let read = self.stopper.unless_stopped(self.dataset.reader().clone().read_group(group));
        let fetched = self.dataset.handle().block_on(read).ok_or(DatasetError::Internal { what: "fetching" })?;
        Ok(Arc::new(fetched?.group))
    }

    fn locate(&self, recent: &mut Recent, epoch: u64, position: u64) -> (usize, u32) {
        if let Some(window) = &recent.window
            && window.epoch == epoch
            && window.positions.contains(&position)
        {
            return window.row_at(position);
        }
        if recent.plan.as_ref().is_none_or(|(of, _)| *of != epoch) {
            recent.plan = None;
        }
        let (_, plan) = recent
            .plan
            .get_or_insert_with(|| (epoch, EpochPlan::new(self.dataset.manifest(), self.seed, epoch, self.shuffle)));
        let window = recent.window.insert(plan.window(plan.window_of(position)));
        window.row_at(position)
    }
}
