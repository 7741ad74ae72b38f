//! The parts of cluster-wide objects that decisions use.

use std::collections::BTreeMap;

use serde::Serialize;

/// The parts of a Node that decisions use.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Node {
    /// Ready, and not cordoned.
    pub schedulable: bool,
    /// `spec.unschedulable`: it is to be emptied.
    pub cordoned: bool,
    /// Handlers that its container runtime lists; `None` where it does not say.
    pub handlers: Option<Vec<String>>,
}

/// The parts of a RuntimeClass that decisions use.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RuntimeClass {
    /// The container runtime's name for it.
    pub handler: String,
    /// `scheduling.nodeSelector`.
    pub node_selector: BTreeMap<String, String>,
}
