//! The Sandbox and the port that a request is for.

use std::fmt;
use std::sync::Arc;

/// The port of a request that names none: the port of the Python runtime.
pub const DEFAULT_PORT: u16 = 8888;

/// The namespace of a request that names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// The longest DNS label.
const LABEL_LENGTH: usize = 63;

/// The name, the namespace and the port that a request is for. Names are valid DNS labels, and nothing says that the
/// Sandbox exists.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// The namespace of the Sandbox.
    pub namespace: Arc<str>,
    /// The name of the Sandbox.
    pub name: Arc<str>,
    /// The port of the Sandbox's pod.
    pub port: u16,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.namespace, self.name, self.port)
    }
}

/// Whether the text is a DNS label (RFC 1123): at most 63 of a-z, 0-9 and '-', with a letter or digit at both ends.
#[must_use]
pub fn is_dns_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty()
        && text.len() <= LABEL_LENGTH
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// The port that decimal digits name: 1 to 65535, without a sign or blanks.
#[must_use]
pub fn parse_port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels_in_lower_case() {
        for good in ["a", "0", "a-b", &"x".repeat(63)] {
            assert!(is_dns_label(good), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "a/b", "é", "a b", "..", &"x".repeat(64)] {
            assert!(!is_dns_label(bad), "{bad}");
        }
    }

    #[test]
    fn ports_are_plain_decimal_numbers() {
        assert_eq!(parse_port("1"), Some(1));
        assert_eq!(parse_port("65535"), Some(65535));
        for bad in ["", "0", "65536", "-1", "+80", " 80", "80 ", "0x50", "8e1", "http"] {
            assert_eq!(parse_port(bad), None, "{bad}");
        }
    }
}
