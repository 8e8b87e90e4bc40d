//! A folder of an object store that a data set is written to.

use std::io::{Read, Write};
use std::path::Path as FilePath;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, WriteMultipart};
use tokio::runtime::Runtime;

use super::{copies_at_once, has_folders, remote_error, runtime, shown};
use crate::error::DatasetError;
use crate::store::{Store, persistently};

/// Files are sent in parts of so many bytes, or of more if there would be too many.
const PART_BYTES: u64 = 8 << 20;
/// Clouds allow so many parts a file.
const PARTS_MAX: u64 = 10_000;
/// Parts that are on their way at one time.
const PARTS_AT_ONCE: usize = 4;
/// Small objects that are read or removed at one time.
const OBJECTS_AT_ONCE: usize = 32;

/// What could not be done where there is an object already.
const IS_THERE: &str = "create";

/// What lies directly in a folder.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    /// Names and lengths of the objects.
    pub(crate) objects: Vec<(String, u64)>,
    /// Names of the folders.
    pub(crate) folders: Vec<String>,
}

/// Scheme and bucket of a location.
fn bucket(location: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = location.split_once("://")?;
    Some((scheme, rest.split('/').next()?))
}

/// A folder of an object store. Names of objects are relative to it.
#[derive(Debug)]
pub(crate) struct RemoteFolder {
    store: Store,
    runtime: Runtime,
}

impl RemoteFolder {
    /// # Errors
    ///
    /// If nothing can be written there.
    pub(crate) fn open(location: &str) -> Result<RemoteFolder, DatasetError> {
        if !has_folders(location) {
            let reason = "data sets are written to folders, s3://, gs:// or az://".to_owned();
            return Err(DatasetError::Location { location: shown(location), reason });
        }
        Ok(RemoteFolder { store: Store::open(location)?, runtime: runtime()? })
    }

    pub(crate) fn location(&self) -> &str {
        self.store.location()
    }

    /// A whole object of at most so many bytes; nothing if there is none.
    pub(crate) fn read(&self, name: &str, bytes_max: u64) -> Result<Option<Bytes>, DatasetError> {
        self.runtime.block_on(self.fetch(name, bytes_max))
    }

    /// The same for many objects, in their order.
    pub(crate) fn read_all(&self, names: Vec<String>, bytes_max: u64) -> Result<Vec<Option<Bytes>>, DatasetError> {
        let reads = stream::iter(names).map(async |name| self.fetch(&name, bytes_max).await);
        self.runtime.block_on(reads.buffered(OBJECTS_AT_ONCE).try_collect())
    }

    async fn fetch(&self, name: &str, bytes_max: u64) -> Result<Option<Bytes>, DatasetError> {
        match self.store.read_all(name, bytes_max).await {
            Err(DatasetError::ShardMissing { .. }) => Ok(None),
            read => Ok(Some(read?.bytes)),
        }
    }

    /// What lies directly in a folder below this one; in this one for an empty name.
    pub(crate) fn list(&self, folder: &str) -> Result<Listed, DatasetError> {
        let prefix = self.store.object(folder)?;
        let list = persistently(async || self.store.objects().list_with_delimiter(Some(&prefix)).await);
        let listed = self.runtime.block_on(list);
        let listed = listed.map_err(|error| remote_error("list", &self.store.path_of(folder), &error))?;
        let name = |path: &Path| path.filename().map(str::to_owned);
        // Some tools make an empty object for a folder, with the name of the folder.
        let objects = listed.objects.iter().filter(|meta| meta.location != prefix);
        Ok(Listed {
            objects: objects.filter_map(|meta| Some((name(&meta.location)?, meta.size))).collect(),
            folders: listed.common_prefixes.iter().filter_map(name).collect(),
        })
    }

    /// Writes an object.
    pub(crate) fn put(&self, name: &str, content: &Bytes) -> Result<(), DatasetError> {
        self.write(name, content, &PutMode::Overwrite)
    }

    /// Writes an object unless another one is there; false if it is. An answer that got lost does not matter.
    pub(crate) fn create(&self, name: &str, content: &Bytes) -> Result<bool, DatasetError> {
        match self.write(name, content, &PutMode::Create) {
            Err(DatasetError::Remote { action: IS_THERE, .. }) => {
                Ok(self.read(name, content.len() as u64)?.as_ref() == Some(content))
            }
            written => written.map(|()| true),
        }
    }

    fn write(&self, name: &str, content: &Bytes, mode: &PutMode) -> Result<(), DatasetError> {
        let object = self.store.object(name)?;
        let put = persistently(async || {
            self.store.objects().put_opts(&object, content.clone().into(), mode.clone().into()).await
        });
        match self.runtime.block_on(put) {
            Ok(_) => Ok(()),
            Err(error @ Error::AlreadyExists { .. }) => Err(remote_error(IS_THERE, &self.store.path_of(name), &error)),
            Err(error) => Err(self.not_written(name, &error)),
        }
    }

    /// Sends a file. The object appears whole or not at all.
    pub(crate) fn send(&self, name: &str, path: &FilePath) -> Result<(), DatasetError> {
        let bytes = fs_err::metadata(path)?.len();
        if bytes <= PART_BYTES {
            return self.put(name, &fs_err::read(path)?.into());
        }
        let object = self.store.object(name)?;
        let sent = self.runtime.block_on(persistently(async || self.send_parts(&object, path, bytes).await));
        sent.map_err(|error| self.not_written(name, &error))
    }

    async fn send_parts(&self, object: &Path, path: &FilePath, bytes: u64) -> Result<(), Error> {
        let here = |error| Error::Generic { store: "the file to send", source: Box::new(error) };
        let mut file = fs_err::File::open(path).map_err(here)?;
        let part_bytes = PART_BYTES.max(bytes.div_ceil(PARTS_MAX));
        let upload = self.store.objects().put_multipart(object).await?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, part_bytes as usize);
        for start in (0..bytes).step_by(part_bytes as usize) {
            let mut part = vec![0; part_bytes.min(bytes - start) as usize];
            let ready = match file.read_exact(&mut part) {
                Ok(()) => upload.wait_for_capacity(PARTS_AT_ONCE - 1).await,
                Err(error) => Err(here(error)),
            };
            if let Err(error) = ready {
                // What was sent would be kept, and paid for, without being seen. If even this fails, the first error says
                // more.
                let _ = upload.abort().await;
                return Err(error);
            }
            upload.put(part.into());
        }
        upload.finish().await.map(|_| ())
    }

    /// Fetches an object of so many bytes to a file of this machine.
    pub(crate) fn fetch_file(&self, name: &str, bytes: u64, path: &FilePath) -> Result<fs_err::File, DatasetError> {
        let mut file = fs_err::File::create(path)?;
        let starts = (0..bytes).step_by(PART_BYTES as usize);
        let reads = starts.map(|start| self.store.read_range(name, start..bytes.min(start + PART_BYTES)));
        let mut parts = stream::iter(reads).buffered(PARTS_AT_ONCE);
        self.runtime.block_on(async {
            while let Some(part) = parts.try_next().await? {
                file.write_all(&part.bytes)?;
            }
            Ok::<_, DatasetError>(())
        })?;
        Ok(file)
    }

    /// Has the store copy an object of so many bytes from another folder of the same bucket, to the same name. Whether that was
    /// done: some stores cannot, and whoever fetches and sends it instead learns why nothing works at all. Azure answers before
    /// a copy is whole, so it is not asked.
    pub(crate) fn copy_from(&self, other: &RemoteFolder, name: &str, bytes: u64) -> bool {
        if bucket(self.location()) != bucket(other.location()) || !copies_at_once(self.location()) {
            return false;
        }
        let copied = self.runtime.block_on(async {
            let (from, to) = (other.store.object(name)?, self.store.object(name)?);
            let failed = |error| remote_error("copy to", &self.store.path_of(name), &error);
            persistently(async || self.store.objects().copy(&from, &to).await).await.map_err(failed)?;
            let copy = persistently(async || self.store.objects().head(&to).await).await.map_err(failed)?;
            Ok::<bool, DatasetError>(copy.size == bytes)
        });
        copied.unwrap_or_else(|error| {
            tracing::warn!("{error}; it is fetched and sent instead");
            false
        })
    }

    /// Removes objects; those that are not there are gone already.
    pub(crate) fn remove(&self, names: &[String]) -> Result<(), DatasetError> {
        let objects = names.iter().map(|name| self.store.object(name)).collect::<Result<Vec<Path>, _>>()?;
        let removals = stream::iter(objects).map(async |object| {
            match persistently(async || self.store.objects().delete(&object).await).await {
                Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(remote_error("remove", &format!("{} ({object})", self.location()), &error)),
            }
        });
        self.runtime.block_on(removals.buffer_unordered(OBJECTS_AT_ONCE).try_collect())
    }

    fn not_written(&self, name: &str, error: &Error) -> DatasetError {
        remote_error("write", &self.store.path_of(name), error)
    }
}
