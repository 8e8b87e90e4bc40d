//! Opening a data set.
use std::sync::Arc;

use crate::error::DatasetError;
use crate::group::EncodedGroup;
use crate::manifest::Manifest;

/// A data set that is open for reading; share it behind an [`Arc`].
#[derive(Debug)]
pub struct Dataset {}

impl Dataset {
    /// Opens the data set at a local path or `file://` URL.
    ///
    /// # Errors
    ///
    /// If there is none, or its manifest cannot be read.
    pub fn open(_location: &str) -> Result<Dataset, DatasetError> {
        todo!()
    }
    /// What it consists of.
    pub fn manifest(&self) -> &Manifest {
        todo!()
    }
    /// Reads one row group.
    ///
    /// # Errors
    ///
    /// If it cannot be read or is damaged.
    pub fn read_group(&self, _group: usize) -> Result<Arc<EncodedGroup>, DatasetError> {
        todo!()
    }
}
