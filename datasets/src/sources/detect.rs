//! Finding out what kind of source lies somewhere.

use std::path::Path;

use super::blob::Blob;
use super::root::Root;
use super::split::{choose, split_of_file};
use super::{
    FolderSource, ImageSource, SourceFormat, SourceOptions, braces, cifar, folder, idx, list, parquet, remote_folder,
    tar,
};
use crate::error::DatasetError;
use crate::location::here;
use crate::remote::{has_folders, is_remote};

/// What lies somewhere: the files of a source of some kind, or a folder of images.
enum Found {
    Folder(Root),
    Files(SourceFormat, Vec<Blob>),
}

/// Opens a source and lists its images.
///
/// `location` is a file or a folder, on this machine or in an object store, or a file on the web; `{000..099}` and
/// `{a,b}` in it stand for several files.
///
/// # Errors
///
/// If there is no such source, it cannot be told what kind it is, an option does not belong to its kind, or its images
/// cannot be listed. A source without images is no error here.
pub fn open(location: &str, options: &SourceOptions) -> Result<Box<dyn ImageSource>, DatasetError> {
    let location = &*here(location)?;
    let found = find(location, options.format)?;
    let format = match &found {
        Found::Folder(_) => SourceFormat::Folder,
        Found::Files(format, _) => *format,
    };
    check_options(format, options)?;
    let blobs = match found {
        Found::Folder(Root::Remote(remote)) => return Ok(Box::new(remote_folder::open(location, &remote, options)?)),
        Found::Folder(Root::Local) => {
            return Ok(Box::new(FolderSource::open_split(Path::new(location), options.split.as_deref())?));
        }
        Found::Files(_, blobs) => {
            choose(Path::new(location), blobs, |blob| split_of_file(&blob.name()), options.split.as_deref())?
        }
    };
    Ok(Box::new(match (format, &*blobs) {
        (SourceFormat::List, [blob]) => list::open(location, blob, options)?,
        (SourceFormat::List, _) => return Err(unknown(location, "several lists; give one")),
        (SourceFormat::Tar, _) => tar::open(location, blobs, options)?,
        (SourceFormat::Parquet, blobs) => parquet::open(location, blobs, options)?,
        (SourceFormat::Idx, blobs) => idx::open(location, blobs, options)?,
        (SourceFormat::Cifar, blobs) => cifar::open(location, blobs)?,
        (SourceFormat::Folder, _) => return Err(DatasetError::Internal { what: "looking for files in a folder" }),
    }))
}

fn check_options(format: SourceFormat, options: &SourceOptions) -> Result<(), DatasetError> {
    let takes_columns = matches!(format, SourceFormat::Parquet | SourceFormat::List);
    let refuse = |option| {
        let reason = format!("a source of kind `{}` has no columns", format.name());
        Err(DatasetError::InvalidOption { option, reason })
    };
    match options {
        SourceOptions { image_column: Some(_), .. } if !takes_columns => refuse("image column"),
        SourceOptions { label_column: Some(_), .. } if !takes_columns => refuse("label column"),
        _ => Ok(()),
    }
}

fn unknown(location: &str, reason: impl Into<String>) -> DatasetError {
    DatasetError::SourceUnknown { path: location.into(), reason: reason.into() }
}

fn find(location: &str, wanted: Option<SourceFormat>) -> Result<Found, DatasetError> {
    let (root, path) = (Root::of(location)?, Path::new(location));
    // A name with braces that exists is meant as it is.
    if let Some(blob) = root.blob(path)? {
        return match wanted {
            Some(SourceFormat::Folder) => Err(DatasetError::SourceNotFolder { path: path.to_owned() }),
            Some(format) => Ok(Found::Files(format, vec![blob])),
            None => Ok(Found::Files(format_of_file(&blob)?, vec![blob])),
        };
    }
    if let Some(paths) = braces::expand(location)? {
        let blobs = paths.iter().map(|path| root.existing_blob(Path::new(path))).collect::<Result<Vec<Blob>, _>>()?;
        let format = match (wanted, blobs.first()) {
            (Some(format), _) => format,
            (None, Some(first)) => format_of_file(first)?,
            (None, None) => return Err(unknown(location, "the braces name no file")),
        };
        return Ok(Found::Files(format, blobs));
    }
    if matches!(root, Root::Local) && !path.exists() {
        return Err(DatasetError::SourceMissing { path: path.to_owned() });
    }
    if is_remote(location) && !has_folders(location) {
        let reason = "there is no such file, and the web has no folders to list; name the files, `{000..099}` for many";
        return Err(DatasetError::Location { location: location.to_owned(), reason: reason.to_owned() });
    }
    find_in_folder(root, path, wanted)
}

/// A folder holds files of one kind, or else images. What lies deeper is not looked at: only images have sub-folders.
fn find_in_folder(root: Root, folder: &Path, wanted: Option<SourceFormat>) -> Result<Found, DatasetError> {
    let mut names = root.children(folder)?;
    names.retain(|name| !name.starts_with('.'));
    names.sort_unstable();
    let format = match wanted {
        Some(format) => format,
        None if names.iter().any(|name| folder::has_image_extension(Path::new(name))) => SourceFormat::Folder,
        None => names.iter().find_map(|name| format_of_name(name)).unwrap_or(SourceFormat::Folder),
    };
    if format == SourceFormat::Folder {
        return Ok(Found::Folder(root));
    }
    let names =
        names.iter().filter(|name| format_of_name(name) == Some(format) && *name != crate::manifest::MANIFEST_FILE);
    let mut blobs = Vec::new();
    for name in names {
        blobs.extend(root.blob(&folder.join(name))?);
    }
    if blobs.is_empty() {
        let location = folder.to_string_lossy();
        return Err(unknown(
            &location,
            format!("it has no files that are called as those of kind `{}`", format.name()),
        ));
    }
    Ok(Found::Files(format, blobs))
}

fn format_of_name(name: &str) -> Option<SourceFormat> {
    let small = name.to_ascii_lowercase();
    let ends = |endings: &[&str]| endings.iter().any(|ending| small.ends_with(ending));
    if ends(&[".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst"]) {
        Some(SourceFormat::Tar)
    } else if ends(&[".parquet"]) {
        Some(SourceFormat::Parquet)
    } else if idx::is_images_name(name) {
        Some(SourceFormat::Idx)
    } else if cifar::is_name(name) {
        Some(SourceFormat::Cifar)
    } else if list::is_name(name) {
        Some(SourceFormat::List)
    } else {
        None
    }
}

/// By its name, or else by its first bytes.
fn format_of_file(blob: &Blob) -> Result<SourceFormat, DatasetError> {
    if let Some(format) = format_of_name(&blob.name()) {
        return Ok(format);
    }
    let start = blob.start(512)?;
    if start.starts_with(b"PAR1") {
        Ok(SourceFormat::Parquet)
    } else if start.get(257..262) == Some(b"ustar") {
        Ok(SourceFormat::Tar)
    } else if idx::is_images_start(&start) {
        Ok(SourceFormat::Idx)
    } else {
        let reason = "neither its name nor its first bytes tell a list, tar, Parquet, IDX or CIFAR file";
        Err(DatasetError::SourceUnknown { path: blob.path().to_owned(), reason: reason.to_owned() })
    }
}
