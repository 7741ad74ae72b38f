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
        let mut waiting: Vec<String> = self
            .missing
            .borrow()
            .iter()
            .map(|kind| match kind.group() {
                "" => format!("list of {}", kind.plural()),
                group => format!("list of {}.{group}", kind.plural()),
            })
            .collect();
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
    let pending = debug.world.read(|world| world.pending(&key));
    let document = json!({
        "key": key.to_string(),
        "seen": seen,
        "pending": pending,
        "last": debug.traces.last(&key).map(|trace| trace.json()),
    });
    pretty(&document)
}

#[cfg(test)]
mod test {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use paddock_core::object::Object;
    use paddock_core::plan::{Action, Op, Reason};
    use paddock_core::settings::Settings;
    use paddock_core::world::{Observed, World};
    use tower::ServiceExt;

    use super::*;
    use crate::queue::Workers;

    async fn get_text(router: Router, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_says_what_it_waits_for() {
        let missing = watch::Sender::new(Missing::from([Kind::Pod]));
        let webhook = watch::Sender::new(false);
        let router = || probes(Readiness { missing: missing.subscribe(), webhook: webhook.subscribe() });
        let (status, text) = get_text(router(), "/readyz").await;
        assert_eq!((status, text.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "waiting for: list of pods, webhook\n"));
        assert_eq!(get_text(router(), "/healthz").await.0, StatusCode::OK);
        missing.send_replace(Missing::new());
        webhook.send_replace(true);
        assert_eq!(get_text(router(), "/readyz").await, (StatusCode::OK, "ok".to_owned()));
    }

    #[tokio::test]
    async fn metrics_are_in_the_text_format() {
        let (metrics_, queue) = (Metrics::new().unwrap(), Queue::new(Workers::default(), 1));
        let router = metrics(Scrape { metrics: metrics_, queue, pressure: Pressure::new(None, None) });
        let (status, text) = get_text(router, "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.contains("# TYPE paddock_write_slots gauge\n"), "{text}");
        assert!(text.contains("agent_sandbox_build_info{git_version=\"v"), "{text}");
    }

    #[tokio::test]
    async fn debug_shows_what_is_seen_and_what_is_pending() {
        let world = SharedWorld::new(World::new(Settings::default()));
        let sandbox = json!({
            "metadata": { "name": "s", "namespace": "ns", "uid": "u1", "resourceVersion": "5" },
            "spec": { "podTemplate": { "spec": { "containers": [{ "name": "c", "image": "i" }] } } },
        });
        let object = Object::from_json(Kind::Sandbox, sandbox).unwrap();
        let key = object.key.clone();
        let _ = world.observe(Observed::Applied(object), Timestamp::now());
        let action = Action::Delete { uid: "u1".into(), resource_version: None, foreground: false };
        world.begin(&[Op { key, reason: Reason::Expired, action }]).unwrap();
        let plugins = watch::Sender::new(Vec::new()).subscribe();
        let router = debug(Debug { world, traces: Traces::default(), plugins });

        let (status, text) = get_text(router.clone(), "/debug/seen/sandbox/ns/s").await;
        let shown: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(status, StatusCode::OK);
        assert_eq!(shown["seen"]["Sandbox"]["sandbox"]["meta"]["uid"], "u1");
        assert_eq!(shown["pending"], json!(["Delete under way"]));
        assert_eq!(shown["last"], serde_json::Value::Null);
        let (status, text) = get_text(router, "/debug/seen/nothing/ns/s").await;
        assert!(status == StatusCode::NOT_FOUND && text.contains("SeedClaim"), "{text}");
    }
}
