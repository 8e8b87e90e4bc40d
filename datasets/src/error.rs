//! What can go wrong with a data set.

mod excerpt;
mod hints;

pub(crate) use self::excerpt::{listed, shortened};

use std::io;
use std::path::PathBuf;

use parquet::errors::ParquetError;

/// Everything that can go wrong in this crate.
///
/// The message says what, where, expected and got; what to do about it is in [`hint`](DatasetError::hint).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// The source of a conversion does not exist.
    #[error("source `{}` does not exist", path.display())]
    SourceMissing {
        /// The path as given.
        path: PathBuf,
    },
    /// The source of a conversion is something else than a folder.
    #[error("source `{}` is not a folder", path.display())]
    SourceNotFolder {
        /// The path as given.
        path: PathBuf,
    },
    /// A source of which nothing tells what it is.
    #[error("cannot tell what kind of source `{}` is: {reason}", path.display())]
    SourceUnknown {
        /// The file or folder.
        path: PathBuf,
        /// What was looked for.
        reason: String,
    },
    /// A source with several parts, of which none was chosen.
    #[error("source `{}` has the splits {splits}", path.display())]
    SourceSplits {
        /// The source.
        path: PathBuf,
        /// What they are called.
        splits: String,
    },
    /// A file of a source that is not as its format demands.
    #[error("source `{}` is damaged: {reason}", path.display())]
    SourceDamaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that is not as long as it was when the source was listed.
    #[error("source `{}` changed while it was being read: expected {expected} bytes, got {got}", path.display())]
    SourceChanged {
        /// The file.
        path: PathBuf,
        /// Its size when it was listed.
        expected: u64,
        /// Its size now, or one byte more than expected if it has grown.
        got: u64,
    },
    /// A folder without any file.
    #[error("folder `{}` is empty", path.display())]
    SourceEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// A source in which nothing is an image, or no image is good.
    #[error("no usable image in `{}`: {skipped} files are no images, {bad} images are bad", path.display())]
    NoImages {
        /// The folder.
        path: PathBuf,
        /// Files that are no images by name and content.
        skipped: u64,
        /// Images that went to the ledger.
        bad: u64,
    },
    /// A symbolic link that leads back to a folder above it.
    #[error("symbolic link `{}` leads back to `{}`, which contains it", path.display(), target.display())]
    SymlinkLoop {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// A bad image, and the conversion shall fail on the first.
    #[error("bad image `{}`: {reason}", path.display())]
    BadImage {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// More bad images than the budget allows.
    #[error("{bad} bad images, more than the budget of {budget}; the last one is `{}`: {reason}", path.display())]
    BadBudgetExceeded {
        /// How many there were until now.
        bad: u64,
        /// How many are allowed.
        budget: u64,
        /// The last one.
        path: PathBuf,
        /// What is wrong with the last one.
        reason: String,
    },
    /// The destination of a conversion is taken.
    #[error("destination `{}` already exists", path.display())]
    DestinationExists {
        /// The destination.
        path: PathBuf,
    },
    /// The destination is taken by a data set that was made in another way.
    #[error("`{}` comes from another conversion: {option} was {was}, now {is}", path.display())]
    DestinationDiffers {
        /// The destination.
        path: PathBuf,
        /// The first option that differs.
        option: String,
        /// Its value then.
        was: String,
        /// Its value now.
        is: String,
    },
    /// A conversion to the destination was interrupted before.
    #[error("a conversion to `{}` was interrupted before it was finished", path.display())]
    DestinationUnfinished {
        /// The destination.
        path: PathBuf,
    },
    /// A conversion failed, but what it has finished is kept.
    #[error("{source}")]
    Unfinished {
        /// Why it failed.
        source: Box<DatasetError>,
        /// Units of about a shard that are finished.
        shards: u64,
    },
    /// A merge failed, but what it has finished is kept.
    #[error("{source}")]
    Unmerged {
        /// Why it failed.
        source: Box<DatasetError>,
        /// Units of about a shard that are finished.
        shards: u64,
    },
    /// Something that cannot be merged.
    #[error("cannot merge `{}`: {reason}", path.display())]
    NoPart {
        /// What was given as a part.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A part that lacks something.
    #[error("part `{}` is incomplete: shard {unit} is missing", path.display())]
    PartIncomplete {
        /// The part.
        path: PathBuf,
        /// The number of the shard.
        unit: u32,
    },
    /// The destination shall be overwritten, but what lies there is no data set.
    #[error("destination `{}` is not a Patchstream data set, so it is not overwritten: {reason}", path.display())]
    DestinationForeign {
        /// The destination.
        path: PathBuf,
        /// What tells so.
        reason: String,
    },
    /// A value that makes no sense.
    #[error("invalid {option}: {reason}")]
    InvalidOption {
        /// What it is called.
        option: &'static str,
        /// What is expected, and what was got.
        reason: String,
    },
    /// Another conversion is writing to the same destination.
    #[error("another conversion is writing to `{}`", path.display())]
    DestinationBusy {
        /// The destination.
        path: PathBuf,
    },
    /// The operating system refused something; its message names the path.
    #[error(transparent)]
    Io {
        /// The refusal.
        #[from]
        source: io::Error,
    },
    /// A file could not be written in the Parquet format.
    #[error("cannot write `{}`: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: ParquetError,
    },
    /// Reading failed, though it was tried several times where that can help.
    #[error("cannot read `{path}` after {attempts} attempts: {reason}")]
    Read {
        /// The object's location.
        path: String,
        /// How often it was tried.
        attempts: u32,
        /// Why not.
        reason: String,
    },
    /// An object far away could not be written, listed, looked at or removed.
    #[error("cannot {action} `{path}`: {reason}")]
    Remote {
        /// What was tried.
        action: &'static str,
        /// The object's location.
        path: String,
        /// Why not.
        reason: String,
    },
    /// A setting of the environment for an object store that makes no sense.
    #[error("the environment variable `{name}` cannot be used: {reason}")]
    Variable {
        /// What it is called.
        name: String,
        /// What is expected, and what was got unless that may be secret.
        reason: String,
    },
    /// A location that this build cannot open.
    #[error("cannot open `{location}`: {reason}")]
    Location {
        /// The location as given.
        location: String,
        /// Why not.
        reason: String,
    },
    /// A place without `manifest.parquet`.
    #[error("no data set at `{location}`: `manifest.parquet` is missing")]
    ManifestMissing {
        /// Where it was looked for.
        location: String,
        /// What lies there instead.
        instead: Instead,
    },
    /// A manifest written by another version of the format.
    #[error("`{path}` has schema version {got}, this program reads version {expected}")]
    ManifestVersion {
        /// The manifest.
        path: String,
        /// The version that this crate reads.
        expected: u32,
        /// The version that was found.
        got: String,
    },
    /// A manifest that contradicts itself.
    #[error("manifest `{path}` is corrupt: {reason}")]
    ManifestCorrupt {
        /// The manifest.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A shard that the manifest names is not there.
    #[error("shard `{path}` is missing")]
    ShardMissing {
        /// The shard.
        path: String,
    },
    /// A shard is shorter than the manifest says.
    #[error("shard `{path}` is truncated: expected at least {expected} bytes, got {got}")]
    ShardTruncated {
        /// The shard.
        path: String,
        /// The end of the byte range that was wanted.
        expected: u64,
        /// The length of the file.
        got: u64,
    },
    /// An image whose bytes went away while they were used.
    #[error(
        "sample {sample_id}, `{path}`, was lost while it was used: its shard became shorter, or the disk could not be read"
    )]
    ImageLost {
        /// The path of the image below its source.
        path: String,
        /// Its number in the data set.
        sample_id: u64,
    },
    /// A shard whose content cannot be read as the manifest says.
    #[error("shard `{path}`, row group {row_group} is corrupt: {reason}")]
    ShardCorrupt {
        /// The shard.
        path: String,
        /// The row group inside this shard.
        row_group: u32,
        /// What is wrong with it.
        reason: String,
    },
    /// The bytes of a row group are not those that were written.
    #[error("shard `{path}`, row group {row_group}: expected XXH3-64 {expected:016x}, got {got:016x}")]
    Checksum {
        /// The shard.
        path: String,
        /// The row group inside this shard.
        row_group: u32,
        /// The sum in the manifest.
        expected: u64,
        /// The sum of the bytes that were read.
        got: u64,
    },
    /// An image of a data set that does not decode.
    #[error("image {sample_id} (`{path}`) of `{location}` is damaged: {reason}")]
    DamagedImage {
        /// The data set.
        location: String,
        /// The image's number.
        sample_id: u64,
        /// Its path below the source.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A row group, row or sample that the data set does not have.
    #[error("{what} {got} does not exist: the data set has {count}")]
    OutOfRange {
        /// What was asked for.
        what: &'static str,
        /// Its number.
        got: u64,
        /// How many there are.
        count: u64,
    },
    /// A schedule that cannot be carried out.
    #[error("the schedule cannot be carried out: {reason}")]
    Schedule {
        /// Why not.
        reason: String,
    },
    /// Polars could not compute a summary.
    #[error("cannot summarise the data set: {source}")]
    Summary {
        /// Why not.
        #[from]
        source: polars::error::PolarsError,
    },
    /// A thread of this crate ended early, which is a defect of the program.
    #[error("internal error: {what} ended early")]
    Internal {
        /// Which thread or task.
        what: &'static str,
    },
}

/// What may lie at a place without a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instead {
    /// Nothing of ours.
    Nothing,
    /// Data sets that are splits of one.
    Splits,
    /// A part that has to be merged with others.
    Part,
    /// What a conversion has finished until now.
    Unfinished,
}

impl DatasetError {
    /// Wraps what the Parquet writer reports, which hides I/O errors inside its own.
    pub(crate) fn write(path: impl Into<PathBuf>, source: ParquetError) -> DatasetError {
        DatasetError::Write { path: path.into(), source }
    }
}
