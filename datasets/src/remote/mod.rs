//! Locations far away: `s3://`, `gs://`, `az://`, and `http(s)://` for reading.
//!
//! Credentials, endpoints and regions come from the environment, under the names that the clouds' own tools use, as
//! `object_store` documents for [S3](object_store::aws::AmazonS3Builder::from_env),
//! [Google](object_store::gcp::GoogleCloudStorageBuilder::from_env) and
//! [Azure](object_store::azure::MicrosoftAzureBuilder::from_env).

mod clients;
mod files;
mod folder;
mod secrets;
mod variables;

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;
use tokio::runtime::{Builder, Runtime};

pub(crate) use self::files::RemoteFiles;
pub(crate) use self::folder::{Listed, RemoteFolder};
pub(crate) use self::secrets::without_secrets;
use crate::error::DatasetError;
use crate::store::reason_of;

/// Objects far away, and the place among them that a location names.
pub(crate) struct Place {
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) path: Path,
    pub(crate) naming: Naming,
}

/// How the names of objects stand in locations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    /// As they are.
    Plain,
    /// With `%20` for what a URL cannot hold.
    PercentEncoded,
}

impl Naming {
    /// The path of an object.
    ///
    /// # Errors
    ///
    /// Why it cannot be the path of one.
    pub(crate) fn parse(self, name: &str) -> Result<Path, String> {
        let parsed = match self {
            Naming::Plain => Path::parse(name),
            Naming::PercentEncoded => Path::from_url_path(name),
        };
        parsed.map_err(|error| error.to_string())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    S3,
    Google,
    Azure,
    Http,
    /// Buckets in the memory of a test.
    #[cfg(test)]
    Memory,
}

fn kind_of(location: &str) -> Option<Kind> {
    match location.split_once("://")?.0 {
        "s3" | "s3a" => Some(Kind::S3),
        "gs" => Some(Kind::Google),
        "az" | "azure" | "adl" | "abfs" | "abfss" => Some(Kind::Azure),
        "http" | "https" => Some(Kind::Http),
        #[cfg(test)]
        "memory" => Some(Kind::Memory),
        _ => None,
    }
}

/// Whether a location is a URL of an object store or the web, known or not, rather than a path or `file://`.
pub fn is_remote(location: &str) -> bool {
    let scheme = location.split_once("://").map_or("", |(scheme, _)| scheme);
    !["", "file"].contains(&scheme)
        && scheme.chars().all(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter))
}

/// Whether a location is one that knows folders. The web knows files alone, and is for reading.
pub(crate) fn has_folders(location: &str) -> bool {
    kind_of(location).is_some_and(|kind| kind != Kind::Http)
}

/// Whether a copy inside of a bucket is whole when the store says that it is made.
fn copies_at_once(location: &str) -> bool {
    kind_of(location).is_some_and(|kind| !matches!(kind, Kind::Azure | Kind::Http))
}

/// Prepares access to a location; nothing is sent yet.
pub(crate) fn open(location: &str) -> Result<Place, DatasetError> {
    let refuse = |reason: String| DatasetError::Location { location: shown(location), reason };
    let (scheme, rest) = location.split_once("://").ok_or_else(|| refuse("it is no URL".to_owned()))?;
    let kind = kind_of(location).ok_or_else(|| refuse(format!("the scheme `{scheme}` is not supported")))?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if authority.contains('@') && !scheme.starts_with("abfs") {
        return Err(refuse("a URL with a password would show it in messages".to_owned()));
    }
    if kind == Kind::Http && rest.contains(['?', '#']) {
        return Err(refuse("a URL with `?` or `#` may hold a signature, which would be shown in messages".to_owned()));
    }
    if authority.is_empty() {
        return Err(refuse("the URL names no bucket or host".to_owned()));
    }
    let naming = if kind == Kind::Http { Naming::PercentEncoded } else { Naming::Plain };
    let path = naming.parse(path.trim_end_matches('/')).map_err(refuse)?;
    let base = format!("{scheme}://{authority}");
    let objects = clients::client(kind, &base, clients::retries(variables::variables())?).map_err(|error| {
        let reason = reason_of(&error);
        variables::blame(kind, &base, &reason, variables::variables()).unwrap_or_else(|| refuse(reason))
    })?;
    Ok(Place { objects, path, naming })
}

/// The location without what may be a password or a signature.
pub(crate) fn shown(location: &str) -> String {
    let Some((scheme, rest)) = location.split_once("://").filter(|_| is_remote(location)) else {
        return location.to_owned();
    };
    // Names of objects may have these letters; in any other URL a signature may follow.
    let rest = if has_folders(location) { rest } else { rest.split(['?', '#']).next().unwrap_or(rest) };
    let (authority, path) = rest.split_once('/').map_or((rest, None), |(authority, path)| (authority, Some(path)));
    // The part before the `@` is a container's name for Azure, and a password for all others.
    let authority = match authority.rsplit_once('@') {
        Some((_, host)) if !scheme.starts_with("abfs") => host,
        _ => authority,
    };
    let path = path.map(|path| format!("/{path}")).unwrap_or_default();
    format!("{scheme}://{authority}{path}")
}

/// A thread on which requests are sent for those who wait for them.
fn runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(1).thread_name("patchstream-remote").enable_all().build()
}

/// What could not be done with an object, and why.
fn remote_error(action: &'static str, location: &str, error: &object_store::Error) -> DatasetError {
    DatasetError::Remote { action, path: shown(location), reason: reason_of(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_refused_before_anything_is_sent() {
        for (location, message) in [
            ("https://joe:hunter2@example.com/a.tar", "with a password"),
            ("https://example.com/a.tar?X-Amz-Signature=hunter2", "may hold a signature"),
            ("ftp://joe:hunter2@example.com/a?key=hunter2", "the scheme `ftp` is not supported"),
            ("s3:///prefix", "names no bucket"),
            ("s3://bucket/a//b", "empty path segment"),
            ("ftp://example.com/a", "the scheme `ftp` is not supported"),
        ] {
            let Err(error) = open(location) else { panic!("`{location}` was opened") };
            let error = error.to_string();
            assert!(error.contains(message) && !error.contains("hunter2"), "{error}");
        }
        assert_eq!(shown("https://joe:hunter2@example.com/a/b?sig=x"), "https://example.com/a/b");
        assert_eq!(shown("abfss://container@account/a"), "abfss://container@account/a");
        assert_eq!(shown("s3://bucket/why?.jpg"), "s3://bucket/why?.jpg");
    }

    #[test]
    fn places_are_buckets_and_paths() {
        assert_eq!(open("https://example.com/a/b%20c.tar").unwrap().path.as_ref(), "a/b c.tar");
        assert_eq!(open("s3://bucket/a/b%20c/").unwrap().path.as_ref(), "a/b%20c");
        assert!(is_remote("s3://bucket") && has_folders("s3://bucket") && !has_folders("http://host/x"));
        assert!(!is_remote("file:///tmp") && !is_remote("/tmp/s3://x"));
        assert!(is_remote("ftp://host/x"), "no folder of that name is made");
    }
}
