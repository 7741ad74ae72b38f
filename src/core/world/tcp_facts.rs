//! The facts about the resume of Sandboxes by TCP connections: the gateways, the NetworkPolicies that restrict ingress, and
//! the ports.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Deserialize;

use super::ports::{Leads, Ports};
use crate::binding::Selector;
use crate::object::{Body, JsonText, Object, Texts};
use crate::tcp_wake::Gateway;

/// The facts about the resume by TCP connections.
#[derive(Debug, Default)]
pub(super) struct TcpFacts {
    pub(super) ports: Ports,
    pub(super) gateways: Arc<[Gateway]>,
    /// The NetworkPolicies that restrict ingress, by namespace and name.
    pub(super) policies: BTreeMap<Arc<str>, BTreeMap<Arc<str>, IngressPolicy>>,
}

impl Leads {
    /// Reads an EndpointSlice of a Sandbox. `None` if each of its endpoints names a pod: those of gateways name none.
    pub(super) fn of(slice: &Object) -> Option<Self> {
        #[derive(Deserialize)]
        struct Slice {
            endpoints: Option<Vec<serde_json::Value>>,
            ports: Option<Vec<serde_json::Value>>,
        }
        let Body::EndpointSlice(body) = &slice.body else { return None };
        // The text is null if the slice is foreign.
        let slice_body = serde_json::from_str::<Option<Slice>>(body.as_str()).ok()??;
        let endpoints = slice_body.endpoints.unwrap_or_default();
        let ports: BTreeSet<u16> =
            slice_body.ports.iter().flatten().filter_map(|port| u16::try_from(port["port"].as_u64()?).ok()).collect();
        let controller = slice.meta.controller.as_ref();
        let uid = controller.map_or_else(|| "".into(), |owner| owner.uid.clone());
        (endpoints.iter().any(|endpoint| endpoint["targetRef"].is_null()) && !ports.is_empty())
            .then_some(Self { uid, ports })
    }
}

/// The most labels, requirements and values of a selector that is kept. Parsed, each takes ten times its JSON, and nobody
/// writes as many.
const SELECTOR_PARTS_MAX: usize = 200;

/// The pods that a NetworkPolicy selects.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum IngressPolicy {
    Selects(Box<Selector>),
    /// The selector cannot be read or is too large to be kept, so it may select every pod.
    Unreadable,
}

impl IngressPolicy {
    /// Reads a spec. `None` if it does not restrict ingress.
    pub(super) fn of(spec: &JsonText) -> Option<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Spec {
            #[serde(default)]
            pod_selector: Option<Selector>,
            #[serde(default)]
            policy_types: Option<Vec<String>>,
        }
        let Ok(spec) = serde_json::from_str::<Spec>(spec.as_str()) else { return Some(Self::Unreadable) };
        let types = spec.policy_types.unwrap_or_default();
        // Without types, a policy is about ingress.
        let ingress = types.is_empty() || types.iter().any(|of| of == "Ingress");
        let selector = spec.pod_selector.unwrap_or_default();
        let values = selector.match_expressions.iter().map(|requirement| 1 + requirement.values.len());
        let kept = selector.match_labels.len() + values.sum::<usize>() <= SELECTOR_PARTS_MAX;
        ingress.then(|| if kept { Self::Selects(Box::new(selector)) } else { Self::Unreadable })
    }

    pub(super) fn selects(&self, labels: &impl Texts) -> bool {
        match self {
            Self::Selects(selector) => selector.matches(labels),
            Self::Unreadable => true,
        }
    }
}
