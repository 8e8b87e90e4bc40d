//! One data set of the parts that several machines have made.
//!
//! Units are whole in one part or another, so their shards are taken as they are. Only where duplicates are to be left out
//! does a shard change: which image is the first of its kind is known when all parts are there.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use arrow::array::{AsArray, RecordBatch};
use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::destination::location_of;
use super::finish::{ConvertReport, report, write_manifests};
use super::head::{Begun, Head, Remains, UNITS};
use super::options::Part;
use super::record::{GroupRecord, LeftOut, RowKey, UnitRecord};
use super::shards::{Shard, ShardFormat};
use super::staging::{Staging, read_head, shard_name, split_folder};
use crate::error::DatasetError;
use crate::group::{FetchedRanges, Footer};
use crate::guard::guarded;
use crate::location::path_here;
use crate::schema::{HEIGHT, IMAGE, JPEG_SEGMENTS, LABEL, Layout, WIDTH};

/// Makes one data set at `destination` of `parts`, given in any order. The result is byte for byte what one machine would have
/// made, and the parts stay as they are.
///
/// Calls `progress` with the units that are done, and all.
///
/// # Errors
///
/// If something is no part, or no part of the same conversion, if parts are missing or twice there, or incomplete; and see
/// [`DatasetError`].
pub fn merge(
    parts: &[PathBuf],
    destination: &Path,
    overwrite: bool,
    progress: &dyn Fn(u64, u64),
) -> Result<ConvertReport, DatasetError> {
    if let Some(far) = parts.iter().map(PathBuf::as_path).chain([destination]).find_map(location_of) {
        let reason = "parts are merged on this machine: copy them here, and the data set back".to_owned();
        return Err(DatasetError::Location { location: far.to_owned(), reason });
    }
    let destination = &*path_here(destination)?;
    let parts = open_parts(parts)?;
    let head = Head { part: None, ..parts[0].head.clone() };
    // A merge records nothing, so what a killed one has left is thrown away; an unfinished conversion is not.
    let remains = if overwrite { Remains::Clear } else { Remains::Refuse };
    let Begun::Work(staging) = Staging::begin(destination, &head, overwrite, remains)? else {
        return Ok(ConvertReport { unchanged: true, ..report(destination, &head)? });
    };
    let mut merging = Merging { head: &head, folder: staging.folder(), seen: HashSet::new() };
    let outcome = merging.all_units(&parts, progress);
    match outcome.and_then(|records| write_manifests(staging.folder(), &head, &records)) {
        Ok(()) => report(&staging.publish(&head)?, &head),
        Err(error) => Err(staging.abandon(error)),
    }
}

struct OpenPart {
    folder: PathBuf,
    head: Head,
    part: Part,
}

/// The parts in order, all of them there once.
fn open_parts(folders: &[PathBuf]) -> Result<Vec<OpenPart>, DatasetError> {
    let refuse = |path: &Path, reason: String| DatasetError::NoPart { path: path.to_owned(), reason };
    let mut parts: Vec<OpenPart> = Vec::new();
    for folder in folders {
        let folder = &*path_here(folder)?;
        let head = read_head(folder)?.ok_or_else(|| refuse(folder, "it is not what `--part` writes".to_owned()))?;
        let part = head.part.ok_or_else(|| refuse(folder, "it is an unfinished data set".to_owned()))?;
        if let Some(first) = parts.first()
            && (Head { part: None, ..head.clone() } != Head { part: None, ..first.head.clone() }
                || part.of != first.part.of)
        {
            return Err(refuse(folder, format!("it comes from another conversion than `{}`", first.folder.display())));
        }
        parts.push(OpenPart { folder: folder.to_owned(), head, part });
    }
    parts.sort_by_key(|open| open.part.number);
    let Some(first) = parts.first() else {
        return Err(DatasetError::InvalidOption { option: "parts", reason: "expected at least one".to_owned() });
    };
    let of = first.part.of.get();
    for number in 1..=of {
        match parts.iter().filter(|open| open.part.number.get() == number).count() {
            0 => return Err(refuse(&parts[0].folder, format!("part {number} of {of} is missing beside it"))),
            1 => {}
            _ => {
                let twice = parts.iter().rfind(|open| open.part.number.get() == number).unwrap_or(first);
                return Err(refuse(&twice.folder, format!("part {number} of {of} is there twice")));
            }
        }
    }
    Ok(parts)
}

struct Merging<'a> {
    head: &'a Head,
    folder: &'a Path,
    /// The content of all rows until now.
    seen: HashSet<u128>,
}

impl Merging<'_> {
    fn all_units(&mut self, parts: &[OpenPart], progress: &dyn Fn(u64, u64)) -> Result<Vec<UnitRecord>, DatasetError> {
        let mut records = Vec::new();
        for OpenPart { folder, part, .. } in parts {
            for unit in part.units(self.head.units) {
                let Some(mut record) = UnitRecord::load(&folder.join(UNITS), unit)? else {
                    return Err(DatasetError::PartIncomplete { path: folder.clone(), unit });
                };
                self.take_unit(folder, unit, &mut record)?;
                records.push(record);
                progress(records.len() as u64, u64::from(self.head.units));
            }
        }
        Ok(records)
    }

    fn take_unit(&mut self, part: &Path, unit: u32, record: &mut UnitRecord) -> Result<(), DatasetError> {
        for (number, split) in self.head.splits.iter().enumerate() {
            let path = split_folder(self.head.splits.len(), split).join(shard_name(split, unit));
            let (from, to) = (part.join(&path), self.folder.join(&path));
            let shard_bytes = record.splits[number].shard_bytes;
            if shard_bytes == 0 {
                continue;
            }
            let got = fs_err::metadata(&from)?.len();
            if got != shard_bytes {
                let path = from.to_string_lossy().into_owned();
                return Err(DatasetError::ShardTruncated { path, expected: shard_bytes, got });
            }
            // Images of the same bytes go to the same split, so splits can be looked at one after the other.
            let is_new: Vec<bool> =
                record.splits[number].rows.iter().map(|row| self.seen.insert(row.content)).collect();
            if is_new.iter().all(|&is_new| is_new) {
                take_file(&from, &to)?;
            } else {
                self.rewrite(&from, &to, number, &is_new, record)?;
            }
        }
        record.left_out.sort_by_key(|left_out| left_out.at);
        Ok(())
    }

    /// Writes a shard again without the rows that are not new.
    fn rewrite(
        &self,
        from: &Path,
        to: &Path,
        number: usize,
        is_new: &[bool],
        record: &mut UnitRecord,
    ) -> Result<(), DatasetError> {
        let corrupt = |row_group: usize, reason: String| DatasetError::ShardCorrupt {
            path: from.to_string_lossy().into_owned(),
            row_group: row_group as u32,
            reason,
        };
        let bytes = Bytes::from(fs_err::read(from)?);
        let split = &mut record.splits[number];
        let last = split.row_groups[split.row_groups.len() - 1];
        let tail = bytes.get((last.offset + last.length) as usize..).unwrap_or_default();
        let footer = guarded(|| Footer::parse(tail)).map_err(|reason| corrupt(0, reason))?;
        let format = ShardFormat::new(self.layout(), &self.head.class_names)
            .map_err(|source| DatasetError::write(to, source))?;
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
                .map_err(|source| DatasetError::write(to, source.into()))?;
            if kept.num_rows() > 0 {
                let shard = match &mut shard {
                    Some(shard) => shard,
                    None => shard.insert(Shard::create(to, &format)?),
                };
                shard.write_batch(&kept, group.image_bytes - found.image_bytes)?;
            }
        }
        let mut is_new = is_new.iter();
        split.rows.retain(|_| is_new.next().is_some_and(|&is_new| is_new));
        (split.row_groups, split.shard_bytes) = (Vec::new(), 0);
        if let Some(shard) = shard {
            let written = shard.finish()?;
            written.file.sync_all()?;
            (split.row_groups, split.shard_bytes) = (written.groups, written.bytes);
        }
        Ok(())
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

/// Makes a file appear under another name: as a second name where the file system has that, as a copy elsewhere.
fn take_file(from: &Path, to: &Path) -> Result<(), DatasetError> {
    if fs_err::hard_link(from, to).is_ok() {
        return Ok(());
    }
    fs_err::copy(from, to)?;
    Ok(fs_err::File::open(to)?.sync_all()?)
}
