//! Traces: the gateway and the operator send their spans to a collector, within the traces of their clients.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use futures::lock::Mutex;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Attribute;
use opentelemetry_proto::tonic::trace::v1::Span;
use paddock_cluster::{Options, Process, Signal, eventually_some};
use prost::Message;
use serde_json::json;
use tokio::net::TcpListener;

use super::gateway::{Agent, Gateway, give_address, on_demand};
use super::json::ready;
use super::kinds::SANDBOX;
use super::manifests::{marked, sandbox};
use super::namespace::TestNamespace;
use super::operator::{self, Operator, Plan};
use super::setup::{control_plane, namespace};
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![
        a_request_is_a_part_of_the_trace_of_its_client,
        a_collector_that_is_away_is_reported_once,
        reconciles_reviews_and_plugin_calls_are_spans,
    ]
}

/// The trace and the span of a client.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

const SECRET: &str = "key=secret-of-the-client";

/// A server that takes spans as a collector does.
struct Collector {
    flag: String,
    taken: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
}

impl Collector {
    async fn start() -> Self {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let router = Router::new().route("/v1/traces", post(take)).with_state(taken.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let flag = format!("--otlp-endpoint=http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { flag, taken }
    }

    /// Ends a process, which sends its last spans before, and returns the spans of all requests.
    async fn spans_of(&self, process: &Process, service: &str) -> Vec<Span> {
        process.signal(Signal::Terminate).await.expect("it gets SIGTERM");
        process.wait().await.expect("it ends");
        let taken = self.taken.lock().await;
        let mut spans = Vec::new();
        for resource in taken.iter().flat_map(|request| &request.resource_spans) {
            let attributes = &resource.resource.as_ref().expect("a resource").attributes;
            let name = attributes.iter().find(|attribute| attribute.key == "service.name").expect("a service");
            let value = name.value.as_ref().and_then(|value| value.value.clone());
            assert_eq!(value, Some(Attribute::StringValue(service.to_owned())));
            spans.extend(resource.scope_spans.iter().flat_map(|scope| scope.spans.iter().cloned()));
        }
        spans
    }
}

async fn take(
    State(taken): State<Arc<Mutex<Vec<ExportTraceServiceRequest>>>>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    taken.lock().await.push(ExportTraceServiceRequest::decode(body).expect("spans"));
    StatusCode::OK
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attribute(span: &Span, key: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key == key);
    let value = found.and_then(|attribute| attribute.value.as_ref()).and_then(|value| value.value.as_ref());
    match value {
        Some(Attribute::StringValue(text)) => text.clone(),
        Some(Attribute::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

/// The spans of the trace of the client.
fn of_client(spans: &[Span]) -> Vec<&Span> {
    spans.iter().filter(|span| hex(&span.trace_id) == TRACE).collect()
}

async fn a_request_is_a_part_of_the_trace_of_its_client() {
    let ns = namespace("traced-request").await;
    let (agent, collector) = (Agent::start().await, Collector::start().await);
    let gateway = Gateway::of(&ns, "gateway-traced", &["--allow-unauthenticated", &collector.flag]).await;
    ns.create(on_demand("box")).await;
    ns.until(SANDBOX, "box", "Ready", ready).await;
    give_address(&ns, "box").await;
    let unsampled = "1af7651916cd43dd8448eb211c80319c";
    for (trace, sampled) in [(TRACE, "01"), (unsampled, "00")] {
        let header = format!("traceparent: 00-{trace}-{PARENT}-{sampled}\r\nCookie: {SECRET}\r\n");
        let (head, body) = gateway.get(&ns, "box", agent.port, &header).await;
        assert!(head.starts_with("http/1.1 200") && body == "hi", "{head}\n{body}");
    }
    let spans = collector.spans_of(&gateway.process, "paddock-gateway").await;
    assert!(spans.iter().all(|span| hex(&span.trace_id) != unsampled), "{spans:#?}");
    assert!(!format!("{spans:?}").contains(SECRET), "{spans:#?}");
    let spans = of_client(&spans);
    let request = spans.iter().find(|span| span.name == "request").expect("a span of the request");
    assert_eq!(hex(&request.parent_span_id), PARENT);
    let shown =
        ["k8s.namespace.name", "paddock.sandbox.name", "http.response.status_code"].map(|key| attribute(request, key));
    assert_eq!(shown, [&*ns.namespace, "box", "200"]);
    for part in ["authorize", "connect", "exchange"] {
        let parts: Vec<_> = spans.iter().filter(|span| span.name == part).collect();
        assert_eq!(parts.len(), 1, "{part}: {spans:#?}");
        assert_eq!(parts[0].parent_span_id, request.span_id, "{part}");
    }
}

async fn a_collector_that_is_away_is_reported_once() {
    let ns = namespace("traced-away").await;
    // No server listens on this port.
    let away = "--otlp-endpoint=http://127.0.0.1:1";
    let gateway = Gateway::of(&ns, "gateway-traced-away", &["--allow-unauthenticated", away]).await;
    let fails = |times: usize| {
        let gateway = &gateway;
        eventually_some("the requests to the collector fail", async move || {
            let metrics = gateway.metrics().await;
            let failed = metrics.lines().find_map(|line| line.strip_prefix("paddock_spans_total{result=\"failed\"} "));
            let failed: usize = failed.and_then(|number| number.parse().ok()).unwrap_or_default();
            if failed >= times { Ok(failed) } else { Err(metrics) }
        })
    };
    let mut failed = 0;
    for _ in 0..2 {
        let (head, _) = gateway.get(&ns, "absent", 80, "").await;
        assert!(head.contains("sandboxnotfound"), "{head}");
        failed = fails(failed + 1).await;
    }
    gateway.process.signal(Signal::Terminate).await.expect("it gets SIGTERM");
    gateway.process.wait().await.expect("it ends");
    let log = gateway.log();
    assert_eq!(log.matches("the collector takes no spans").count(), 1, "{log}");
    assert!(log.contains("Connection refused"), "{log}");
}

async fn reconciles_reviews_and_plugin_calls_are_spans() {
    let (cluster, account) = control_plane(Options { nodes: 1, ..Options::default() }.with_isolation()).await;
    let collector = Collector::start().await;
    let mut flags = operator::admitting(&cluster);
    flags.push(collector.flag.clone());
    let operator = Operator::start(&cluster, Plan { name: "operator", kubeconfig: &account, flags }).await;
    let ns = TestNamespace::new(&cluster, "traced").await;
    let mut agent = marked(sandbox("agent", json!({})));
    let carrier = json!({ "traceparent": format!("00-{TRACE}-{PARENT}-01") }).to_string();
    agent["metadata"]["annotations"] = json!({ "opentelemetry.io/trace-context": carrier });
    ns.create(agent).await;
    ns.until(SANDBOX, "agent", "Ready", ready).await;

    let spans = collector.spans_of(&operator.process, "paddock-operator").await;
    let parent_of = |span: &Span| spans.iter().find(|other| other.span_id == span.parent_span_id);
    let is_within = |span: &Span, name: &str| {
        std::iter::successors(parent_of(span), |span| parent_of(span)).any(|by| by.name == name)
    };
    let reconciles: Vec<_> = of_client(&spans).into_iter().filter(|span| span.name == "reconcile").collect();
    assert!(!reconciles.is_empty(), "{spans:#?}");
    for reconcile in reconciles {
        let shown = ["k8s.namespace.name", "paddock.kind", "paddock.name"].map(|key| attribute(reconcile, key));
        assert_eq!(
            (hex(&reconcile.parent_span_id).as_str(), shown.each_ref().map(String::as_str)),
            (PARENT, [&*ns.namespace, "Sandbox", "agent"])
        );
    }
    // The class of the pod is chosen in the reconcile, and the Sandbox is judged in the review.
    for (hook, caller) in [("runtime-class", "reconcile"), ("admission", "review")] {
        let called = spans.iter().find(|span| {
            span.name == "plugin call" && attribute(span, "paddock.plugin.hook") == hook && is_within(span, caller)
        });
        let called = called.unwrap_or_else(|| panic!("no call of {hook} within a {caller}: {spans:#?}"));
        assert!(attribute(called, "paddock.plugin.digest").starts_with("sha256:"), "{called:#?}");
        assert_ne!(attribute(called, "paddock.plugin.fuel"), "0", "{called:#?}");
    }
    let reviews = spans.iter().filter(|span| span.name == "review");
    assert!(reviews.into_iter().any(|span| attribute(span, "paddock.review.outcome") == "allowed"), "{spans:#?}");
}
