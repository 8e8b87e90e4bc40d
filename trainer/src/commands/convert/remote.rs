//! Destinations far away: the data set is made in a temporary folder and sent when it is whole.

use anyhow::Context;
use patchstream_datasets::RemoteDestination;

use crate::cli::ConvertArgs;
use crate::report::UserError;

/// Converts by `convert`, which is given the folder to write, and sends what it wrote to the destination.
pub(super) fn through_temporary_folder<Report>(
    arguments: &ConvertArgs,
    location: &str,
    convert: impl FnOnce(&std::path::Path) -> anyhow::Result<Report>,
) -> anyhow::Result<Report> {
    let unsupported = [("--resume", arguments.resume), ("--part", arguments.part.is_some())];
    if let Some((option, _)) = unsupported.iter().find(|(_, is_given)| *is_given) {
        let error = UserError::new(format!("`{option}` does not work with a destination far away"));
        return Err(error.hint("convert to a folder on this machine, and copy it").into());
    }
    // Before anything else, because a conversion may take hours.
    let destination = RemoteDestination::open(location, arguments.overwrite)?;
    let parent = arguments.from.temporary_folder();
    let folder = tempfile::Builder::new()
        .prefix("patchstream-")
        .tempdir_in(&parent)
        .with_context(|| format!("no temporary folder in `{}`", parent.display()))?;
    let local = folder.path().join("data-set");
    let report = convert(&local)?;
    tracing::info!("sending the data set to `{location}`");
    destination.publish(&local, &|bytes| tracing::debug!("sent {bytes} bytes"))?;
    Ok(report)
}
