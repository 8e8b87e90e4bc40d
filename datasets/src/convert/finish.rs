//! From finished units to data sets: manifests and ledger; and the report on what is there.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use serde_json::json;

use super::configuration::SPLIT_KEY;
use super::folder::Folder;
use super::head::Head;
use super::names::{LEDGER_FILE, shard_name, split_folder};
use super::record::{LeftOutKind, UnitRecord};

use crate::error::DatasetError;
use crate::examine::PixelAverage;
use crate::manifest::{MANIFEST_FILE, Manifest, PixelStats};

/// Records that are read together, because each may be far away.
const RECORDS_AT_ONCE: u32 = 32;

/// What a conversion did.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ConvertReport {
    /// Images written.
    pub rows: u64,
    /// Of those, how many went to each split; empty where nothing is split.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub splits: BTreeMap<String, u64>,
    /// Shards written.
    pub shards: u64,
    /// Row groups written.
    pub row_groups: u64,
    /// Bytes of the images.
    pub image_bytes: u64,
    /// Bytes of shards and manifests.
    pub output_bytes: u64,
    /// Bad images, listed in `quarantine.jsonl`.
    pub bad: u64,
    /// Images with a side shorter than asked for, listed there too.
    pub small: u64,
    /// Images with the same bytes as one before, listed there too.
    pub duplicates: u64,
    /// Files that are no images.
    pub skipped: u64,
    /// Classes.
    pub classes: u64,
    /// Mean and deviation of the pixels, if measured; of the first split.
    pub pixel_stats: Option<PixelStats>,
    /// XXH3-64 of the content, in hexadecimal; of the first split. A part has none.
    pub fingerprint: String,
    /// Whether everything was there before.
    pub unchanged: bool,
}

/// Writes manifests and ledger, and brings them to the disk.
///
/// # Errors
///
/// If nothing of the source is in any shard, or if writing fails.
pub(super) fn write_manifests(
    source: &Path,
    folder: &Path,
    head: &Head,
    records: &[UnitRecord],
) -> Result<(), DatasetError> {
    if records.iter().all(|record| record.rows() == 0) {
        let bad = records.iter().map(|record| record.count(LeftOutKind::Bad)).sum();
        return Err(DatasetError::NoImages { path: source.to_owned(), skipped: head.skipped, bad });
    }
    for (number, split) in head.splits.iter().enumerate() {
        let (mut entries, mut pixels) = (Vec::new(), PixelAverage::default());
        for (unit, record) in records.iter().enumerate() {
            let file: Arc<str> = shard_name(split, unit as u32).into();
            entries.extend(record.splits[number].row_groups.iter().map(|group| group.entry(&file)));
            pixels.merge(&record.splits[number].pixels);
        }
        let mut configuration = head.configuration.clone();
        if head.splits.len() > 1 {
            configuration[SPLIT_KEY] = json!(split);
        }
        let path = folder.join(split_folder(head.splits.len(), split)).join(MANIFEST_FILE);
        let manifest = Manifest::new(entries, head.class_names.clone(), configuration, pixels.finish())
            .map_err(|reason| DatasetError::ManifestCorrupt { path: path.to_string_lossy().into_owned(), reason })?;
        let mut file = fs_err::File::create(&path)?;
        manifest.write(&mut file).map_err(|source| DatasetError::write(&path, source))?;
        file.sync_all()?;
    }
    write_ledger(folder, records)
}

fn write_ledger(folder: &Path, records: &[UnitRecord]) -> Result<(), DatasetError> {
    if records.iter().all(|record| record.left_out.is_empty()) {
        return Ok(());
    }
    let mut ledger = std::io::BufWriter::new(fs_err::File::create(folder.join(LEDGER_FILE))?);
    for left_out in records.iter().flat_map(|record| &record.left_out) {
        let (kind, source, reason, xxh3) = (&left_out.kind, &left_out.source, &left_out.reason, &left_out.xxh3);
        writeln!(ledger, "{}", json!({ "kind": kind, "source": source, "reason": reason, "xxh3": xxh3 }))?;
    }
    ledger.flush()?;
    Ok(ledger.get_ref().sync_all()?)
}

/// The report on a data set, or on all splits of one, from what lies at the destination.
pub(super) fn report(destination: &Path, head: &Head) -> Result<ConvertReport, DatasetError> {
    let files = Folder::open(destination)?;
    let mut report = ConvertReport { skipped: head.skipped, ..ConvertReport::default() };
    for split in &head.splits {
        let folder = split_folder(head.splits.len(), split);
        let (path, sizes) = (folder.join(MANIFEST_FILE), files.sizes(&folder.to_string_lossy())?);
        let name = destination.join(&path).to_string_lossy().into_owned();
        let Some(bytes) = files.read(&path.to_string_lossy())? else {
            return Err(DatasetError::ShardMissing { path: name });
        };
        report.output_bytes += bytes.len() as u64;
        let manifest = Manifest::parse(bytes, &name)?;
        for entry in manifest.row_groups() {
            report.image_bytes += entry.image_bytes;
            if entry.row_group == 0 {
                report.output_bytes += sizes.get(&*entry.file).copied().unwrap_or(0);
            }
        }
        report.rows += manifest.rows();
        report.shards += manifest.shards();
        report.row_groups += manifest.row_groups().len() as u64;
        if head.splits.len() > 1 {
            report.splits.insert(split.clone(), manifest.rows());
        }
        if report.fingerprint.is_empty() {
            report.classes = manifest.class_names().len() as u64;
            report.pixel_stats = manifest.pixel_stats();
            report.fingerprint = format!("{:016x}", manifest.fingerprint());
        }
    }
    let ledger = files.read(LEDGER_FILE)?.unwrap_or_default();
    for line in ledger.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let line: serde_json::Value = serde_json::from_slice(line).unwrap_or_default();
        match line["kind"].as_str() {
            Some("small") => report.small += 1,
            Some("duplicate") => report.duplicates += 1,
            _ => report.bad += 1,
        }
    }
    Ok(report)
}

/// The report on a part, from the records of its units.
pub(super) fn report_part(
    destination: &Path,
    head: &Head,
    units: std::ops::Range<u32>,
) -> Result<ConvertReport, DatasetError> {
    let mut report =
        ConvertReport { skipped: head.skipped, classes: head.class_names.len() as u64, ..ConvertReport::default() };
    let part = Folder::open(destination)?;
    for start in units.clone().step_by(RECORDS_AT_ONCE as usize) {
        let chunk = start..units.end.min(start + RECORDS_AT_ONCE);
        for (unit, record) in chunk.clone().zip(part.records(chunk)?) {
            let Some(record) = record else {
                return Err(DatasetError::PartIncomplete { path: destination.to_owned(), unit });
            };
            add_unit(&mut report, head, &record);
        }
    }
    Ok(report)
}

fn add_unit(report: &mut ConvertReport, head: &Head, record: &UnitRecord) {
    report.rows += record.rows();
    report.bad += record.count(LeftOutKind::Bad);
    report.small += record.count(LeftOutKind::Small);
    for (name, split) in head.splits.iter().zip(&record.splits) {
        report.shards += u64::from(split.shard_bytes > 0);
        report.row_groups += split.row_groups.len() as u64;
        report.image_bytes += split.row_groups.iter().map(|group| group.image_bytes).sum::<u64>();
        report.output_bytes += split.shard_bytes;
        if head.splits.len() > 1 {
            let rows = split.row_groups.iter().map(|group| u64::from(group.rows)).sum::<u64>();
            *report.splits.entry(name.clone()).or_default() += rows;
        }
    }
}
