//! The parts of cluster-wide objects that decisions use.

use std::collections::BTreeMap;

use serde::Serialize;

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
}
