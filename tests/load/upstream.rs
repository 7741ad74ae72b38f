//! The application of a Sandbox: an HTTP server that counts what arrives.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures::stream;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::client::{Body, full};
use crate::pattern::{Checker, Pattern};
use crate::websocket::{self, ACCEPT, KEY, Message, Side};

/// The answer to `/small`.
pub const SMALL: &str = concat!(
    r#"{"stdout":"0123456789012345678901234567890123456789","stderr":"","#,
    r#""exit_code":0,"took":"12ms","pad":"012345678901234567890123456789"}"#
);

/// The interval of the events of `/events`.
const EVENTS: Duration = Duration::from_millis(100);
/// The longest delay that a request may ask for.
const DELAY_MAX: Duration = Duration::from_secs(30);

/// The server. It ends when this value is dropped.
#[derive(Debug)]
pub struct Upstream {
    /// The address at which it listens.
    pub address: SocketAddr,
    /// The requests that arrived.
    pub arrivals: Arrivals,
    task: JoinHandle<()>,
}

/// How often each id arrived. Clones are handles on the same counts.
#[derive(Clone, Debug, Default)]
pub struct Arrivals(Arc<Mutex<HashMap<u64, u32>>>);

impl Arrivals {
    fn add(&self, id: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default() += 1;
    }

    /// The number of requests with this id.
    #[must_use]
    pub fn of(&self, id: u64) -> u32 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied().unwrap_or_default()
    }

    /// The number of ids that arrived more than once.
    #[must_use]
    pub fn repeated(&self) -> u64 {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().filter(|count| **count > 1).count() as u64
    }
}

impl Upstream {
    /// Listens on a port of this address.
    ///
    /// | path | answer |
    /// |---|---|
    /// | `/small` | [`SMALL`] |
    /// | `/count/ID`, with `?delay=MS` | counts the id, and answers `ID BYTES` after the delay if the body has the bytes of [`Pattern`] |
    /// | `/upload` | `BYTES` if the body has the bytes of [`Pattern`] |
    /// | `/download/BYTES` | so many bytes of [`Pattern`] |
    /// | `/events` | server-sent events with the numbers from 0, without an end |
    /// | `/socket` | a WebSocket that sends back what it gets |
    ///
    /// # Errors
    /// If it cannot listen.
    pub async fn start(ip: IpAddr) -> Result<Self> {
        let listener = TcpListener::bind((ip, 0)).await.context("listening for the Sandbox")?;
        let address = listener.local_addr().context("listening for the Sandbox")?;
        let arrivals = Arrivals::default();
        let task = tokio::spawn(serve(listener, arrivals.clone()));
        Ok(Self { address, arrivals, task })
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, arrivals: Arrivals) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, arrivals.clone()));
                }
                // No file is left. The client notices that it is not accepted.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, arrivals: Arrivals) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let arrivals = arrivals.clone();
        async move { Ok::<_, Infallible>(answer(request, &arrivals).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new());
    // A connection that ends early is noticed by the client.
    let _ = builder.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
}

async fn answer(request: Request<Incoming>, arrivals: &Arrivals) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let mut parts = path.split('/').skip(1);
    match (parts.next(), parts.next().map(str::parse::<u64>)) {
        (Some("small"), None) => Response::new(full(SMALL)),
        (Some("count"), Some(Ok(id))) => {
            arrivals.add(id);
            checked(request, &format!("{id} ")).await
        }
        (Some("upload"), None) => checked(request, "").await,
        (Some("download"), Some(Ok(bytes))) => Response::new(download(bytes)),
        (Some("events"), None) => events(),
        (Some("socket"), None) => socket(request),
        _ => status(StatusCode::NOT_FOUND, "there is no such page"),
    }
}

fn status(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(text));
    *response.status_mut() = status;
    response
}

/// Reads the body, and answers with its length after this text.
async fn checked(mut request: Request<Incoming>, before: &str) -> Response<Body> {
    let mut checker = Checker::default();
    while let Some(frame) = request.body_mut().frame().await {
        match frame {
            Ok(frame) => frame.data_ref().into_iter().for_each(|data| checker.see(data)),
            Err(error) => return status(StatusCode::BAD_REQUEST, format!("the body ended early: {error}")),
        }
    }
    let delay = request.uri().query().and_then(|query| query.strip_prefix("delay="));
    if let Some(delay) = delay.and_then(|ms| ms.parse().ok()).map(Duration::from_millis) {
        tokio::time::sleep(delay.min(DELAY_MAX)).await;
    }
    match checker.end() {
        Ok(bytes) => Response::new(full(format!("{before}{bytes}"))),
        Err(wrong) => status(StatusCode::BAD_REQUEST, wrong),
    }
}

fn download(bytes: u64) -> Body {
    stream_of(Pattern::default(), bytes)
}

/// A body with so many bytes of a pattern, made while they are read.
pub(crate) fn stream_of(pattern: Pattern, bytes: u64) -> Body {
    let pieces = stream::try_unfold((pattern, 0), move |(pattern, offset)| async move {
        if offset == bytes {
            return Ok::<_, io::Error>(None);
        }
        let piece = pattern.bytes(offset, bytes - offset);
        let next = offset + piece.len() as u64;
        Ok(Some((Frame::data(piece), (pattern, next))))
    });
    StreamBody::new(pieces).boxed_unsync()
}

fn events() -> Response<Body> {
    let numbers = stream::try_unfold(0_u64, |number| async move {
        if number > 0 {
            tokio::time::sleep(EVENTS).await;
        }
        let event = Bytes::from(format!("data: {number}\n\n"));
        Ok::<_, io::Error>(Some((Frame::data(event), number + 1)))
    });
    let mut response = Response::new(StreamBody::new(numbers).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

fn socket(mut request: Request<Incoming>) -> Response<Body> {
    if request.headers().get("sec-websocket-key").is_none_or(|key| key != KEY) {
        return status(StatusCode::BAD_REQUEST, "the key is not that of the tests");
    }
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let mut stream = TokioIo::new(upgraded);
        // Without a message, the other side has left.
        while let Ok(message) = websocket::read(&mut stream).await {
            let ended = matches!(message, Message::Close(_));
            if websocket::write(&mut stream, Side::Server, &message).await.is_err() || ended {
                return;
            }
        }
    });
    let mut response = status(StatusCode::SWITCHING_PROTOCOLS, Bytes::new());
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert("sec-websocket-accept", HeaderValue::from_static(ACCEPT));
    response
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::client::{Connection, Version};
    use crate::websocket::WebSocket;

    async fn get(upstream: &Upstream, path: &str, body: Body) -> (StatusCode, Bytes) {
        let stream = TcpStream::connect(upstream.address).await.unwrap();
        let mut connection = Connection::begin(stream, Version::Http1).await.unwrap();
        let request = Request::post(path).header("host", "load").body(body).unwrap();
        let response = connection.send(request).await.map_err(TrySend::into_error).unwrap();
        (response.status(), response.into_body().collect().await.unwrap().to_bytes())
    }

    type TrySend = hyper::client::conn::TrySendError<Request<Body>>;

    #[tokio::test]
    async fn arrivals_are_counted_and_bodies_are_checked() {
        let upstream = Upstream::start(Ipv4Addr::LOCALHOST.into()).await.unwrap();
        let body = stream_of(Pattern::default(), 200_000);
        assert_eq!(get(&upstream, "/count/7", body).await, (StatusCode::OK, "7 200000".into()));
        let wrong = get(&upstream, "/count/7?delay=1", full("no pattern")).await;
        assert_eq!(wrong.0, StatusCode::BAD_REQUEST);
        assert_eq!((upstream.arrivals.of(7), upstream.arrivals.of(8), upstream.arrivals.repeated()), (2, 0, 1));
        let (_, bytes) = get(&upstream, "/download/200000", full("")).await;
        let mut checker = Checker::default();
        checker.see(&bytes);
        assert_eq!(checker.end(), Ok(200_000));
        let body = stream_of(Pattern::default(), 5);
        assert_eq!(get(&upstream, "/upload", body).await, (StatusCode::OK, "5".into()));
        assert_eq!(get(&upstream, "/count/x", full("")).await.0, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn a_socket_sends_back_what_it_gets_until_it_is_closed() {
        let upstream = Upstream::start(Ipv4Addr::LOCALHOST.into()).await.unwrap();
        let stream = TcpStream::connect(upstream.address).await.unwrap();
        let mut socket = WebSocket::open(stream, "/socket", "").await.unwrap();
        socket.echo(b"1").await.unwrap();
        socket.echo(b"2").await.unwrap();
        socket.send(&Message::Close(1000)).await.unwrap();
        assert_eq!(socket.next().await.unwrap(), Message::Close(1000));
        assert!(socket.next().await.is_err());
    }
}
