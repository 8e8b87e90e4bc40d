//! Why an image could not be read.

use std::io;

use crate::error::DatasetError;

/// Why an image could not be read: it is bad, which is a line in the ledger, or the source failed, which ends everything.
#[derive(Debug)]
pub enum ReadFailure {
    /// The source holds no such image after all, for the reason given.
    Bad(String),
    /// The source cannot be read, which says nothing about the image.
    Failed(DatasetError),
}

impl From<DatasetError> for ReadFailure {
    fn from(error: DatasetError) -> Self {
        Self::Failed(error)
    }
}

impl From<io::Error> for ReadFailure {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.into())
    }
}
