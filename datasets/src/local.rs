//! Reading ranges of local files into memory that is used again.
//!
//! A row group is many megabytes. Memory fresh from the system for each would be mapped, cleared and given back page by page,
//! which costs more than reading, and leaves the allocator's arenas larger from time to time. So buffers go round: the last
//! image of a row group that is dropped gives the row group's buffer back. They are of huge pages where the system has
//! them, which took an eighth off the reading of raw pixels. A checksum is made of each piece while the processor's cache still
//! holds it.

use std::io::ErrorKind;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use crossbeam::queue::ArrayQueue;
use fs_err::File;
use memmap2::MmapMut;
use object_store::Error;
use tokio::task::spawn_blocking;
use xxhash_rust::xxh3::Xxh3;

/// Buffers that wait for the next read; more are freed. A new one is made only when none waits, so there are never more
/// than were in use at one time.
const FREE_MAX: usize = 64;
/// Bytes that are read, and then hashed, at a time.
const PIECE_BYTES: usize = 256 << 10;

/// The files below a folder.
#[derive(Debug)]
pub(crate) struct LocalFiles {
    root: PathBuf,
    buffers: Arc<Buffers>,
}

/// The buffers that wait.
#[derive(Debug)]
struct Buffers {
    free: ArrayQueue<MmapMut>,
    /// The longest read so far. New buffers are of that length, so that in the long run each fits any read.
    longest: AtomicUsize,
}

/// A buffer in use, which goes back when it is dropped.
struct Buffer {
    /// There until it is dropped.
    bytes: Option<MmapMut>,
    length: usize,
    buffers: Arc<Buffers>,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref().map_or(&[], |bytes| &bytes[..self.length])
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // When enough of them wait, this one is freed.
        let _ = self.bytes.take().map(|bytes| self.buffers.free.push(bytes));
    }
}

impl LocalFiles {
    pub(crate) fn new(root: PathBuf) -> LocalFiles {
        let buffers = Buffers { free: ArrayQueue::new(FREE_MAX), longest: AtomicUsize::new(0) };
        LocalFiles { root, buffers: Arc::new(buffers) }
    }

    /// The bytes of a range of a file, all of them, and their XXH3-64.
    pub(crate) async fn read(&self, file: &str, range: Range<u64>) -> Result<(Bytes, u64), Error> {
        let (path, buffers) = (self.root.join(file), self.buffers.clone());
        let name = file.to_owned();
        let read = spawn_blocking(move || read(path, range, buffers)).await.map_err(std::io::Error::other).flatten();
        read.map_err(|error| match error.kind() {
            ErrorKind::NotFound => Error::NotFound { path: name, source: error.into() },
            ErrorKind::PermissionDenied => Error::PermissionDenied { path: name, source: error.into() },
            _ => Error::Generic { store: "local files", source: error.into() },
        })
    }
}

/// The caller has capped the length of the range.
fn read(path: PathBuf, range: Range<u64>, buffers: Arc<Buffers>) -> std::io::Result<(Bytes, u64)> {
    let file = File::open(path)?;
    let wanted = usize::try_from(range.end - range.start).map_err(std::io::Error::other)?;
    let longest = buffers.longest.fetch_max(wanted, Ordering::Relaxed).max(wanted);
    let waiting = buffers.free.pop().filter(|bytes| bytes.len() >= wanted);
    let mut bytes = waiting.map_or_else(|| new_buffer(longest), Ok)?;
    let mut hasher = Xxh3::new();
    let mut length = 0;
    while length < wanted {
        let piece = &mut bytes[length..wanted.min(length + PIECE_BYTES)];
        match file.file().read_at(piece, range.start + length as u64) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                hasher.update(&piece[..read]);
                length += read;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let buffer = Buffer { bytes: Some(bytes), length, buffers };
    Ok((Bytes::from_owner(buffer), hasher.digest()))
}

/// Memory from the system, which takes room only where it is written to.
fn new_buffer(length: usize) -> std::io::Result<MmapMut> {
    let bytes = MmapMut::map_anon(length.max(1))?;
    // A system without huge pages does without.
    #[cfg(target_os = "linux")]
    let _ = bytes.advise(memmap2::Advice::HugePage);
    Ok(bytes)
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
        let read = |range| runtime.block_on(files.read("digits", range)).map(|(bytes, _)| bytes);
        let first = read(2..6).unwrap();
        let address = first.as_ptr();
        let part = first.slice(1..2);
        drop(first);
        assert_eq!((&part[..], files.buffers.free.len()), (&b"3"[..], 0), "a part keeps the whole");
        drop(part);
        assert_eq!(files.buffers.free.len(), 1);
        let second = read(7..10).unwrap();
        assert_eq!((&second[..], second.as_ptr(), files.buffers.free.len()), (&b"789"[..], address, 0));
        assert_eq!(&read(0..3).unwrap()[..], b"012");
        assert!(read(7..11).unwrap_err().to_string().contains("unexpected end of file"));
        assert!(matches!(runtime.block_on(files.read("letters", 0..1)), Err(Error::NotFound { .. })));
    }
}
