//! What the user can do about an error.

use std::io;

use parquet::errors::ParquetError;

use super::{DatasetError, Instead};
use crate::remote::is_remote;

impl DatasetError {
    /// What the user can do about it, where that is not plain from the message.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::SourceNotFolder { .. } => "give the folder that holds the images",
            Self::SourceChanged { .. } => "convert again when nothing writes to the source any more",
            Self::SourceUnknown { .. } => {
                "say what it is with `--format`, and which columns it has with `--image-column` and `--label-column`"
            }
            Self::SourceSplits { .. } => "choose one with `--from-split`, or take them all with `--from-split all`",
            Self::SourceDamaged { .. } => "fetch the file again, or leave it out",
            Self::SourceEmpty { .. } | Self::NoImages { .. } => {
                "images are looked for in the folder and all folders below it; hidden files are left out"
            }
            Self::SymlinkLoop { .. } => "remove the link, or give the folder it leads to",
            Self::BadImage { .. } => "skip bad images with `--on-bad skip`; they are listed in a ledger",
            Self::BadBudgetExceeded { .. } => "raise the budget, or repair the files",
            Self::DestinationExists { .. } => "choose another destination, or replace it with `--overwrite`",
            Self::DestinationDiffers { .. } => {
                "repeat the conversion as it was, choose another destination, or replace it with `--overwrite`"
            }
            Self::DestinationUnfinished { .. } => "go on with `--resume`, or begin anew with `--overwrite`",
            Self::Unfinished { source, shards } => {
                let first = source.hint().map_or_else(String::new, |hint| format!("{hint}; "));
                return Some(format!("{first}{shards} shards are finished: go on with `--resume`"));
            }
            Self::Unmerged { source, shards } => {
                let first = source.hint().map_or_else(String::new, |hint| format!("{hint}; "));
                return Some(format!("{first}{shards} shards are merged: the same command goes on"));
            }
            Self::NoPart { .. } => "give the folders that `convert --part 1/N` to `--part N/N` have written",
            Self::PartIncomplete { .. } => "finish it with the same command and `--resume`, or copy it again",
            Self::DestinationForeign { .. } => "remove it by hand if it can go, or choose another destination",
            Self::DestinationBusy { .. } => "wait for it to end, or choose another destination",
            Self::Io { source } => return io_hint(source).map(str::to_owned),
            Self::Write { source, .. } => return io_error_within(source).and_then(io_hint).map(str::to_owned),
            Self::Variable { .. } => "set it to another value, or not at all",
            Self::Location { .. } => {
                "give a path on this machine, or a URL as s3://bucket/folder; credentials belong in the environment"
            }
            Self::Remote { path, .. } | Self::Read { path, .. } if is_remote(path) => {
                "check the endpoint and the credentials in the environment, and what they allow"
            }
            Self::ManifestMissing { location, instead } => match instead {
                Instead::Nothing => {
                    "a folder of images becomes a data set with `patchstream convert <folder> <destination>`"
                }
                Instead::Splits => {
                    return Some(format!("it holds splits, which are data sets: give `{location}/train`"));
                }
                Instead::Part => "it is a part: `patchstream merge` makes a data set of all parts",
                Instead::Unfinished => "a conversion to it is not finished: repeat it with `--resume`, or the merge",
            },
            Self::ManifestVersion { .. } => "convert the images again, or use the program that wrote the data set",
            Self::ImageLost { .. } => {
                "leave shards as they are while they are read; write new ones beside them, or look for errors of the disk"
            }
            Self::ShardMissing { .. } | Self::ShardTruncated { .. } => {
                "a copy may have been interrupted; copy the data set again, or convert the images again"
            }
            Self::ManifestCorrupt { .. } => "restore `manifest.parquet` from a copy, or convert the images again",
            Self::DamagedImage { .. } => "`patchstream inspect --verify` names all damaged images",
            Self::ShardCorrupt { .. } | Self::Checksum { .. } => {
                "`patchstream inspect --verify` names all damaged row groups; restore those files from a copy"
            }
            Self::Schedule { .. } => "check batch size, rank and the position to start at against the data set",
            Self::SourceMissing { .. }
            | Self::InvalidOption { .. }
            | Self::Read { .. }
            | Self::Remote { .. }
            | Self::OutOfRange { .. }
            | Self::Summary { .. }
            | Self::Internal { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

/// The I/O error that a Parquet error carries, if that is what it is about.
fn io_error_within(error: &ParquetError) -> Option<&io::Error> {
    match error {
        ParquetError::External(inner) => inner.downcast_ref::<io::Error>(),
        _ => None,
    }
}

fn io_hint(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some("free some space, or write to another disk"),
        io::ErrorKind::ReadOnlyFilesystem => Some("choose a destination on a disk that can be written to"),
        io::ErrorKind::PermissionDenied => Some("check the permissions of the file and the folders above it"),
        _ => None,
    }
}
