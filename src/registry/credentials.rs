//! Credentials, and the file in which Docker and Kubernetes keep them.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::Deserialize;

/// The credentials for one registry.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Credentials {
    /// No user.
    #[default]
    Anonymous,
    /// A user with a password or an access token.
    Basic {
        /// The name of the user.
        username: String,
        /// The password or the access token.
        password: String,
    },
}

impl fmt::Debug for Credentials {
    /// Without the password, because debug output gets into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credentials::Anonymous => f.write_str("Anonymous"),
            Credentials::Basic { username, .. } => {
                f.debug_struct("Basic").field("username", username).finish_non_exhaustive()
            }
        }
    }
}

/// The configuration of Docker cannot be used. No message contains a credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The text is not JSON, or does not have this form.
    #[error("is not a configuration of Docker: line {line}, column {column} is not as expected")]
    Json {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// An entry has neither a user with a password nor a valid `auth`.
    #[error("auths[{host:?}]: {reason}")]
    Entry {
        /// The key of the entry.
        host: String,
        /// The problem.
        reason: &'static str,
    },
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
struct Entry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    identitytoken: String,
}

impl Credentials {
    /// The credentials for a host from a file `config.json` of Docker, which is also the format of a Secret of the type
    /// `kubernetes.io/dockerconfigjson`. `host` is [`Reference::host`](crate::Reference::host). `None` if the file has no
    /// entry for it. Credential helpers are programs and are never run.
    ///
    /// # Errors
    /// If the file is malformed, or its entry for the host has no user with a password.
    pub fn from_docker_config(json: &[u8], host: &str) -> Result<Option<Self>, ConfigError> {
        let config: Config = serde_json::from_slice(json)
            .map_err(|error| ConfigError::Json { line: error.line(), column: error.column() })?;
        let entries = || config.auths.iter().filter(|(key, _)| host_of_key(key) == known_as(host));
        // A key that is written as in the reference comes first.
        let exact = entries().find(|(key, _)| key.as_str() == host);
        let Some((key, entry)) = exact.or_else(|| entries().next()) else { return Ok(None) };
        entry.credentials().map(Some).map_err(|reason| ConfigError::Entry { host: key.clone(), reason })
    }
}

impl Entry {
    fn credentials(&self) -> Result<Credentials, &'static str> {
        if !self.identitytoken.is_empty() {
            return Err("has an identitytoken, which is not supported; use an access token as the password");
        }
        let (username, password) = if self.auth.is_empty() {
            (self.username.clone(), self.password.clone())
        } else {
            let text = decode(&self.auth).ok_or("auth must be USERNAME:PASSWORD in base64")?;
            let (username, password) = text.split_once(':').ok_or("auth must be USERNAME:PASSWORD in base64")?;
            // Docker pads the password with zero bytes.
            (username.to_owned(), password.trim_end_matches('\0').to_owned())
        };
        if username.is_empty() || password.is_empty() {
            return Err("has no user with a password; if a credential helper keeps it, note that helpers are not run");
        }
        Ok(Credentials::Basic { username, password })
    }
}

fn decode(text: &str) -> Option<String> {
    let bytes = STANDARD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text)).ok()?;
    String::from_utf8(bytes).ok()
}

/// The host of a key, which may be a URL such as `https://index.docker.io/v1/`.
fn host_of_key(key: &str) -> &str {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    known_as(rest.split('/').next().unwrap_or(rest))
}

/// One name for a host that has several.
fn known_as(host: &str) -> &str {
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(username: &str, password: &str) -> Option<Credentials> {
        Some(Credentials::Basic { username: username.to_owned(), password: password.to_owned() })
    }

    #[test]
    fn entry_of_the_host_is_found() {
        let config = br#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "aHViOnM="},
            "registry.example.com": {"username": "u", "password": "p:w"},
            "registry.example.com:5000": {"auth": "cG9ydDpzOnQ", "email": "a@b"},
            "other.example.com": {}
        }, "credsStore": "desktop"}"#;
        let find = |host| Credentials::from_docker_config(config, host);
        assert_eq!(find("docker.io").unwrap(), basic("hub", "s"));
        assert_eq!(find("registry-1.docker.io").unwrap(), basic("hub", "s"));
        assert_eq!(find("registry.example.com").unwrap(), basic("u", "p:w"));
        assert_eq!(find("registry.example.com:5000").unwrap(), basic("port", "s:t"));
        assert_eq!(find("example.com").unwrap(), None);
        let helper = find("other.example.com").unwrap_err();
        assert!(helper.to_string().contains("helpers are not run"), "{helper}");
        assert_eq!(Credentials::from_docker_config(b"{}", "docker.io"), Ok(None));
    }

    #[test]
    fn neither_an_error_nor_debug_output_contains_a_credential() {
        for config in [
            &br#"{"auths": {"h": {"auth": "c2VjcmV0"}}}"#[..],
            br#"{"auths": {"h": {"auth": "c2VjcmV0 secret"}}}"#,
            br#"{"auths": {"h": {"identitytoken": "secret"}}}"#,
            br#"{"auths": {"h": {"password": "secret"}}}"#,
            br#"{"auths": {"h": "secret"}}"#,
            br#"secret"#,
        ] {
            let error = Credentials::from_docker_config(config, "h").unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("secret") && !shown.contains("c2Vj"), "{shown}");
        }
        let shown = format!("{:?}", basic("user", "secret"));
        assert!(shown.contains("user") && !shown.contains("secret"), "{shown}");
    }
}
