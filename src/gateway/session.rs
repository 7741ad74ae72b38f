//! The credential of a request: the header Authorization, a parameter of the query, or the cookie of a session.
//!
//! A browser can send no header with a navigation or a WebSocket. A page is therefore opened with the token in the
//! query once. The answer is a redirect to the same URL without the token, and a cookie for this Sandbox and port alone.

mod origin;
mod strip;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, CACHE_CONTROL, HeaderValue, LOCATION, SET_COOKIE};
use http::uri::PathAndQuery;
use http::{Method, Response, StatusCode, request};
use paddock_kube::auth::bearer;
use sha2::{Digest, Sha256};

pub use self::origin::{AllowedOrigin, InvalidOrigin};
use self::strip::{cookie_values, query_value, without_cookie, without_parameter};
use crate::authorize::Credential;
use crate::body::{Body, empty};
use crate::forward::FORWARDED_PROTO;
use crate::refusal::{Reason, Refusal};
use crate::route::{Routed, RoutedBy};
use crate::target::Target;

/// The detail of the refusal of another origin. Clients compare it.
const ORIGIN_NOT_ALLOWED: &str = "origin not allowed for cookie-authenticated request";

/// The attribute SameSite of the cookie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SameSite {
    /// Other sites may link to the Sandbox.
    #[default]
    Lax,
    /// Requests from other sites carry no cookie.
    Strict,
    /// All requests carry the cookie. Browsers require that it is secure.
    None,
}

/// The settings of sessions.
#[derive(Clone, Debug, Default)]
pub struct Sessions {
    /// The name of the cookie. `None` turns sessions off.
    pub cookie: Option<String>,
    /// The name of the parameter that begins a session.
    pub query_parameter: Option<String>,
    /// The attribute SameSite.
    pub same_site: SameSite,
    /// Whether the cookie is sent without TLS too.
    pub insecure: bool,
    /// The other origins whose pages may use the cookie.
    pub allowed_origins: Vec<AllowedOrigin>,
    /// Whether the scheme of the client is that of X-Forwarded-Proto.
    pub trust_forwarded_proto: bool,
}

/// The place where a credential was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Header,
    Query,
    Cookie,
}

/// A credential, and the request without it.
pub(crate) struct Found {
    pub(crate) credential: Credential,
    pub(crate) source: Option<Source>,
    /// The path and query without the token.
    pub(crate) path: PathAndQuery,
}

impl Sessions {
    /// Takes the credential out of a request. The header takes precedence over the query, and the query over the cookie.
    /// The token and the cookie are removed also if they do not count, because the Sandbox must never get them.
    ///
    /// # Errors
    /// If a page of another origin uses the cookie.
    pub(crate) fn take(&self, parts: &mut request::Parts, routed: &Routed, scheme: &str) -> Result<Found, Refusal> {
        let mut path = routed.path.clone();
        let mut from_query = None;
        let mut from_cookie = None;
        if let Some(parameter) = &self.query_parameter {
            from_query = query_value(&path, parameter);
            path = without_parameter(&path, parameter);
        }
        if let Some(cookie) = &self.cookie {
            // A cookie for another Sandbox, or one that another page set, hides no valid one.
            let opened: Vec<_> = cookie_values(&parts.headers, cookie).map(|c| opened(c, &routed.target)).collect();
            let valid = opened.iter().find(|token| !token.is_empty()).or(opened.first()).cloned();
            from_cookie = valid;
            without_cookie(&mut parts.headers, cookie);
        }
        let header = parts.headers.get(AUTHORIZATION).map(bearer);
        let (credential, source) = match (header, from_query, from_cookie) {
            // A header that is no bearer token is not a missing one.
            (Some(token), _, _) => (Credential::Bearer(token.unwrap_or_default().into()), Some(Source::Header)),
            (None, Some(token), _) => (Credential::Bearer(token.into()), Some(Source::Query)),
            (None, None, Some(token)) => {
                self.check_origin(parts, scheme)?;
                (Credential::Bearer(token), Some(Source::Cookie))
            }
            (None, None, None) => (Credential::None, None),
        };
        Ok(Found { credential, source, path })
    }

    /// The scheme of the client's connection.
    pub(crate) fn scheme(&self, parts: &request::Parts, own: &'static str) -> &'static str {
        let forwarded = parts.headers.get(FORWARDED_PROTO).and_then(|value| value.to_str().ok());
        let first = forwarded.and_then(|value| value.split(',').next()).map(str::trim);
        match first {
            Some(proto) if self.trust_forwarded_proto && proto.eq_ignore_ascii_case("https") => "https",
            Some(proto) if self.trust_forwarded_proto && proto.eq_ignore_ascii_case("http") => "http",
            Some(_) | None => own,
        }
    }

    fn check_origin(&self, parts: &request::Parts, scheme: &str) -> Result<(), Refusal> {
        let host = crate::forward::client_host(parts);
        let host = host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or_default();
        let refused = || Refusal::new(Reason::OriginNotAllowed, ORIGIN_NOT_ALLOWED);
        for origin in parts.headers.get_all(http::header::ORIGIN) {
            let text = origin.to_str().map_err(|_| refused())?;
            if text.is_empty() {
                continue;
            }
            let origin: AllowedOrigin = text.parse().map_err(|_| refused())?;
            if !origin.is(scheme, host) && !self.allowed_origins.contains(&origin) {
                return Err(refused());
            }
        }
        Ok(())
    }

    /// The answer that begins a session: a redirect to the same URL without the token, with the cookie. `None` if the
    /// request is not the begin of a session. A request that headers route begins none: its URL does not name the
    /// Sandbox, so a redirect would lose the token.
    pub(crate) fn begin(
        &self,
        found: &Found,
        routed: &Routed,
        method: &Method,
        upgrade: bool,
    ) -> Option<Response<Body>> {
        let name = self.cookie.as_ref()?;
        let begins = found.source == Some(Source::Query) && !upgrade && matches!(*method, Method::GET | Method::HEAD);
        let Credential::Bearer(token) = &found.credential else { return None };
        if !begins {
            return None;
        }
        let (front, path) = match &routed.by {
            RoutedBy::Path(front) => (front.as_str(), found.path.as_str()),
            RoutedBy::Host => ("", found.path.as_str()),
            RoutedBy::Header => return None,
        };
        // A Location that begins with two slashes would be a URL of another host.
        let path = if front.is_empty() && path.starts_with("//") { format!("/.{path}") } else { path.to_owned() };
        let location = HeaderValue::from_str(&format!("{front}{path}")).ok()?;
        let value = sealed(token, &routed.target);
        let same_site = match self.same_site {
            SameSite::Lax => "Lax",
            SameSite::Strict => "Strict",
            SameSite::None => "None",
        };
        let secure = if self.insecure { "" } else { "; Secure" };
        let cookie = format!("{name}={value}; Path={front}/; HttpOnly{secure}; SameSite={same_site}");
        let mut response = Response::new(empty());
        *response.status_mut() = StatusCode::FOUND;
        let headers = response.headers_mut();
        headers.insert(LOCATION, location);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(SET_COOKIE, HeaderValue::from_str(&cookie).ok()?);
        Some(response)
    }
}

/// The value of the cookie: the token, and a digest that ties it to one Sandbox and port. A cookie that is sent to
/// another Sandbox is no credential there, whatever rights its user has.
fn sealed(token: &str, target: &Target) -> String {
    format!("{}.{}", tie(token, target), URL_SAFE_NO_PAD.encode(token))
}

/// The token of a cookie for this target, and the empty text, which nobody accepts, for any other cookie.
fn opened(cookie: &str, target: &Target) -> Arc<str> {
    let token = cookie.split_once('.').and_then(|(tied, token)| {
        let token = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        (tied == tie(&token, target)).then_some(token)
    });
    token.unwrap_or_default().into()
}

fn tie(token: &str, target: &Target) -> String {
    let digest = Sha256::new().chain_update(target.to_string()).chain_update([0]).chain_update(token).finalize();
    URL_SAFE_NO_PAD.encode(digest)
}
