//! The Service of a Sandbox and the EndpointSlice behind a stable address.

use paddock_api::kind::Kind;
use paddock_api::names::annotation;
use serde_json::{Map, Value, json};

use crate::conditions::difference;
use crate::decide::adopt::{Adoption, adopt, adoption, left_behind};
use crate::manifest;
use crate::model::{self, ServiceIntent};
use crate::object::json::{covers, missing_entries};
use crate::object::{Body, Object};
use crate::plan::{Op, Reason};
use crate::snapshot::SandboxSnapshot;

/// Creates, adopts or deletes the Service of the Sandbox.
pub(super) fn service(snapshot: &SandboxSnapshot, model: &model::Sandbox) -> Option<Op> {
    let sandbox = &snapshot.sandbox;
    let wanted = match model.service {
        ServiceIntent::Keep => None,
        ServiceIntent::Absent => {
            return snapshot
                .service
                .as_deref()
                .filter(|s| s.controlled_by(&sandbox.meta.uid) && s.meta.deletion_timestamp.is_none())
                .map(|s| Op::delete(s, Reason::ServiceUnwanted));
        }
        ServiceIntent::Headless => Some(manifest::headless_service(sandbox, model)),
        ServiceIntent::Stable => Some(manifest::stable_service(sandbox, model)),
    };
    match (snapshot.service.as_deref(), wanted) {
        (None, Some(body)) => {
            Some(Op::create(sandbox.key.sibling(Kind::Service, sandbox.key.name.clone()), Reason::ServiceMissing, body))
        }
        (Some(service), Some(body)) if service.controlled_by(&sandbox.meta.uid) => restored(service, &body),
        (Some(service), Some(body)) => match adoption(sandbox, service, &body) {
            Adoption::Yes => Some(adopt(sandbox, service, json!({}))),
            Adoption::No | Adoption::Differs(_) => None,
        },
        (Some(_) | None, None) => None,
    }
}

/// Restores the fields of our Service that somebody changed. Ports that others added stay.
fn restored(service: &Object, wanted: &Value) -> Option<Op> {
    if service.meta.deletion_timestamp.is_some() {
        return None;
    }
    let Body::Service(Some(actual)) = &service.body else { return None };
    let mut spec = Map::new();
    for (field, want) in wanted["spec"].as_object().into_iter().flatten() {
        let have = &actual[field];
        match (field.as_str(), have) {
            ("ports", _) => {
                let ports = ports_with(have, want);
                if !covers(have, &ports) {
                    spec.insert(field.clone(), ports);
                }
            }
            (_, have) if covers(have, want) => {}
            // The default.
            ("type", Value::Null) => {}
            (..) => {
                spec.insert(field.clone(), want.clone());
            }
        }
    }
    // Every label of a selector restricts it, so none may be added. A Service without a selector has our endpoints.
    let selector = |spec: &Value| spec["selector"].as_object().cloned().unwrap_or_default();
    let changed = difference(&selector(actual), &selector(&wanted["spec"]));
    if !changed.is_empty() {
        spec.insert("selector".to_owned(), changed.into());
    }
    let mut patch = Map::new();
    let labels = missing_entries(&service.meta.labels, &wanted["metadata"]["labels"]);
    if !labels.is_empty() {
        patch.insert("metadata".to_owned(), json!({ "labels": labels }));
    }
    if !spec.is_empty() {
        patch.insert("spec".to_owned(), spec.into());
    }
    (!patch.is_empty()).then(|| Op::patch_if_unchanged(service, Reason::ServiceChanged, patch.into()))
}

/// The wanted ports, and those ports of the Service that contradict none of them.
fn ports_with(have: &Value, wanted: &Value) -> Value {
    let list = |ports: &Value| ports.as_array().cloned().unwrap_or_default();
    let protocol = |port: &Value| port["protocol"].as_str().unwrap_or("TCP").to_owned();
    let same = |a: &Value, b: &Value| a["port"] == b["port"] && protocol(a) == protocol(b);
    let (have, wanted) = (list(have), list(wanted));
    let merged = wanted.iter().map(|want| {
        let mut port = have.iter().find(|port| same(port, want)).cloned().unwrap_or_else(|| json!({}));
        json_patch::merge(&mut port, want);
        port
    });
    let contradicts = |port: &Value| wanted.iter().any(|want| same(port, want) || port["name"] == want["name"]);
    let others = have.iter().filter(|port| !contradicts(port)).cloned();
    let mut all: Vec<Value> = merged.chain(others).collect();
    for port in all.iter_mut().filter_map(Value::as_object_mut) {
        // Only another type of Service may have it.
        port.remove("nodePort");
    }
    Value::Array(all)
}

/// Whether a Service of the Sandbox's name exists that the Sandbox does not control.
pub(super) fn service_is_foreign(snapshot: &SandboxSnapshot) -> bool {
    snapshot.service.as_ref().is_some_and(|s| !s.controlled_by(&snapshot.sandbox.meta.uid))
}

/// Updates the EndpointSlice of a stable Service to the pod and its address.
pub(super) fn endpoints(snapshot: &SandboxSnapshot, endpoint: Option<(&Object, &str)>) -> Option<Op> {
    let sandbox = &snapshot.sandbox;
    let model = sandbox.sandbox()?.spec.as_ref().ok()?;
    if model.service != ServiceIntent::Stable || service_is_foreign(snapshot) {
        return None;
    }
    let (wanted, address) = (manifest::endpoints_of(endpoint), endpoint.map(|(_, address)| address));
    let key = sandbox.key.sibling(Kind::EndpointSlice, sandbox.key.name.clone());
    let Some(slice) = snapshot.endpoints.as_deref() else {
        return address.map(|address| {
            Op::create(key, Reason::EndpointsChanged, manifest::endpoint_slice(sandbox, model, &wanted, address))
        });
    };
    let body = manifest::endpoint_slice(sandbox, model, &wanted, address.unwrap_or_default());
    let labels = missing_entries(&slice.meta.labels, &body["metadata"]["labels"]);
    if !slice.controlled_by(&sandbox.meta.uid) {
        // An earlier Sandbox of the same name left the slice behind.
        let ours = left_behind(sandbox, slice) && labels.is_empty();
        return ours.then(|| adopt(sandbox, slice, json!({})));
    }
    let Body::EndpointSlice(has) = &slice.body else { return None };
    let has: Value = has.parse();
    let mut patch = Map::new();
    if !covers(&has["endpoints"], &wanted) {
        let drained = address.is_none().then(|| snapshot.common.now.to_string());
        patch.insert("metadata".to_owned(), json!({ "annotations": { annotation::DRAINED_AT: drained } }));
        patch.insert("endpoints".to_owned(), wanted);
    }
    if !covers(&has["ports"], &body["ports"]) {
        patch.insert("ports".to_owned(), body["ports"].clone());
    }
    if !labels.is_empty() {
        let metadata = patch.entry("metadata").or_insert_with(|| json!({}));
        metadata["labels"] = labels.into();
    }
    (!patch.is_empty()).then(|| Op::patch(slice, Reason::EndpointsChanged, patch.into()))
}

/// The endpoints of an EndpointSlice.
pub(super) fn slice_endpoints(slice: &Object) -> Option<Value> {
    if let Body::EndpointSlice(body) = &slice.body { Some(body.parse::<Value>()["endpoints"].take()) } else { None }
}
