//! What can be said about the source of a conversion.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use patchstream_datasets::sources::{SourceFormat, SourceOptions};

#[derive(Debug, Args)]
#[command(next_help_heading = "Source")]
pub(crate) struct SourceArgs {
    /// What the source is; found out by looking unless given
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
    /// Part to take of a source that has parts as train and val: its name, or `all`
    #[arg(long, value_name = "SPLIT")]
    pub(crate) from_split: Option<String>,
    /// Column with images (Parquet) or paths (lists); found out by looking unless given
    #[arg(long, value_name = "COLUMN")]
    pub(crate) image_column: Option<String>,
    /// Column with classes (Parquet, lists); found out by looking unless given
    #[arg(long, value_name = "COLUMN")]
    pub(crate) label_column: Option<String>,
    /// Folder for temporary files, which compressed tars, Parquet files and remote destinations need; the system's
    /// unless given
    #[arg(long, value_name = "FOLDER")]
    pub(crate) temporary: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Format {
    /// Images in folders; the first folder is the class
    Folder,
    /// CSV, TSV or JSON lines of paths and classes
    List,
    /// Tar archives as WebDataset has them, also packed by gzip or zstd
    Tar,
    /// Parquet with an image column
    Parquet,
    /// MNIST's files
    Idx,
    /// CIFAR-10 and CIFAR-100, binary version
    Cifar,
}

impl SourceArgs {
    pub(crate) fn temporary_folder(&self) -> PathBuf {
        self.temporary.clone().unwrap_or_else(std::env::temp_dir)
    }

    pub(crate) fn options(&self) -> SourceOptions {
        let format = self.format.map(|format| match format {
            Format::Folder => SourceFormat::Folder,
            Format::List => SourceFormat::List,
            Format::Tar => SourceFormat::Tar,
            Format::Parquet => SourceFormat::Parquet,
            Format::Idx => SourceFormat::Idx,
            Format::Cifar => SourceFormat::Cifar,
        });
        SourceOptions {
            format,
            split: self.from_split.clone(),
            image_column: self.image_column.clone(),
            label_column: self.label_column.clone(),
            spool_folder: self.temporary_folder(),
        }
    }
}
