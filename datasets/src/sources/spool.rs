//! A temporary file for what can only be read front to back.
//!
//! It has no name, so nothing of it is left when the program ends, however it ends.

use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use fs_err::os::unix::fs::FileExt;

use crate::error::DatasetError;

/// A temporary file that is written first and read in ranges then.
pub(super) struct Spool {
    file: BufWriter<fs_err::File>,
    bytes: u64,
}

impl Spool {
    pub(super) fn create(folder: &Path) -> Result<Spool, DatasetError> {
        let file = tempfile::tempfile_in(folder).map_err(|error| {
            io::Error::new(error.kind(), format!("no temporary file in `{}`: {error}", folder.display()))
        })?;
        let file = fs_err::File::from_parts(file, folder.join("(temporary file)"));
        Ok(Spool { file: BufWriter::with_capacity(1 << 20, file), bytes: 0 })
    }

    /// Where the next byte goes.
    pub(super) fn position(&self) -> u64 {
        self.bytes
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), DatasetError> {
        self.bytes += bytes.len() as u64;
        Ok(self.file.write_all(bytes)?)
    }

    /// Appends so many bytes of a reader; false if it ends before.
    ///
    /// Errors of reading are told from those of writing: the latter are errors of this crate, wrapped.
    pub(super) fn append_from(&mut self, reader: &mut dyn Read, bytes: u64) -> io::Result<bool> {
        let mut chunk = [0; 16 << 10];
        let mut left = bytes;
        while left > 0 {
            let wanted = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = match reader.read(&mut chunk[..wanted]) {
                Ok(0) => return Ok(false),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.append(&chunk[..read]).map_err(io::Error::other)?;
            left -= read as u64;
        }
        Ok(true)
    }

    /// Ends the writing.
    pub(super) fn finish(self) -> Result<FinishedSpool, DatasetError> {
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(FinishedSpool { file })
    }
}

/// A temporary file that is read.
pub(super) struct FinishedSpool {
    file: fs_err::File,
}

impl FinishedSpool {
    /// Appends the bytes from `offset` on to `into`.
    pub(super) fn append(&self, offset: u64, bytes: u64, into: &mut Vec<u8>) -> Result<(), DatasetError> {
        let before = into.len();
        into.resize(before + bytes as usize, 0);
        self.file.read_exact_at(&mut into[before..], offset).map_err(|error| {
            into.truncate(before);
            error.into()
        })
    }
}
