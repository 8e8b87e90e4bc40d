//! Opening a data set, and reading row groups of it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::spawn_blocking;

use crate::direct::Direct;
use crate::error::{DatasetError, Instead};
use crate::faults::{Faults, Injector};
use crate::group::{EncodedGroup, FetchedRanges, Footer};
use crate::guard::guarded;
use crate::manifest::{MANIFEST_BYTES_MAX, MANIFEST_FILE, Manifest, RowGroupEntry};
use crate::sources::ImageSource;
use crate::store::Store;

/// A larger footer is refused.
const FOOTER_BYTES_MAX: u64 = 64 << 20;
/// So many footers stay in memory, some ten kilobytes each.
const FOOTERS_MAX: usize = 4096;
/// How long reads that nobody waits for any more may take to end.
const READS_MAY_END: Duration = Duration::from_secs(1);
/// Threads that read local files, verify and decode.
const BLOCKING_THREADS: usize = 4;

/// A data set that is open for reading; share it behind an [`Arc`].
///
/// It has a small runtime of its own for fetching, whose threads are joined when it is dropped, save those that a dead disk
/// keeps. Its blocking functions must not be called from asynchronous code.
#[derive(Debug)]
pub struct Dataset {
    reader: Arc<Reader>,
    /// Only taken when dropped.
    runtime: Option<Runtime>,
}

impl Dataset {
    /// Opens the data set at a local path, or at a URL of an object store. Reads the manifest and nothing else.
    ///
    /// # Errors
    ///
    /// If there is no data set, or its manifest is damaged or of another version.
    pub fn open(location: &str) -> Result<Dataset, DatasetError> {
        Dataset::of_store(Store::open(location)?)
    }

    /// Opens a data set whose reads are made slow or fail, to see what the rest makes of it.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Dataset::open), and what the faults lead to.
    pub fn open_with_faults(location: &str, faults: Faults) -> Result<Dataset, DatasetError> {
        Dataset::of_store(Store::open(location)?.with_faults(faults))
    }

    /// Serves the images of a source as they are, without shards; reads meet `faults` if there are any.
    ///
    /// # Errors
    ///
    /// If the source has no images.
    pub fn of_source(source: Box<dyn ImageSource>, faults: Option<Faults>) -> Result<Dataset, DatasetError> {
        let direct = Direct { source, faults: faults.map(Injector::new) };
        let manifest = direct.manifest()?;
        let reader = Arc::new(Reader { origin: Origin::Source(direct), manifest, footers: Mutex::default() });
        Ok(Dataset { reader, runtime: Some(runtime()?) })
    }

    fn of_store(store: Store) -> Result<Dataset, DatasetError> {
        let runtime = runtime()?;
        let bytes = match runtime.block_on(store.read_all(MANIFEST_FILE, MANIFEST_BYTES_MAX)) {
            Err(DatasetError::ShardMissing { .. }) => {
                let instead = runtime.block_on(what_instead(&store));
                return Err(DatasetError::ManifestMissing { location: store.location().to_owned(), instead });
            }
            fetched => fetched?.bytes,
        };
        let manifest = Manifest::parse(bytes, &store.path_of(MANIFEST_FILE))?;
        let reader = Arc::new(Reader { origin: Origin::Shards(store), manifest, footers: Mutex::default() });
        Ok(Dataset { reader, runtime: Some(runtime) })
    }

    /// What it consists of.
    pub fn manifest(&self) -> &Manifest {
        &self.reader.manifest
    }

    /// Where it lies.
    pub fn location(&self) -> &str {
        match &self.reader.origin {
            Origin::Shards(store) => store.location(),
            Origin::Source(direct) => direct.source.location(),
        }
    }

    /// Reads one row group, verified by its checksum. Blocks.
    ///
    /// # Errors
    ///
    /// If there is no such row group, or it cannot be read, or is damaged.
    pub fn read_group(&self, group: usize) -> Result<Arc<EncodedGroup>, DatasetError> {
        self.handle().block_on(self.reader.clone().read_group(group)).map(|fetched| Arc::new(fetched.group))
    }

    /// Reads columns of one row group but not its images, and without verifying its checksum, which is over all.
    pub(crate) fn read_columns(&self, group: usize, columns: &[&str]) -> Result<RecordBatch, DatasetError> {
        self.handle().block_on(self.reader.read_columns(group, columns))
    }

    pub(crate) fn reader(&self) -> &Arc<Reader> {
        &self.reader
    }

    pub(crate) fn handle(&self) -> &Handle {
        self.runtime.as_ref().expect("the runtime is there until the data set is dropped").handle()
    }
}

impl Drop for Dataset {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        if Handle::try_current().is_ok() {
            // Joining threads is not allowed where other tasks would wait for it.
            runtime.shutdown_background();
        } else {
            // A disk that never answers keeps its thread for ever; it must not keep the program.
            runtime.shutdown_timeout(READS_MAY_END);
        }
    }
}

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("patchstream-fetch")
        .enable_all()
        .build()
}

/// What lies where there is no manifest.
async fn what_instead(store: &Store) -> Instead {
    // Splits are looked for first, because parts of them have both.
    match store.read_all("train/manifest.parquet", MANIFEST_BYTES_MAX).await {
        Err(DatasetError::ShardMissing { .. }) => {}
        // A manifest that cannot be read is one that is there.
        _ => return Instead::Splits,
    }
    let head = store.read_all("units/conversion.json", MANIFEST_BYTES_MAX).await;
    match head.map(|head| serde_json::from_slice::<serde_json::Value>(&head.bytes)) {
        Ok(Ok(head)) if head["part"].is_null() => Instead::Unfinished,
        Ok(_) => Instead::Part,
        Err(_) => Instead::Nothing,
    }
}

/// Where rows come from.
#[derive(Debug)]
enum Origin {
    Shards(Store),
    Source(Direct),
}

/// What fetching needs of a data set: everything but the runtime, which tasks must not keep alive.
#[derive(Debug)]
pub(crate) struct Reader {
    origin: Origin,
    pub(crate) manifest: Manifest,
    footers: Mutex<Footers>,
}

/// The footers that were used, the oldest leaving first. Their number is bounded, because a large data set has hundreds
/// of thousands of shards.
#[derive(Debug, Default)]
struct Footers {
    by_file: HashMap<Arc<str>, Arc<Footer>>,
    order: VecDeque<Arc<str>>,
}

pub(crate) struct FetchedGroup {
    pub(crate) group: EncodedGroup,
    pub(crate) retries: u32,
}

impl Reader {
    /// Fetches, verifies and decodes one row group.
    pub(crate) async fn read_group(self: Arc<Self>, group: usize) -> Result<FetchedGroup, DatasetError> {
        let store = match &self.origin {
            Origin::Shards(store) => store,
            Origin::Source(direct) => {
                let retries = direct.strike().await?;
                return self.clone().read_source(group, retries).await;
            }
        };
        let entry = self.entry(group)?;
        let footer = self.footer(group).await?;
        let fetched = store.read_range(&entry.file, entry.offset..entry.offset + entry.length).await?;
        let reader = self.clone();
        // Decoding computes for long, which does not belong on the thread of the tasks.
        let decoded = spawn_blocking(move || {
            let entry = reader.entry(group)?;
            let (expected, got) = (entry.xxh3, fetched.xxh3);
            if expected != got {
                let (path, row_group) = (reader.path_of(entry), entry.row_group);
                return Err(DatasetError::Checksum { path, row_group, expected, got });
            }
            let group = guarded(|| EncodedGroup::decode(entry, fetched.bytes, &footer));
            Ok(FetchedGroup { group: group.map_err(|reason| reader.corrupt(entry, reason))?, retries: fetched.retries })
        });
        decoded.await.unwrap_or_else(|_| Err(self.corrupt(entry, "decoding it was cut short".to_owned())))
    }

    async fn read_source(self: Arc<Self>, group: usize, retries: u32) -> Result<FetchedGroup, DatasetError> {
        let read = spawn_blocking(move || match &self.origin {
            Origin::Source(direct) => Ok(FetchedGroup { group: direct.read(self.entry(group)?)?, retries }),
            Origin::Shards(_) => Err(DatasetError::Internal { what: "reading a source" }),
        });
        read.await.unwrap_or(Err(DatasetError::Internal { what: "reading a source" }))
    }

    async fn read_columns(&self, group: usize, columns: &[&str]) -> Result<RecordBatch, DatasetError> {
        let entry = self.entry(group)?;
        let footer = self.footer(group).await?;
        let ranges = guarded(|| footer.column_ranges(entry, columns)).map_err(|reason| self.corrupt(entry, reason))?;
        let mut parts = Vec::with_capacity(ranges.len());
        for (start, length) in ranges {
            parts.push((start, self.store()?.read_range(&entry.file, start..start + length).await?.bytes));
        }
        let batch = guarded(|| footer.decode(entry, FetchedRanges { parts }, columns));
        batch.map_err(|reason| self.corrupt(entry, reason))
    }

    /// The footer of the shard that holds a row group. It begins where the shard's last row group ends, so one read from
    /// there on brings it, without asking for the length of the file.
    async fn footer(&self, group: usize) -> Result<Arc<Footer>, DatasetError> {
        let entry = self.entry(group)?;
        if let Some(footer) = self.footers().by_file.get(&entry.file) {
            return Ok(footer.clone());
        }
        let later = &self.manifest.row_groups()[group..];
        let last = later.iter().take_while(|later| later.file == entry.file).last().unwrap_or(entry);
        let tail = self.store()?.read_tail(&entry.file, last.offset + last.length, FOOTER_BYTES_MAX).await?;
        let footer = guarded(|| Footer::parse(&tail.bytes)).map_err(|reason| self.corrupt(entry, reason))?;
        let footer = Arc::new(footer);
        let mut footers = self.footers();
        if footers.by_file.insert(entry.file.clone(), footer.clone()).is_none() {
            footers.order.push_back(entry.file.clone());
        }
        if footers.order.len() > FOOTERS_MAX
            && let Some(oldest) = footers.order.pop_front()
        {
            footers.by_file.remove(&oldest);
        }
        Ok(footer)
    }

    /// Only shards have footers and columns.
    fn store(&self) -> Result<&Store, DatasetError> {
        match &self.origin {
            Origin::Shards(store) => Ok(store),
            Origin::Source(_) => Err(DatasetError::Internal { what: "looking for columns of a source" }),
        }
    }

    fn path_of(&self, entry: &RowGroupEntry) -> String {
        match &self.origin {
            Origin::Shards(store) => store.path_of(&entry.file),
            Origin::Source(direct) => direct.source.location().to_owned(),
        }
    }

    fn footers(&self) -> std::sync::MutexGuard<'_, Footers> {
        self.footers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn entry(&self, group: usize) -> Result<&RowGroupEntry, DatasetError> {
        let entries = self.manifest.row_groups();
        entries.get(group).ok_or(DatasetError::OutOfRange {
            what: "row group",
            got: group as u64,
            count: entries.len() as u64,
        })
    }

    fn corrupt(&self, entry: &RowGroupEntry, reason: String) -> DatasetError {
        DatasetError::ShardCorrupt { path: self.path_of(entry), row_group: entry.row_group, reason }
    }
}
