//! Paths of this machine that are given as `file://` URLs, for sources, destinations and data sets alike.

use std::borrow::Cow;
use std::path::Path;

use crate::error::DatasetError;

/// The path that a `file://` URL names; everything else as it is.
///
/// # Errors
///
/// If the URL names another machine, or is no valid one.
pub(crate) fn here(location: &str) -> Result<Cow<'_, str>, DatasetError> {
    let Some(rest) = location.strip_prefix("file://") else { return Ok(Cow::Borrowed(location)) };
    let refuse =
        |reason: &str| Err(DatasetError::Location { location: location.to_owned(), reason: reason.to_owned() });
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        return refuse("a URL of a file on this machine begins with `file:///`, and its path at the root");
    }
    match percent_decoded(path) {
        Some(path) => Ok(Cow::Owned(path)),
        None => refuse("the URL is not valid: expected two hexadecimal digits after each `%`, and Unicode"),
    }
}

/// The same for a path, which is not a URL unless it is Unicode.
pub(crate) fn path_here(path: &Path) -> Result<Cow<'_, Path>, DatasetError> {
    match path.to_str().map(here).transpose()? {
        Some(Cow::Owned(path)) => Ok(Cow::Owned(path.into())),
        _ => Ok(Cow::Borrowed(path)),
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let mut digit = || char::from(rest.next()?).to_digit(16);
        bytes.push(if byte == b'%' { (digit()? * 16 + digit()?) as u8 } else { byte });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_files_name_paths() {
        for (location, path) in [
            ("file:///a/b%20c%25%C3%BC/ü+?#", "/a/b c%ü/ü+?#"),
            ("file://localhost/a", "/a"),
            ("file:/a", "file:/a"),
            ("/a/%20", "/a/%20"),
            ("s3://bucket/%20", "s3://bucket/%20"),
        ] {
            assert_eq!(here(location).unwrap(), path, "{location}");
        }
        for (location, message) in [
            ("file://data/photos", "begins with `file:///`"),
            ("file://", "begins with `file:///`"),
            ("file:///%zz", "two hexadecimal digits"),
            ("file:///a%2", "two hexadecimal digits"),
            ("file:///%ff", "and Unicode"),
        ] {
            assert!(here(location).unwrap_err().to_string().contains(message), "{location}");
        }
    }
}
