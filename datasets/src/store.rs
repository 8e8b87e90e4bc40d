//! Access to the bytes of a data set, local and remote by the same calls.

use std::ops::Range;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::DatasetError;
use crate::faults::{Faults, Injector};
use crate::local::LocalFiles;
use crate::location::here;
use crate::remote::{self, Naming, Place};

/// A read that fails for a reason that may pass is tried so often.
const ATTEMPTS: u32 = 4;
/// The pause before the second attempt; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(50);

/// The folder, or the bucket and prefix, in which a data set lies.
pub(crate) struct Store {
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
    naming: Naming,
    /// Ranges of files on this machine are mapped, past the object store.
    local: Option<LocalFiles>,
    location: String,
    faults: Option<Injector>,
}

/// What was read, its checksum, and how many attempts failed before.
pub(crate) struct Fetched {
    pub(crate) bytes: Bytes,
    pub(crate) xxh3: u64,
    pub(crate) retries: u32,
}

/// The clients of object stores hold credentials, which must not come into any message.
impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Store").field("location", &self.location).finish_non_exhaustive()
    }
}

impl Store {
    /// # Errors
    ///
    /// If the location is neither a folder on this machine, as a path or a `file://` URL, nor a URL of an object store.
    pub(crate) fn open(location: &str) -> Result<Store, DatasetError> {
        if remote::is_remote(location) {
            let Place { objects, path, naming } = remote::open(location)?;
            let location = remote::shown(location).trim_end_matches('/').to_owned();
            return Ok(Store { objects, prefix: path, naming, local: None, location, faults: None });
        }
        let refuse = |reason: &str| DatasetError::Location { location: location.to_owned(), reason: reason.to_owned() };
        let path = here(location)?;
        let folder = FilePath::new(&*path);
        match fs_err::metadata(folder) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(refuse("it is not a folder")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(refuse("it does not exist")),
            Err(error) => return Err(error.into()),
        }
        let objects = LocalFileSystem::new_with_prefix(folder).map_err(|error| refuse(&error.to_string()))?;
        let local = Some(LocalFiles::new(folder.to_owned()));
        let location = path.trim_end_matches('/').to_owned();
        let (objects, prefix) = (Arc::new(objects), Path::default());
        Ok(Store { objects, prefix, naming: Naming::Plain, local, location, faults: None })
    }

    /// The same store, whose reads meet faults.
    pub(crate) fn with_faults(self, faults: Faults) -> Store {
        Store { faults: Some(Injector::new(faults)), ..self }
    }

    /// Where the data set lies.
    pub(crate) fn location(&self) -> &str {
        &self.location
    }

    /// Where a file of the data set lies, for messages.
    pub(crate) fn path_of(&self, file: &str) -> String {
        format!("{}/{file}", self.location)
    }

    /// Reads a byte range.
    ///
    /// # Errors
    ///
    /// [`DatasetError::ShardMissing`], [`DatasetError::ShardTruncated`], or [`DatasetError::Read`] when all attempts
    /// failed.
    pub(crate) async fn read_range(&self, file: &str, range: Range<u64>) -> Result<Fetched, DatasetError> {
        let length_max = range.end - range.start;
        let fetched = self.read(file, Some(GetRange::Bounded(range.clone())), range.end, length_max).await?;
        let got = fetched.bytes.len() as u64;
        if got == length_max {
            return Ok(fetched);
        }
        Err(DatasetError::ShardTruncated { path: self.path_of(file), expected: range.end, got: range.start + got })
    }

    /// Reads everything from `offset` on, which may be at most `length_max` bytes.
    pub(crate) async fn read_tail(&self, file: &str, offset: u64, length_max: u64) -> Result<Fetched, DatasetError> {
        self.read(file, Some(GetRange::Offset(offset)), offset + 1, length_max).await
    }

    /// Reads a whole file of at most `length_max` bytes.
    pub(crate) async fn read_all(&self, file: &str, length_max: u64) -> Result<Fetched, DatasetError> {
        self.read(file, None, 0, length_max).await
    }

    /// The objects, for whoever writes or lists them.
    pub(crate) fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.objects
    }

    /// Where a file of the data set lies among the objects.
    pub(crate) fn object(&self, file: &str) -> Result<Path, DatasetError> {
        let refuse = |reason| DatasetError::Location { location: self.path_of(file), reason };
        let file = self.naming.parse(file).map_err(refuse)?;
        Ok(self.prefix.parts().chain(file.parts()).collect())
    }

    async fn read(
        &self,
        file: &str,
        range: Option<GetRange>,
        needed_end: u64,
        length_max: u64,
    ) -> Result<Fetched, DatasetError> {
        let name = self.path_of(file);
        let path = self.object(file)?;
        let mut retries = 0;
        loop {
            let error = match self.read_once(&path, range.clone(), length_max).await {
                Ok(Some((bytes, xxh3))) => return Ok(Fetched { bytes, xxh3, retries }),
                Ok(None) => {
                    let reason = format!("expected at most {length_max} bytes");
                    return Err(DatasetError::Location { location: name, reason });
                }
                Err(Error::NotFound { .. }) => return Err(DatasetError::ShardMissing { path: name }),
                Err(error) => error,
            };
            // A range beyond the end fails like anything else; the length tells.
            if retries == 0
                && let Ok(meta) = self.objects.head(&path).await
                && meta.size < needed_end
            {
                return Err(DatasetError::ShardTruncated { path: name, expected: needed_end, got: meta.size });
            }
            if retries + 1 == ATTEMPTS || is_final(&error) {
                return Err(DatasetError::Read { path: name, attempts: retries + 1, reason: reason_of(&error) });
            }
            tracing::warn!("reading `{name}` failed and is tried again: {}", reason_of(&error));
            tokio::time::sleep(PAUSE * 2_u32.pow(retries)).await;
            retries += 1;
        }
    }

    /// Nothing when the answer would be longer than it may be, which is known before any memory is taken for it.
    async fn read_once(
        &self,
        path: &Path,
        range: Option<GetRange>,
        length_max: u64,
    ) -> Result<Option<(Bytes, u64)>, Error> {
        if let Some(faults) = &self.faults {
            faults.strike().await?;
        }
        if let (Some(local), Some(GetRange::Bounded(range))) = (&self.local, &range) {
            return local.read(path.as_ref(), range.clone()).await.map(Some);
        }
        let options = GetOptions { range, ..GetOptions::default() };
        let answer = self.objects.get_opts(path, options).await?;
        if answer.range.end - answer.range.start > length_max {
            return Ok(None);
        }
        let bytes = answer.bytes().await?;
        let xxh3 = xxh3_64(&bytes);
        Ok(Some((bytes, xxh3)))
    }
}

/// What an error says, with what it says about its causes, and without credentials.
pub(crate) fn reason_of(error: &Error) -> String {
    let mut reason = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if !reason.contains(&text) {
            reason.push_str(&format!(": {text}"));
        }
        cause = error.source();
    }
    remote::without_secrets(&reason)
}

/// Repeats what failed for a reason that may pass. The clients repeat most requests, but not those whose answer was cut off.
pub(crate) async fn persistently<T>(mut attempt: impl AsyncFnMut() -> Result<T, Error>) -> Result<T, Error> {
    let mut retries = 0;
    loop {
        match attempt().await {
            Err(error) if retries + 1 < ATTEMPTS && !is_final(&error) => {
                tracing::warn!("a request failed and is sent again: {}", reason_of(&error));
            }
            done => return done,
        }
        tokio::time::sleep(PAUSE * 2_u32.pow(retries)).await;
        retries += 1;
    }
}

/// Whether trying again cannot help.
fn is_final(error: &Error) -> bool {
    matches!(
        error,
        Error::NotFound { .. }
            | Error::AlreadyExists { .. }
            | Error::Precondition { .. }
            | Error::PermissionDenied { .. }
            | Error::Unauthenticated { .. }
            | Error::InvalidPath { .. }
            | Error::NotSupported { .. }
            | Error::NotImplemented { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_paths_or_file_urls() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        assert_eq!(Store::open(path).unwrap().location(), path);
        assert_eq!(Store::open(&format!("file://{}", path.replace('t', "%74"))).unwrap().location(), path);
        for (location, message) in [
            ("ftp://bucket/prefix", "the scheme `ftp` is not supported"),
            ("/no/such/folder", "it does not exist"),
            ("/dev/null", "it is not a folder"),
            ("file:///%zz", "the URL is not valid"),
            ("file://data/shards", "begins with `file:///`"),
        ] {
            assert!(Store::open(location).unwrap_err().to_string().contains(message), "{location}");
        }
    }
}
