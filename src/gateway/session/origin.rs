//! Origins of pages, as browsers send them: `SCHEME://HOST[:PORT]`.

use std::str::FromStr;

/// An origin, with the default port of its scheme left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedOrigin {
    scheme: String,
    host: String,
}

/// The text is not an origin.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an origin: expected SCHEME://HOST or SCHEME://HOST:PORT, such as https://console.example.com")]
pub struct InvalidOrigin(String);

impl FromStr for AllowedOrigin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        let invalid = || InvalidOrigin(text.to_owned());
        let (scheme, host) = text.split_once("://").ok_or_else(invalid)?;
        let plain =
            host.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b'?' | b'#' | b'@' | b'*' | b'\\'));
        if scheme.is_empty() || host.is_empty() || !plain || !scheme.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(invalid());
        }
        let scheme = scheme.to_ascii_lowercase();
        let host = without_default_port(&scheme, host);
        Ok(Self { scheme, host })
    }
}

impl AllowedOrigin {
    /// Whether this is the origin of a host, with or without its port.
    pub(super) fn is(&self, scheme: &str, host: &str) -> bool {
        self.scheme == scheme && self.host == without_default_port(scheme, host)
    }
}

fn without_default_port(scheme: &str, host: &str) -> String {
    let port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => "",
    };
    let host = host.to_ascii_lowercase();
    host.strip_suffix(port).filter(|_| !port.is_empty()).unwrap_or(&host).to_owned()
}
