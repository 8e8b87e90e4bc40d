//! Sources of every kind, good and hostile.

mod columns;
mod hostile;
mod lists;
mod mutated;
mod raw;
mod tars;

use std::path::Path;

use super::{ImageSource, ReadFailure, SourceOptions, open};
use crate::error::DatasetError;

/// An image as it comes out of a source: path, class, and bytes or why there are none.
type Image = (String, Option<i64>, Result<Vec<u8>, String>);

fn source(path: &Path) -> Box<dyn ImageSource> {
    open(path.to_str().unwrap(), &SourceOptions::default()).unwrap()
}

/// The message of an error that comes with a hint.
fn refused(path: &Path, options: &SourceOptions) -> String {
    match open(path.to_str().unwrap(), options) {
        Ok(_) => panic!("`{}` was opened", path.display()),
        Err(error) => {
            let says_all = matches!(error, DatasetError::InvalidOption { .. } | DatasetError::SourceMissing { .. });
            assert!(error.hint().is_some() || says_all, "{error}");
            error.to_string()
        }
    }
}

/// All images, read backwards, since no order may matter; and what is said about them holds.
fn images(source: &dyn ImageSource) -> Vec<Image> {
    let mut images: Vec<Image> = (0..source.len()).rev().map(|image| read(source, image)).collect();
    images.reverse();
    images
}

fn read(source: &dyn ImageSource, image: usize) -> Image {
    let mut bytes = b"before".to_vec();
    let read = source.read(image, &mut bytes);
    assert!(bytes.starts_with(b"before"));
    let bytes = bytes.split_off(6);
    let read = match read {
        Ok(()) => {
            assert_eq!(bytes.len() as u64, source.bytes(image));
            Ok(bytes)
        }
        Err(failure) => {
            assert!(bytes.is_empty(), "a failure leaves nothing behind");
            match failure {
                ReadFailure::Bad(reason) => Err(reason),
                ReadFailure::Failed(error) => panic!("{error}"),
            }
        }
    };
    (source.path(image), source.label(image), read)
}

fn good(path: &str, label: Option<i64>, bytes: &[u8]) -> Image {
    (path.to_owned(), label, Ok(bytes.to_vec()))
}

fn bad(path: &str, label: Option<i64>, reason: &str) -> Image {
    (path.to_owned(), label, Err(reason.to_owned()))
}
