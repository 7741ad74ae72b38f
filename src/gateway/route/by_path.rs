//! Routing by path: `<prefix>/<namespace>/<id>/<port>/<rest>`. The Sandbox gets `/<rest>`, byte for byte.
//!
//! The namespace, the name and the port are decoded once, after the path was split at its slashes. An encoded slash in
//! one of them is therefore no separator, and makes a name that is not valid.

use std::fmt;
use std::str::FromStr;

use http::uri::PathAndQuery;

use super::by_header::{valid_name, valid_namespace, valid_port};
use super::routed::{Routed, RoutedBy};
use crate::percent::{decoded, escapes_are_valid};
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
    let rest = parts.next().unwrap_or_default();
    // The client keeps the form of the path that it chose: a browser compares the Path of a cookie byte by byte.
    let front = format!("{}/{namespace}/{id}/{port}", under.prefix);
    let (namespace, name, port) = (decoded(namespace), decoded(id), decoded(port));
    let target = Target {
        namespace: valid_namespace(&namespace)?.into(),
        name: valid_name(&name)?.into(),
        port: valid_port(&port)?,
    };
    let own = match path.query() {
        Some(query) => format!("/{rest}?{query}"),
        None => format!("/{rest}"),
    };
    let own = PathAndQuery::try_from(own).map_err(|_| form())?;
    Ok(Routed { target, path: own, by: RoutedBy::Path(front) })
}
