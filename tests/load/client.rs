//! A client with one connection of HTTP/1.1 or HTTP/2.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::frames::{GoAway, Observed};

/// The body of a request or of an answer.
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// The versions of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 without TLS, with prior knowledge.
    Http2,
}

/// A body of one piece.
#[must_use]
pub fn full(content: impl Into<Bytes>) -> Body {
    http_body_util::Full::new(content.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A connection. Clones of one of HTTP/2 share it.
#[derive(Debug)]
pub(crate) enum Connection {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>, GoAway),
}

impl Connection {
    /// Begins a connection on a stream.
    pub(crate) async fn begin(stream: TcpStream, version: Version) -> Result<Self> {
        stream.set_nodelay(true).context("setting TCP_NODELAY")?;
        match version {
            Version::Http1 => {
                let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
                tokio::spawn(connection);
                Ok(Self::Http1(sender))
            }
            Version::Http2 => {
                let (stream, goaway) = Observed::new(stream);
                let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
                tokio::spawn(connection);
                Ok(Self::Http2(sender, goaway))
            }
        }
    }

    /// Whether the next request can be sent on the connection.
    pub(crate) async fn usable(&mut self) -> bool {
        match self {
            Self::Http1(sender) => sender.ready().await.is_ok(),
            Self::Http2(sender, goaway) => !goaway.was_sent() && sender.ready().await.is_ok(),
        }
    }

    /// The same connection for another request at the same time. HTTP/1.1 has none.
    pub(crate) fn shared(&self) -> Option<Self> {
        match self {
            Self::Http1(_) => None,
            Self::Http2(sender, goaway) => Some(Self::Http2(sender.clone(), goaway.clone())),
        }
    }

    /// Whether the other side has sent GOAWAY.
    pub(crate) fn is_going_away(&self) -> bool {
        match self {
            Self::Http1(_) => false,
            Self::Http2(_, goaway) => goaway.was_sent(),
        }
    }

    /// Sends a request. The error has the request if no byte of it was sent.
    pub(crate) async fn send(
        &mut self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Body>>> {
        match self {
            Self::Http1(sender) => sender.try_send_request(request).await,
            Self::Http2(sender, _) => sender.try_send_request(request).await,
        }
    }
}

/// A POST with these headers.
///
/// # Errors
/// If the path or a header is not valid.
pub(crate) fn request(
    version: Version,
    path: &str,
    headers: &[(&'static str, String)],
    body: Body,
) -> Result<Request<Body>> {
    const AUTHORITY: &str = "load.example";
    // HTTP/2 takes the authority from the URI.
    let mut request = match version {
        Version::Http1 => Request::post(path).header(http::header::HOST, AUTHORITY),
        Version::Http2 => Request::post(format!("http://{AUTHORITY}{path}")),
    };
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    request.body(body).context("making a request")
}
