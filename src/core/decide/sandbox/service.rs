//! The Service of a Sandbox and the EndpointSlice behind a stable address.

use jiff::Timestamp;
use paddock_api::kind::Kind;
use paddock_api::names::annotation;
use paddock_api::{SuspendedBy, TcpWakePort};
use serde_json::{Map, Value, json};

use super::situation::PodState;
use crate::conditions::difference;
use crate::decide::adopt::{Adoption, adopt, adoption, left_behind};
use crate::manifest;
use crate::model::{self, ServiceIntent};
use crate::object::json::{covers, missing_entries};
use crate::object::{Body, Object, Pod};
use crate::plan::{Op, Plan, Reason};
use crate::snapshot::SandboxSnapshot;
use crate::tcp_wake::{TcpWake, choose};
use crate::time::{saturating_add, time_left};

/// Creates, adopts or deletes the Service of the Sandbox.
pub(super) fn service(snapshot: &SandboxSnapshot, model: &model::Sandbox) -> Option<Op> {
    let sandbox = &snapshot.sandbox;
    let wanted = match model.service {
        ServiceIntent::Keep => None,
        ServiceIntent::Absent => {
            return snapshot
                .service
                .as_deref()
                .filter(|s| s.is_child_of(sandbox) && s.meta.deletion_timestamp.is_none())
                .map(|s| Op::delete(s, Reason::ServiceUnwanted));
        }
        ServiceIntent::Headless => Some(manifest::headless_service(sandbox, model)),
        ServiceIntent::Stable => Some(manifest::stable_service(sandbox, model)),
    };
    match (snapshot.service.as_deref(), wanted) {
        (None, Some(body)) => {
            Some(Op::create(sandbox.key.sibling(Kind::Service, sandbox.key.name.clone()), Reason::ServiceMissing, body))
        }
        (Some(service), Some(body)) if service.is_child_of(sandbox) => restored(service, &body),
        (Some(service), Some(body)) => match adoption(sandbox, service, &body) {
            Adoption::Yes => Some(adopt(sandbox, service, json!({}))),
            Adoption::No | Adoption::Prepared | Adoption::Differs(_) => None,
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
    snapshot.service.as_ref().is_some_and(|s| !s.is_child_of(&snapshot.sandbox))
}

/// Where the Service of a stable address leads.
#[derive(Debug)]
enum Target<'a> {
    /// To the pod, at this address.
    Pod(&'a Object, &'a str),
    /// To these gateways, at these ports.
    Gateways(Vec<&'a str>, &'a [TcpWakePort]),
    /// Nowhere. Connections are refused.
    Nobody,
}

/// Updates the EndpointSlice of a stable Service.
pub(super) fn endpoints(snapshot: &SandboxSnapshot, state: Option<&PodState<'_>>, plan: &mut Plan) -> Option<Op> {
    let sandbox = &snapshot.sandbox;
    let slice = Slice::of(snapshot);
    let model = sandbox.sandbox()?.spec.as_ref().ok().filter(|model| model.service == ServiceIntent::Stable);
    let Some(model) = model.filter(|_| !service_is_foreign(snapshot)) else {
        return without_gateways(&slice);
    };
    let (target, next) = target(snapshot, state, &slice);
    if let Some(at) = next {
        plan.requeue_at(at, Reason::EndpointsChanged);
    }
    let (wanted, ports, ipv6) = match &target {
        Target::Pod(pod, address) => {
            (manifest::endpoints_of(Some((pod, address))), manifest::pod_ports(model), address.contains(':'))
        }
        Target::Gateways(addresses, ports) => (
            manifest::gateway_endpoints(addresses),
            manifest::gateway_ports(model, ports),
            addresses.iter().any(|address| address.contains(':')),
        ),
        Target::Nobody => (manifest::endpoints_of(None), manifest::pod_ports(model), false),
    };
    let body = manifest::endpoint_slice(sandbox, &wanted, &ports, ipv6);
    let Some(object) = snapshot.endpoints.as_deref() else {
        let needed = !matches!(target, Target::Nobody);
        let key = sandbox.key.sibling(Kind::EndpointSlice, sandbox.key.name.clone());
        return needed.then(|| Op::create(key, Reason::EndpointsChanged, body));
    };
    let labels = missing_entries(&object.meta.labels, &body["metadata"]["labels"]);
    if !object.is_child_of(sandbox) {
        // An earlier Sandbox of the same name left the slice behind.
        let ours = left_behind(sandbox, object) && labels.is_empty();
        return ours.then(|| adopt(sandbox, object, json!({})));
    }
    let mut patch = Map::new();
    if !covers(&slice.endpoints, &wanted) {
        let drained_at = match &target {
            Target::Pod(..) => Some(Value::Null),
            Target::Gateways(..) | Target::Nobody if slice.lists_gateways() => None,
            Target::Gateways(..) | Target::Nobody => Some(snapshot.common.now.to_string().into()),
        };
        if let Some(at) = drained_at {
            patch.insert("metadata".to_owned(), json!({ "annotations": { annotation::DRAINED_AT: at } }));
        }
        patch.insert("endpoints".to_owned(), wanted);
    }
    if !covers(&slice.ports, &body["ports"]) {
        patch.insert("ports".to_owned(), body["ports"].clone());
    }
    if !labels.is_empty() {
        let metadata = patch.entry("metadata").or_insert_with(|| json!({}));
        metadata["labels"] = labels.into();
    }
    (!patch.is_empty()).then(|| Op::patch(object, Reason::EndpointsChanged, patch.into()))
}

/// Removes the gateways from the EndpointSlice of a Sandbox whose stable address the operator does not maintain now.
/// Otherwise clients would still reach the ports when they are another Sandbox's.
fn without_gateways(slice: &Slice<'_>) -> Option<Op> {
    let object = slice.object?;
    let pods: Vec<&Value> = slice.list().iter().filter(|endpoint| !endpoint["targetRef"].is_null()).collect();
    let patch = || Op::patch(object, Reason::EndpointsChanged, json!({ "endpoints": pods }));
    (pods.len() < slice.list().len()).then(patch)
}

/// The target of a stable address, and the time at which it changes although nothing else does.
fn target<'a>(
    snapshot: &'a SandboxSnapshot,
    state: Option<&PodState<'a>>,
    slice: &Slice<'_>,
) -> (Target<'a>, Option<Timestamp>) {
    let Some(state) = state else { return (Target::Nobody, None) };
    let gateways_or_nobody = || gateways(snapshot, slice).unwrap_or(Target::Nobody);
    match (state, state.endpoint()) {
        (PodState::Running(_, pod), Some((object, address))) => {
            // A pod without a readiness probe is Ready before it listens. Gateways hold connections until it does.
            let stay = if slice.lists_gateways() { stay(snapshot, object, pod) } else { Stay::Over };
            let gateways = match stay {
                Stay::Over => None,
                Stay::Until(at) => gateways(snapshot, slice).map(|gateways| (gateways, Some(at))),
                Stay::Announcement => gateways(snapshot, slice).map(|gateways| (gateways, None)),
            };
            gateways.unwrap_or((Target::Pod(object, address), None))
        }
        (PodState::Running(..) | PodState::Missing | PodState::Terminating(_) | PodState::Disrupted(_), _) => {
            (gateways_or_nobody(), None)
        }
        // A connection must not resume what a user suspended.
        (PodState::Suspended(_), _) => {
            let record = snapshot.sandbox.meta.annotations.get(annotation::SUSPENDED_BY);
            match SuspendedBy::of_annotation(record) {
                SuspendedBy::Idle | SuspendedBy::Drain => (gateways_or_nobody(), None),
                SuspendedBy::User => (Target::Nobody, None),
            }
        }
        (PodState::Expired | PodState::MultiplePods | PodState::Blocked(_) | PodState::Finished(_), _) => {
            (Target::Nobody, None)
        }
    }
}

/// The time for which gateways stay in the place of a pod that is Ready.
enum Stay {
    /// The pod takes their place now.
    Over,
    Until(Timestamp),
    /// Until a held pod is told what its claim brings. Its command does not start before that.
    Announcement,
}

fn stay(snapshot: &SandboxSnapshot, object: &Object, pod: &Pod) -> Stay {
    let annotations = &object.meta.annotations;
    if pod.held && annotations.get(annotation::CLAIM_DATA).is_none() {
        return Stay::Announcement;
    }
    let announced = annotations.get(annotation::CLAIM_DATA_SENT).and_then(|sent| sent.parse::<Timestamp>().ok());
    let since = pod.condition("Ready").map(|ready| announced.map_or(ready.since, |sent| sent.max(ready.since)));
    let left = since.and_then(|since| time_left(since, snapshot.common.settings.gateway_stays, snapshot.common.now));
    left.map_or(Stay::Over, Stay::Until)
}

/// The gateways of the Sandbox. None before the status has the ports, because the gateways learn them from there.
fn gateways<'a>(snapshot: &'a SandboxSnapshot, slice: &Slice<'_>) -> Option<Target<'a>> {
    let TcpWake::Available { ports, gateways } = &snapshot.tcp_wake else { return None };
    let recorded = snapshot.sandbox.sandbox()?.status.tcp_wake.as_ref().map(|status| &*status.ports);
    if recorded != Some(&**ports) {
        return None;
    }
    let addresses = choose(gateways, slice.ipv6, &snapshot.sandbox.meta.uid, &slice.addresses());
    (!addresses.is_empty()).then_some(Target::Gateways(addresses, ports))
}

/// The EndpointSlice of the Sandbox as it is.
#[derive(Debug)]
struct Slice<'a> {
    /// `None` if there is none that the Sandbox controls. It then counts as one without endpoints.
    object: Option<&'a Object>,
    endpoints: Value,
    ports: Value,
    ipv6: bool,
    /// The time since which it does not have the pod.
    drained: Option<Timestamp>,
}

impl<'a> Slice<'a> {
    fn of(snapshot: &'a SandboxSnapshot) -> Self {
        let object = snapshot.endpoints.as_deref().filter(|s| s.is_child_of(&snapshot.sandbox));
        let body = match object.map(|object| &object.body) {
            Some(Body::EndpointSlice(body)) => Some(body.parse::<Value>()),
            Some(_) | None => None,
        };
        // Without a slice, the first address of the Service decides.
        let ipv6 = match (&body, snapshot.service.as_deref().map(|service| &service.body)) {
            (Some(body), _) => body["addressType"] == "IPv6",
            (None, Some(Body::Service(Some(spec)))) => spec["clusterIP"].as_str().is_some_and(|ip| ip.contains(':')),
            (None, Some(_) | None) => false,
        };
        let mut body = body.unwrap_or_default();
        Self {
            object,
            endpoints: body["endpoints"].take(),
            ports: body["ports"].take(),
            ipv6,
            drained: object.and_then(|object| object.meta.annotations.get(annotation::DRAINED_AT)?.parse().ok()),
        }
    }

    fn list(&self) -> &[Value] {
        self.endpoints.as_array().map(Vec::as_slice).unwrap_or_default()
    }

    fn addresses(&self) -> Vec<String> {
        self.list().iter().filter_map(|endpoint| endpoint["addresses"][0].as_str().map(str::to_owned)).collect()
    }

    /// Whether gateways have taken the place of the pod. An endpoint that is the pod names it.
    fn lists_gateways(&self) -> bool {
        self.drained.is_some() && !self.list().is_empty() && self.list().iter().all(|e| e["targetRef"].is_null())
    }
}

/// The time at which the pod of a Sandbox that is to be suspended may be deleted: a delay after it was removed from the
/// endpoints. `None` if it may be deleted now.
pub(super) fn drained(snapshot: &SandboxSnapshot, state: &PodState<'_>) -> Option<Timestamp> {
    let (slice, settings, now) = (Slice::of(snapshot), &snapshot.common.settings, snapshot.common.now);
    slice.object?;
    let (done, delay) = match target(snapshot, Some(state), &slice).0 {
        Target::Gateways(addresses, _) => {
            (covers(&slice.endpoints, &manifest::gateway_endpoints(&addresses)), settings.gateway_drain_delay)
        }
        Target::Pod(..) | Target::Nobody => (slice.list().is_empty(), settings.drain_delay),
    };
    let due = time_left(slice.drained.unwrap_or(now), delay, now);
    due.or_else(|| (!done).then(|| saturating_add(now, delay)))
}

#[cfg(test)]
mod tests;
