//! The clients of object stores, with time-outs and retries.

use std::num::NonZeroUsize;
use std::sync::{Arc, Once};
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::ClientConfigKey;
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::{BackoffConfig, ObjectStore, RetryConfig};

use super::Kind;
use super::variables::invalid;
use crate::error::DatasetError;

/// A request that takes longer is given up and tried again, unless `AWS_TIMEOUT`, `GOOGLE_TIMEOUT`, `AZURE_TIMEOUT` or
/// `HTTP_TIMEOUT` says otherwise; 16 MiB take as long at 150 KB a second.
const REQUEST_TIMEOUT: &str = "120 seconds";
/// A connection that takes longer to be made is given up and tried again; `AWS_CONNECT_TIMEOUT` and so on.
const CONNECT_TIMEOUT: &str = "10 seconds";
/// A request is sent so many times unless the variable says otherwise, with pauses of 0.1 to 5 seconds.
const ATTEMPTS: NonZeroUsize = NonZeroUsize::new(7).unwrap();
const ATTEMPTS_VARIABLE: &str = "AWS_MAX_ATTEMPTS";

/// After so long a request is not tried again.
const RETRY_TIMEOUT: Duration = Duration::from_mins(1);

/// A client for the bucket or host `base`; nothing is sent yet.
pub(super) fn client(
    kind: Kind,
    base: &str,
    retries: RetryConfig,
) -> Result<Arc<dyn ObjectStore>, object_store::Error> {
    install_cryptography();
    let options = options(kind, |name| std::env::var(name).ok());
    Ok(match kind {
        Kind::S3 => {
            let builder = AmazonS3Builder::from_env().with_url(base).with_retry(retries);
            let set =
                |builder: AmazonS3Builder, (key, value)| builder.with_config(AmazonS3ConfigKey::Client(key), value);
            Arc::new(options.into_iter().fold(builder, set).build()?)
        }
        Kind::Google => {
            let builder = GoogleCloudStorageBuilder::from_env().with_url(base).with_retry(retries);
            let set = |builder: GoogleCloudStorageBuilder, (key, value)| {
                builder.with_config(GoogleConfigKey::Client(key), value)
            };
            Arc::new(options.into_iter().fold(builder, set).build()?)
        }
        Kind::Azure => {
            let builder = MicrosoftAzureBuilder::from_env().with_url(base).with_retry(retries);
            let set =
                |builder: MicrosoftAzureBuilder, (key, value)| builder.with_config(AzureConfigKey::Client(key), value);
            Arc::new(options.into_iter().fold(builder, set).build()?)
        }
        #[cfg(test)]
        Kind::Memory => bucket_in_memory(base),
        Kind::Http => {
            let builder = HttpBuilder::new().with_url(base).with_retry(retries);
            let set = |builder: HttpBuilder, (key, value)| builder.with_config(key, value);
            Arc::new(options.into_iter().fold(builder, set).build()?)
        }
    })
}

/// The settings of a client that differ from those of `object_store`, which reads the clouds' variables itself.
///
/// What the environment says is never replaced. The web has no variables there, so it gets some of the same manner.
fn options(kind: Kind, variable: impl Fn(&str) -> Option<String>) -> Vec<(ClientConfigKey, String)> {
    // Whoever names an endpoint without TLS means it, as the clouds' own tools take it.
    let (prefix, endpoints): (&str, &[&str]) = match kind {
        Kind::S3 => ("AWS_", &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"]),
        Kind::Google => ("GOOGLE_", &["GOOGLE_BASE_URL"]),
        Kind::Azure => ("AZURE_", &["AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"]),
        Kind::Http => ("HTTP_", &[]),
        #[cfg(test)]
        Kind::Memory => ("MEMORY_", &[]),
    };
    let is_plain = |name: &&str| variable(name).is_some_and(|endpoint| endpoint.starts_with("http://"));
    let allows_http = kind == Kind::Http || endpoints.iter().any(is_plain);
    let defaults = [
        (ClientConfigKey::AllowHttp, allows_http.then(|| "true".to_owned())),
        (ClientConfigKey::Timeout, Some(REQUEST_TIMEOUT.to_owned())),
        (ClientConfigKey::ConnectTimeout, Some(CONNECT_TIMEOUT.to_owned())),
        (ClientConfigKey::ReadTimeout, None),
    ];
    let value = |(key, default): (ClientConfigKey, Option<String>)| {
        let said = variable(&format!("{prefix}{}", key.as_ref().to_ascii_uppercase()));
        said.or(default).map(|value| (key, value))
    };
    defaults.into_iter().filter_map(value).collect()
}

/// The bucket of a location as `memory://bucket`, which lasts as long as the process.
#[cfg(test)]
fn bucket_in_memory(base: &str) -> Arc<dyn ObjectStore> {
    use std::collections::HashMap;
    use std::sync::{LazyLock, Mutex};

    type Buckets = HashMap<String, Arc<dyn ObjectStore>>;
    static BUCKETS: LazyLock<Mutex<Buckets>> = LazyLock::new(Mutex::default);
    let mut buckets = BUCKETS.lock().unwrap();
    buckets.entry(base.to_owned()).or_insert_with(|| Arc::new(object_store::memory::InMemory::new())).clone()
}

/// How often requests are sent, by the variables of the environment.
pub(super) fn retries(mut variables: impl Iterator<Item = (String, String)>) -> Result<RetryConfig, DatasetError> {
    let attempts = match variables.find(|(name, _)| name == ATTEMPTS_VARIABLE) {
        None => ATTEMPTS,
        Some((name, value)) => value.parse().map_err(|_| invalid(&name, "expected a number above 0", &value))?,
    };
    let backoff =
        BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(5), base: 2.0 };
    Ok(RetryConfig { backoff, max_retries: attempts.get() - 1, retry_timeout: RETRY_TIMEOUT })
}

/// TLS needs to be told once in a process whose cryptography it uses.
pub(super) fn install_cryptography() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // If somebody else has chosen before, theirs is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_counted_from_one() {
        let retries = |value: &str| retries([(ATTEMPTS_VARIABLE.to_owned(), value.to_owned())].into_iter());
        assert_eq!(retries("1").unwrap().max_retries, 0);
        let error = retries("0").unwrap_err().to_string();
        assert!(error.ends_with("`AWS_MAX_ATTEMPTS` cannot be used: expected a number above 0, got `0`"), "{error}");
    }

    #[test]
    fn the_environment_decides_before_defaults_do() {
        let environment = [
            ("AWS_TIMEOUT", "3 s"),
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"),
            ("AZURE_ALLOW_HTTP", "false"),
            ("AZURE_ENDPOINT", "http://127.0.0.1:9"),
            ("HTTP_READ_TIMEOUT", "5 s"),
        ];
        let variable =
            |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into());
        let shown = |kind| {
            let options = options(kind, variable).into_iter();
            options.map(|(key, value)| format!("{}={value}", key.as_ref())).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(shown(Kind::S3), "allow_http=true, timeout=3 s, connect_timeout=10 seconds");
        assert_eq!(shown(Kind::Google), "timeout=120 seconds, connect_timeout=10 seconds");
        assert_eq!(shown(Kind::Azure), "allow_http=false, timeout=120 seconds, connect_timeout=10 seconds");
        let web = "allow_http=true, timeout=120 seconds, connect_timeout=10 seconds, read_timeout=5 s";
        assert_eq!(shown(Kind::Http), web);
    }
}
