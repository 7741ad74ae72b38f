//! Definitions of other versions, as the API server describes them.

use std::sync::Arc;

use axum::body::Body;
use http::{Response, StatusCode};
use parking_lot::Mutex;
use serde_json::json;

use super::*;

/// The document that the API server makes of our own schemas after a change.
fn documents(change: impl Fn(&str, &mut Value)) -> BTreeMap<String, Value> {
    let mut documents = BTreeMap::new();
    for StatusSchema { group, version, kind, schema } in statuses(ApiShapes::Both) {
        let mut schema = schema;
        change(kind, &mut schema);
        let document = documents
            .entry(format!("/openapi/v3/apis/{group}/{version}"))
            .or_insert_with(|| json!({ "openapi": "3.0.0", "components": { "schemas": {} } }));
        document["components"]["schemas"][format!("{group}.{kind}")] = json!({
            "type": "object",
            "properties": { "spec": { "type": "object" }, "status": schema },
            "x-kubernetes-group-version-kind": [{ "group": group, "kind": kind, "version": version }],
        });
    }
    documents
}

/// An API server with these documents, or one that fails.
fn definitions(served: &Arc<Mutex<Option<BTreeMap<String, Value>>>>) -> Definitions {
    let served = served.clone();
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let (code, reply) = match &*served.lock() {
            None => (500, json!({ "kind": "Status", "code": 500, "message": "as expected" })),
            Some(documents) => match documents.get(request.uri().path()) {
                Some(document) => (200, document.clone()),
                None => (404, json!({ "kind": "Status", "code": 404, "reason": "NotFound" })),
            },
        };
        let response = Response::builder().status(StatusCode::from_u16(code).unwrap());
        std::future::ready(Ok::<_, std::io::Error>(response.body(Body::from(reply.to_string())).unwrap()))
    });
    Definitions {
        client: Client::new(service, "default"),
        shapes: ApiShapes::Both,
        metrics: Metrics::new().unwrap(),
        fault: watch::Sender::new(None),
    }
}

fn remove(schema: &mut Value, field: &str) {
    schema["properties"].as_object_mut().unwrap().remove(field).expect("a field of this version");
}

#[tokio::test(start_paused = true)]
async fn fields_that_a_definition_does_not_have_are_reported_until_it_has_them() {
    let served = Arc::new(Mutex::new(Some(documents(|kind, schema| {
        if kind == "Sandbox" {
            remove(schema, "isolation");
        }
    }))));
    let definitions = definitions(&served);
    let (metrics, mut fault) = (definitions.metrics.clone(), definitions.fault.subscribe());
    let run = tokio::spawn(definitions.run());
    let text = fault.wait_for(Option::is_some).await.unwrap().clone().unwrap();
    assert!(text.contains("Sandbox.agents.x-k8s.io status.isolation;"), "{text}");
    let metric = |value: u8| format!("paddock_crd_fields_missing{{kind=\"Sandbox.agents.x-k8s.io\"}} {value}\n");
    let exposition = || String::from_utf8(metrics.text().unwrap()).unwrap();
    assert!(exposition().contains(&metric(1)), "{}", exposition());
    *served.lock() = None;
    let text = fault.wait_for(|fault| fault.as_ref() != Some(&text)).await.unwrap().clone().unwrap();
    assert!(text.contains("not known"), "{text}");
    *served.lock() = Some(documents(|_, _| {}));
    fault.wait_for(Option::is_none).await.unwrap();
    assert!(exposition().contains(&metric(0)), "{}", exposition());
    // The fault of another kind shows that the comparison without Sandboxes has ended.
    let mut fewer = documents(|kind, schema| {
        if kind == "SandboxPolicy" {
            remove(schema, "digest");
        }
    });
    fewer.retain(|path, _| !path.starts_with("/openapi/v3/apis/agents.x-k8s.io/"));
    *served.lock() = Some(fewer);
    let text = fault.wait_for(Option::is_some).await.unwrap().clone().unwrap();
    assert!(text.contains("SandboxPolicy.policy.paddock.dev status.digest;"), "{text}");
    let sandbox = "paddock_crd_fields_missing{kind=\"Sandbox.agents.x-k8s.io\"}";
    assert!(!exposition().contains(sandbox), "{}", exposition());
    // A kind that comes later is looked for soon.
    *served.lock() = Some(BTreeMap::new());
    fault.wait_for(Option::is_none).await.unwrap();
    *served.lock() = Some(documents(|_, _| {}));
    sleep(limits::DEFINITIONS_RETRY * 2).await;
    assert!(exposition().contains(&metric(0)), "{}", exposition());
    run.abort();
}

#[tokio::test]
async fn kinds_that_are_not_served_are_no_fault() {
    let served = Arc::new(Mutex::new(Some(BTreeMap::new())));
    let definitions = definitions(&served);
    let ours = statuses(ApiShapes::Both);
    assert_eq!(definitions.compare(&ours).await, Ok(Missing::new()));
    *served.lock() = Some(documents(|_, _| {}));
    let compared = definitions.compare(&ours).await;
    let kinds = compared.as_ref().unwrap();
    assert!(kinds.len() == ours.len() && kinds.values().all(Vec::is_empty), "{compared:?}");
    assert_eq!(fault(&compared), None);
}

#[test]
fn missing_fields_are_found_at_any_depth() {
    let list = |fields: Value| json!({ "type": "array", "items": { "properties": fields } });
    let map = |fields: Value| json!({ "type": "object", "additionalProperties": { "properties": fields } });
    let field = || json!({ "type": "string" });
    let ours = json!({ "properties": {
        "whole": { "properties": { "a": field(), "b": field() } },
        "list": list(json!({ "a": field(), "b": field() })),
        "map": map(json!({ "a": field(), "b": field() })),
        "any": { "properties": { "a": field() } },
    } });
    let served = json!({ "properties": {
        "list": list(json!({ "a": field() })),
        "map": map(json!({ "b": field(), "c": field() })),
        "any": { "x-kubernetes-preserve-unknown-fields": true },
    } });
    let mut missing = Vec::new();
    add_missing(&ours, &served, "status", &mut missing);
    missing.sort();
    assert_eq!(missing, ["status.list[].b", "status.map.*.a", "status.whole"]);
    missing.push("status.z".to_owned());
    let text = fault(&Ok(Missing::from([("Sandbox.agents.x-k8s.io".to_owned(), missing)])));
    assert!(text.is_some_and(|text| text.contains("status.whole and 1 more;")));
}
