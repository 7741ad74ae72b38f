//! Creates clients of the API server: their user agent, their timeouts, whether they retry, and the clock that their
//! replies correct.

mod read_timeout;

use axum::BoxError;
use axum::body::{Bytes, HttpBody};
use http::{HeaderValue, Request, Response, header};
use kube::Client;
use kube::client::{Body, ClientBuilder};
use tower::Service;
use tower::util::MapFutureLayer;

use self::read_timeout::limited;
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
    // The kube crate's read timeout wakes the process for every read.
    kube.read_timeout = None;
    kube.headers.push((header::USER_AGENT, HeaderValue::from_static(USER_AGENT)));
    Ok(layered(ClientBuilder::try_from(kube)?, clock.clone()))
}

/// A client whose replies correct the clock, and have to arrive in time.
fn layered<S, B>(builder: ClientBuilder<S>, clock: Clock) -> Client
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError> + Send + 'static,
    S::Future: Send + 'static,
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let observe = move |reply: S::Future| {
        let clock = clock.clone();
        async move { limited(clock.observe(reply, Response::headers), limits::READ_TIMEOUT).await }
    };
    builder.with_layer(&MapFutureLayer::new(observe)).build()
}

#[cfg(test)]
mod tests {
    use axum::body::Body as ReplyBody;
    use tower::service_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_gives_up_a_reply_that_is_silent() {
        let reply = |request: Request<Body>| async move {
            if request.uri().path() == "/silent" {
                std::future::pending::<()>().await;
            }
            let endless = futures::stream::pending::<Result<Bytes, BoxError>>();
            Ok::<_, BoxError>(Response::new(ReplyBody::from_stream(endless)))
        };
        let client = layered(ClientBuilder::new(service_fn(reply), "default"), Clock::default());
        let get = |path: &str| Request::get(path).body(Body::empty()).unwrap();
        assert!(client.send(get("/silent")).await.is_err());
        let reply = client.send(get("/endless")).await.unwrap();
        assert!(reply.into_body().collect_bytes().await.is_err());
    }
}
