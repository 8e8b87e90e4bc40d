//! Images in, shards out.
//!
//! A [source](crate::sources) has listed the images; threads (`readers`) read and look at them, kept within a bound of
//! bytes by a `turnstile`; this thread takes them in order, cuts row groups and writes shards. All of it happens in a
//! `staging` folder that is renamed to the destination at the very end.
//!
//! Invariant: the files written depend on the source and the options that end up in the manifest, never on the number of
//! threads.

mod look;
mod options;
mod readers;
mod shards;
mod staging;
#[cfg(test)]
mod tests;
mod turnstile;

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};

pub use self::options::{Check, ConvertOptions, Encode, OnBad, Order};

use self::look::{BadImage, Looked, bytes_to_read, look};
use self::readers::read_in_order;
use self::shards::{Row, ShardSet};
use self::staging::Staging;
use crate::error::DatasetError;
use crate::examine::{ImageExaminer, PixelAverage};
use crate::manifest::{MANIFEST_FILE, Manifest, PixelStats, RowGroupEntry};
use crate::random::RandomStream;
use crate::sources::{ImageSource, SourceFormat};

/// The list of bad images inside a data set: one JSON object a line, with `source`, `reason` and `xxh3`.
pub const LEDGER_FILE: &str = "quarantine.jsonl";

/// Shards are named as a split, because Hugging Face `datasets` then takes them, and only them, for the data.
const SHARD_PREFIX: &str = "train-";

/// No row group has more rows, however small the images are, so that a shuffle window's indices stay small.
const GROUP_ROWS_MAX: usize = 1 << 16;

/// How far a conversion or a verification is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Images dealt with.
    pub done: u64,
    /// Images in all.
    pub total: u64,
    /// Bytes of the images dealt with.
    pub bytes: u64,
    /// Bad ones among them.
    pub bad: u64,
}

/// What a conversion did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConvertReport {
    /// Images written.
    pub rows: u64,
    /// Shards written.
    pub shards: u64,
    /// Row groups written.
    pub row_groups: u64,
    /// Bytes of the images.
    pub image_bytes: u64,
    /// Bytes of all files written.
    pub output_bytes: u64,
    /// Bad images, listed in `quarantine.jsonl`.
    pub bad: u64,
    /// Files that are no images.
    pub skipped: u64,
    /// Classes.
    pub classes: u64,
    /// Mean and deviation of the pixels, if measured.
    pub pixel_stats: Option<PixelStats>,
    /// XXH3-64 of the data set's content, in hexadecimal.
    pub fingerprint: String,
}

/// Converts the images of `source` to a data set at `destination`.
///
/// Calls `progress` for every image, from this thread.
///
/// # Errors
///
/// See [`DatasetError`]; the destination is then as it was before.
pub fn convert(
    source: &dyn ImageSource,
    destination: &Path,
    options: &ConvertOptions,
    examiner: &dyn ImageExaminer,
    progress: &dyn Fn(Progress),
) -> Result<ConvertReport, DatasetError> {
    options.check()?;
    let order = writing_order(source.len(), options);
    if order.is_empty() {
        return Err(no_images(source, 0));
    }
    let staging = Staging::begin(destination, options.overwrite)?;
    let mut conversion = Conversion::begin(source, &order, options, staging.folder())?;
    let total = order.len() as u64;
    read_in_order(
        total,
        options.workers,
        |ticket| bytes_to_read(source.bytes(order[ticket as usize])),
        |ticket| look(source, order[ticket as usize], options, is_measured(ticket, total, options), examiner),
        |ticket, looked| {
            conversion.take(ticket, looked)?;
            progress(conversion.progress);
            Ok(())
        },
    )?;
    if conversion.rows == 0 {
        return Err(no_images(source, conversion.progress.bad));
    }
    let report = conversion.finish()?;
    staging.publish(options.overwrite)?;
    Ok(report)
}

fn no_images(source: &dyn ImageSource, bad: u64) -> DatasetError {
    DatasetError::NoImages { path: source.location().into(), skipped: source.skipped(), bad }
}

/// Which images are written, in order, as their numbers in the listing.
fn writing_order(images: usize, options: &ConvertOptions) -> Vec<usize> {
    let mut order: Vec<usize> = (0..images).collect();
    if options.order == Order::Shuffled {
        RandomStream::new(&[options.seed, u64::from_le_bytes(*b"convert\0")]).shuffle(&mut order);
    }
    if let Some(limit) = options.limit {
        order.truncate(usize::try_from(limit.get()).unwrap_or(usize::MAX));
    }
    order
}

/// Whether an image belongs to the sample that is measured: as many as asked for, evenly spread over the order, from a
/// phase that the seed decides.
fn is_measured(ticket: u64, total: u64, options: &ConvertOptions) -> bool {
    let Some(wanted) = options.measure else { return false };
    let phase = RandomStream::new(&[options.seed, u64::from_le_bytes(*b"measure\0")]).below(total);
    let steps = |ticket: u64| (u128::from(ticket) * u128::from(wanted.get()) + u128::from(phase)) / u128::from(total);
    steps(ticket) != steps(ticket + 1)
}

/// What has been taken in order until now, and what becomes of it.
struct Conversion<'a> {
    source: &'a dyn ImageSource,
    order: &'a [usize],
    options: &'a ConvertOptions,
    folder: &'a Path,
    shards: ShardSet<'a>,
    group: Vec<Row>,
    /// Images of the row group, bad ones included.
    group_sources: usize,
    group_source_bytes: u64,
    ledger: Option<BufWriter<fs_err::File>>,
    pixels: PixelAverage,
    rows: u64,
    image_bytes: u64,
    progress: Progress,
}

impl<'a> Conversion<'a> {
    fn begin(
        source: &'a dyn ImageSource,
        order: &'a [usize],
        options: &'a ConvertOptions,
        folder: &'a Path,
    ) -> Result<Self, DatasetError> {
        Ok(Conversion {
            source,
            order,
            options,
            folder,
            shards: ShardSet::new(folder, options, source.class_names())?,
            group: Vec::new(),
            group_sources: 0,
            group_source_bytes: 0,
            ledger: None,
            pixels: PixelAverage::default(),
            rows: 0,
            image_bytes: 0,
            progress: Progress { total: order.len() as u64, ..Progress::default() },
        })
    }

    fn take(&mut self, ticket: u64, looked: Looked) -> Result<(), DatasetError> {
        let image = self.order[ticket as usize];
        let planned_bytes = self.options.encode.planned_bytes(looked.source_bytes);
        let bytes = self.group_source_bytes.saturating_add(planned_bytes);
        let full = bytes > self.options.row_group_bytes.get() || self.group_sources == GROUP_ROWS_MAX;
        if full && self.group_sources > 0 {
            self.flush_group()?;
        }
        self.group_sources += 1;
        self.group_source_bytes += planned_bytes;
        self.progress.done += 1;
        self.progress.bytes += looked.source_bytes;
        match looked.outcome {
            Ok(good) => {
                if let Some(sums) = &good.sums {
                    self.pixels.add(sums);
                }
                self.rows += 1;
                self.image_bytes += good.bytes.len() as u64;
                self.group.push(Row {
                    bytes: good.bytes,
                    path: self.source.path(image),
                    label: self.source.label(image),
                    width_px: good.width_px,
                    height_px: good.height_px,
                    segments: good.segments,
                });
                Ok(())
            }
            Err(bad) => self.set_aside(image, bad),
        }
    }

    fn flush_group(&mut self) -> Result<(), DatasetError> {
        self.shards.write_group(std::mem::take(&mut self.group), self.group_source_bytes)?;
        self.group_sources = 0;
        self.group_source_bytes = 0;
        Ok(())
    }

    /// Puts a bad image on the ledger, or fails over it.
    fn set_aside(&mut self, image: usize, bad: BadImage) -> Result<(), DatasetError> {
        let (path, reason) = (PathBuf::from(self.source.full_path(image)), bad.reason);
        if self.options.on_bad == OnBad::Fail {
            return Err(DatasetError::BadImage { path, reason });
        }
        self.progress.bad += 1;
        tracing::warn!("bad image `{}`: {reason}", path.display());
        if let Some(budget) = self.options.bad_budget.filter(|&budget| self.progress.bad > budget) {
            return Err(DatasetError::BadBudgetExceeded { bad: self.progress.bad, budget, path, reason });
        }
        let xxh3 = bad.xxh3.map(|sum| format!("{sum:016x}"));
        let line = json!({ "source": self.source.path(image), "reason": reason, "xxh3": xxh3 });
        let ledger = match &mut self.ledger {
            Some(ledger) => ledger,
            None => self.ledger.insert(BufWriter::new(fs_err::File::create(self.folder.join(LEDGER_FILE))?)),
        };
        writeln!(ledger, "{line}")?;
        Ok(())
    }

    fn finish(mut self) -> Result<ConvertReport, DatasetError> {
        self.flush_group()?;
        if let Some(mut ledger) = self.ledger.take() {
            ledger.flush()?;
            ledger.get_ref().sync_all()?;
        }
        let pixel_stats = self.pixels.finish();
        let (entries, shard_bytes) = self.shards.finish()?;
        let class_names = self.source.class_names().to_vec();
        let (manifest, manifest_bytes) = write_manifest(
            self.folder,
            entries,
            class_names,
            configuration(self.options, self.source.format()),
            pixel_stats,
        )?;
        Ok(ConvertReport {
            rows: self.rows,
            shards: manifest.shards(),
            row_groups: manifest.row_groups().len() as u64,
            image_bytes: self.image_bytes,
            output_bytes: shard_bytes + manifest_bytes,
            bad: self.progress.bad,
            skipped: self.source.skipped(),
            classes: manifest.class_names().len() as u64,
            pixel_stats,
            fingerprint: format!("{:016x}", manifest.fingerprint()),
        })
    }
}

fn write_manifest(
    folder: &Path,
    entries: Vec<RowGroupEntry>,
    class_names: Vec<String>,
    conversion: Value,
    pixel_stats: Option<PixelStats>,
) -> Result<(Manifest, u64), DatasetError> {
    let path = folder.join(MANIFEST_FILE);
    let manifest = Manifest::new(entries, class_names, conversion, pixel_stats)
        .map_err(|reason| DatasetError::ManifestCorrupt { path: path.to_string_lossy().into_owned(), reason })?;
    let mut file = fs_err::File::create(&path)?;
    manifest.write(&mut file).map_err(|source| DatasetError::write(&path, source))?;
    file.sync_all()?;
    let bytes = file.metadata()?.len();
    Ok((manifest, bytes))
}

/// The options that decide what is written, for the manifest.
fn configuration(options: &ConvertOptions, format: SourceFormat) -> Value {
    let mut configuration = json!(options);
    if let Value::Object(fields) = &mut configuration {
        fields.remove("workers");
        fields.remove("overwrite");
        fields.insert("source".to_owned(), json!(format.name()));
    }
    configuration
}
