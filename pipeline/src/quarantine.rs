//! Bad samples: a ledger of them, and a budget of how many may be.

use std::collections::HashSet;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use fs_err::{File, OpenOptions};
use serde::{Deserialize, Serialize};

use crate::error::PipelineError;

/// What is done about samples that cannot be decoded: each is replaced, and the run goes on while the budget lasts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BadSamples {
    /// How many may be bad.
    pub budget: Budget,
    /// A file to which each bad sample is appended as a line of JSON: `sample_id`, `path`, `reason`.
    pub ledger: Option<PathBuf>,
}

impl Default for BadSamples {
    fn default() -> Self {
        Self { budget: Budget { count: 10, fraction: 0.001 }, ledger: None }
    }
}

/// How many different samples may be bad: `count`, or `fraction` of the data set if that is more.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Bad samples that are always accepted.
    pub count: u64,
    /// Share of the data set's samples that may be bad, 0 to 1.
    pub fraction: f64,
}

impl Budget {
    /// Never the whole data set, since there must be something to replace bad samples by.
    fn limit(self, dataset_rows: u64) -> u64 {
        self.count.max((self.fraction * dataset_rows as f64) as u64).min(dataset_rows.saturating_sub(1))
    }
}

impl BadSamples {
    /// Checks the fraction.
    ///
    /// # Errors
    /// [`PipelineError::Config`] when it is not in 0 to 1.
    pub fn validate(&self) -> Result<(), PipelineError> {
        if (0.0..=1.0).contains(&self.budget.fraction) {
            return Ok(());
        }
        Err(PipelineError::config("bad_samples.budget.fraction", "0 to 1", self.budget.fraction))
    }
}

/// Keeps count of bad samples.
#[derive(Debug)]
pub(crate) struct Quarantine {
    limit: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Bounded by the budget, since the run ends beyond it.
    sample_ids: HashSet<u64>,
    ledger: Option<File>,
}

impl State {
    fn write_down(&mut self, line: &LedgerLine<'_>) -> Result<(), PipelineError> {
        let Some(ledger) = &mut self.ledger else { return Ok(()) };
        let mut bytes = serde_json::to_vec(line).expect("numbers and strings are valid JSON");
        bytes.push(b'\n');
        // One write a line, so that a run that is killed leaves whole lines.
        ledger.write_all(&bytes).map_err(|source| PipelineError::Ledger { path: ledger.path().to_owned(), source })
    }
}

#[derive(Serialize)]
struct LedgerLine<'a> {
    sample_id: u64,
    path: &'a str,
    reason: &'a str,
}

impl Quarantine {
    /// Opens the ledger; a run that goes on appends to what is there.
    pub(crate) fn open(settings: &BadSamples, dataset_rows: u64) -> Result<Self, PipelineError> {
        let ledger = settings.ledger.as_ref().map(|path| {
            OpenOptions::new()
                .append(true)
                .create(true)
                .open(path)
                .map_err(|source| PipelineError::Ledger { path: path.clone(), source })
        });
        let state = State { sample_ids: HashSet::new(), ledger: ledger.transpose()? };
        Ok(Self { limit: settings.budget.limit(dataset_rows), state: Mutex::new(state) })
    }

    /// Enters a bad sample; one that comes again, in another epoch or as a replacement, counts once.
    ///
    /// # Errors
    /// [`PipelineError::BudgetExceeded`] beyond the budget, [`PipelineError::Ledger`] when it cannot be written down.
    pub(crate) fn enter(&self, sample_id: u64, path: &str, reason: &PipelineError) -> Result<(), PipelineError> {
        let reason = reason.to_string();
        let mut state = self.lock();
        if state.sample_ids.insert(sample_id) {
            tracing::warn!(sample_id, path, reason, "bad sample, replaced");
            state.write_down(&LedgerLine { sample_id, path, reason: &reason })?;
        }
        // Beyond the budget every further bad sample is an error, new or not: otherwise a worker whose candidates were
        // all entered by others would try them for ever.
        let count = state.sample_ids.len() as u64;
        if count > self.limit {
            let last_reason = format!("{path}: {reason}");
            return Err(PipelineError::BudgetExceeded { count, limit: self.limit, last_reason });
        }
        Ok(())
    }

    /// Different samples entered so far.
    pub(crate) fn count(&self) -> u64 {
        self.lock().sample_ids.len() as u64
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A thread that panicked while it held the lock left a valid state: at worst a line is missing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason() -> PipelineError {
        PipelineError::Undecodable { format: "JPEG", reason: "bad \"Huffman\" code".to_owned() }
    }

    #[test]
    fn the_ledger_has_a_line_for_each_sample_once_and_grows_on_resume() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bad.jsonl");
        let settings = BadSamples { budget: Budget { count: 2, fraction: 0.0 }, ledger: Some(path.clone()) };
        let quarantine = Quarantine::open(&settings, 1000).unwrap();
        quarantine.enter(7, "a/b.jpg", &reason()).unwrap();
        quarantine.enter(7, "a/b.jpg", &reason()).unwrap();
        Quarantine::open(&settings, 1000).unwrap().enter(8, "c.jpg", &reason()).unwrap();
        let text = fs_err::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["sample_id"], 7);
        assert_eq!(lines[0]["path"], "a/b.jpg");
        assert_eq!(lines[0]["reason"], "JPEG: bad \"Huffman\" code");
    }

    #[test]
    fn beyond_the_budget_the_error_says_count_limit_and_reason() {
        let settings = BadSamples { budget: Budget { count: 1, fraction: 0.02 }, ledger: None };
        let quarantine = Quarantine::open(&settings, 100).unwrap();
        quarantine.enter(1, "a.jpg", &reason()).unwrap();
        quarantine.enter(2, "b.jpg", &reason()).unwrap();
        let error = quarantine.enter(3, "c.jpg", &reason()).unwrap_err();
        quarantine.enter(1, "a.jpg", &reason()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "3 bad samples: expected at most 2; the last one: c.jpg: JPEG: bad \"Huffman\" code"
        );
    }
}
