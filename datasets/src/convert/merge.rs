//! One data set of the parts that several machines have made, here and in object stores.
//!
//! Units are whole in one part or another, so their shards are taken as they are. Only where duplicates are to be left out
//! does a shard change: which image is the first of its kind is known when all parts are there.
//!
//! A merge makes units in order and records them at the destination as a conversion does, so one that was killed goes on.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::thread;

use arrow::array::{AsArray, RecordBatch};
use bytes::Bytes;
use crossbeam::channel::Sender;
use xxhash_rust::xxh3::xxh3_64;

use super::commit::{Committer, FinishedShard, FinishedUnit, Job, ShardFile};
use super::destination::Destination;
use super::finish::{ConvertReport, report, write_manifests};
use super::folder::Folder;
use super::head::{Begun, Head, Remains, Terms};
use super::names::{UNITS, record_name, shard_path, split_folder};
use super::options::{Part, is_split_name};
use super::record::{GroupRecord, LeftOut, RowKey, UnitRecord};
use super::shards::{Shard, ShardFormat};
use super::work::send;
use crate::error::DatasetError;
use crate::group::{FetchedRanges, Footer};
use crate::guard::guarded;
use crate::location::path_here;
use crate::schema::{HEIGHT, IMAGE, JPEG_SEGMENTS, LABEL, Layout, WIDTH};

/// How to merge.
#[derive(Debug, Clone)]
pub struct MergeOptions {
    /// Replace the data set at the destination.
    pub overwrite: bool,
    /// Where shards lie on their way between object stores; there are four of them at most.
    pub temporary: PathBuf,
}

/// Makes one data set at `destination` of `parts`, given in any order; all of them paths or URLs of object stores. The result is
/// byte for byte what one machine would have made, and the parts stay as they are.
///
/// Calls `progress` with the units that are done, and all. Goes on with a merge of the same parts that was interrupted.
///
/// # Errors
///
/// If something is no part, or no part of the same conversion, if parts are missing or twice there, or incomplete; and see
/// [`DatasetError`].
pub fn merge(
    parts: &[PathBuf],
    destination: &Path,
    options: &MergeOptions,
    progress: &dyn Fn(u64, u64),
) -> Result<ConvertReport, DatasetError> {
    let destination = &*path_here(destination)?;
    let parts = open_parts(parts)?;
    let found = Folder::open(destination)?.head()?;
    if parts.iter().any(|part| found.as_ref() == Some(&part.head)) {
        return Err(refuse(destination, "it is a part itself, and cannot be the destination, too".to_owned()));
    }
    let head = Head { part: None, ..parts[0].head.clone() };
    // Nothing is lost by going on: a conversion and a merge of this configuration write the same bytes.
    let remains = if options.overwrite { Remains::Clear } else { Remains::Resume };
    let terms = Terms { remains, overwrite: options.overwrite, temporary: &options.temporary };
    let Begun::Work(staging) = Destination::begin(destination, &head, &terms)? else {
        return Ok(ConvertReport { unchanged: true, ..report(destination, &head)? });
    };
    let merged = merge_units(&parts, &head, &staging, progress)
        .and_then(|records| write_manifests(parts[0].folder.path(), staging.folder(), &head, &records));
    let published = match merged {
        Ok(()) => staging.publish(&head),
        Err(error) => Err(staging.abandon(error)),
    };
    published.map_err(|error| match error {
        DatasetError::Unfinished { source, shards } => DatasetError::Unmerged { source, shards },
        error => error,
    })?;
    report(destination, &head)
}

struct OpenPart {
    folder: Folder,
    head: Head,
    part: Part,
}

impl OpenPart {
    /// # Errors
    ///
    /// If this is no part, or an unfinished one.
    fn open(place: &Path) -> Result<OpenPart, DatasetError> {
        let folder = Folder::open(place)?;
        let path = folder.path();
        let head = folder.head()?.ok_or_else(|| refuse(path, "it is not what `--part` writes".to_owned()))?;
        let part = head.part.ok_or_else(|| refuse(path, "it is an unfinished data set".to_owned()))?;
        if part.number > part.of || head.splits.is_empty() || !head.splits.iter().all(|split| is_split_name(split)) {
            return Err(refuse(path, "what it says of itself cannot be".to_owned()));
        }
        let recorded = folder.sizes(UNITS)?;
        if let Some(unit) = part.units(head.units).find(|&unit| !recorded.contains_key(&record_name(unit))) {
            return Err(DatasetError::PartIncomplete { path: path.to_owned(), unit });
        }
        Ok(OpenPart { folder, head, part })
    }

    /// The lengths of all shards.
    fn shards(&self) -> Result<HashMap<PathBuf, u64>, DatasetError> {
        let mut shards = HashMap::new();
        for split in &self.head.splits {
            let below = split_folder(self.head.splits.len(), split);
            let sizes = self.folder.sizes(&below.to_string_lossy())?;
            shards.extend(sizes.into_iter().map(|(name, bytes)| (below.join(name), bytes)));
        }
        Ok(shards)
    }

    fn record(&self, unit: u32) -> Result<UnitRecord, DatasetError> {
        let record = self.folder.records(unit..unit + 1)?.pop().flatten();
        let incomplete = || DatasetError::PartIncomplete { path: self.folder.path().to_owned(), unit };
        record.filter(|record| record.is_of(&self.head.splits)).ok_or_else(incomplete)
    }
}

fn refuse(path: &Path, reason: String) -> DatasetError {
    DatasetError::NoPart { path: path.to_owned(), reason }
}

/// The parts in order, all of them there once.
fn open_parts(places: &[PathBuf]) -> Result<Vec<OpenPart>, DatasetError> {
    let mut parts: Vec<OpenPart> = Vec::new();
    for place in places {
        let open = OpenPart::open(place)?;
        if let Some(first) = parts.first()
            && (Head { part: None, ..open.head.clone() } != Head { part: None, ..first.head.clone() }
                || open.part.of != first.part.of)
        {
            let reason = format!("it comes from another conversion than `{}`", first.folder.path().display());
            return Err(refuse(open.folder.path(), reason));
        }
        parts.push(open);
    }
    parts.sort_by_key(|open| open.part.number);
    let Some(first) = parts.first() else {
        return Err(DatasetError::InvalidOption { option: "parts", reason: "expected at least one".to_owned() });
    };
    let of = first.part.of;
    if let Some(pair) = parts.windows(2).find(|pair| pair[0].part == pair[1].part) {
        return Err(refuse(pair[1].folder.path(), format!("part {} of {of} is there twice", pair[1].part.number)));
    }
    // They are different and in order, so the first that is not where it belongs follows one that is missing.
    let are_there = (1..).zip(&parts).take_while(|(number, open)| open.part.number.get() == *number).count();
    if are_there as u64 != u64::from(of.get()) {
        return Err(refuse(first.folder.path(), format!("part {} of {of} is missing beside it", are_there + 1)));
    }
    Ok(parts)
}

/// Makes all units that are not there yet; gives the records of all.
fn merge_units(
    parts: &[OpenPart],
    head: &Head,
    destination: &Destination,
    progress: &dyn Fn(u64, u64),
) -> Result<Vec<UnitRecord>, DatasetError> {
    let mut records = destination.finished_units(0..head.units, &head.splits)?;
    let rows = records.iter().flat_map(|record| &record.splits).flat_map(|split| &split.rows);
    let mut merging = Merging { head, destination, seen: rows.map(|row| row.content).collect() };
    records.iter_mut().for_each(UnitRecord::forget_rows);
    let first_unit = records.len() as u32;
    let made = thread::scope(|scope| {
        let (committer, jobs) = Committer::start(scope, destination)?;
        let outcome = merging.take_units(parts, first_unit, &jobs, progress);
        // The committer ends when nobody can send it anything any more. Its error is the cause of others.
        drop(jobs);
        let made = committer.join()?;
        outcome.map(|()| made)
    })?;
    records.extend(made);
    Ok(records)
}

struct Merging<'a> {
    head: &'a Head,
    destination: &'a Destination,
    /// The content of all rows until now.
    seen: HashSet<u128>,
}

impl Merging<'_> {
    fn take_units(
        &mut self,
        parts: &[OpenPart],
        first_unit: u32,
        jobs: &Sender<Job>,
        progress: &dyn Fn(u64, u64),
    ) -> Result<(), DatasetError> {
        let all = self.head.units;
        for part in parts.iter().filter(|open| open.part.units(all).end > first_unit) {
            let shards = part.shards()?;
            for unit in part.part.units(all).filter(|&unit| unit >= first_unit) {
                send(jobs, Job::Commit(self.take_unit(part, &shards, unit)?))?;
                progress(u64::from(unit) + 1, u64::from(all));
            }
        }
        Ok(())
    }

    fn take_unit(
        &mut self,
        part: &OpenPart,
        lengths: &HashMap<PathBuf, u64>,
        unit: u32,
    ) -> Result<FinishedUnit, DatasetError> {
        let mut record = part.record(unit)?;
        let mut shards = Vec::new();
        for number in 0..self.head.splits.len() {
            let name = shard_path(&self.head.splits, number, unit);
            let expected = record.splits[number].shard_bytes;
            if expected == 0 {
                continue;
            }
            let path = part.folder.path().join(&name).to_string_lossy().into_owned();
            match lengths.get(&name) {
                None => return Err(DatasetError::ShardMissing { path }),
                Some(&got) if got != expected => return Err(DatasetError::ShardTruncated { path, expected, got }),
                Some(_) => {}
            }
            // Images of the same bytes go to the same split, so splits can be looked at one after the other.
            let is_new: Vec<bool> =
                record.splits[number].rows.iter().map(|row| self.seen.insert(row.content)).collect();
            let stays = is_new.iter().all(|&is_new| is_new);
            if stays && self.destination.copy_there(&part.folder, &name, expected) {
                continue;
            }
            let beside = |suffix: &str| self.destination.units().join(format!("{unit:05}-{number}.{suffix}"));
            let file = part.folder.bring(&name, expected, beside("fetched"))?;
            let file = if stays {
                Some(file)
            } else {
                let rewritten = self.rewrite((file.path(), &path), beside("partial"), number, &is_new, &mut record)?;
                if let ShardFile::Ours(fetched, _) = &file {
                    fs_err::remove_file(fetched)?;
                }
                rewritten
            };
            shards.extend(file.map(|file| FinishedShard { file, name }));
        }
        record.left_out.sort_by_key(|left_out| left_out.at);
        Ok(FinishedUnit { number: unit, shards, record })
    }

    /// Writes a shard, which lies here under the first name and has the second for messages, again without the rows that are
    /// not new. There is none if no row is.
    fn rewrite(
        &self,
        (from, name): (&Path, &str),
        to: PathBuf,
        number: usize,
        is_new: &[bool],
        record: &mut UnitRecord,
    ) -> Result<Option<ShardFile>, DatasetError> {
        let corrupt = |row_group: usize, reason: String| DatasetError::ShardCorrupt {
            path: name.to_owned(),
            row_group: row_group as u32,
            reason,
        };
        let bytes = Bytes::from(fs_err::read(from)?);
        let split = &mut record.splits[number];
        let end = split.row_groups.last().map_or(0, |last| last.offset.saturating_add(last.length));
        let tail = bytes.get(end as usize..).unwrap_or_default();
        let footer = guarded(|| Footer::parse(tail)).map_err(|reason| corrupt(0, reason))?;
        let format = ShardFormat::new(self.layout(), &self.head.class_names)
            .map_err(|source| DatasetError::write(&to, source))?;
        let mut shard = None;
        let (mut rows, mut flags) = (split.rows.as_slice(), is_new);
        for (index, group) in split.row_groups.iter().enumerate() {
            let corrupt = |reason| corrupt(index, reason);
            let batch = guarded(|| read_group(&bytes, &footer, index, group)).map_err(corrupt)?;
            let too_few = || corrupt("the record has fewer rows than the shard".to_owned());
            let (group_rows, rest) = rows.split_at_checked(batch.num_rows()).ok_or_else(too_few)?;
            let (group_flags, rest_flags) = flags.split_at_checked(batch.num_rows()).ok_or_else(too_few)?;
            (rows, flags) = (rest, rest_flags);
            let found = duplicates(&batch, group_rows, group_flags);
            record.left_out.extend(found.left_out);
            let kept = arrow::compute::filter_record_batch(&batch, &group_flags.to_vec().into())
                .map_err(|source| DatasetError::write(&to, source.into()))?;
            if kept.num_rows() > 0 {
                let shard = match &mut shard {
                    Some(shard) => shard,
                    None => shard.insert(Shard::create(&to, &format)?),
                };
                shard.write_batch(&kept, group.image_bytes - found.image_bytes)?;
            }
        }
        let mut is_new = is_new.iter();
        split.rows.retain(|_| is_new.next().is_some_and(|&is_new| is_new));
        (split.row_groups, split.shard_bytes) = (Vec::new(), 0);
        let Some(shard) = shard else { return Ok(None) };
        let written = shard.finish()?;
        (split.row_groups, split.shard_bytes) = (written.groups, written.bytes);
        Ok(Some(ShardFile::Ours(to, written.file)))
    }

    /// How the shards look, by the configuration that they were made with.
    fn layout(&self) -> Layout {
        let configuration = &self.head.configuration;
        Layout {
            segments: !configuration["tile_index"].is_null(),
            images_zstd_level: configuration["encode"]["raw"]["zstd_level"].as_i64().map(|level| level as i32),
        }
    }
}

/// The rows of a row group that are left out, and the bytes of their images.
struct Duplicates {
    left_out: Vec<LeftOut>,
    image_bytes: u64,
}

fn duplicates(batch: &RecordBatch, rows: &[RowKey], is_new: &[bool]) -> Duplicates {
    let image = batch.column(0).as_struct();
    let (images, paths) = (image.column(0).as_binary_view(), image.column(1).as_string_view());
    let mut found = Duplicates { left_out: Vec::new(), image_bytes: 0 };
    for (index, (row, _)) in rows.iter().zip(is_new).enumerate().filter(|(_, (_, is_new))| !**is_new) {
        found.left_out.push(LeftOut::duplicate(row.at, paths.value(index).to_owned(), row.xxh3));
        found.image_bytes += images.value(index).len() as u64;
    }
    found
}

/// All columns of a row group, after a look at its checksum.
fn read_group(shard: &Bytes, footer: &Footer, index: usize, group: &GroupRecord) -> Result<RecordBatch, String> {
    let mut entry = group.entry(&"".into());
    entry.row_group = index as u32;
    let end = entry.offset.checked_add(entry.length).filter(|&end| end <= shard.len() as u64);
    let range = entry.offset as usize..end.ok_or("it is cut off")? as usize;
    let bytes = shard.slice(range);
    let got = xxh3_64(&bytes);
    if got != group.xxh3 {
        return Err(format!("expected XXH3-64 {:016x}, got {got:016x}", group.xxh3));
    }
    let fetched = FetchedRanges { parts: vec![(entry.offset, bytes)] };
    footer.decode(&entry, fetched, &[IMAGE, LABEL, WIDTH, HEIGHT, JPEG_SEGMENTS])
}
