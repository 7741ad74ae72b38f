//! Plain HTTP endpoints: the probes for the kubelet, and the metrics for Prometheus.

use std::fmt::Display;

use axum::Router;
use axum::extract::RawQuery;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

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

/// The route `/metrics`. `exposition` returns the text for each scrape.
pub fn metrics<E: Display>(exposition: impl Fn() -> Result<Vec<u8>, E> + Clone + Send + Sync + 'static) -> Router {
    let scrape = move || {
        let response: Response = match exposition() {
            Ok(text) => ([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        };
        std::future::ready(response)
    };
    Router::new().route("/metrics", get(scrape))
}
