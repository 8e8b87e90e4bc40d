//! What is known of a conversion from its beginning on, and found again by whoever goes on with it: here and in an object store.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::configuration::difference;
use super::options::Part;
use crate::error::DatasetError;

/// What is being made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    /// Everything that decides what is written.
    pub(super) configuration: Value,
    /// Which part of it this is, unless it is all.
    pub(super) part: Option<Part>,
    /// The names of the splits, the rest first; a single one means that nothing is split.
    pub(super) splits: Vec<String>,
    pub(super) class_names: Vec<String>,
    /// Files of the source that are no images.
    pub(super) skipped: u64,
    /// Units in all parts together.
    pub(super) units: u32,
    /// Images in all parts together.
    pub(super) images: u64,
}

impl Head {
    /// # Errors
    ///
    /// If what lies at `destination`, made with the configuration `was`, is something else.
    pub(super) fn check_same(&self, destination: &Path, was: &Value, part: Option<Part>) -> Result<(), DatasetError> {
        let differs = |option: String, was: String, is: String| {
            Err(DatasetError::DestinationDiffers { path: destination.to_owned(), option, was, is })
        };
        if let Some(found) = difference(was, &self.configuration) {
            return differs(found.option, found.was, found.is);
        }
        if part == self.part {
            return Ok(());
        }
        let text = |part: Option<Part>| part.map_or_else(|| "not given".to_owned(), |part| part.to_string());
        differs("--part".to_owned(), text(part), text(self.part))
    }
}

/// What becomes of the remains of an interrupted conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remains {
    /// They are an error, if there is anything to lose.
    Refuse,
    /// They are gone on with.
    Resume,
    /// They are thrown away.
    Clear,
}

/// What may be done at a destination.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms<'a> {
    pub(super) remains: Remains,
    /// Whether a data set that lies there may be replaced.
    pub(super) overwrite: bool,
    /// Where shards wait to be sent, if it is far away.
    pub(super) temporary: &'a Path,
}

/// What there is to do for a destination.
pub(super) enum Begun<Staging> {
    /// It is there already, made as asked for.
    Finished,
    Work(Staging),
}
