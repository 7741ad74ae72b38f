//! Plain HTTP endpoints: the probes for the kubelet, and the metrics for Prometheus.

use std::fmt::Display;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::RawQuery;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::limits;

/// The content type of Prometheus' text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4";

/// The routes `/healthz` and `/readyz`. `waiting_for` returns the reasons why the process is not ready. It is ready if
/// there are none. `faults` returns what is wrong although the process is ready, which `/readyz?verbose` lists.
pub fn probes(
    waiting_for: impl Fn() -> Vec<String> + Clone + Send + Sync + 'static,
    faults: impl Fn() -> Vec<String> + Clone + Send + Sync + 'static,
) -> Router {
    let ready = move |RawQuery(query): RawQuery| {
        let waiting = waiting_for();
        let verbose = query.is_some_and(|query| query.split('&').any(|q| q.split('=').next() == Some("verbose")));
        let mut text = String::new();
        if verbose {
            text.extend(faults().into_iter().map(|fault| format!("[-]{fault}\n")));
        }
        let status = if waiting.is_empty() {
            text.push_str(if verbose { "ok\n" } else { "ok" });
            StatusCode::OK
        } else {
            text.push_str(&format!("waiting for: {}\n", waiting.join(", ")));
            StatusCode::SERVICE_UNAVAILABLE
        };
        std::future::ready((status, text))
    };
    Router::new().route("/healthz", get(|| async { "ok" })).route("/readyz", get(ready))
}

/// The route `/metrics`. `exposition` returns the text for a scrape.
///
/// The text of an answer stays in memory until its client has read it. Clients that do not read share a text, so that they
/// cause at most one in [`limits::METRICS_TEXT_LIFETIME`].
pub fn metrics<E: Display>(exposition: impl Fn() -> Result<Vec<u8>, E> + Clone + Send + Sync + 'static) -> Router {
    let last: Arc<Mutex<Option<(Instant, Bytes)>>> = Arc::default();
    let scrape = move || {
        let mut last = last.lock();
        let is_shared =
            |(made, text): &&(Instant, Bytes)| !text.is_unique() && made.elapsed() < limits::METRICS_TEXT_LIFETIME;
        let text = match last.as_ref().filter(is_shared) {
            Some((_, text)) => Ok(text.clone()),
            None => exposition().map(|text| {
                let text = Bytes::from(text);
                *last = Some((Instant::now(), text.clone()));
                text
            }),
        };
        let response: Response = match text {
            Ok(text) => ([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        };
        std::future::ready(response)
    };
    Router::new().route("/metrics", get(scrape))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tokio::time::advance;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_that_nobody_reads_share_their_text() {
        let built = Arc::new(AtomicUsize::new(0));
        let router = metrics({
            let built = built.clone();
            move || {
                let count = built.fetch_add(1, Ordering::Relaxed) + 1;
                Ok::<_, Infallible>(format!("texts {count}\n").into_bytes())
            }
        });
        let ask = || router.clone().oneshot(Request::get("/metrics").body(Body::empty()).expect("a request"));
        let mut unread = Vec::new();
        for _ in 0..100 {
            unread.push(ask().await.expect("an answer"));
        }
        assert_eq!(built.load(Ordering::Relaxed), 1);
        advance(limits::METRICS_TEXT_LIFETIME).await;
        unread.push(ask().await.expect("an answer"));
        assert_eq!(built.load(Ordering::Relaxed), 2);
        for expected in [2, 1] {
            let answer = unread.pop().expect("an answer");
            let text = to_bytes(answer.into_body(), 100).await.expect("a body");
            assert_eq!(text, format!("texts {expected}\n"));
        }
        drop(unread);
        // Answers that were read delay no fresh text.
        for expected in [3, 4] {
            let answer = ask().await.expect("an answer");
            assert_eq!(answer.headers()[header::CONTENT_TYPE], TEXT_FORMAT);
            let text = to_bytes(answer.into_body(), 100).await.expect("a body");
            assert_eq!(text, format!("texts {expected}\n"));
        }
    }
}
