//! Locations far away: `s3://`, `gs://`, `az://`, and `http(s)://` for reading.
//!
//! Credentials, endpoints and regions come from the environment, under the names that the clouds' own tools use, as
//! `object_store` documents for [S3](object_store::aws::AmazonS3Builder::from_env),
//! [Google](object_store::gcp::GoogleCloudStorageBuilder::from_env) and
//! [Azure](object_store::azure::MicrosoftAzureBuilder::from_env).

#[cfg(feature = "remote")]
mod clients;
mod files;
mod secrets;
mod upload;

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;

pub(crate) use self::files::{RemoteFiles, remote_error};
pub(crate) use self::secrets::without_secrets;
pub use self::upload::RemoteDestination;
use crate::error::DatasetError;

/// Objects far away, and the place among them that a location names.
pub(crate) struct Place {
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) path: Path,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    S3,
    Google,
    Azure,
    Http,
}

fn kind_of(location: &str) -> Option<Kind> {
    match location.split_once("://")?.0 {
        "s3" | "s3a" => Some(Kind::S3),
        "gs" => Some(Kind::Google),
        "az" | "azure" | "adl" | "abfs" | "abfss" => Some(Kind::Azure),
        "http" | "https" => Some(Kind::Http),
        _ => None,
    }
}

/// Whether a location is one of those that [`open`] takes.
pub fn is_remote(location: &str) -> bool {
    kind_of(location).is_some()
}

/// Whether data sets can be written there.
pub(crate) fn is_writable(location: &str) -> bool {
    kind_of(location).is_some_and(|kind| kind != Kind::Http)
}

/// Prepares access to a location; nothing is sent yet.
pub(crate) fn open(location: &str) -> Result<Place, DatasetError> {
    let refuse = |reason: String| DatasetError::Location { location: shown(location), reason };
    let (scheme, rest) = location.split_once("://").ok_or_else(|| refuse("it is no URL".to_owned()))?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if authority.contains('@') && !scheme.starts_with("abfs") {
        return Err(refuse(
            "a URL with a password would show it in messages; credentials belong in the environment".to_owned(),
        ));
    }
    if rest.contains(['?', '#']) {
        return Err(refuse("a URL with `?` or `#` is not supported; credentials belong in the environment".to_owned()));
    }
    if authority.is_empty() {
        return Err(refuse("the URL names no bucket or host".to_owned()));
    }
    let base = format!("{scheme}://{authority}");
    let objects = clients::client(
        kind_of(location).ok_or_else(|| refuse(format!("the scheme `{scheme}` is not supported")))?,
        &base,
    )
    .map_err(|error| refuse(without_secrets(&error.to_string())))?;
    let path = Path::parse(path.trim_end_matches('/')).map_err(|error| refuse(error.to_string()))?;
    Ok(Place { objects, path })
}

/// The location without what may be a password or a signature.
pub(crate) fn shown(location: &str) -> String {
    let (scheme, rest) = location.split_once("://").unwrap_or(("", location));
    let rest = rest.split(['?', '#']).next().unwrap_or(rest);
    let (authority, path) = rest.split_once('/').map_or((rest, None), |(authority, path)| (authority, Some(path)));
    // The part before the `@` is a container's name for Azure, and a password for all others.
    let authority = match authority.rsplit_once('@') {
        Some((_, host)) if !scheme.starts_with("abfs") => host,
        _ => authority,
    };
    let path = path.map(|path| format!("/{path}")).unwrap_or_default();
    format!("{scheme}://{authority}{path}")
}

#[cfg(not(feature = "remote"))]
mod clients {
    //! Stands where a program was built without the clients of object stores.

    pub(super) fn client(_: super::Kind, _: &str) -> Result<super::Arc<dyn super::ObjectStore>, object_store::Error> {
        Err(object_store::Error::NotImplemented {
            operation: "the scheme".to_owned(),
            implementer: "this build, which lacks the feature `remote`".to_owned(),
        })
    }
}

#[cfg(all(test, feature = "remote"))]
mod tests {
    use super::*;

    #[test]
    fn locations_are_refused_before_anything_is_sent() {
        for (location, message) in [
            ("https://joe:hunter2@example.com/a.tar", "credentials belong in the environment"),
            ("https://example.com/a.tar?X-Amz-Signature=hunter2", "credentials belong in the environment"),
            ("s3:///prefix", "names no bucket"),
            ("s3://bucket/a//b", "Path"),
            ("ftp://example.com/a", "the scheme `ftp` is not supported"),
        ] {
            let Err(error) = open(location) else { panic!("`{location}` was opened") };
            let error = error.to_string();
            assert!(error.contains(message) && !error.contains("hunter2"), "{error}");
        }
        assert_eq!(shown("https://joe:hunter2@example.com/a/b?sig=x"), "https://example.com/a/b");
        assert_eq!(shown("abfss://container@account/a"), "abfss://container@account/a");
    }

    #[test]
    fn places_are_buckets_and_paths() {
        let place = open("https://example.com/a/b.tar").unwrap();
        assert_eq!(place.path.as_ref(), "a/b.tar");
        assert!(is_remote("s3://bucket") && is_writable("s3://bucket") && !is_writable("http://host/x"));
        assert!(!is_remote("file:///tmp") && !is_remote("/tmp/s3://x"));
    }
}
