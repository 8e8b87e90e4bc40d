//! Folders of images far away: the same classes and splits as folders on this machine.
//!
//! What is an image is told by names alone, since looking into a file costs a request.

use std::path::Path;
use std::sync::Arc;

use super::catalog::{Catalog, Container, Content, Image, Images};
use super::folder::has_image_extension;
use super::labels::{LabelIndex, LabelTable};
use super::root::Root;
use super::split::{choose, split_of_folder};
use super::{SourceFormat, SourceOptions};
use crate::error::DatasetError;
use crate::remote::RemoteFiles;

pub(super) fn open(
    location: &str,
    remote: &Arc<RemoteFiles>,
    options: &SourceOptions,
) -> Result<Catalog, DatasetError> {
    let root = location.trim_end_matches('/');
    let mut files = remote.files_below(root)?;
    if files.is_empty() {
        return Err(DatasetError::SourceMissing { path: location.into() });
    }
    let listed = files.len();
    files
        .retain(|(name, _)| !name.split('/').any(|part| part.starts_with('.')) && has_image_extension(Path::new(name)));
    let skipped = (listed - files.len()) as u64;
    files.sort_unstable_by(|(a, _), (b, _)| a.split('/').cmp(b.split('/')));

    let split_of = |(name, _): &(String, u64)| split_of_folder(name.split_once('/')?.0);
    let are_splits = files.iter().all(|file| split_of(file).is_some());
    let split_of = |file: &(String, u64)| if are_splits { split_of(file) } else { None };
    let files = choose(Path::new(location), files, split_of, options.split.as_deref())?;

    let (mut images, mut labels) = (Images::default(), LabelTable::default());
    for (name, bytes) in &files {
        let folders = name.rsplit_once('/').map_or("", |(folders, _)| folders);
        let class = folders.split('/').nth(usize::from(are_splits)).unwrap_or("");
        let label = if class.is_empty() { LabelIndex::NONE } else { labels.index(class) };
        images.push(&Image { container: 0, name, label, offset: 0, bytes: *bytes });
    }
    let content = Content::Files(Root::Remote(remote.clone()), root.into());
    Ok(Catalog {
        format: SourceFormat::Folder,
        location: location.to_owned(),
        containers: vec![Container { name: String::new(), content }],
        images,
        labels: labels.finish_as_names(),
        skipped,
        spool: None,
    })
}
