//! What a person sees when something goes wrong: one error, its causes, a hint, and an exit code.

use std::fmt;
use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;

use patchstream_datasets::DatasetError;
use patchstream_model::ModelError;
use patchstream_pipeline::PipelineError;

use crate::printable::printable;

/// The user's mistake, found by the trainer itself.
#[derive(Debug)]
pub(crate) struct UserError {
    message: String,
    hint: Option<String>,
}

impl UserError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for UserError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for UserError {}

/// Prints an error with its causes and its hint to standard error.
pub(crate) fn failure(error: &anyhow::Error) -> ExitCode {
    if is_closed_pipe(error) {
        return ExitCode::SUCCESS;
    }
    let mut text = format!("error: {error}\n");
    let mut above = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        // Some errors repeat their source in their own message; a person should read it once.
        if !above.contains(&cause) {
            text.push_str(&format!("  caused by: {cause}\n"));
        }
        above = cause;
    }
    if let Some(hint) = error.chain().find_map(hint_of) {
        text.push_str(&format!("hint: {hint}\n"));
    }
    // If standard error is closed, there is nobody left to tell.
    let _ = std::io::stderr().write_all(printable(&text).as_bytes());
    ExitCode::from(1)
}

fn hint_of(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref::<UserError>() {
        error.hint.clone()
    } else if let Some(error) = error.downcast_ref::<DatasetError>() {
        error.hint()
    } else if let Some(error) = error.downcast_ref::<PipelineError>() {
        error.hint()
    } else if let Some(error) = error.downcast_ref::<ModelError>() {
        error.hint()
    } else {
        match error.downcast_ref::<std::io::Error>()?.kind() {
            ErrorKind::StorageFull => Some("free some space, or write to another disk".to_owned()),
            ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
                Some("choose a place that can be written to".to_owned())
            }
            _ => None,
        }
    }
}

/// `patchstream inspect | head` closes our standard output; that is no error of anybody's.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == ErrorKind::BrokenPipe)
}
