//! One request on a connection of its own, and its answer, read within a limit.

use std::error::Error as _;
use std::io::ErrorKind;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, USER_AGENT};
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tracing::debug;

use crate::digest::{Digest, Hasher};
use crate::error::Error;
use crate::limits;

const AGENT: &str = concat!("paddock/", env!("CARGO_PKG_VERSION"));
/// The characters of a registry's message that an error contains.
const MESSAGE_CHARS: usize = 200;

/// A request.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Opens connections.
#[derive(Clone)]
pub(super) struct Transport {
    tls: TlsConnector,
    plain_http: bool,
}

impl Transport {
    pub(super) fn new(extra_ca: &[Vec<u8>], plain_http: bool) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        for error in system.errors {
            debug!(%error, "a certificate of the system cannot be read");
        }
        roots.add_parsable_certificates(system.certs);
        for pem in extra_ca {
            let wrong = || Error::Options("a CA must be one or more certificates in PEM format".to_owned());
            let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
            let certificates = certificates.ok().filter(|some| !some.is_empty()).ok_or_else(wrong)?;
            for certificate in certificates {
                roots.add(certificate).map_err(|_| wrong())?;
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Options(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Arc::new(config).into(), plain_http })
    }

    /// The same, but registries are asked without TLS.
    pub(super) fn with_plain_http(self) -> Self {
        Self { plain_http: true, ..self }
    }

    /// The scheme of registries.
    pub(super) fn scheme(&self) -> Scheme {
        if self.plain_http { Scheme::HTTP } else { Scheme::HTTPS }
    }

    /// Sends a request, and returns the head of the answer.
    pub(super) async fn send(&self, call: Call) -> Result<Reply, Error> {
        let host = host(&call.uri);
        let tls = match call.uri.scheme_str() {
            Some("https") => true,
            Some("http") if self.plain_http => false,
            Some(_) | None => {
                return Err(Error::protocol(&host, "leads to an address without TLS, which is not allowed"));
            }
        };
        self.exchange(&host, tls, call).await
    }

    async fn exchange(&self, host: &str, tls: bool, call: Call) -> Result<Reply, Error> {
        let late = |_| Error::unreachable(host, "the connection is not open in time");
        let name = name(&call.uri).to_owned();
        let port = port(&call.uri);
        let tcp = async {
            let tcp = TcpStream::connect((name.as_str(), port)).await;
            tcp.map_err(|error| Error::unreachable(host, error.to_string()))
        };
        let tcp = timeout(limits::CONNECT_TIMEOUT, tcp).await.map_err(late)??;
        if !tls {
            return request(host, tcp, call).await;
        }
        let server = ServerName::try_from(name).map_err(|_| Error::protocol(host, "is not the name of a host"))?;
        let handshake = timeout(limits::CONNECT_TIMEOUT, self.tls.connect(server, tcp)).await.map_err(late)?;
        let stream = handshake.map_err(|error| handshake_error(host, &error))?;
        request(host, stream, call).await
    }
}

/// Tells a connection that broke from one that is not trusted.
fn handshake_error(host: &str, error: &std::io::Error) -> Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidMessage(_)) => Error::Tls {
            host: host.to_owned(),
            reason: format!("{error}; a registry without TLS needs plain HTTP to be allowed"),
        },
        Some(_) => Error::Tls { host: host.to_owned(), reason: error.to_string() },
        None => Error::unreachable(host, format!("the TLS connection broke: {error}")),
    }
}

async fn request<S>(host: &str, stream: S, call: Call) -> Result<Reply, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        Error::unreachable(host, format!("{error}{cause}"))
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            debug!(%error, "a connection to a registry ended with an error");
        }
    });
    let wrong = |_| Error::protocol(host, "leads to an invalid address");
    let path = call.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let mut request = Request::builder().method(call.method).uri(path).body(Full::new(call.body)).map_err(wrong)?;
    *request.headers_mut() = call.headers;
    let authority = call.uri.authority().map_or("", http::uri::Authority::as_str);
    request
        .headers_mut()
        .insert(HOST, HeaderValue::from_str(authority).map_err(|_| Error::protocol(host, "is invalid"))?);
    request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));
    let response = sender.send_request(request).await.map_err(broken)?;
    let (head, body) = response.into_parts();
    Ok(Reply { status: head.status, headers: head.headers, host: host.to_owned(), body })
}

/// The head of an answer, with the body that was not read yet.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) host: String,
    body: Incoming,
}

/// The errors in an answer of a registry.
#[derive(Default, Deserialize)]
struct Problems {
    #[serde(default)]
    errors: Vec<Problem>,
}

#[derive(Default, Deserialize)]
struct Problem {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Reply {
    /// A header as text.
    pub(super) fn header(&self, name: impl http::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn length(&self) -> Option<u64> {
        self.header(CONTENT_LENGTH)?.parse().ok()
    }

    /// The answer itself if the request was successful, and otherwise the reason. `what` was asked for.
    pub(super) async fn successful(self, what: &str) -> Result<Self, Error> {
        if self.status.is_success() {
            return Ok(self);
        }
        let (status, host) = (self.status, self.host.clone());
        let message = self.message().await;
        let reason =
            if message.is_empty() { format!("status {status}") } else { format!("status {status}: {message}") };
        Err(match status {
            StatusCode::NOT_FOUND => Error::NotFound(what.to_owned()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Error::unauthorized(&host, format!("the credentials are wrong or not sufficient ({reason})"))
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Error::unreachable(&host, reason),
            status if status.is_server_error() => Error::unreachable(&host, reason),
            _ => Error::protocol(&host, reason),
        })
    }

    /// The message of the registry about a failure.
    async fn message(self) -> String {
        let Ok((body, _)) = self.read("the answer", limits::SMALL_BODY_BYTES as u64).await else {
            return String::new();
        };
        let problems: Problems = serde_json::from_slice(&body).unwrap_or_default();
        let problems = problems.errors.into_iter().map(|problem| format!("{} {}", problem.code, problem.message));
        clean(&problems.collect::<Vec<_>>().join(", "))
    }

    /// Reads the body, and computes its digest. A body with more bytes than the limit is not read to its end.
    pub(super) async fn read(mut self, what: &str, limit: u64) -> Result<(Bytes, Digest), Error> {
        let too_large = || Error::TooLarge { what: what.to_owned(), limit };
        let announced = self.length();
        if announced.is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        let room = announced.and_then(|length| usize::try_from(length).ok()).unwrap_or_default();
        let (mut content, mut hasher) = (Vec::with_capacity(room), Hasher::default());
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|error| body_error(&self.host, what, announced, content.len() as u64, &error))?;
            let Ok(data) = frame.into_data() else { continue };
            if (content.len() + data.len()) as u64 > limit {
                return Err(too_large());
            }
            hasher.update(&data);
            content.extend_from_slice(&data);
        }
        Ok((content.into(), hasher.finish()))
    }
}

/// Tells a body that ended early from a connection that broke.
fn body_error(host: &str, what: &str, announced: Option<u64>, got: u64, error: &hyper::Error) -> Error {
    let mut cause = error.source();
    while let Some(inner) = cause {
        let early = inner.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == ErrorKind::UnexpectedEof);
        if let Some(expected) = announced.filter(|_| early) {
            return Error::Truncated { what: what.to_owned(), expected, got };
        }
        cause = inner.source();
    }
    Error::unreachable(host, format!("{what} did not arrive completely: {error}"))
}

/// The host of an address with its port, as it is written.
pub(super) fn host(uri: &Uri) -> String {
    uri.authority().map(ToString::to_string).unwrap_or_default()
}

/// The DNS name or the IP address of the host, without the brackets of an IPv6 address.
fn name(uri: &Uri) -> &str {
    uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
}

fn port(uri: &Uri) -> u16 {
    uri.port_u16().unwrap_or(if uri.scheme() == Some(&Scheme::HTTP) { 80 } else { 443 })
}

/// Whether two addresses are those of one server, which may get the same credentials.
pub(super) fn same_origin(one: &Uri, other: &Uri) -> bool {
    one.scheme() == other.scheme() && name(one).eq_ignore_ascii_case(name(other)) && port(one) == port(other)
}

/// Whether credentials may be sent to an address: with TLS, or to this machine.
pub(super) fn is_private(uri: &Uri) -> bool {
    let host = name(uri);
    let loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    uri.scheme() == Some(&Scheme::HTTPS) || loopback
}

/// Whether an address names a server, and no user.
pub(super) fn names_a_server(uri: &Uri) -> bool {
    uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
}

/// The address with this text at the end of its query.
pub(super) fn with_query(uri: &Uri, more: &str) -> Option<Uri> {
    let separator = if uri.query().is_some() { '&' } else { '?' };
    format!("{uri}{separator}{more}").parse().ok()
}

/// The address that a header `Location` names: a complete one, or a path of the same server.
pub(super) fn located(base: &Uri, location: &str) -> Option<Uri> {
    let uri: Uri = location.parse().ok()?;
    if uri.scheme().is_some() {
        return names_a_server(&uri).then_some(uri);
    }
    if !location.starts_with('/') || location.starts_with("//") {
        return None;
    }
    let mut parts = base.clone().into_parts();
    parts.path_and_query = uri.into_parts().path_and_query;
    Uri::from_parts(parts).ok()
}

/// A text of a stranger, short and without control characters.
pub(super) fn clean(text: &str) -> String {
    let characters = text.trim().chars().take(MESSAGE_CHARS);
    characters.map(|character| if character.is_control() { ' ' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn origin_is_scheme_host_and_port() {
        let same = |one, other| same_origin(&uri(one), &uri(other));
        assert!(same("https://a/x", "https://A:443/y"));
        assert!(same("http://a:80/", "http://a/"));
        for other in ["http://a:443/", "https://b/", "https://a:444/", "https://a.b/"] {
            assert!(!same("https://a/", other), "{other}");
        }
    }

    #[test]
    fn credentials_leave_this_machine_only_with_tls() {
        for private in ["https://a/", "http://127.0.0.1:5000/", "http://localhost/", "http://[::1]:5000/"] {
            assert!(is_private(&uri(private)), "{private}");
        }
        for open in ["http://a/", "http://10.0.0.1/", "http://localhost.a/", "http://127.0.0.1.a/", "http://[::2]/"] {
            assert!(!is_private(&uri(open)), "{open}");
        }
    }

    #[test]
    fn a_location_is_an_address_or_a_path() {
        let base = uri("https://a:5000/v2/x?y=z");
        let at = |location| located(&base, location).map(|uri| uri.to_string());
        assert_eq!(at("/v2/b?c=d").as_deref(), Some("https://a:5000/v2/b?c=d"));
        assert_eq!(at("http://b/c").as_deref(), Some("http://b/c"));
        for wrong in ["", "b", "//b/c", "https://u:p@b/c", "a b"] {
            assert_eq!(at(wrong), None, "{wrong}");
        }
    }
}
