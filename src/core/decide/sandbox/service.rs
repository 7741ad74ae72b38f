//! The Service of a Sandbox and the EndpointSlice behind a stable address.

use paddock_api::kind::Kind;
use paddock_api::names::annotation;
use serde_json::{Value, json};

use crate::decide::adopt::{adopt, adoptable};
use crate::manifest;
use crate::model::{self, ServiceIntent};
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
    match (&snapshot.service, wanted) {
        (Some(service), Some(_)) if adoptable(service) => Some(adopt(sandbox, service, json!({}))),
        (None, Some(body)) => {
            Some(Op::create(sandbox.key.sibling(Kind::Service, sandbox.key.name.clone()), Reason::ServiceMissing, body))
        }
        (Some(_) | None, Some(_) | None) => None,
    }
}

/// Whether a Service of the Sandbox's name exists that the Sandbox does not control.
pub(super) fn service_is_foreign(snapshot: &SandboxSnapshot) -> bool {
    snapshot.service.as_ref().is_some_and(|s| !s.controlled_by(&snapshot.sandbox.meta.uid))
}

/// Updates the EndpointSlice of a stable Service to the address of the pod.
pub(super) fn endpoints(snapshot: &SandboxSnapshot, address: Option<&str>) -> Option<Op> {
    let sandbox = &snapshot.sandbox;
    let model = sandbox.sandbox()?.spec.as_ref().ok()?;
    if model.service != ServiceIntent::Stable || service_is_foreign(snapshot) {
        return None;
    }
    let wanted = manifest::endpoints_of(address);
    match &snapshot.endpoints {
        None => address.map(|address| {
            let key = sandbox.key.sibling(Kind::EndpointSlice, sandbox.key.name.clone());
            Op::create(key, Reason::EndpointsChanged, manifest::endpoint_slice(sandbox, model, &wanted, address))
        }),
        Some(slice) if !slice.controlled_by(&sandbox.meta.uid) => None,
        Some(slice) => {
            let has = slice_endpoints(slice)?;
            let same = match address {
                Some(address) => has.as_array().is_some_and(|e| {
                    e.len() == 1 && e[0].pointer("/addresses/0").and_then(|a| a.as_str()) == Some(address)
                }),
                None => has.as_array().is_none_or(Vec::is_empty),
            };
            let drained = address.is_none().then(|| snapshot.common.now.to_string());
            (!same).then(|| {
                let body = json!({
                    "metadata": { "annotations": { annotation::DRAINED_AT: drained } },
                    "endpoints": wanted,
                });
                Op::patch(slice, Reason::EndpointsChanged, body)
            })
        }
    }
}

/// The endpoints of an EndpointSlice.
pub(super) fn slice_endpoints(slice: &Object) -> Option<&Value> {
    if let Body::EndpointSlice(body) = &slice.body { Some(&body["endpoints"]) } else { None }
}
