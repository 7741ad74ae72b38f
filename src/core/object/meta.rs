//! The metadata of an object.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

use paddock_api::kind::{ChildKind, Key, Kind};
use paddock_api::names::{FOREGROUND, annotation, group, label};

use super::text_map::{TextMap, Texts};
use crate::model::names;
use crate::policy_spec::MAX_SPEC_BYTES;

/// The metadata that decisions use.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Meta {
    /// The UID of the object.
    pub uid: Arc<str>,
    /// `resourceVersion`, as the API server wrote it.
    pub resource_version: Arc<str>,
    /// `resourceVersion` as a number. Two numbers of one resource can be compared since Kubernetes 1.35 (KEP-5504).
    pub version: u64,
    /// The generation, which the API server increases with each change of the spec.
    pub generation: i64,
    /// The time at which the object was created.
    pub created: Timestamp,
    /// `deletionTimestamp`: the object is terminating if it is set.
    pub deletion_timestamp: Option<Timestamp>,
    /// Whether the garbage collector deletes the dependents of the object before the object (foreground deletion).
    pub foreground: bool,
    /// The labels of the object.
    pub labels: TextMap,
    /// The annotations of the object.
    pub annotations: TextMap,
    /// The owner that controls the object.
    pub controller: Option<Arc<Owner>>,
    /// The other owners.
    pub other_owners: Box<[Owner]>,
    /// Whether the object has managed fields, and each of their entries is an update by
    /// [`FIELD_MANAGER`](paddock_api::names::FIELD_MANAGER).
    pub only_our_manager: bool,
    /// Whether the JSON of the object is large, so that a reply to a write of it needs much memory.
    pub large: bool,
}

/// An owner reference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Owner {
    /// The API version of the owner, as `group/version`.
    pub api_version: Arc<str>,
    /// The kind of the owner.
    pub kind: Arc<str>,
    /// The name of the owner. The owner is in the namespace of the object.
    pub name: Arc<str>,
    /// The UID of the owner.
    pub uid: Arc<str>,
}

impl Meta {
    pub(super) fn new(meta: ObjectMeta, only_our_manager: bool, large: bool) -> Self {
        let resource_version = meta.resource_version.unwrap_or_default();
        let (mut controller, mut other_owners) = (None, Vec::new());
        for owner in meta.owner_references.unwrap_or_default() {
            let controls = owner.controller == Some(true);
            let owner = Owner {
                api_version: owner.api_version.into(),
                kind: owner.kind.into(),
                name: owner.name.into(),
                uid: owner.uid.into(),
            };
            if controls && controller.is_none() { controller = Some(Arc::new(owner)) } else { other_owners.push(owner) }
        }
        Self {
            uid: meta.uid.unwrap_or_default().into(),
            version: resource_version.parse().unwrap_or_default(),
            resource_version: resource_version.into(),
            generation: meta.generation.unwrap_or_default(),
            created: meta.creation_timestamp.map(|t| t.0).unwrap_or_default(),
            deletion_timestamp: meta.deletion_timestamp.map(|t| t.0),
            foreground: meta.finalizers.iter().flatten().any(|finalizer| finalizer == FOREGROUND),
            labels: meta.labels.unwrap_or_default().into(),
            annotations: meta.annotations.unwrap_or_default().into(),
            controller,
            other_owners: other_owners.into(),
            only_our_manager,
            large,
        }
    }

    /// Whether the spec was changed after the object was created. The API server counts the changes, so a client cannot
    /// hide one.
    #[must_use]
    pub fn edited(&self) -> bool {
        self.generation > 1
    }

    /// Whether a pool controls the object. No claim has taken the Sandbox yet in that case.
    #[must_use]
    pub fn in_pool(&self) -> bool {
        // The API group is compared too, because a client may name an owner of another kind with the same name.
        self.controller.as_ref().is_some_and(|o| {
            let group = o.api_version.split('/').next().unwrap_or_default();
            &*o.kind == "SandboxWarmPool" && matches!(group, group::AGENTS | group::EXTENSIONS)
        })
    }
}

impl Owner {
    /// The key of the owner of the object `owned`, if the operator reconciles the owner's kind.
    #[must_use]
    pub fn key(&self, owned: &Key) -> Option<Key> {
        let kind = Kind::of_reference(&self.api_version, &self.kind)?;
        Some(owned.sibling(kind, self.name.clone()))
    }
}

/// The volumes of a Sandbox whose files may be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeLoss<'a> {
    /// All volumes.
    OfAll,
    /// The volumes of these names.
    Of(BTreeSet<&'a str>),
}

impl<'a> VolumeLoss<'a> {
    /// The volumes whose loss the user allows by an annotation. Its value is `true` for all volumes, or the names of
    /// volumes, separated by commas.
    #[must_use]
    pub fn of(annotations: &'a impl Texts) -> Self {
        match annotations.text(annotation::EPHEMERAL_VOLUMES) {
            Some(label::TRUE) => Self::OfAll,
            Some(names) => Self::Of(names.split(',').map(str::trim).collect()),
            None => Self::Of(BTreeSet::new()),
        }
    }

    /// Whether the files of a volume may be lost.
    #[must_use]
    pub fn allows(&self, volume: &str) -> bool {
        match self {
            Self::OfAll => true,
            Self::Of(names) => names.contains(volume),
        }
    }
}

/// Whether a label or annotation is in a domain of the API or of Paddock.
pub(crate) fn is_ours(key: &str) -> bool {
    let ours = |domain: &str| [group::AGENTS, group::POLICY].iter().any(|of| names::is_within(domain, of));
    names::domain_of(key).is_some_and(|domain| ours(&domain))
}

/// Whether an object of a kind whose objects Paddock makes is neither Paddock's nor prepared for it: no owner is of a kind
/// of Paddock, and another controller exists or no label is of Paddock or the Sandbox API.
pub(super) fn is_foreign(meta: &ObjectMeta) -> bool {
    let labelled = || meta.labels.iter().flatten().any(|(key, _)| is_ours(key));
    let controlled = || meta.owner_references.iter().flatten().any(|owner| owner.controller == Some(true));
    !is_owned(meta) && (controlled() || !labelled())
}

/// The bytes of our annotations that are kept of an object that no object of Paddock owns. Those that decisions read are
/// shorter, except the rules of a NetworkPolicy, which have a limit of their own.
const UNOWNED_BYTES_MAX: usize = 16 * 1024;

/// Whether an object of Paddock owns the object.
pub(super) fn is_owned(meta: &ObjectMeta) -> bool {
    let mut owners = meta.owner_references.iter().flatten();
    owners.any(|owner| Kind::of_reference(&owner.api_version, &owner.kind).is_some())
}

/// The annotations of a NetworkPolicy that say to which template it belongs.
pub(crate) const OF_POLICY: [&str; 2] = [annotation::POLICY_SPEC, annotation::POLICY_TEMPLATE];

/// Drops the annotations that no decision uses about an object without an owner of Paddock. Whoever may create such objects
/// could fill the memory with them: an object is kept for as long as it exists.
pub(super) fn keep_our_annotations(kind: ChildKind, meta: &mut ObjectMeta) {
    let mut left = UNOWNED_BYTES_MAX;
    let mut keep = |key: &str, value: &str| {
        if kind == ChildKind::NetworkPolicy && OF_POLICY.contains(&key) {
            // The operator writes no larger one.
            return value.len() <= MAX_SPEC_BYTES;
        }
        let rest = left.checked_sub(key.len() + value.len()).filter(|_| is_ours(key));
        left = rest.unwrap_or(left);
        rest.is_some()
    };
    meta.annotations.iter_mut().for_each(|annotations| annotations.retain(|key, value| keep(key, value)));
}

/// Drops the metadata that no decision uses about a foreign object.
pub(super) fn keep_identity(meta: &mut ObjectMeta) {
    meta.labels = None;
    meta.annotations = None;
    meta.finalizers = None;
    meta.owner_references = None;
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::object::{Body, Object};

    fn read(kind: Kind, labels: &Value, owners: &Value) -> Object {
        let document = json!({
            "metadata": {
                "name": "a", "namespace": "n", "uid": "u", "resourceVersion": "7", "labels": labels,
                "annotations": { "note": "x", "agents.x-k8s.io/note": "y", "agents.x-k8s.io/z": "z".repeat(1 << 17) },
                "ownerReferences": owners,
            },
            "spec": { "nodeName": "n" }, "endpoints": [{ "addresses": ["10.0.0.1"] }],
        });
        Object::from_json(kind, document).unwrap()
    }

    #[test]
    fn an_offered_service_larger_than_ours_is_foreign() {
        let service = |entries: usize, owners: Value| {
            let selector: serde_json::Map<String, Value> =
                (0..entries).map(|n| (format!("k{n:04}"), "".into())).collect();
            let labels = json!({ "agents.x-k8s.io/adoptable": "true" });
            let metadata = json!({ "name": "a", "namespace": "n", "labels": labels, "ownerReferences": owners });
            let service =
                Object::from_json(Kind::Service, json!({ "metadata": metadata, "spec": { "selector": selector } }));
            matches!(service.unwrap().body, Body::Service(Some(_)))
        };
        assert!(service(1_000, json!([])), "one that could be adopted is read");
        assert!(!service(2_000, json!([])));
        let sandbox = json!([{ "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "name": "a", "uid": "a", "controller": true }]);
        assert!(service(2_000, sandbox), "the operator restores one that a Sandbox controls");
    }

    #[test]
    fn rules_of_a_policy_are_kept_of_policies_alone() {
        let kept = |kind: Kind, bytes: usize| {
            let metadata = json!({
                "name": "a", "namespace": "n", "labels": { "agents.x-k8s.io/x": "y" },
                "annotations": { "policy.paddock.dev/a": "b", annotation::POLICY_SPEC: "z".repeat(bytes) },
            });
            let object = Object::from_json(kind, json!({ "metadata": metadata })).unwrap();
            object.meta.annotations.contains_key(annotation::POLICY_SPEC)
        };
        assert!(kept(Kind::NetworkPolicy, MAX_SPEC_BYTES));
        assert!(!kept(Kind::NetworkPolicy, MAX_SPEC_BYTES + 1), "the operator writes no such annotation");
        for kind in [Kind::Service, Kind::VolumeClaim, Kind::Pod, Kind::EndpointSlice] {
            assert!(!kept(kind, MAX_SPEC_BYTES), "{kind:?}");
        }
    }

    #[test]
    fn only_the_identity_of_a_foreign_object_is_kept() {
        let owner = |group: &str, kind: &str, controller: bool| json!([{ "apiVersion": group, "kind": kind, "name": "o", "uid": "o-1", "controller": controller }]);
        let (none, app) = (json!({}), json!({ "app": "x" }));
        let prepared = json!({ "agents.x-k8s.io/adoptable": "true" });
        let ours = json!({ "policy.paddock.dev/sandbox-uid": "u" });
        for (what, labels, owners, foreign) in [
            ("an object of an application", &app, json!([]), true),
            ("one that another kind controls", &prepared, owner("apps/v1", "ReplicaSet", true), true),
            ("one that a kind of the same name controls", &app, owner("example.com/v1", "Sandbox", true), true),
            ("one that a Sandbox controls", &none, owner("agents.x-k8s.io/v1beta1", "Sandbox", true), false),
            ("one that a Sandbox owns", &app, owner("agents.x-k8s.io/v1alpha1", "Sandbox", false), false),
            (
                "one that a template controls",
                &none,
                owner("extensions.agents.x-k8s.io/v1beta1", "SandboxTemplate", true),
                false,
            ),
            ("one that a user prepared", &prepared, json!([]), false),
            ("one that an orphaning deletion left behind", &ours, json!([]), false),
        ] {
            for kind in [Kind::Pod, Kind::Service, Kind::VolumeClaim, Kind::EndpointSlice] {
                let object = read(kind, labels, &owners);
                // Nobody decides by an annotation of others on an object that Paddock does not own.
                let owned = !object.meta.other_owners.is_empty() || object.meta.controller.is_some();
                let kept = object.meta.annotations.keys().collect::<Vec<_>>();
                let expected: &[&str] = match (foreign, owned) {
                    (true, _) => &[],
                    (false, true) => &["agents.x-k8s.io/note", "agents.x-k8s.io/z", "note"],
                    (false, false) => &["agents.x-k8s.io/note"],
                };
                assert_eq!(kept, expected, "{what}: {kind:?}");
                assert_eq!(object.meta.labels.is_empty(), foreign || labels == &none, "{what}: {kind:?}");
                if kind == Kind::Pod {
                    assert_eq!(object.pod().is_none(), foreign, "{what}");
                }
                if let Body::EndpointSlice(slice) = &object.body {
                    assert_eq!(slice.as_str() == "null", foreign, "{what}");
                }
                assert_eq!((&*object.key.name, &*object.meta.uid, object.meta.version), ("a", "u", 7));
            }
            assert!(
                !read(Kind::NetworkPolicy, labels, &owners).meta.annotations.is_empty(),
                "policies are known by name"
            );
        }
    }
}
