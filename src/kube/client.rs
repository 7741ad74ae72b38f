//! Creates clients of the API server: their user agent, their timeouts, whether they retry, and the clock that their
//! replies correct.

use axum::BoxError;
use axum::body::{Bytes, HttpBody};
use http::{HeaderValue, Request, Response, header};
use kube::Client;
use kube::client::{Body, ClientBuilder};
use tower::Service;
use tower::util::MapFutureLayer;

use crate::clock::Clock;
use crate::limits;

/// The user agent of every request of Paddock's processes.
pub const USER_AGENT: &str = concat!("paddock/", env!("CARGO_PKG_VERSION"));

/// Creates a client with Paddock's user agent and timeouts. `retry` lets the client repeat failed requests itself. The
/// clients of the reconcile must not retry, because the core plans each repetition. Every reply corrects the clock.
///
/// # Errors
/// If the configuration cannot be used, for example because of an invalid URL or certificate.
pub fn client(kube: &kube::Config, retry: bool, clock: &Clock) -> kube::Result<Client> {
    let mut kube = kube.clone();
    kube.default_retry = retry;
    kube.connect_timeout = Some(limits::CONNECT_TIMEOUT);
    kube.read_timeout = Some(limits::READ_TIMEOUT);
    kube.headers.push((header::USER_AGENT, HeaderValue::from_static(USER_AGENT)));
    Ok(observed(ClientBuilder::try_from(kube)?, clock.clone()))
}

/// A client whose replies correct the clock.
fn observed<S, B>(builder: ClientBuilder<S>, clock: Clock) -> Client
where
    S: Service<Request<Body>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError> + Send,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let observe = move |reply: S::Future| {
        let clock = clock.clone();
        async move { clock.observe(reply, Response::headers).await }
    };
    builder.with_layer(&MapFutureLayer::new(observe)).build()
}
