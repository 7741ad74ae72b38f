//! Plain HTTP endpoints: the probes for the kubelet, and the metrics for Prometheus.

use std::fmt::Display;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// The content type of Prometheus' text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4";

/// The routes `/healthz` and `/readyz`. `waiting_for` returns the reasons why the process is not ready. It is ready if
/// there are none.
pub fn probes(waiting_for: impl Fn() -> Vec<String> + Clone + Send + Sync + 'static) -> Router {
    let ready = move || {
        let waiting = waiting_for();
        let response = if waiting.is_empty() {
            (StatusCode::OK, "ok".to_owned())
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for: {}\n", waiting.join(", ")))
        };
        std::future::ready(response)
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
