//! Files far away, read by threads that wait for them.

use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt};
use tokio::runtime::Runtime;

use super::{remote_error, runtime, shown};
use crate::error::DatasetError;
use crate::store::{Store, persistently};

/// Files that are looked at at one time, where many are.
const LOOKS_AT_ONCE: usize = 64;

/// The bucket or host of a location, with a thread of its own that fetches from it.
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
        Ok(RemoteFiles { store: Store::open(&base)?, base, runtime: runtime()? })
    }

    /// The part of a location behind the bucket or host.
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
        self.runtime.block_on(self.look(location))
    }

    /// The same for many files, in their order. What cannot be the name of a file is none.
    pub(crate) fn bytes_of_all(&self, locations: Vec<String>) -> Result<Vec<Option<u64>>, DatasetError> {
        let looks = stream::iter(locations).map(async |location| match self.look(&location).await {
            Err(DatasetError::Location { .. }) => Ok(None),
            looked => looked,
        });
        self.runtime.block_on(looks.buffered(LOOKS_AT_ONCE).try_collect())
    }

    async fn look(&self, location: &str) -> Result<Option<u64>, DatasetError> {
        let key = self.key(location)?;
        if key.is_empty() {
            return Ok(None);
        }
        let object = self.store.object(key)?;
        match persistently(async || self.store.objects().head(&object).await).await {
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

    /// The names of the files directly in a folder.
    pub(crate) fn children(&self, folder: &str) -> Result<Vec<String>, DatasetError> {
        let prefix = self.store.object(self.key(folder)?)?;
        let list = persistently(async || self.store.objects().list_with_delimiter(Some(&prefix)).await);
        let listed = self.runtime.block_on(list);
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
        let list = persistently(async || {
            let mut files = Vec::new();
            let mut listing = self.store.objects().list(Some(&prefix));
            while let Some(meta) = listing.try_next().await? {
                files.extend(relative(&meta.location).map(|name| (name, meta.size)));
            }
            Ok(files)
        });
        self.runtime.block_on(list).map_err(|error| remote_error("list", folder, &error))
    }
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
