//! Folders of image files.
//!
//! Images are listed in the order of their paths, component by component. The class of an image is the first folder of
//! its path below the root: `cats/indoor/tom.jpg` is of class `cats`. Images that lie in the root itself have no class.
//! Classes are numbered in the order of their names; folders without images are no classes.
//!
//! A file is taken for an image by its name or, failing that, by its content; the content alone decides later whether
//! it is a good one. Files and folders whose names begin with a dot, and `Thumbs.db`, are passed over. Symbolic links
//! are followed.

#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::vec;

use super::split::{ALL_SPLITS, choose, split_of_folder};
use super::{ImageSource, ReadFailure, SourceFormat};
use crate::error::DatasetError;
use crate::header::ImageFormat;

/// Names that say that a file is meant to be an image. Those that cannot be read go to the ledger, so that nothing that
/// its owner takes for an image is lost silently.
const IMAGE_EXTENSIONS: [&str; 20] = [
    "avif", "bmp", "gif", "heic", "heif", "jfif", "jp2", "jpe", "jpeg", "jpg", "jxl", "pbm", "pgm", "png", "pnm",
    "ppm", "qoi", "tif", "tiff", "webp",
];

/// The images of a folder, about 70 bytes and its name each.
#[derive(Debug)]
pub struct FolderSource {
    location: String,
    root: PathBuf,
    folders: Vec<Folder>,
    files: Vec<File>,
    class_names: Vec<String>,
    skipped: u64,
    /// How many folders stand before the class in a path: one if the first says which split it is, else none.
    class_depth: usize,
}

#[derive(Debug)]
struct Folder {
    /// Below the root.
    path: PathBuf,
    class: Option<u32>,
}

#[derive(Debug)]
struct File {
    folder: u32,
    bytes: u64,
    name: Box<OsStr>,
}

/// A folder that is being listed.
struct Frame {
    folder: u32,
    /// Where the folder really lies, symbolic links resolved.
    real: PathBuf,
    entries: vec::IntoIter<Entry>,
}

struct Entry {
    name: OsString,
    bytes: u64,
    is_folder: bool,
    is_link: bool,
}

impl FolderSource {
    /// Lists the images in the folder `root` and all folders below it.
    ///
    /// # Errors
    ///
    /// If the root is missing, no folder or empty, if a folder or link cannot be read, and if a symbolic link leads back
    /// to a folder that contains it. A folder without images is no error here.
    pub fn open(root: &Path) -> Result<FolderSource, DatasetError> {
        FolderSource::open_split(root, Some(ALL_SPLITS))
    }

    /// Lists the images of one of the splits that a folder has. It has splits if it holds nothing but folders called
    /// `train`, `val` and so on.
    pub(super) fn open_split(root: &Path, split: Option<&str>) -> Result<FolderSource, DatasetError> {
        match fs_err::metadata(root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(DatasetError::SourceMissing { path: root.to_owned() });
            }
            Err(error) => return Err(error.into()),
            Ok(metadata) if !metadata.is_dir() => {
                return Err(DatasetError::SourceNotFolder { path: root.to_owned() });
            }
            Ok(_) => {}
        }
        let mut listing = FolderSource {
            location: root.to_string_lossy().into_owned(),
            root: root.to_owned(),
            folders: Vec::new(),
            files: Vec::new(),
            class_names: Vec::new(),
            skipped: 0,
            class_depth: 0,
        };
        listing.walk(split)?;
        listing.sort_classes();
        if listing.files.is_empty() && listing.skipped == 0 {
            return Err(DatasetError::SourceEmpty { path: root.to_owned() });
        }
        Ok(listing)
    }

    fn file_path(&self, image: usize) -> PathBuf {
        let File { folder, name, .. } = &self.files[image];
        let mut path = self.root.join(&self.folders[*folder as usize].path);
        path.push(&**name);
        path
    }

    /// Depth first with a stack of its own, so that no depth of folders can exhaust the thread's.
    fn walk(&mut self, split: Option<&str>) -> Result<(), DatasetError> {
        let real = fs_err::canonicalize(&self.root)?;
        let mut top = self.enter(PathBuf::new(), real)?;
        self.choose_split(&mut top, split)?;
        let mut stack = vec![top];
        while let Some(frame) = stack.last_mut() {
            let Some(entry) = frame.entries.next() else {
                stack.pop();
                continue;
            };
            let folder = frame.folder;
            let relative = self.folders[folder as usize].path.join(&entry.name);
            if !entry.is_folder {
                if self.is_image(&relative)? {
                    self.add(folder, entry);
                } else {
                    self.skipped += 1;
                }
                continue;
            }
            let mut real = frame.real.join(&entry.name);
            if entry.is_link {
                let path = self.root.join(&relative);
                real = fs_err::canonicalize(&path)?;
                if stack.iter().any(|above| above.real.starts_with(&real)) {
                    return Err(DatasetError::SymlinkLoop { path, target: real });
                }
            }
            stack.push(self.enter(relative, real)?);
        }
        Ok(())
    }

    fn enter(&mut self, relative: PathBuf, real: PathBuf) -> Result<Frame, DatasetError> {
        let path = self.root.join(&relative);
        let mut entries = Vec::new();
        for entry in fs_err::read_dir(&path)? {
            let entry = entry?;
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(b".") || name == "Thumbs.db" {
                self.skipped += 1;
                continue;
            }
            let metadata = entry.metadata()?;
            let is_link = metadata.is_symlink();
            let metadata = if is_link { fs_err::metadata(entry.path())? } else { metadata };
            if metadata.is_dir() || metadata.is_file() {
                entries.push(Entry { name, bytes: metadata.len(), is_folder: metadata.is_dir(), is_link });
            } else {
                // Sockets, pipes and devices would block whoever reads them.
                self.skipped += 1;
            }
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        self.folders.push(Folder { path: relative, class: None });
        Ok(Frame { folder: self.folders.len() as u32 - 1, real, entries: entries.into_iter() })
    }

    /// Leaves the entries of the wanted split in the topmost folder.
    fn choose_split(&mut self, top: &mut Frame, wanted: Option<&str>) -> Result<(), DatasetError> {
        let entries: Vec<Entry> = std::mem::replace(&mut top.entries, Vec::new().into_iter()).collect();
        let split_of = |entry: &Entry| split_of_folder(entry.name.to_str()?).filter(|_| entry.is_folder);
        // Beside folders of other names, `train` may be a class as any other.
        let are_splits = entries.iter().any(|entry| entry.is_folder)
            && entries.iter().all(|entry| {
                split_of(entry).is_some() || !(entry.is_folder || has_image_extension(Path::new(&entry.name)))
            });
        let split_of = |entry: &Entry| if are_splits { split_of(entry) } else { None };
        self.class_depth = usize::from(are_splits);
        top.entries = choose(&self.root, entries, split_of, wanted)?.into_iter();
        Ok(())
    }

    fn add(&mut self, folder: u32, entry: Entry) {
        let Folder { path, class } = &mut self.folders[folder as usize];
        if let (None, Some(name)) = (&class, path.iter().nth(self.class_depth)) {
            let name = name.to_string_lossy();
            // The walk is sorted and depth first, so in one split a class is either the last one or new; the next split
            // has the same ones again.
            let known = self.class_names.iter().rposition(|known| *known == name);
            *class = Some(known.unwrap_or_else(|| {
                self.class_names.push(name.into_owned());
                self.class_names.len() - 1
            }) as u32);
        }
        self.files.push(File { folder, bytes: entry.bytes, name: entry.name.into_boxed_os_str() });
    }

    /// Numbers the classes in the order of their names, which is not that of walking when there are several splits.
    fn sort_classes(&mut self) {
        let mut order: Vec<usize> = (0..self.class_names.len()).collect();
        order.sort_by(|&a, &b| self.class_names[a].cmp(&self.class_names[b]));
        let mut numbers = vec![0; order.len()];
        for (number, &class) in order.iter().enumerate() {
            numbers[class] = number as u32;
        }
        self.class_names.sort();
        for class in self.folders.iter_mut().filter_map(|folder| folder.class.as_mut()) {
            *class = numbers[*class as usize];
        }
    }

    fn is_image(&self, relative: &Path) -> Result<bool, DatasetError> {
        if has_image_extension(relative) {
            return Ok(true);
        }
        let path = self.root.join(relative);
        let mut start = Vec::new();
        fs_err::File::open(&path)?.take(64).read_to_end(&mut start)?;
        Ok(match ImageFormat::sniff(&start) {
            Some(format) if format.is_weakly_signed() => imagesize::size(&path).is_ok_and(|size| size.width > 0),
            Some(_) => true,
            None => false,
        })
    }
}

impl ImageSource for FolderSource {
    fn format(&self) -> SourceFormat {
        SourceFormat::Folder
    }

    fn location(&self) -> &str {
        &self.location
    }

    fn len(&self) -> usize {
        self.files.len()
    }

    fn class_names(&self) -> &[String] {
        &self.class_names
    }

    fn skipped(&self) -> u64 {
        self.skipped
    }

    fn path(&self, image: usize) -> String {
        let File { folder, name, .. } = &self.files[image];
        let mut path = String::new();
        for component in &self.folders[*folder as usize].path {
            path.push_str(&component.to_string_lossy());
            path.push('/');
        }
        path.push_str(&name.to_string_lossy());
        path
    }

    fn label(&self, image: usize) -> Option<i64> {
        self.folders[self.files[image].folder as usize].class.map(i64::from)
    }

    fn bytes(&self, image: usize) -> u64 {
        self.files[image].bytes
    }

    fn read(&self, image: usize, into: &mut Vec<u8>) -> Result<(), ReadFailure> {
        read_file(self.file_path(image), self.files[image].bytes, into)
    }
}

/// Whether a file is called like an image.
pub(super) fn has_image_extension(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str).map(str::to_ascii_lowercase);
    extension.is_some_and(|extension| IMAGE_EXTENSIONS.binary_search(&&*extension).is_ok())
}

/// Appends a file that must be of the size that it had when it was listed.
pub(super) fn read_file(path: PathBuf, expected: u64, into: &mut Vec<u8>) -> Result<(), ReadFailure> {
    let before = into.len();
    // One byte more than expected tells a file that has grown.
    let read = fs_err::File::open(&path).and_then(|file| file.take(expected + 1).read_to_end(into));
    let got = match read {
        Ok(got) if got as u64 == expected => return Ok(()),
        Ok(got) => got as u64,
        Err(error) => {
            into.truncate(before);
            return Err(error.into());
        }
    };
    into.truncate(before);
    Err(DatasetError::SourceChanged { path, expected, got }.into())
}
