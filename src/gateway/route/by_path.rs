//! Routing by path: `<prefix>/<namespace>/<id>/<port>/<rest>`. The Sandbox gets `/<rest>`, byte for byte.

use std::fmt;
use std::str::FromStr;

use http::uri::PathAndQuery;

use super::by_header::{valid_name, valid_namespace, valid_port};
use super::routed::{Routed, RoutedBy};
use crate::refusal::{Reason, Refusal};
use crate::target::Target;

/// The prefix of `--path-routing-prefix`, such as `/sandboxes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPrefix(String);

/// The text is not a prefix.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is not a path prefix: it must begin with / and must not end with it, and has no blanks, ? or #, such as /sandboxes"
)]
pub struct InvalidPathPrefix(String);

impl FromStr for PathPrefix {
    type Err = InvalidPathPrefix;

    fn from_str(text: &str) -> Result<Self, InvalidPathPrefix> {
        let printable = text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'%' | b'\\'));
        let segments = text.split('/').skip(1).all(|segment| !matches!(segment, "" | "." | ".."));
        if text.starts_with('/') && segments && printable {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidPathPrefix(text.to_owned()))
        }
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PathPrefix {
    /// The parts of a path under the prefix, and `None` for a path that is not under it.
    pub(super) fn rest<'a>(&'a self, path: &'a str) -> Option<Under<'a>> {
        let rest = path.strip_prefix(self.0.as_str())?;
        (rest.is_empty() || rest.starts_with('/')).then_some(Under { prefix: &self.0, rest })
    }
}

/// A path under the prefix.
pub(super) struct Under<'a> {
    prefix: &'a str,
    /// Empty, or a slash and what follows it.
    rest: &'a str,
}

pub(super) fn routed(under: Under<'_>, path: &PathAndQuery) -> Result<Routed, Refusal> {
    let form = || {
        let detail = "Path-routed request must have the form <prefix>/<namespace>/<id>/<port>/...";
        Refusal::new(Reason::InvalidPath, detail)
    };
    if !escapes_are_valid(under.rest) {
        return Err(Refusal::new(Reason::InvalidPathEncoding, "Invalid percent-encoding in path."));
    }
    let mut parts = under.rest.splitn(5, '/').skip(1);
    let (Some(namespace), Some(id), Some(port)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(form());
    };
    if namespace.is_empty() || id.is_empty() || port.is_empty() {
        return Err(form());
    }
    // Without a slash behind the port, a relative link of a page would lead out of the Sandbox.
    let rest = parts.next().ok_or_else(form)?;
    let namespace = valid_namespace(namespace)?;
    let name = valid_name(id)?;
    let port_number = valid_port(port)?;
    let own = match path.query() {
        Some(query) => format!("/{rest}?{query}"),
        None => format!("/{rest}"),
    };
    let own = PathAndQuery::try_from(own).map_err(|_| form())?;
    let front = format!("{}/{namespace}/{name}/{port}", under.prefix);
    let target = Target { namespace: namespace.into(), name: name.into(), port: port_number };
    Ok(Routed { target, path: own, by: RoutedBy::Path(front) })
}

/// Whether each percent sign begins an escape of two hexadecimal digits.
fn escapes_are_valid(path: &str) -> bool {
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digit = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_hexdigit());
            if !digit(bytes.next()) || !digit(bytes.next()) {
                return false;
            }
        }
    }
    true
}
