//! Images in, shards out.
//!
//! A [source](crate::sources) has listed the images. The `plan` puts them in order and cuts that into units of about a shard.
//! Threads (`readers`) read and `look` at the images, kept within a bound of bytes by a `turnstile`; this thread takes them in
//! order and writes the `shards` of each unit (`work`); another one brings finished units to the disk and `record`s them
//! (`commit`). All of it happens in a `staging` folder, where a conversion that was killed is resumed; when all units are there,
//! manifests and ledger are made of their records (`finish`), and the folder is renamed to the destination. A `destination`
//! that is `far` away gets unit by unit, and the manifests last.
//!
//! Several machines make a part of the units each, and [`merge`] makes one data set of them, read through a `folder`.
//!
//! Invariant: the files written depend on the source and on the options that end up in the manifest, never on the number of
//! threads or machines, nor on how often the conversion was interrupted.

mod commit;
mod configuration;
mod destination;
mod far;
mod finish;
mod folder;
mod head;
mod look;
mod merge;
mod names;
mod options;
mod plan;
mod readers;
mod record;
mod room;
mod shards;
mod staging;
#[cfg(test)]
mod tests;
mod turnstile;
mod work;

use std::path::Path;
use std::thread;

pub use self::finish::ConvertReport;
pub use self::merge::{MergeOptions, merge};
pub use self::names::LEDGER_FILE;
pub use self::options::{Check, ConvertOptions, Encode, OnBad, Order, Part, Split};

use self::commit::Committer;
use self::configuration::configuration;
use self::destination::Destination;
use self::finish::{report, report_part, write_manifests};
use self::head::{Begun, Head, Remains, Terms};
use self::look::{Examining, bytes_in_flight, look};
use self::plan::Plan;
use self::readers::read_in_order;
use self::record::UnitRecord;
use self::room::DecodeRoom;
use self::shards::ShardFormat;
use self::work::{Task, Work};
use crate::error::DatasetError;
use crate::examine::ImageExaminer;
use crate::location::path_here;
use crate::random::RandomStream;
use crate::sources::ImageSource;

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

/// Converts the images of `source` to a data set at `destination`, a path or a URL of an object store.
///
/// Calls `progress` for every image, from this thread. Does nothing if the same conversion has been there before.
///
/// # Errors
///
/// See [`DatasetError`]; the destination is then as it was before, but for one in an object store, where what is replaced goes
/// first. What is finished is kept, to be resumed, unless the error is about the images themselves.
pub fn convert(
    source: &dyn ImageSource,
    destination: &Path,
    options: &ConvertOptions,
    examiner: &dyn ImageExaminer,
    progress: &dyn Fn(Progress),
) -> Result<ConvertReport, DatasetError> {
    options.check()?;
    let destination = &*path_here(destination)?;
    let plan = Plan::new(source, options);
    if plan.images() == 0 {
        return Err(DatasetError::NoImages { path: source.location().into(), skipped: source.skipped(), bad: 0 });
    }
    let head = Head {
        configuration: configuration(options, source),
        part: options.part,
        splits: options.split_names(),
        class_names: source.class_names().to_vec(),
        skipped: source.skipped(),
        units: plan.units(),
        images: plan.images(),
    };
    let report_on = || match options.part {
        None => report(destination, &head),
        Some(_) => report_part(destination, &head, plan.units_of(options.part)),
    };
    let remains = match (options.resume, options.overwrite) {
        (true, _) => Remains::Resume,
        (false, true) => Remains::Clear,
        (false, false) => Remains::Refuse,
    };
    let terms = Terms { remains, overwrite: options.overwrite, temporary: &options.temporary };
    let Begun::Work(staging) = Destination::begin(destination, &head, &terms)? else {
        return Ok(ConvertReport { unchanged: true, ..report_on()? });
    };
    match make_units(source, &plan, options, &head, &staging, examiner, progress)
        .and_then(|records| finish(source, &head, &staging, &records))
    {
        Ok(()) => {
            staging.publish(&head)?;
            report_on()
        }
        Err(error) => Err(staging.abandon(error)),
    }
}

/// Makes all units that are not there yet; gives the records of all.
fn make_units(
    source: &dyn ImageSource,
    plan: &Plan,
    options: &ConvertOptions,
    head: &Head,
    staging: &Destination,
    examiner: &dyn ImageExaminer,
    progress: &dyn Fn(Progress),
) -> Result<Vec<UnitRecord>, DatasetError> {
    let units = plan.units_of(options.part);
    let mut records = staging.finished_units(units.clone(), &head.splits)?;
    let first_unit = units.start + records.len() as u32;
    let format = ShardFormat::new(options.layout(), source.class_names())
        .map_err(|source| DatasetError::write(staging.folder(), source))?;
    let task = Task { source, plan, options, format, splits: &head.splits, units: staging.units() };
    let positions = plan.positions(first_unit..units.end);
    let all = plan.positions(units);
    let examining = Examining { examiner, room: DecodeRoom::default() };
    let made = thread::scope(|scope| {
        let (committer, jobs) = Committer::start(scope, staging)?;
        let mut work = Work::begin(&task, jobs, first_unit, &records, all.end - all.start);
        records.iter_mut().for_each(UnitRecord::forget_rows);
        let at = |ticket: u64| plan.image(positions.start + ticket);
        let outcome = read_in_order(
            positions.end - positions.start,
            options.workers,
            |ticket| bytes_in_flight(source.bytes(at(ticket)), options.encode),
            |ticket| {
                let measure = is_measured(positions.start + ticket, plan.images(), options);
                look(source, at(ticket), options, measure, &examining)
            },
            |ticket, looked| {
                work.take(positions.start + ticket, looked)?;
                progress(work.progress);
                Ok(())
            },
        );
        // The committer ends when nobody can send it anything any more. Its error is the cause of others.
        drop(work);
        let made = committer.join()?;
        outcome.map(|()| made)
    })?;
    records.extend(made);
    Ok(records)
}

/// Writes what makes units a data set; a part stays as it is.
fn finish(
    source: &dyn ImageSource,
    head: &Head,
    staging: &Destination,
    records: &[UnitRecord],
) -> Result<(), DatasetError> {
    if head.part.is_some() {
        return Ok(());
    }
    write_manifests(source.location().as_ref(), staging.folder(), head, records)
}

/// Whether an image belongs to the sample that is measured: as many as asked for, evenly spread over the order, from a
/// phase that the seed decides.
fn is_measured(position: u64, total: u64, options: &ConvertOptions) -> bool {
    let Some(wanted) = options.measure else { return false };
    let phase = RandomStream::new(&[options.seed, u64::from_le_bytes(*b"measure\0")]).below(total);
    let steps = |at: u64| (u128::from(at) * u128::from(wanted.get()) + u128::from(phase)) / u128::from(total);
    steps(position) != steps(position + 1)
}
