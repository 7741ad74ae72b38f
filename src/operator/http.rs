//! Three listeners: probes, metrics, and `/debug/`.
//!
//! `/debug/` shows objects as they were seen, with what their authors put into them, so it has a listener of its own,
//! on loopback unless told otherwise: `kubectl port-forward` reaches it, the pod network does not.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::Timestamp;
use paddock_core::kind::{Key, Kind};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::error;

use crate::metrics::Metrics;
use crate::plugins::PluginStatus;
use crate::pressure::Pressure;
use crate::queue::Queue;
use crate::trace::Traces;
use crate::watch::Missing;
use crate::world::SharedWorld;

/// What readiness depends on.
#[derive(Clone)]
pub struct Readiness {
    /// Kinds that are not listed yet.
    pub missing: watch::Receiver<Missing>,
    /// The webhook answers; true from the start where there is none.
    pub webhook: watch::Receiver<bool>,
}

impl Readiness {
    /// What is still waited for; empty when ready.
    #[must_use]
    pub fn waiting_for(&self) -> Vec<String> {
        let mut waiting: Vec<String> =
            self.missing.borrow().iter().map(|kind| format!("list of {}.{}", kind.plural(), kind.group())).collect();
        if !*self.webhook.borrow() {
            waiting.push("webhook".to_owned());
        }
        waiting
    }
}

/// What `/metrics` reads.
#[derive(Clone)]
pub struct Scrape {
    /// The families.
    pub metrics: Metrics,
    /// Sampled at each scrape.
    pub queue: Queue,
    /// Sampled at each scrape.
    pub pressure: Pressure,
}

/// What `/debug/` reads.
#[derive(Clone)]
pub struct Debug {
    /// For what is seen now.
    pub world: SharedWorld,
    /// For what was decided last.
    pub traces: Traces,
    /// For how it stands with each plugin.
    pub plugins: watch::Receiver<Vec<PluginStatus>>,
}

/// Serves until dropped.
pub async fn serve(listener: TcpListener, router: Router) {
    if let Err(error) = axum::serve(listener, router).await {
        error!(%error, "listener ended");
    }
}

/// `/healthz` and `/readyz`.
pub fn probes(readiness: Readiness) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route(
            "/readyz",
            get(|State(readiness): State<Readiness>| async move {
                let waiting = readiness.waiting_for();
                if waiting.is_empty() {
                    (StatusCode::OK, "ok".to_owned())
                } else {
                    (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for: {}\n", waiting.join(", ")))
                }
            }),
        )
        .with_state(readiness)
}

/// `/metrics`.
pub fn metrics(scrape: Scrape) -> Router {
    Router::new()
        .route(
            "/metrics",
            get(|State(scrape): State<Scrape>| async move {
                scrape.metrics.sample(&scrape.queue, &scrape.pressure);
                match scrape.metrics.text() {
                    Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
                    Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
                }
            }),
        )
        .with_state(scrape)
}

/// `/debug/seen/KIND/NAMESPACE/NAME` and `/debug/plugins`.
pub fn debug(debug: Debug) -> Router {
    Router::new()
        .route("/debug/seen/{kind}/{namespace}/{name}", get(seen))
        .route(
            "/debug/plugins",
            get(|State(debug): State<Debug>| async move { pretty(&json!(*debug.plugins.borrow())) }),
        )
        .with_state(debug)
}

fn pretty(document: &serde_json::Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], format!("{document:#}\n")).into_response()
}

async fn seen(State(debug): State<Debug>, Path((kind, namespace, name)): Path<(String, String, String)>) -> Response {
    let Some(kind) = Kind::ALL.into_iter().find(|k| format!("{k:?}").eq_ignore_ascii_case(&kind)) else {
        let kinds: Vec<String> = Kind::ALL.iter().map(|kind| format!("{kind:?}")).collect();
        let text = format!("no kind {kind:?}: expected one of {}\n", kinds.join(", "));
        return (StatusCode::NOT_FOUND, text).into_response();
    };
    let key = Key::new(kind, if kind.namespaced() { namespace } else { String::new() }, name);
    let seen = debug.world.see(&key, Timestamp::now());
    let document = json!({
        "key": key.to_string(),
        "seen": seen,
        "last": debug.traces.last(&key).map(|trace| trace.json()),
    });
    pretty(&document)
}
