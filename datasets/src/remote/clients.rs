//! The clients of object stores, with time-outs and retries.

use std::sync::{Arc, Once};
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::ClientConfigKey;
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::{BackoffConfig, ObjectStore, RetryConfig};

use super::Kind;

/// A request that takes longer is given up and tried again, unless `AWS_TIMEOUT`, `GOOGLE_TIMEOUT`, `AZURE_TIMEOUT` or
/// `HTTP_TIMEOUT` says otherwise; 16 MiB take as long at 150 KB a second.
const REQUEST_TIMEOUT: &str = "120 seconds";
/// A connection that takes longer to be made is given up and tried again; `AWS_CONNECT_TIMEOUT` and so on.
const CONNECT_TIMEOUT: &str = "10 seconds";
/// A request is sent so many times unless `AWS_MAX_ATTEMPTS` says otherwise, with pauses of 0.1 to 5 seconds.
const ATTEMPTS: usize = 7;

/// After so long a request is not tried again.
const RETRY_TIMEOUT: Duration = Duration::from_mins(1);

/// A client for the bucket or host `base`; nothing is sent yet.
pub(super) fn client(kind: Kind, base: &str) -> Result<Arc<dyn ObjectStore>, object_store::Error> {
    install_cryptography();
    let options = options(kind, |name| std::env::var(name).ok());
    let retries = retries();
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

fn retries() -> RetryConfig {
    let attempts = std::env::var("AWS_MAX_ATTEMPTS").ok().and_then(|attempts| attempts.parse().ok());
    let backoff =
        BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(5), base: 2.0 };
    RetryConfig { backoff, max_retries: attempts.unwrap_or(ATTEMPTS).saturating_sub(1), retry_timeout: RETRY_TIMEOUT }
}

/// TLS needs to be told once in a process whose cryptography it uses.
fn install_cryptography() {
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
