//! References of artifacts: `oci://HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]`.

use std::fmt;
use std::str::FromStr;

use crate::digest::{Digest, DigestError};

const SCHEME: &str = "oci://";
/// The longest host with its repository, which registries store.
const NAME_BYTES: usize = 255;
const TAG_BYTES: usize = 128;

/// The place of an artifact in a registry.
///
/// A reference must have a tag or a digest. There is no default such as `latest`, because a plugin decides about a cluster,
/// and nobody should get a version that nobody named. If it has both, the digest decides.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    host: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// The text is not a reference. The message says which part is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The scheme is missing.
    #[error("must begin with oci://, such as oci://registry.example.com/plugins/sizer:v1")]
    Scheme,
    /// The host is missing or has characters that a host cannot have.
    #[error("the host {0:?} must be a DNS name or an IP address, with a port if it is not 443")]
    Host(String),
    /// The repository is missing or has characters that a repository cannot have.
    #[error(
        "the repository {0:?} must have parts of lower-case letters, digits and single separators (. _ -) between \
         slashes, such as plugins/sizer"
    )]
    Repository(String),
    /// The tag is empty, too long, or has characters that a tag cannot have.
    #[error("the tag {0:?} must have 1 to 128 letters, digits, and the characters . _ - that are not the first")]
    Tag(String),
    /// The digest is malformed.
    #[error("the digest {0}")]
    Digest(#[from] DigestError),
    /// There is neither a tag nor a digest.
    #[error("must end with a tag or a digest, such as :v1 or @sha256:…; no tag is the default")]
    Version,
}

impl Reference {
    /// The host with its port, as it is written. Credentials are for this host.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The repository.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of the manifest.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same artifact by this digest, whatever the tag names by now.
    #[must_use]
    pub fn at(&self, digest: &Digest) -> Self {
        Self { digest: Some(digest.clone()), ..self.clone() }
    }

    /// A tag of the same repository.
    pub(crate) fn with_tag(&self, tag: String) -> Self {
        Self { tag: Some(tag), digest: None, ..self.clone() }
    }

    /// The digest or the tag, as the URL of the manifest contains it.
    pub(crate) fn version(&self) -> &str {
        self.digest.as_ref().map(Digest::as_str).or(self.tag.as_deref()).unwrap_or_default()
    }

    /// The name in the payload of a signature, as cosign writes it.
    pub(crate) fn identity(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let rest = text.strip_prefix(SCHEME).ok_or(ReferenceError::Scheme)?;
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (rest, None),
        };
        let (host, rest) = rest.split_once('/').unwrap_or((rest, ""));
        let (repository, tag) = match rest.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (rest, None),
        };
        if !is_host(host) {
            return Err(ReferenceError::Host(host.to_owned()));
        }
        if !is_repository(repository) || host.len() + repository.len() > NAME_BYTES {
            return Err(ReferenceError::Repository(repository.to_owned()));
        }
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Tag(tag.to_owned()));
        }
        if tag.is_none() && digest.is_none() {
            return Err(ReferenceError::Version);
        }
        let (host, repository) = (host.to_owned(), repository.to_owned());
        Ok(Self { host, repository, tag: tag.map(str::to_owned), digest })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Whether a text is a DNS name, an IPv4 address or an IPv6 address in brackets, with or without a port.
fn is_host(text: &str) -> bool {
    let Ok(authority) = text.parse::<http::uri::Authority>() else { return false };
    let host = authority.host();
    // A text with a user name does not begin with its host.
    let Some(rest) = text.strip_prefix(host) else { return false };
    let port = match rest.strip_prefix(':') {
        Some(port) => port.parse::<u16>().is_ok_and(|port| port > 0),
        None => rest.is_empty(),
    };
    let label = |label: &str| {
        let ends = label.starts_with('-') || label.ends_with('-');
        !label.is_empty() && !ends && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let known = match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.split('.').all(label),
    };
    port && known
}

/// Whether a text is a repository by the grammar of the specification.
fn is_repository(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let separators = |text: &str| matches!(text, "." | "_" | "__") || text.bytes().all(|byte| byte == b'-');
    text.split('/').all(|part| {
        let ends = part.bytes().next().is_some_and(plain) && part.bytes().last().is_some_and(plain);
        let between = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        ends && between.filter(|between| !between.is_empty()).all(separators)
    })
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= TAG_BYTES
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn references_are_read_and_written() {
        for text in [
            "oci://registry.example.com/plugins/sizer:v1".to_owned(),
            "oci://localhost:5000/sizer:1.0_a-B".to_owned(),
            "oci://127.0.0.1:5000/a/b-c/d__e/f.g/h---i:v1".to_owned(),
            "oci://[::1]:5000/sizer:v1".to_owned(),
            format!("oci://ghcr.io/o/sizer@{DIGEST}"),
            format!("oci://ghcr.io/o/sizer:v1@{DIGEST}"),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), text);
        }
        let reference: Reference = format!("oci://ghcr.io:443/o/sizer:v1@{DIGEST}").parse().unwrap();
        assert_eq!((reference.host(), reference.repository()), ("ghcr.io:443", "o/sizer"));
        assert_eq!((reference.tag(), reference.version()), (Some("v1"), DIGEST), "the digest decides");
    }

    #[test]
    fn an_error_names_the_part_that_is_wrong() {
        let error = |text: &str| text.parse::<Reference>().unwrap_err();
        for text in ["registry.example.com/sizer:v1", "https://registry.example.com/sizer:v1", ""] {
            assert_eq!(error(text), ReferenceError::Scheme);
        }
        for host in ["", "user@host", "a..b", "-a", "a_b", "host:", "host:0", "host:99999", "[::1", "[1]"] {
            let error = error(&format!("oci://{host}/sizer:v1"));
            assert!(matches!(error, ReferenceError::Host(_) | ReferenceError::Digest(_)), "{host}: {error}");
        }
        for repository in ["", "Sizer", "a//b", "/a", "a/", "a..b", "a___b", "-a", "a-", "a b", "a%2fb", "../a"] {
            let error = error(&format!("oci://host/{repository}:v1"));
            assert!(matches!(error, ReferenceError::Repository(_)), "{repository}: {error}");
        }
        for tag in ["", "-a", ".a", "a/b", "a:b", "a b", &"a".repeat(129)] {
            assert!(matches!(error(&format!("oci://host/sizer:{tag}")), ReferenceError::Tag(_)), "{tag}");
        }
        for digest in ["", "sha256:00", "sha512:00", "v1"] {
            assert!(matches!(error(&format!("oci://host/sizer@{digest}")), ReferenceError::Digest(_)), "{digest}");
        }
        assert_eq!(error("oci://host/sizer"), ReferenceError::Version);
    }
}
