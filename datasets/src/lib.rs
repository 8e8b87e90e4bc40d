//! Image data sets as Parquet shards: conversion, manifest, epoch plan and fetching.
//!
//! # Parts
//!
//! Writing: [`convert`] takes images from one of the [`sources`], reads them on several threads and writes shards in the layout of
//! [`schema`], with a [`manifest`] beside them that says where every row group lies and what its checksum is.
//!
//! Reading: a [`Dataset`] needs the manifest, range reads and the footers of the shards it touches, never a directory
//! listing. [`plan`] says in which order an epoch's rows come, as a pure function of manifest and seed, and a
//! [`RowStream`] fetches them in that order, ahead of the consumer and bounded in bytes.
//!
//! Looking: [`inspect`] summarises a data set, and verifies it.
//!
//! Image codecs stay out of this crate: it reads headers, and hands whole images to an [`ImageExaminer`].

pub mod convert;
pub mod dataset;
pub mod error;
pub mod examine;
pub mod faults;
pub mod group;
pub mod inspect;
pub mod manifest;
pub mod plan;
pub mod random;
pub mod rows;
pub mod schema;
pub mod sources;

#[cfg(fuzzing)]
pub mod fuzzing;

mod direct;
mod fetch;
mod guard;
mod header;
mod local;
mod location;
mod pages;
mod ratio;
mod remote;
mod store;
#[cfg(test)]
mod testing;

pub use convert::{ConvertOptions, ConvertReport, convert};
pub use dataset::Dataset;
pub use error::DatasetError;
pub use examine::{ImageExaminer, PixelSums, Transcoded};
pub use faults::Faults;
pub use fetch::{FetchSnapshot, FetchStats};
pub use group::{EncodedGroup, EncodedRow};
pub use manifest::{Manifest, PixelStats, RowGroupEntry};
pub use plan::{Cursor, EpochPlan, LastBatch, Schedule, Share, Shuffle};
pub use remote::is_remote;
pub use rows::{PlannedRow, Replacer, RowStream, Stopper};
pub use sources::{ImageSource, ReadFailure};
