//! Reads of the [`World`] that follow a relation: pods of a Sandbox, pools of a template, namespaces.

use std::sync::Arc;

use paddock_api::kind::{Key, Kind};

use super::relations::{names_as_owner, pool_kind};
use super::state::World;
use crate::manifest;
use crate::object::Object;

impl World {
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
        self.pods_of(sandbox).find(|pod| *pod.key.name == *manifest::pod_name(sandbox))
    }

    pub(super) fn pods_of(&self, sandbox: &Object) -> impl Iterator<Item = Arc<Object>> {
        self.children_of(sandbox, Kind::Pod)
    }

    pub(super) fn children_of(&self, owner: &Object, kind: Kind) -> impl Iterator<Item = Arc<Object>> {
        let wanted = owner.key.clone();
        self.children
            .get(&owner.meta.uid)
            .into_iter()
            .flatten()
            .filter(move |k| k.kind == kind)
            .filter_map(|k| self.objects.get(k).cloned())
            .filter(move |o| names_as_owner(o, &wanted))
    }

    pub(super) fn namespace(&self, name: &str) -> Option<&Arc<Object>> {
        self.objects.get(&Key::new(Kind::Namespace, "", name))
    }

    /// The labels of a namespace. They are empty if the namespace is not known.
    #[must_use]
    pub fn namespace_labels(&self, namespace: &str) -> std::collections::BTreeMap<String, String> {
        self.namespace(namespace).map(|o| o.meta.labels.clone()).unwrap_or_default()
    }

    /// Whether the labels of a namespace are known. If the World contains no Namespace at all, the operator has no
    /// permission to watch them, and the labels count as known.
    pub(super) fn namespace_known(&self, namespace: &str) -> bool {
        self.namespace(namespace).is_some() || self.of_kind(Kind::Namespace).next().is_none()
    }

    /// The RuntimeClasses of the cluster.
    #[must_use]
    pub fn classes(&self) -> &Arc<Vec<crate::question::RuntimeClassFact>> {
        &self.classes
    }

    /// The object that controls a Pod, if the World contains both.
    #[must_use]
    pub fn owner_of_pod(&self, namespace: &str, name: &str) -> Option<&Arc<Object>> {
        let pod = self.objects.get(&Key::new(Kind::Pod, namespace, name))?;
        self.objects.get(&pod.owner_key()?)
    }

    pub(super) fn default_storage_class(&self) -> bool {
        // The annotation by which Kubernetes marks the default class.
        const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
        self.of_kind(Kind::StorageClass).any(|c| c.meta.annotations.get(DEFAULT).is_some_and(|v| v == "true"))
    }
}
