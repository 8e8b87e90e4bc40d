//! A data set that was written on this machine goes to an object store.
//!
//! The manifest goes last, and where a data set is replaced the old one is removed first: so at every moment there is a whole
//! data set, or none.

use std::io::Read;
use std::path::{Path as FilePath, PathBuf};

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, WriteMultipart};
use tokio::runtime::{Builder, Runtime};

use super::{is_writable, remote_error, shown};
use crate::error::DatasetError;
use crate::manifest::MANIFEST_FILE;
use crate::store::Store;

/// Files are sent in parts of so many bytes; clouds allow ten thousand parts a file.
const PART_BYTES: usize = 16 << 20;
/// Parts that are on their way at one time.
const PARTS_AT_ONCE: usize = 4;

/// Where a data set is sent to.
#[derive(Debug)]
pub struct RemoteDestination {
    location: String,
    store: Store,
    runtime: Runtime,
}

impl RemoteDestination {
    /// Looks at the destination.
    ///
    /// # Errors
    ///
    /// If it cannot be written to, cannot be reached, or holds a data set that may not be replaced.
    pub fn open(location: &str, overwrite: bool) -> Result<RemoteDestination, DatasetError> {
        if !is_writable(location) {
            let reason = "data sets are written to folders, s3://, gs:// or az://".to_owned();
            return Err(DatasetError::Location { location: shown(location), reason });
        }
        let store = Store::open(location)?;
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("patchstream-upload").enable_all().build()?;
        let destination = RemoteDestination { location: shown(location), store, runtime };
        if destination.has_manifest()? && !overwrite {
            return Err(DatasetError::DestinationExists { path: location.into() });
        }
        Ok(destination)
    }

    /// Sends all files in a folder and below; calls `progress` with the bytes of each that has arrived.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or sent. There is then no data set at the destination.
    pub fn publish(&self, folder: &FilePath, progress: &dyn Fn(u64)) -> Result<(), DatasetError> {
        let mut files = files_below(folder)?;
        let is_manifest = |file: &PathBuf| file.file_name().is_some_and(|name| name == MANIFEST_FILE);
        files.sort_by_key(|file| (is_manifest(file), file.clone()));
        let names = files.iter().map(|file| object_name(file)).collect::<Result<Vec<String>, _>>()?;
        let objects = names.iter().map(|name| self.store.object(name)).collect::<Result<Vec<Path>, _>>()?;
        self.runtime.block_on(async {
            self.remove_old(&objects).await?;
            for (file, object) in files.iter().zip(&objects) {
                let bytes = self.send(&folder.join(file), object).await?;
                progress(bytes);
            }
            Ok(())
        })
    }

    /// Whether a data set lies there, or below, where splits are.
    fn has_manifest(&self) -> Result<bool, DatasetError> {
        let listed = self.runtime.block_on(self.list())?;
        Ok(listed.iter().any(|path| path.filename() == Some(MANIFEST_FILE)))
    }

    async fn list(&self) -> Result<Vec<Path>, DatasetError> {
        let prefix = self.store.object("")?;
        let listing = self.store.objects().list(Some(&prefix)).map_ok(|meta| meta.location).try_collect().await;
        listing.map_err(|error| remote_error("list", &self.location, &error))
    }

    /// Removes the manifests of a data set that is replaced, and those of its shards that are not written anew. Whatever
    /// else lies there stays.
    async fn remove_old(&self, new: &[Path]) -> Result<(), DatasetError> {
        let listed = self.list().await?;
        let (manifests, others): (Vec<Path>, Vec<Path>) =
            listed.into_iter().partition(|path| path.filename() == Some(MANIFEST_FILE));
        let stale = others.into_iter().filter(|path| is_shard(path) && !new.contains(path));
        for path in manifests.into_iter().chain(stale) {
            match self.store.objects().delete(&path).await {
                Ok(()) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(remote_error("remove", &self.location, &error)),
            }
        }
        Ok(())
    }

    async fn send(&self, file: &FilePath, object: &Path) -> Result<u64, DatasetError> {
        let mut file = fs_err::File::open(file)?;
        let bytes = file.metadata()?.len();
        let failed = |error: Error| remote_error("write", &format!("{} ({object})", self.location), &error);
        if bytes <= PART_BYTES as u64 {
            let mut content = Vec::with_capacity(bytes as usize);
            file.read_to_end(&mut content)?;
            self.store.objects().put(object, content.into()).await.map_err(failed)?;
            return Ok(bytes);
        }
        let upload = self.store.objects().put_multipart(object).await.map_err(failed)?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        let mut part = vec![0; PART_BYTES];
        loop {
            let sent = match file.read(&mut part) {
                Ok(0) => break,
                Ok(read) => {
                    let ready = upload.wait_for_capacity(PARTS_AT_ONCE).await.map_err(failed);
                    ready.map(|()| upload.write(&part[..read]))
                }
                Err(error) => Err(error.into()),
            };
            if let Err(error) = sent {
                // What was sent would be kept, and paid for, without being seen. If even this fails, the first error says
                // more.
                let _ = upload.abort().await;
                return Err(error);
            }
        }
        upload.finish().await.map_err(failed)?;
        Ok(bytes)
    }
}

/// Whether a file is called like a shard of a data set.
fn is_shard(path: &Path) -> bool {
    let is_part = |name: &str| name.strip_suffix(".parquet").and_then(|name| name.rsplit_once('-')).is_some();
    path.filename().is_some_and(is_part)
}

fn object_name(file: &FilePath) -> Result<String, DatasetError> {
    let parts: Option<Vec<&str>> = file.iter().map(|part| part.to_str()).collect();
    parts.map(|parts| parts.join("/")).ok_or(DatasetError::Internal { what: "naming an object" })
}

/// All files in a folder and below, relative to it, hidden ones left out.
fn files_below(folder: &FilePath) -> Result<Vec<PathBuf>, DatasetError> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(relative) = folders.pop() {
        for entry in fs_err::read_dir(folder.join(&relative))? {
            let entry = entry?;
            let path = relative.join(entry.file_name());
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    Ok(files)
}
