//! A file of a source that is read in ranges.

use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};

use fs_err::os::unix::fs::FileExt;

use super::root::Root;
use crate::error::DatasetError;

/// Bytes that are read at once where a file is read from its beginning to its end.
const CHUNK_BYTES: u64 = 256 << 10;
/// The same for files far away, where each read costs a round trip.
const REMOTE_CHUNK_BYTES: u64 = 8 << 20;

/// A file, and its length when it was looked at. It is opened anew for every read, so that any number of them can be held.
#[derive(Debug, Clone)]
pub(super) struct Blob {
    root: Root,
    /// A path on this machine, or a URL.
    path: PathBuf,
    bytes: u64,
}

impl Blob {
    pub(super) fn new(root: Root, path: PathBuf, bytes: u64) -> Blob {
        Blob { root, path, bytes }
    }

    /// A file of another name in the same folder.
    pub(super) fn sibling(&self, name: &str) -> Result<Option<Blob>, DatasetError> {
        self.root.blob(&self.path.with_file_name(name))
    }

    pub(super) fn root(&self) -> &Root {
        &self.root
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The last component of its path.
    pub(super) fn name(&self) -> String {
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends the bytes from `offset` on, which lie inside the file, and leaves `into` as it was if that fails.
    pub(super) fn append(&self, offset: u64, bytes: u64, into: &mut Vec<u8>) -> Result<(), DatasetError> {
        if let Root::Remote(files) = &self.root {
            return files.append(&self.path.to_string_lossy(), offset, bytes, into);
        }
        let before = into.len();
        into.resize(before + bytes as usize, 0);
        let read = fs_err::File::open(&self.path).and_then(|file| file.read_exact_at(&mut into[before..], offset));
        read.map_err(|error| {
            into.truncate(before);
            self.failure(error, offset + bytes)
        })
    }

    /// The first bytes, at most `bytes` of them.
    pub(super) fn start(&self, bytes: u64) -> Result<Vec<u8>, DatasetError> {
        let mut start = Vec::new();
        self.append(0, bytes.min(self.bytes), &mut start)?;
        Ok(start)
    }

    /// All bytes, if they are no more than `bytes_max`.
    pub(super) fn whole(&self, bytes_max: u64) -> Result<Vec<u8>, DatasetError> {
        if self.bytes > bytes_max {
            let reason = format!("expected at most {bytes_max} bytes, got {}", self.bytes);
            return Err(self.damaged(reason));
        }
        self.start(self.bytes)
    }

    /// Reads from the beginning, in large steps.
    pub(super) fn reader(&self) -> BlobReader {
        let chunk_bytes = if self.is_remote() { REMOTE_CHUNK_BYTES } else { CHUNK_BYTES };
        BlobReader { blob: self.clone(), position: 0, chunk: Vec::new(), used: 0, chunk_bytes }
    }

    fn is_remote(&self) -> bool {
        matches!(self.root, Root::Remote(_))
    }

    /// An error about what stands in the file.
    pub(super) fn damaged(&self, reason: impl Into<String>) -> DatasetError {
        DatasetError::SourceDamaged { path: self.path.clone(), reason: reason.into() }
    }

    /// Tells an error of this crate, carried through a reader of somebody else's, from that reader's own, which is about
    /// what stands in the file.
    pub(super) fn failure_of_reader(&self, error: io::Error) -> DatasetError {
        match error.downcast::<DatasetError>() {
            Ok(ours) => ours,
            Err(error) => self.damaged(error.to_string()),
        }
    }

    fn failure(&self, error: io::Error, expected: u64) -> DatasetError {
        if error.kind() != io::ErrorKind::UnexpectedEof {
            return error.into();
        }
        let got = fs_err::metadata(&self.path).map_or(0, |metadata| metadata.len());
        DatasetError::SourceChanged { path: self.path.clone(), expected: self.bytes.max(expected), got }
    }
}

/// Reads a file front to back. Its errors carry a [`DatasetError`].
#[derive(Debug)]
pub(super) struct BlobReader {
    blob: Blob,
    /// Where the chunk ends in the file.
    position: u64,
    chunk: Vec<u8>,
    /// Bytes of the chunk that have been given out.
    used: usize,
    chunk_bytes: u64,
}

impl BlobReader {
    /// For readers that jump often, and need few bytes where they land.
    pub(super) fn with_small_steps(mut self) -> Self {
        if !self.blob.is_remote() {
            self.chunk_bytes = 4096;
        }
        self
    }

    /// Passes over bytes without reading them; false if the file ends before.
    pub(super) fn skip(&mut self, bytes: u64) -> bool {
        let here = self.position - (self.chunk.len() - self.used) as u64;
        let Some(target) = here.checked_add(bytes).filter(|&target| target <= self.blob.bytes) else { return false };
        if target <= self.position {
            self.used += bytes as usize;
        } else {
            (self.position, self.used) = (target, 0);
            self.chunk.clear();
        }
        true
    }
}

impl BufRead for BlobReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.used == self.chunk.len() {
            self.chunk.clear();
            self.used = 0;
            let bytes = self.chunk_bytes.min(self.blob.bytes - self.position);
            self.blob.append(self.position, bytes, &mut self.chunk).map_err(io::Error::other)?;
            self.position += bytes;
        }
        Ok(&self.chunk[self.used..])
    }

    fn consume(&mut self, bytes: usize) {
        self.used += bytes;
    }
}

impl Read for BlobReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut available = self.fill_buf()?;
        let read = available.read(into)?;
        self.consume(read);
        Ok(read)
    }
}
