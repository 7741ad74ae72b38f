//! The parts of objects of others that decisions use: cluster-wide ones, and the EndpointSlices of other Services.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Toleration;
use serde::Serialize;

use crate::tcp_wake::Gateway;

/// The endpoints in an EndpointSlice that the operator did not make.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ServiceEndpoints {
    /// The name of the Service, in the namespace of the slice.
    pub service: Arc<str>,
    /// The endpoints that have an IP address.
    pub endpoints: Box<[Gateway]>,
}

/// The parts of a Node that decisions use.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Node {
    /// Whether the node is Ready and not cordoned.
    pub schedulable: bool,
    /// `spec.unschedulable`: the node is cordoned, and its pods are to be moved away.
    pub cordoned: bool,
    /// The handlers that its container runtime reports in the status, or `None` if it reports none.
    pub handlers: Option<Vec<String>>,
}

/// The parts of a RuntimeClass that decisions use.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RuntimeClass {
    /// The name of the handler in the configuration of the container runtime.
    pub handler: String,
    /// The labels that a node needs to run the class: `scheduling.nodeSelector`.
    pub node_selector: BTreeMap<String, String>,
    /// The tolerations that the API server adds to each new pod of the class: `scheduling.tolerations`.
    pub tolerations: Vec<Toleration>,
}
