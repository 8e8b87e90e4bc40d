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

/// A request that takes longer is given up and tried again; 16 MiB take as long at 150 KB a second.
const REQUEST_TIMEOUT: &str = "120 seconds";
/// A connection that takes longer to be made is given up and tried again.
const CONNECT_TIMEOUT: &str = "10 seconds";
/// A request is sent so many times unless `AWS_MAX_ATTEMPTS` says otherwise, with pauses of 0.1 to 5 seconds.
const ATTEMPTS: usize = 7;

/// After so long a request is not tried again.
const RETRY_TIMEOUT: Duration = Duration::from_mins(1);

/// A client for the bucket or host `base`; nothing is sent yet.
pub(super) fn client(kind: Kind, base: &str) -> Result<Arc<dyn ObjectStore>, object_store::Error> {
    install_cryptography();
    let timeouts = [(ClientConfigKey::Timeout, REQUEST_TIMEOUT), (ClientConfigKey::ConnectTimeout, CONNECT_TIMEOUT)];
    let [timeout, connect] = timeouts;
    Ok(match kind {
        Kind::S3 => Arc::new(
            AmazonS3Builder::from_env()
                .with_url(base)
                .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp), allows_http())
                .with_config(AmazonS3ConfigKey::Client(timeout.0), timeout.1)
                .with_config(AmazonS3ConfigKey::Client(connect.0), connect.1)
                .with_retry(retries())
                .build()?,
        ),
        Kind::Google => Arc::new(
            GoogleCloudStorageBuilder::from_env()
                .with_url(base)
                .with_config(GoogleConfigKey::Client(timeout.0), timeout.1)
                .with_config(GoogleConfigKey::Client(connect.0), connect.1)
                .with_retry(retries())
                .build()?,
        ),
        Kind::Azure => Arc::new(
            MicrosoftAzureBuilder::from_env()
                .with_url(base)
                .with_config(AzureConfigKey::Client(timeout.0), timeout.1)
                .with_config(AzureConfigKey::Client(connect.0), connect.1)
                .with_retry(retries())
                .build()?,
        ),
        Kind::Http => Arc::new(
            HttpBuilder::new()
                .with_url(base)
                .with_config(ClientConfigKey::AllowHttp, "true")
                .with_config(timeout.0, timeout.1)
                .with_config(connect.0, connect.1)
                .with_retry(retries())
                .build()?,
        ),
    })
}

/// Whoever names an endpoint without TLS means it, as the cloud's own tools take it.
fn allows_http() -> String {
    let endpoints = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"].map(std::env::var);
    endpoints.into_iter().flatten().any(|endpoint| endpoint.starts_with("http://")).to_string()
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
