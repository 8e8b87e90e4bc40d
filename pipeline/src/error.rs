//! The one error type of the crate.

use std::path::PathBuf;

use patchstream_datasets::DatasetError;

/// Everything that can go wrong between encoded rows and patch batches.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// A configuration that cannot work; nothing has been started.
    #[error("{setting}: expected {expected}, got {got}")]
    Config {
        /// The setting's name as in the configuration structs.
        setting: &'static str,
        /// What would have been accepted.
        expected: String,
        /// What was given.
        got: String,
    },
    /// The bytes are of no format that is decoded here.
    #[error("not an image of a known format: starts with {first_bytes:02x?}")]
    UnknownFormat {
        /// Up to eight bytes from the start.
        first_bytes: Vec<u8>,
    },
    /// The header declares more pixels than are decoded.
    #[error("{width} x {height} pixels: expected at most {max_px} in all")]
    TooLarge {
        /// Declared width in pixels.
        width: u32,
        /// Declared height in pixels.
        height: u32,
        /// The limit, [`crate::decode::MAX_IMAGE_PX`].
        max_px: u64,
    },
    /// The bytes are of a known format but are damaged, or use a part of the format that is not supported.
    #[error("{format}: {reason}")]
    Undecodable {
        /// Name of the format.
        format: &'static str,
        /// What the decoder said.
        reason: String,
    },
    /// More samples were bad than the budget allows.
    #[error("{count} bad samples: expected at most {limit}; the last one: {last_reason}")]
    BudgetExceeded {
        /// Different samples found bad so far, this one included.
        count: u64,
        /// How many the budget allows for this data set.
        limit: u64,
        /// Path and reason of the last one.
        last_reason: String,
    },
    /// The quarantine ledger could not be written.
    #[error("cannot write the quarantine ledger {}", path.display())]
    Ledger {
        /// The ledger's path.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Reading rows failed; rows that cannot be read are never quarantined.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// A thread could not be started.
    #[error("cannot start thread {name}")]
    Thread {
        /// The thread's name.
        name: String,
        /// The cause.
        source: std::io::Error,
    },
    /// A worker thread panicked: an error of this program, not of its input.
    #[error("a pipeline thread panicked: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// The threads ended before the plan did, without saying why.
    #[error("the pipeline's threads ended before batch {sequence} of the plan")]
    Incomplete {
        /// Number of the missing batch, counted from the stream's start.
        sequence: u64,
    },
}

impl PipelineError {
    /// What the user can do about it, where there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::BudgetExceeded { .. } => Some(
                "look at the quarantine ledger, repair or remove those images, or raise the budget of bad samples"
                    .to_owned(),
            ),
            Self::UnknownFormat { .. } => Some("JPEG, PNG, WebP, GIF, BMP, TIFF and binary PPM are decoded".to_owned()),
            Self::TooLarge { .. } => Some("make the image smaller before converting it".to_owned()),
            Self::Panicked { .. } | Self::Incomplete { .. } => {
                Some("this is an error of the program; please report it with the message above".to_owned())
            }
            Self::Dataset(error) => error.hint(),
            _ => None,
        }
    }

    /// Whether a sample is to blame, so that it can be replaced by another one.
    pub fn is_bad_sample(&self) -> bool {
        matches!(self, Self::UnknownFormat { .. } | Self::TooLarge { .. } | Self::Undecodable { .. })
    }

    pub(crate) fn config(setting: &'static str, expected: impl Into<String>, got: impl std::fmt::Display) -> Self {
        Self::Config { setting, expected: expected.into(), got: format!("{got}") }
    }

    /// The error for what `catch_unwind` or `join` gave back.
    pub(crate) fn panicked(payload: &(dyn std::any::Any + Send)) -> Self {
        Self::Panicked { message: panic_message(payload) }
    }
}

/// The message that a panic carried.
pub(crate) fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|message| (*message).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
