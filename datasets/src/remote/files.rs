//! Files far away, read by threads that wait for them.

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt};
use tokio::runtime::{Builder, Runtime};

use super::shown;
use crate::error::DatasetError;
use crate::store::{Store, reason_of};

/// The bucket or host of a location, with threads of its own that fetch from it.
///
/// Files are named by their full URLs.
#[derive(Debug)]
pub(crate) struct RemoteFiles {
    /// `s3://bucket`, as all names of its files begin.
    base: String,
    store: Store,
    runtime: Runtime,
}

impl RemoteFiles {
    pub(crate) fn open(location: &str) -> Result<RemoteFiles, DatasetError> {
        // The whole location is looked at first, so that what it must not hold is refused.
        super::open(location)?;
        let (scheme, rest) = location.split_once("://").unwrap_or(("", location));
        let base = format!("{scheme}://{}", rest.split('/').next().unwrap_or(rest));
        let store = Store::open(&base)?;
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("patchstream-remote").enable_all().build()?;
        Ok(RemoteFiles { base, store, runtime })
    }

    fn key<'a>(&self, location: &'a str) -> Result<&'a str, DatasetError> {
        let key =
            location.strip_prefix(&self.base).and_then(|rest| rest.strip_prefix('/').or(rest.is_empty().then_some("")));
        key.ok_or_else(|| DatasetError::Location {
            location: shown(location),
            reason: format!("it is not below `{}`", self.base),
        })
    }

    /// The length of a file; nothing if there is none.
    pub(crate) fn bytes(&self, location: &str) -> Result<Option<u64>, DatasetError> {
        let key = self.key(location)?;
        if key.is_empty() {
            return Ok(None);
        }
        let path = self.store.object(key)?;
        match self.runtime.block_on(self.store.objects().head(&path)) {
            Ok(meta) => Ok(Some(meta.size)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(remote_error("look at", location, &error)),
        }
    }

    /// Appends the bytes from `offset` on to `into`.
    pub(crate) fn append(
        &self,
        location: &str,
        offset: u64,
        bytes: u64,
        into: &mut Vec<u8>,
    ) -> Result<(), DatasetError> {
        if bytes == 0 {
            return Ok(());
        }
        let fetched = self.runtime.block_on(self.store.read_range(self.key(location)?, offset..offset + bytes));
        into.extend_from_slice(&fetched.map_err(|error| of_source(location, error))?.bytes);
        Ok(())
    }

    /// The files directly in a folder, by name.
    pub(crate) fn children(&self, folder: &str) -> Result<Vec<String>, DatasetError> {
        let prefix = self.store.object(self.key(folder)?)?;
        let listed = self.runtime.block_on(self.store.objects().list_with_delimiter(Some(&prefix)));
        let listed = listed.map_err(|error| remote_error("list", folder, &error))?;
        Ok(listed.objects.iter().filter_map(|meta| Some(meta.location.filename()?.to_owned())).collect())
    }

    /// All files in a folder and the folders below it, relative to it, with their lengths.
    pub(crate) fn files_below(&self, folder: &str) -> Result<Vec<(String, u64)>, DatasetError> {
        let prefix = self.store.object(self.key(folder)?)?;
        let relative = |path: &Path| -> Option<String> {
            let parts: Vec<String> = path.prefix_match(&prefix)?.map(|part| part.as_ref().to_owned()).collect();
            Some(parts.join("/"))
        };
        let mut files = Vec::new();
        let listing = async {
            let mut listing = self.store.objects().list(Some(&prefix));
            while let Some(meta) = listing.try_next().await? {
                files.extend(relative(&meta.location).map(|name| (name, meta.size)));
            }
            Ok::<_, Error>(())
        };
        self.runtime.block_on(listing).map_err(|error| remote_error("list", folder, &error))?;
        Ok(files)
    }
}

pub(crate) fn remote_error(action: &'static str, location: &str, error: &Error) -> DatasetError {
    DatasetError::Remote { action, path: shown(location), reason: reason_of(error) }
}

/// What reading says about shards, said about a source.
fn of_source(location: &str, error: DatasetError) -> DatasetError {
    let path = shown(location).into();
    match error {
        DatasetError::ShardMissing { .. } => DatasetError::SourceMissing { path },
        DatasetError::ShardTruncated { expected, got, .. } => DatasetError::SourceChanged { path, expected, got },
        other => other,
    }
}
