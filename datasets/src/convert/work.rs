//! The units of a conversion: images come in order, rows go to the shards of their splits.

use std::collections::HashSet;
use std::path::PathBuf;

use crossbeam::channel::Sender;

use super::Progress;
use super::commit::{FinishedShard, FinishedUnit, Job, ShardFile};
use super::look::{GoodImage, Looked, UnfitImage};
use super::names::shard_path;
use super::options::{ConvertOptions, OnBad};
use super::plan::{GroupCutter, Plan};
use super::record::{LeftOut, LeftOutKind, RowKey, SplitRecord, UnitRecord};
use super::shards::{Row, Shard, ShardFormat};
use crate::error::DatasetError;
use crate::sources::ImageSource;

/// A growing shard is brought to the disk whenever it has grown by so many bytes.
const FLUSH_BYTES: u64 = 32 << 20;

/// What does not change while units are made.
pub(super) struct Task<'a> {
    pub(super) source: &'a dyn ImageSource,
    pub(super) plan: &'a Plan,
    pub(super) options: &'a ConvertOptions,
    pub(super) format: ShardFormat,
    /// The names of the splits.
    pub(super) splits: &'a [String],
    /// Where shards lie until they are finished.
    pub(super) units: PathBuf,
}

/// What has been taken in order until now, and what becomes of it.
pub(super) struct Work<'a> {
    task: &'a Task<'a>,
    jobs: Sender<Job>,
    unit: Unit<'a>,
    /// The content of all rows until now, for finding duplicates.
    seen: HashSet<u128>,
    pub(super) progress: Progress,
}

impl<'a> Work<'a> {
    /// Begins with the unit behind those that are finished already.
    pub(super) fn begin(
        task: &'a Task<'a>,
        jobs: Sender<Job>,
        first_unit: u32,
        finished: &[UnitRecord],
        total: u64,
    ) -> Work<'a> {
        let mut progress = Progress { total, ..Progress::default() };
        let mut seen = HashSet::new();
        for record in finished {
            progress.done += record.images;
            progress.bytes += record.source_bytes;
            progress.bad += record.count(LeftOutKind::Bad);
            seen.extend(record.splits.iter().flat_map(|split| &split.rows).map(|row| row.content));
        }
        Work { task, jobs, unit: Unit::begin(task, first_unit), seen, progress }
    }

    /// Takes the image of the next position.
    pub(super) fn take(&mut self, position: u64, looked: Looked) -> Result<(), DatasetError> {
        let Task { source, plan, options, .. } = self.task;
        let image = plan.image(position);
        let source_bytes = source.bytes(image);
        self.progress.done += 1;
        self.progress.bytes += source_bytes;
        self.unit.record.images += 1;
        self.unit.record.source_bytes += source_bytes;
        let split = options.split_of(looked.content);
        self.unit.make_room(split, options.encode.planned_bytes(source_bytes), &self.jobs)?;
        let at = (position - self.unit.first_position) as u32;
        match looked.outcome {
            Ok(good) => self.keep(image, at, split, looked.content, good),
            Err(unfit) => self.leave_out(image, at, unfit)?,
        }
        if position + 1 == plan.positions(0..self.unit.number + 1).end {
            let next = Unit::begin(self.task, self.unit.number + 1);
            let finished = std::mem::replace(&mut self.unit, next).finish()?;
            send(&self.jobs, Job::Commit(finished))?;
        }
        Ok(())
    }

    fn keep(&mut self, image: usize, at: u32, split: usize, content: Option<u128>, good: GoodImage) {
        let Task { source, options, .. } = self.task;
        let to = &mut self.unit.splits[split];
        if let Some(sums) = &good.sums {
            to.record.pixels.add(sums);
        }
        if let (true, Some(content), Some(xxh3)) = (options.dedupe, content, good.xxh3) {
            // Parts keep duplicates, because which image is the first is known when all parts are there.
            if options.part.is_none() && !self.seen.insert(content) {
                let left_out = LeftOut::duplicate(at, source.path(image), xxh3);
                self.unit.record.left_out.push(left_out);
                return;
            }
            to.record.rows.push(RowKey { at, xxh3, content });
        }
        to.rows.push(Row {
            bytes: good.bytes,
            path: source.path(image),
            label: source.label(image),
            width_px: good.width_px,
            height_px: good.height_px,
            segments: good.segments,
        });
    }

    /// Puts an image on the ledger, or fails over it.
    fn leave_out(&mut self, image: usize, at: u32, unfit: UnfitImage) -> Result<(), DatasetError> {
        let Task { source, options, .. } = self.task;
        let UnfitImage { kind, reason, xxh3 } = unfit;
        if kind == LeftOutKind::Bad {
            let path = PathBuf::from(source.full_path(image));
            if options.on_bad == OnBad::Fail {
                return Err(DatasetError::BadImage { path, reason });
            }
            self.progress.bad += 1;
            tracing::warn!("bad image `{}`: {reason}", path.display());
            if let Some(budget) = options.bad_budget.filter(|&budget| self.progress.bad > budget) {
                return Err(DatasetError::BadBudgetExceeded { bad: self.progress.bad, budget, path, reason });
            }
        }
        let xxh3 = xxh3.map(|sum| format!("{sum:016x}"));
        self.unit.record.left_out.push(LeftOut { at, kind, source: source.path(image), reason, xxh3 });
        Ok(())
    }
}

impl LeftOut {
    /// An image of which there was another with the same bytes before.
    pub(super) fn duplicate(at: u32, source: String, xxh3: u64) -> LeftOut {
        let reason = "an image before it has the same bytes".to_owned();
        LeftOut { at, kind: LeftOutKind::Duplicate, source, reason, xxh3: Some(format!("{xxh3:016x}")) }
    }
}

/// A unit that is being made.
struct Unit<'a> {
    task: &'a Task<'a>,
    number: u32,
    first_position: u64,
    splits: Vec<SplitWriter>,
    record: UnitRecord,
}

struct SplitWriter {
    cutter: GroupCutter,
    /// The row group that is being filled.
    rows: Vec<Row>,
    shard: Option<Shard>,
    flushed_bytes: u64,
    record: SplitRecord,
}

impl<'a> Unit<'a> {
    fn begin(task: &'a Task<'a>, number: u32) -> Unit<'a> {
        let split = |_| SplitWriter {
            cutter: GroupCutter::new(task.options),
            rows: Vec::new(),
            shard: None,
            flushed_bytes: 0,
            record: SplitRecord::default(),
        };
        let splits = (0..=task.options.splits.len()).map(split).collect();
        // Behind the last unit there is one that is begun but gets no image.
        let first_position = if number < task.plan.units() { task.plan.positions(0..number).end } else { 0 };
        Unit { task, number, first_position, splits, record: UnitRecord::default() }
    }

    /// Writes out the row group of a split if an image of so many bytes begins a new one.
    fn make_room(&mut self, split: usize, bytes: u64, jobs: &Sender<Job>) -> Result<(), DatasetError> {
        if self.splits[split].cutter.add(bytes).is_none() {
            return Ok(());
        }
        self.write_group(split)?;
        let SplitWriter { shard, flushed_bytes, .. } = &mut self.splits[split];
        if let Some(shard) = shard.as_ref().filter(|shard| shard.bytes() >= *flushed_bytes + FLUSH_BYTES) {
            *flushed_bytes = shard.bytes();
            // Where the disk is behind, it has enough to do without this.
            let _ = jobs.try_send(Job::Flush(shard.file().clone()));
        }
        Ok(())
    }

    fn write_group(&mut self, split: usize) -> Result<(), DatasetError> {
        let path = self.preliminary_path(split);
        let SplitWriter { rows, shard, .. } = &mut self.splits[split];
        if rows.is_empty() {
            return Ok(());
        }
        let shard = match shard {
            Some(shard) => shard,
            None => shard.insert(Shard::create(&path, &self.task.format)?),
        };
        shard.write_rows(std::mem::take(rows))
    }

    fn finish(mut self) -> Result<FinishedUnit, DatasetError> {
        let mut shards = Vec::new();
        for split in 0..self.splits.len() {
            self.write_group(split)?;
            let SplitWriter { shard, record, .. } = &mut self.splits[split];
            let mut record = std::mem::take(record);
            if let Some(shard) = shard.take() {
                let shard = shard.finish()?;
                record.row_groups.clone_from(&shard.groups);
                record.shard_bytes = shard.bytes;
                let file = ShardFile::Ours(self.preliminary_path(split), shard.file);
                shards.push(FinishedShard { file, name: shard_path(self.task.splits, split, self.number) });
            }
            self.record.splits.push(record);
        }
        Ok(FinishedUnit { number: self.number, shards, record: self.record })
    }

    fn preliminary_path(&self, split: usize) -> PathBuf {
        self.task.units.join(format!("{:05}-{split}.partial", self.number))
    }
}

/// Hands a job over; where nobody takes it, the committer has failed and tells why when it is joined.
pub(super) fn send(jobs: &Sender<Job>, job: Job) -> Result<(), DatasetError> {
    jobs.send(job).map_err(|_| DatasetError::Internal { what: "the committer" })
}
