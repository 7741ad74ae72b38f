//! The resource metrics API, which metrics-server serves: the CPU that the containers of a pod use.
//!
//! The types have only the fields that the operator reads. The crate with Kubernetes' types does not have this API.

use jiff::Timestamp;
use serde::Deserialize;

/// The API group.
pub const GROUP: &str = "metrics.k8s.io";

/// The resource of [`PodMetrics`].
pub const RESOURCE: &str = "pods";

/// The path of the PodMetrics of a namespace, or of all namespaces.
#[must_use]
pub fn path(namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) => format!("/apis/{GROUP}/v1beta1/namespaces/{namespace}/{RESOURCE}"),
        None => format!("/apis/{GROUP}/v1beta1/{RESOURCE}"),
    }
}

/// What the containers of a pod used. The object has the name of the pod and no UID.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PodMetrics {
    /// The pod.
    pub metadata: PodName,
    /// The end of the time over which the use was measured.
    pub timestamp: Timestamp,
    /// The length of that time, as a Go duration.
    pub window: String,
    /// The containers that run.
    pub containers: Vec<ContainerMetrics>,
}

/// The name and the namespace of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PodName {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

/// What one container used.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ContainerMetrics {
    /// The amounts.
    pub usage: Usage,
}

/// The amounts that a container used.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Usage {
    /// The CPU as a Kubernetes quantity, such as `12345678n`.
    pub cpu: String,
}
