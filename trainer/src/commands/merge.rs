//! `patchstream merge`: parts from several machines become one data set.

use patchstream_datasets::convert::{MergeOptions, Progress, merge};

use super::convert::describe;
use super::{ImageBar, print, print_json};
use crate::cli::MergeArgs;

pub(crate) fn run(arguments: &MergeArgs, quiet: bool) -> anyhow::Result<()> {
    let bar = ImageBar::start("merging shards", quiet);
    let show = |done, total| bar.show(Progress { done, total, ..Progress::default() });
    let temporary = arguments.temporary.clone().unwrap_or_else(std::env::temp_dir);
    let options = MergeOptions { overwrite: arguments.overwrite, temporary };
    let report = merge(&arguments.parts, &arguments.out, &options, &show);
    bar.finish();
    let report = report?;
    if arguments.json { print_json(&report) } else { print(&describe(&arguments.out, &report)) }
}
