//! Reading ranges of local files: as maps of the system's page cache.
//!
//! A row group is many megabytes, and nobody writes to it. Copying it out of the page cache was a third of what raw pixels
//! cost altogether. Mapping it costs next to nothing where the cache holds the file in large pieces, and as much as copying
//! where it holds single pages. Processes that read the same data set share the memory.
//!
//! What is given up for it: a copy cannot change. A shard must not be written to while it is read; one that becomes shorter
//! is noticed (`lost`), one that is overwritten in place after its checksum was compared is not.

mod lost;

use std::io::{Error as IoError, ErrorKind};
use std::ops::Range;
use std::path::PathBuf;

use bytes::Bytes;
use fs_err::File;
use memmap2::{Mmap, MmapOptions};
use object_store::Error;
use tokio::task::spawn_blocking;
use xxhash_rust::xxh3::xxh3_64;

use self::lost::Watch;
pub(crate) use self::lost::is_lost;

/// Why a range cannot be used, part of which was lost.
pub(crate) const LOST: &str = "the file became shorter, or the disk failed, while it was read";

/// The files below a folder.
#[derive(Debug)]
pub(crate) struct LocalFiles {
    root: PathBuf,
}

/// A range of a file.
struct MappedRange {
    /// Before the map, so that it ends while the map is still there.
    _watch: Watch,
    map: Mmap,
}

impl AsRef<[u8]> for MappedRange {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

impl LocalFiles {
    pub(crate) fn new(root: PathBuf) -> LocalFiles {
        LocalFiles { root }
    }

    /// The bytes of a range of a file, all of them, and their XXH3-64.
    pub(crate) async fn read(&self, file: &str, range: Range<u64>) -> Result<(Bytes, u64), Error> {
        let path = self.root.join(file);
        let name = file.to_owned();
        let read = spawn_blocking(move || read(path, range)).await.map_err(IoError::other).flatten();
        read.map_err(|error| match error.kind() {
            ErrorKind::NotFound => Error::NotFound { path: name, source: error.into() },
            ErrorKind::PermissionDenied => Error::PermissionDenied { path: name, source: error.into() },
            _ => Error::Generic { store: "local files", source: error.into() },
        })
    }
}

/// The caller has capped the length of the range.
fn read(path: PathBuf, range: Range<u64>) -> std::io::Result<(Bytes, u64)> {
    let file = File::open(path)?;
    if range.is_empty() {
        return Ok((Bytes::new(), xxh3_64(&[])));
    }
    if file.metadata()?.len() < range.end {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let length = usize::try_from(range.end - range.start).map_err(IoError::other)?;
    // SAFETY: The bytes are only read. That they do not change while they are mapped is asked of the user, as by all that maps
    // data sets; that they may vanish is provided for by the watch.
    let map = unsafe { MmapOptions::new().offset(range.start).len(length).map_copy_read_only(file.file()) }?;
    let watch = Watch::begin(&map)?;
    let bytes = Bytes::from_owner(MappedRange { _watch: watch, map });
    // This brings the bytes in, too.
    let xxh3 = xxh3_64(&bytes);
    if is_lost(&bytes) {
        return Err(IoError::other(LOST));
    }
    Ok((bytes, xxh3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_range_within_a_file_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..20_000_u32).map(|at| (at / 7) as u8).collect();
        fs_err::write(folder.path().join("digits"), &content).unwrap();
        let files = LocalFiles::new(folder.path().to_owned());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        for range in [0..0, 0..1, 2..6, 4095..4097, 4096..8192, 5000..20_000, 0..20_000] {
            let (bytes, xxh3) = runtime.block_on(files.read("digits", range.clone())).unwrap();
            let expected = &content[range.start as usize..range.end as usize];
            assert_eq!((&bytes[..], xxh3), (expected, xxh3_64(expected)), "{range:?}");
        }
        let beyond = runtime.block_on(files.read("digits", 19_999..20_001)).unwrap_err();
        assert!(beyond.to_string().contains("unexpected end of file"), "{beyond}");
        assert!(matches!(runtime.block_on(files.read("letters", 0..1)), Err(Error::NotFound { .. })));
    }
}
