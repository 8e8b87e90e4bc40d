//! Settings of the environment that cannot be used: which one it is, and what was expected.
//!
//! `object_store` says what it cannot read, but not where it comes from.

use std::fmt::Display;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;

use super::Kind;
use super::secrets::is_secret;
use crate::error::DatasetError;
use crate::store::reason_of;

/// The variables of the environment that are text.
pub(super) fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// The error about the variable that alone makes a client fail for the same reason, if there is one.
pub(super) fn blame(
    kind: Kind,
    base: &str,
    reason: &str,
    mut variables: impl Iterator<Item = (String, String)>,
) -> Option<DatasetError> {
    if failure(kind, base, None).as_deref() == Some(reason) {
        return None;
    }
    let (name, value) =
        variables.find(|(name, value)| failure(kind, base, Some((name, value))).as_deref() == Some(reason))?;
    let expected = match reason.rsplit_once(" as ").map_or("", |(_, what)| what) {
        "Duration" => "a time as `30 s`",
        "boolean" => "`true` or `false`",
        "usize" | "u32" => "a number",
        // What is said about a key, for instance, may hold some of it.
        _ if is_secret(&name) => "another value",
        _ => return Some(invalid(&name, reason, &value)),
    };
    Some(invalid(&name, format!("expected {expected}"), &value))
}

/// The error about a variable. What may be secret is not shown.
pub(super) fn invalid(name: &str, reason: impl Display, value: &str) -> DatasetError {
    let got = if is_secret(name) { String::new() } else { format!(", got `{value}`") };
    DatasetError::Variable { name: name.to_owned(), reason: format!("{reason}{got}") }
}

/// Why a client cannot be made with one variable alone, or with none.
fn failure(kind: Kind, base: &str, variable: Option<(&str, &str)>) -> Option<String> {
    let (name, value) = variable.unwrap_or_default();
    let key = name.to_ascii_lowercase();
    let error = match kind {
        Kind::S3 => {
            let builder = AmazonS3Builder::new().with_url(base);
            let set = |builder: AmazonS3Builder| Some(builder.with_config(key.parse().ok()?, value));
            if variable.is_some() { set(builder)? } else { builder }.build().err()
        }
        Kind::Google => {
            let builder = GoogleCloudStorageBuilder::new().with_url(base);
            let set = |builder: GoogleCloudStorageBuilder| Some(builder.with_config(key.parse().ok()?, value));
            if variable.is_some() { set(builder)? } else { builder }.build().err()
        }
        Kind::Azure => {
            // Without an account it would not come to anything else.
            let builder = MicrosoftAzureBuilder::new().with_url(base).with_account("account");
            let set = |builder: MicrosoftAzureBuilder| Some(builder.with_config(key.parse().ok()?, value));
            if variable.is_some() { set(builder)? } else { builder }.build().err()
        }
        Kind::Http => {
            let builder = HttpBuilder::new().with_url(base);
            let set = |builder: HttpBuilder| Some(builder.with_config(key.strip_prefix("http_")?.parse().ok()?, value));
            if variable.is_some() { set(builder)? } else { builder }.build().err()
        }
        #[cfg(test)]
        Kind::Memory => None,
    };
    error.map(|error| reason_of(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_cannot_be_used_are_named() {
        super::super::clients::install_cryptography();
        let check = |kind, base: &str, environment: &[(&str, &str)], name: &str, expected: Option<&str>| {
            let variables = environment.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
            let value = environment.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value);
            let reason = failure(kind, base, Some((name, value))).unwrap();
            let error = blame(kind, base, &reason, variables);
            assert_eq!(error.as_ref().map(ToString::to_string).as_deref(), expected);
            assert!(error.is_none_or(|error| error.hint().is_some()));
        };
        let environment = [
            ("AWS_PROFILE", "soon"),
            ("AWS_SECRET_ACCESS_KEY", "soon"),
            ("AWS_REGION", "soon"),
            ("AWS_ALLOW_HTTP", "perhaps"),
            ("AWS_CONNECT_TIMEOUT", "3 s"),
            ("AWS_TIMEOUT", "soon"),
            ("AZURE_READ_TIMEOUT", "never"),
            ("AZURE_STORAGE_ACCOUNT_KEY", "hunter2"),
            ("GOOGLE_POOL_MAX_IDLE_PER_HOST", "-1"),
            ("GOOGLE_SERVICE_ACCOUNT_KEY", "hunter2"),
            ("HTTP_TIMEOUT", "1"),
        ];
        for (kind, base, name, expected) in [
            (Kind::S3, "s3://b", "AWS_TIMEOUT", "expected a time as `30 s`, got `soon`"),
            (Kind::S3, "s3://b", "AWS_ALLOW_HTTP", "expected `true` or `false`, got `perhaps`"),
            (Kind::Azure, "az://b", "AZURE_READ_TIMEOUT", "expected a time as `30 s`, got `never`"),
            (Kind::Azure, "az://b", "AZURE_STORAGE_ACCOUNT_KEY", "expected another value"),
            (Kind::Google, "gs://b", "GOOGLE_POOL_MAX_IDLE_PER_HOST", "expected a number, got `-1`"),
            (Kind::Google, "gs://b", "GOOGLE_SERVICE_ACCOUNT_KEY", "expected another value"),
            (Kind::Http, "https://b", "HTTP_TIMEOUT", "expected a time as `30 s`, got `1`"),
        ] {
            let message = format!("the environment variable `{name}` cannot be used: {expected}");
            check(kind, base, &environment, name, Some(&message));
        }
        // What fails without any variable is no variable's fault.
        let reason = failure(Kind::S3, "s3:///", None).unwrap();
        let variables = [("AWS_REGION".to_owned(), "x".to_owned())].into_iter();
        assert!(blame(Kind::S3, "s3:///", &reason, variables).is_none());
    }
}
