//! Reading ranges of local files into memory that is used again.
//!
//! A row group is many megabytes. Memory fresh from the system for each would be mapped, cleared and given back page by page,
//! which costs more than reading, and leaves the allocator's arenas larger from time to time. So buffers go round: the last
//! image of a row group that is dropped gives the row group's buffer back.

use std::io::ErrorKind;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use crossbeam::queue::ArrayQueue;
use fs_err::File;
use object_store::Error;
use tokio::task::spawn_blocking;

/// Buffers that wait for the next read; more are freed.
const FREE_MAX: usize = 4;
/// Buffers are multiples of this, so that row groups of about one size fit each other's.
const STEP_BYTES: usize = 1 << 20;

/// The files below a folder.
#[derive(Debug)]
pub(crate) struct LocalFiles {
    root: PathBuf,
    free: Arc<ArrayQueue<Vec<u8>>>,
}

/// A buffer in use, which goes back when it is dropped.
struct Buffer {
    bytes: Vec<u8>,
    length: usize,
    free: Arc<ArrayQueue<Vec<u8>>>,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // When enough of them wait, this one is freed.
        let _ = self.free.push(std::mem::take(&mut self.bytes));
    }
}

impl LocalFiles {
    pub(crate) fn new(root: PathBuf) -> LocalFiles {
        LocalFiles { root, free: Arc::new(ArrayQueue::new(FREE_MAX)) }
    }

    /// The bytes of a range of a file, all of them.
    pub(crate) async fn read(&self, file: &str, range: Range<u64>) -> Result<Bytes, Error> {
        let (path, free) = (self.root.join(file), Arc::clone(&self.free));
        let name = file.to_owned();
        let read = spawn_blocking(move || read(path, range, free)).await.map_err(std::io::Error::other).flatten();
        read.map_err(|error| match error.kind() {
            ErrorKind::NotFound => Error::NotFound { path: name, source: error.into() },
            ErrorKind::PermissionDenied => Error::PermissionDenied { path: name, source: error.into() },
            _ => Error::Generic { store: "local files", source: error.into() },
        })
    }
}

/// The caller has capped the length of the range.
fn read(path: PathBuf, range: Range<u64>, free: Arc<ArrayQueue<Vec<u8>>>) -> std::io::Result<Bytes> {
    let file = File::open(path)?;
    let wanted = usize::try_from(range.end - range.start).map_err(std::io::Error::other)?;
    let bytes = free.pop().filter(|bytes| bytes.len() >= wanted);
    // Zeroes from the system take memory only where they are written over.
    let bytes = bytes.unwrap_or_else(|| vec![0; wanted.next_multiple_of(STEP_BYTES)]);
    let mut buffer = Buffer { bytes, length: 0, free };
    while buffer.length < wanted {
        let (rest, offset) = (&mut buffer.bytes[buffer.length..wanted], range.start + buffer.length as u64);
        match file.file().read_at(rest, offset) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => buffer.length += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Bytes::from_owner(buffer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_goes_round_and_holds_what_was_read_last() {
        let folder = tempfile::tempdir().unwrap();
        fs_err::write(folder.path().join("digits"), b"0123456789").unwrap();
        let files = LocalFiles::new(folder.path().to_owned());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let read = |range| runtime.block_on(files.read("digits", range));
        let first = read(2..6).unwrap();
        let address = first.as_ptr();
        let part = first.slice(1..2);
        drop(first);
        assert_eq!((&part[..], files.free.len()), (&b"3"[..], 0), "a part keeps the whole");
        drop(part);
        assert_eq!(files.free.len(), 1);
        let second = read(7..10).unwrap();
        assert_eq!((&second[..], second.as_ptr(), files.free.len()), (&b"789"[..], address, 0));
        assert_eq!(&read(0..3).unwrap()[..], b"012");
        assert!(read(7..11).unwrap_err().to_string().contains("unexpected end of file"));
        assert!(matches!(runtime.block_on(files.read("letters", 0..1)), Err(Error::NotFound { .. })));
    }
}
