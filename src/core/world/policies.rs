//! The indexes of templates, their Sandboxes, and their NetworkPolicies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use paddock_api::kind::Key;

use crate::network_policy::SpecDigests;
use crate::object::JsonText;

/// The namespace of a pod, and the hash of the name of its template.
pub(super) type Selected = (Arc<str>, Arc<str>);

/// The indexes of templates, their Sandboxes, and their NetworkPolicies.
#[derive(Debug, Default)]
pub(super) struct Policies {
    /// The Sandboxes that were made from each template.
    pub(super) made_from: BTreeMap<Key, BTreeSet<Key>>,
    /// The number of pods by the hash of the name of their template, and by its digest if they have one.
    pub(super) pods: BTreeMap<(Selected, Option<Arc<str>>), usize>,
    /// Those of these pods that Sandboxes control and that have no digest of the template's name.
    pub(super) without_digest: BTreeMap<Selected, BTreeSet<Key>>,
    /// The templates whose policy was made for the template of the same name in the other API group. The values are the keys
    /// of the latter.
    pub(super) heirs: BTreeMap<Selected, BTreeMap<Key, Key>>,
    /// The policies that valid templates ask for. A template that is Unmanaged or not valid is not in the map.
    pub(super) wanted: BTreeMap<Key, Wanted>,
    /// The templates, of both API groups, whose policy exists, belongs to the operator, and has the wanted spec.
    pub(super) in_place: BTreeSet<Key>,
    /// The spec that the policy of a template had when it was last in place, for as long as the template or one of its
    /// Sandboxes or pods exists. It is wanted if the template is deleted or not valid.
    pub(super) made: BTreeMap<Key, Made>,
}

/// The policy that a template asks for.
#[derive(Debug)]
pub(super) enum Wanted {
    /// A policy with the spec that has these digests.
    Rules(SpecDigests),
    /// A policy with more rules than the operator writes. The text is the error of the template.
    TooLarge(String),
}

/// A spec that a policy had when it was in place.
#[derive(Debug)]
pub(super) struct Made {
    /// The spec, which shares its text with the policy.
    pub(super) spec: JsonText,
    pub(super) digests: SpecDigests,
}
