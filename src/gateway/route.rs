//! Finds the Sandbox that a request is for: by its host, its path or its headers, in this order.
//!
//! A request that matches the host domain or the path prefix is never routed by headers. So no form of a path reaches
//! another Sandbox than the one that it names, and none reaches the gateway's own page.

mod by_header;
mod by_host;
mod by_path;
mod routed;
#[cfg(test)]
mod tests;

use http::Request;
use http::uri::PathAndQuery;

pub use self::by_host::HostDomain;
pub use self::by_path::PathPrefix;
pub use self::routed::{Routed, RoutedBy};
use crate::refusal::{Reason, Refusal};

/// The path of the gateway's own page on the port of the proxy.
pub const HEALTH_PATH: &str = "/healthz";

/// The ways of routing that are turned on. Routing by header is always on.
#[derive(Clone, Debug, Default)]
pub struct Router {
    /// The prefix for routing by path.
    pub path: Option<PathPrefix>,
    /// The domain for routing by host.
    pub host: Option<HostDomain>,
}

/// The place that a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// The gateway's own page.
    Health,
    /// A Sandbox.
    Sandbox(Routed),
}

impl Router {
    /// The place that a request is for.
    ///
    /// # Errors
    /// If the request names no Sandbox, or its name, namespace or port is not valid.
    pub fn route<B>(&self, request: &Request<B>) -> Result<Route, Refusal> {
        let host = host_of(request)?;
        if let (Some(domain), Some(host)) = (&self.host, host)
            && let Some(labels) = domain.labels(host)
        {
            let target = by_host::target(&labels)?;
            return Ok(Route::Sandbox(Routed { target, path: whole(request)?, by: RoutedBy::Host }));
        }
        let path = whole(request)?;
        if let Some(rest) = self.path.as_ref().and_then(|prefix| prefix.rest(path.path())) {
            return by_path::routed(rest, &path).map(Route::Sandbox);
        }
        if path.path() == HEALTH_PATH {
            return Ok(Route::Health);
        }
        let target = by_header::target(request.headers())?;
        Ok(Route::Sandbox(Routed { target, path, by: RoutedBy::Header }))
    }
}

/// The host of a request without its port: that of the URI if the URI has one, and else the header Host.
///
/// # Errors
/// If the request has several different hosts.
fn host_of<B>(request: &Request<B>) -> Result<Option<&str>, Refusal> {
    let ambiguous = |detail: &str| Refusal::new(Reason::AmbiguousRequest, detail);
    let mut headers = request.headers().get_all(http::header::HOST).iter();
    let header =
        headers.next().map(|value| value.to_str().map_err(|_| ambiguous("Invalid Host header."))).transpose()?;
    if headers.next().is_some() {
        return Err(ambiguous("The request has several Host headers."));
    }
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    if let (Some(authority), Some(header)) = (authority, header)
        && !authority.eq_ignore_ascii_case(header)
    {
        return Err(ambiguous("The Host header differs from the host of the request."));
    }
    Ok(authority.or(header).map(without_port))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => name,
        Some(_) | None => host,
    }
}

fn whole<B>(request: &Request<B>) -> Result<PathAndQuery, Refusal> {
    let missing = || Refusal::new(Reason::UnsupportedMethod, "The request has no path.");
    request.uri().path_and_query().cloned().ok_or_else(missing)
}
