//! Files and folders that appear whole or not at all: written beside, synced, renamed.

use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Writes a file whole.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = beside(path);
    let written = write_synced(&beside, bytes).and_then(|()| fs_err::rename(&beside, path));
    if written.is_err() {
        // The first error is the one to tell; what cannot be removed is overwritten next time.
        let _ = fs_err::remove_file(&beside);
    }
    written?;
    sync_parent(path)
}

/// Writes a file whole, as it is made.
pub(crate) fn file_whole(
    path: &Path,
    fill: impl FnOnce(&mut fs_err::File) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let beside = beside(path);
    let written = fs_err::File::create(&beside).map_err(anyhow::Error::from).and_then(|mut file| {
        fill(&mut file)?;
        file.sync_all()?;
        Ok(fs_err::rename(&beside, path)?)
    });
    if written.is_err() {
        let _ = fs_err::remove_file(&beside);
    }
    written?;
    Ok(sync_parent(path)?)
}

/// Makes a folder by filling a temporary one, which then takes the name.
pub(crate) fn folder_whole(path: &Path, fill: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let beside = beside(path);
    if beside.exists() {
        fs_err::remove_dir_all(&beside)?;
    }
    fs_err::create_dir_all(&beside)?;
    let filled = fill(&beside).and_then(|()| {
        fs_err::File::open(&beside)?.sync_all()?;
        fs_err::rename(&beside, path)?;
        Ok(())
    });
    if filled.is_err() {
        let _ = fs_err::remove_dir_all(&beside);
    }
    filled?;
    Ok(sync_parent(path)?)
}

/// Writes and syncs a file inside a folder that is not in its place yet.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = fs_err::File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The temporary name.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    path.with_file_name(name)
}

/// A rename is on disk once its folder is synced.
fn sync_parent(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => fs_err::File::open(parent)?.sync_all(),
        _ => fs_err::File::open(".")?.sync_all(),
    }
}
