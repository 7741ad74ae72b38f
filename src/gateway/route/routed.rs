//! The result of routing.

use http::uri::PathAndQuery;

use crate::target::Target;

/// A request for a Sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routed {
    /// The Sandbox and the port.
    pub target: Target,
    /// The path and query that the Sandbox gets, with every byte as the client sent it.
    pub path: PathAndQuery,
    /// The way in which the request was routed.
    pub by: RoutedBy,
}

/// The way in which a request was routed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoutedBy {
    /// By `X-Sandbox-*` headers.
    Header,
    /// By its path. The text is the part of the path in front of the Sandbox's own: `<prefix>/<namespace>/<id>/<port>`.
    Path(String),
    /// By its host.
    Host,
}
