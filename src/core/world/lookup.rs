//! Reads of the [`World`] that follow a relation: pods of a Sandbox, pools of a template, namespaces.

use std::sync::Arc;

use paddock_api::kind::{Key, Kind, OwnKind};

use super::relations::{pool_kind, pool_of, references};
use super::state::World;
use crate::isolation::{Isolation, NamespaceLabels};
use crate::manifest;
use crate::marker::{Marker, marker_of_all, namespace_isolates};
use crate::object::{Object, TextMap};
use crate::snapshot::{ClaimOfSandbox, StorageClasses};

/// The end of a connection through the API server.
#[derive(Clone, Copy, Debug)]
pub enum Connected<'a> {
    /// This Sandbox controls the Pod or Service.
    Sandbox(&'a Arc<Object>),
    /// No Sandbox controls it.
    Other,
    /// The World does not contain it, or does not contain the Sandbox that controls it.
    Unknown,
}

impl<'a> Connected<'a> {
    /// The Sandbox, if it is known.
    #[must_use]
    pub fn sandbox(self) -> Option<&'a Arc<Object>> {
        match self {
            Self::Sandbox(sandbox) => Some(sandbox),
            Self::Other | Self::Unknown => None,
        }
    }
}

impl World {
    /// Whether a decision about an object may need much memory: the object is large, or an object whose content its questions
    /// and its writes repeat.
    #[must_use]
    pub fn is_large(&self, key: &Key) -> bool {
        let Some(object) = self.objects.get(key) else { return false };
        let children = match key.kind.own() {
            Some(OwnKind::Sandbox) => Some(Kind::Pod),
            Some(OwnKind::Claim(_)) => Some(Kind::Sandbox),
            // The Sandboxes of a pool are made from its template.
            Some(OwnKind::Pool(_) | OwnKind::Template(_)) | None => None,
        };
        object.meta.large
            || references(object).iter().any(|reference| self.is_large(reference))
            || children.into_iter().flat_map(|kind| self.children_of(object, kind)).any(|child| child.meta.large)
    }

    /// The pools that use a template. If `target` is a pool, the result is that pool.
    pub(super) fn pools_using(&self, target: &Key) -> Vec<Key> {
        let pool = pool_kind(target.kind);
        if target.kind == pool {
            return vec![target.clone()];
        }
        self.referrers.get(target).into_iter().flatten().filter(|k| k.kind == pool).cloned().collect()
    }

    pub(super) fn pod_of(&self, sandbox: &Object) -> Option<Arc<Object>> {
        // The operator did not create a pod of another name, even if an owner reference names the Sandbox.
        let own = self.pods_of(sandbox).filter(|pod| manifest::is_pod_name(sandbox, &pod.key.name));
        own.min_by_key(|pod| &*pod.key.name != manifest::pod_name(sandbox))
    }

    pub(super) fn pods_of(&self, sandbox: &Object) -> impl Iterator<Item = Arc<Object>> {
        self.children_of(sandbox, Kind::Pod)
    }

    pub(super) fn children_of(&self, owner: &Object, kind: Kind) -> impl Iterator<Item = Arc<Object>> {
        // The empty string sorts before every namespace.
        self.children
            .range((owner.meta.uid.clone(), Key::new(kind, "", ""))..)
            .take_while(move |(of, k)| *of == owner.meta.uid && k.kind == kind)
            .filter_map(|(_, k)| self.objects.get(k).cloned())
            .filter(move |o| o.is_child_of(owner))
    }

    pub(super) fn namespace(&self, name: &str) -> Option<&Arc<Object>> {
        self.objects.get(&Key::new(Kind::Namespace, "", name))
    }

    /// The labels of a namespace. They are empty if the namespace is not known.
    #[must_use]
    pub fn namespace_labels(&self, namespace: &str) -> std::collections::BTreeMap<String, String> {
        self.namespace(namespace).map(|o| o.meta.labels.to_map()).unwrap_or_default()
    }

    /// Whether a namespace requires that each of its pods is isolated.
    #[must_use]
    pub fn requires_isolation(&self, namespace: &str) -> bool {
        let object = self.namespace(namespace);
        object.is_some_and(|object| namespace_isolates(&self.settings, namespace, &object.meta.labels))
    }

    /// The pool that controls a Sandbox, if both exist.
    pub(super) fn pool_object_of(&self, sandbox: &Object) -> Option<&Arc<Object>> {
        let (key, uid) = pool_of(sandbox)?;
        self.objects.get(&key).filter(|pool| pool.meta.uid == uid)
    }

    /// The marker of the claim or pool that controls a Sandbox, and of its template. A label of these objects that was
    /// added after the Sandbox was made reaches its running pod if that pod is isolated, and isolates its next pod.
    pub(super) fn inherited_marker(&self, sandbox: &Object) -> Marker {
        let owner = sandbox.owner_key().and_then(|key| self.objects.get(&key));
        let template = sandbox.template.as_ref().and_then(|template| self.objects.get(&**template));
        marker_of_all([owner, template].map(|object| object.map(|object| &**object)))
    }

    /// The claim that controls a Sandbox, with the template that the Sandbox was made from.
    pub(super) fn claim_of(&self, sandbox: &Object) -> Option<ClaimOfSandbox> {
        let owner = sandbox.owner_key().filter(|owner| matches!(owner.kind.own(), Some(OwnKind::Claim(_))))?;
        let claim = self.objects.get(&owner).filter(|claim| sandbox.is_child_of(claim))?;
        let live = claim.meta.deletion_timestamp.is_none();
        let template = sandbox.template.as_ref().and_then(|template| self.objects.get(&**template)).cloned();
        live.then(|| ClaimOfSandbox { claim: claim.clone(), template })
    }

    /// The name of the Sandbox that belongs to the claim of a review. The status of the claim may not name it yet.
    #[must_use]
    pub fn sandbox_of_claim(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<str>> {
        let kind = Kind::of_resource(group, resource).filter(|kind| matches!(kind.own(), Some(OwnKind::Claim(_))))?;
        let claim = self.objects.get(&Key::new(kind, namespace, name))?;
        self.children_of(claim, Kind::Sandbox).next().map(|sandbox| sandbox.key.name.clone())
    }

    /// The parts of a Sandbox's running pod that break the isolation of the pod, or `None` if there is no such pod.
    #[must_use]
    pub fn exposed_by(&self, namespace: &str, sandbox: &str) -> Option<String> {
        let sandbox = self.objects.get(&Key::new(Kind::Sandbox, namespace, sandbox))?;
        let isolation = self.isolation(namespace);
        self.pods_of(sandbox).find_map(|pod| isolation.broken_by(pod.pod()?))
    }

    /// The rule for the isolation of the pods of a namespace.
    pub(super) fn isolation(&self, namespace: &str) -> Isolation<'_> {
        let isolation = Isolation::new(&self.classes, &self.settings);
        let rules = self.bindings.isolation();
        match self.namespace(namespace) {
            Some(object) => isolation.in_namespace(rules, &NamespaceLabels::Known(&object.meta.labels)),
            None => isolation.in_namespace(rules, &NamespaceLabels::Uncertain(&TextMap::default())),
        }
    }

    /// Whether the labels of a namespace are known. If the World contains no Namespace at all, they count as known. The
    /// operator requires the list of Namespaces before it decides, so only simulations and tests have such a World.
    #[must_use]
    pub fn namespace_known(&self, namespace: &str) -> bool {
        self.namespace(namespace).is_some() || self.of_kind(Kind::Namespace).next().is_none()
    }

    /// The RuntimeClasses of the cluster.
    #[must_use]
    pub fn classes(&self) -> &Arc<Vec<crate::question::RuntimeClassFact>> {
        &self.classes
    }

    /// The end of a connection through the API server to the Pod or Service of this name. The name of a proxied request
    /// may contain a scheme and a port, as in `https:NAME:8888`.
    #[must_use]
    pub fn connected(&self, resource: &str, namespace: &str, name: &str) -> Connected<'_> {
        let Some(kind) = [Kind::Pod, Kind::Service].into_iter().find(|kind| kind.plural() == resource) else {
            return Connected::Other;
        };
        let name = match name.split(':').collect::<Vec<_>>().as_slice() {
            [name] | [name, _] | [_, name, _] => *name,
            // The API server refuses such a name.
            _ => return Connected::Other,
        };
        let Some(target) = self.objects.get(&Key::new(kind, namespace, name)) else { return Connected::Unknown };
        match target.owner_key().filter(|owner| owner.kind == Kind::Sandbox) {
            None => Connected::Other,
            Some(sandbox) => match self.objects.get(&sandbox) {
                Some(sandbox) => Connected::Sandbox(sandbox),
                // The Sandbox is deleted before its pod, and no claim gets a terminating pod.
                None if target.meta.deletion_timestamp.is_some() => Connected::Other,
                None => Connected::Unknown,
            },
        }
    }

    /// The StorageClasses of the cluster, as far as a volume claim without a class depends on them.
    pub(super) fn storage_classes(&self) -> StorageClasses {
        // The annotations by which Kubernetes marks the default class.
        const DEFAULT: [&str; 2] =
            ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
        let is_default = |class: &Arc<Object>| {
            DEFAULT.iter().any(|name| class.meta.annotations.get(name).is_some_and(|value| value == "true"))
        };
        if self.of_kind(Kind::StorageClass).any(is_default) {
            StorageClasses::WithDefault
        } else if self.of_kind(Kind::StorageClass).next().is_some() {
            StorageClasses::WithoutDefault
        } else {
            StorageClasses::None
        }
    }
}
