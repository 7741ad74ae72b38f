//! The indexes of templates, their Sandboxes, and their NetworkPolicies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use paddock_api::kind::Key;
use serde_json::Value;

/// The indexes of templates, their Sandboxes, and their NetworkPolicies.
#[derive(Debug, Default)]
pub(super) struct Policies {
    /// The Sandboxes that were made from each template.
    pub(super) made_from: BTreeMap<Key, BTreeSet<Key>>,
    /// The number of pods that the policy of a template selects, by namespace and by the hash of the template's name.
    pub(super) pods: BTreeMap<(Arc<str>, Arc<str>), usize>,
    /// The templates, of both API groups, whose policy exists, belongs to the operator, and has the wanted spec.
    pub(super) in_place: BTreeSet<Key>,
    /// The last known spec of a policy that was deleted, by template. A policy that is needed is created again with it.
    pub(super) deleted: BTreeMap<Key, Arc<Value>>,
}
