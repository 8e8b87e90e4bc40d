//! Keeping credentials out of messages.
//!
//! What a server answers may hold the key that it was asked with, and Azure's signatures are part of URLs. So all that
//! comes from `object_store` passes through here before anybody sees it.

/// What stands in place of a secret.
const HIDDEN: &str = "[hidden]";
/// Words in the names of environment variables whose values are secret.
const SECRET_WORDS: [&str; 7] = ["KEY", "SECRET", "TOKEN", "PASSWORD", "SAS", "SIGNATURE", "ACCOUNT_CREDENTIALS"];
/// The prefixes of the clouds' variables.
const PREFIXES: [&str; 4] = ["AWS_", "AZURE_", "GOOGLE_", "GCP_"];
/// Shorter values are no secrets, and would be found everywhere.
const SECRET_BYTES_MIN: usize = 6;

/// The text without credentials of the environment, and without the queries of URLs.
pub(crate) fn without_secrets(text: &str) -> String {
    let mut secrets: Vec<String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, value)| is_secret(name) && value.len() >= SECRET_BYTES_MIN)
        .map(|(_, value)| value)
        .collect();
    // A secret that holds another one goes first.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    hide(text, &secrets)
}

pub(super) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    PREFIXES.iter().any(|prefix| name.starts_with(prefix)) && SECRET_WORDS.iter().any(|word| name.contains(word))
}

fn hide(text: &str, secrets: &[String]) -> String {
    let mut hidden = text.to_owned();
    for secret in secrets {
        hidden = hidden.replace(secret, HIDDEN);
    }
    without_queries(&hidden)
}

fn without_queries(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(scheme) = rest.find("://") {
        let is_end = |character: char| character.is_whitespace() || "\"'`<>()".contains(character);
        let end = rest[scheme..].find(is_end).map_or(rest.len(), |end| scheme + end);
        let (url, after) = rest.split_at(end);
        match url[scheme..].find('?') {
            Some(query) => shown.push_str(&format!("{}?{HIDDEN}", &url[..scheme + query])),
            None => shown.push_str(url),
        }
        rest = after;
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_wherever_they_stand() {
        let secrets = ["hunter2hunter2".to_owned(), "hunter2".to_owned()];
        let text =
            "GET https://host/a?sig=abc%3D&x=1: 403 <Key>hunter2</Key> hunter2hunter2 (http://b/c?d) see s3://e/f";
        let expected =
            "GET https://host/a?[hidden] 403 <Key>[hidden]</Key> [hidden] (http://b/c?[hidden]) see s3://e/f";
        assert_eq!(hide(text, &secrets), expected);
        assert!(
            is_secret("AWS_SECRET_ACCESS_KEY") && is_secret("AZURE_STORAGE_SAS_KEY") && is_secret("aws_session_token")
        );
        assert!(!is_secret("AWS_REGION") && !is_secret("GOOGLE_APPLICATION_CREDENTIALS") && !is_secret("HOME"));
    }
}
