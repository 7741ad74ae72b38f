//! The Sandboxes of pools that somebody touched.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Toleration;
use paddock_api::kind::{Key, Kind};

use super::relations::pool_revision;
use super::state::World;
use super::touch::Touch;
use crate::as_made::{Rules, touched};
use crate::binding::Binding;
use crate::object::{Body, Object};

impl World {
    /// Records whether somebody touched a Sandbox of a pool or its pod. A touch counts even if somebody undoes it, because
    /// a pod that ran another image for a moment is not as made.
    pub(super) fn note_touched(&mut self, key: &Key) {
        let found = self.objects.get(key).filter(|sandbox| sandbox.meta.in_pool()).and_then(|sandbox| {
            let pod = self.pod_of(sandbox);
            let rules = Rules {
                settings: &self.settings,
                plugins_may_change_pods: self.bindings.iter().any(Binding::is_custom_admission),
                isolate: self.requires_isolation(&key.namespace) || self.inherited_marker(sandbox).is_generated_code(),
                class_tolerations: self.tolerations_of_class(pod.as_deref()),
            };
            touched(sandbox, pod.as_deref(), rules)
        });
        if let Some(touch) = self.touched.get_mut(key) {
            // The first one stays.
            touch.shown &= found.as_deref() == Some(&*touch.what);
        } else if let Some(found) = found {
            self.set_touch(key, &found, true);
        }
    }

    /// Compares a Sandbox of a pool again, because something else counts as a touch now. A touch stays if the comparisons do
    /// not show it.
    pub(super) fn compare_again(&mut self, key: &Key) {
        if self.touched.get(key).is_some_and(|touch| touch.shown) {
            self.touched.remove(key);
        }
        self.note_touched(key);
        self.add_warm(key);
    }

    /// Compares those of the Sandboxes again that somebody touched, because other objects demand the marker now. The watches
    /// may deliver a Pod that has the marker before the object that demands it.
    pub(super) fn compare_touched(&mut self, sandboxes: &[Key]) {
        for key in sandboxes {
            if self.touched.contains_key(key) {
                self.compare_again(key);
            }
        }
    }

    /// The Sandboxes of a namespace that somebody touched.
    pub(super) fn touched_in(&self, namespace: &str) -> Vec<Key> {
        let there = self.touched.range(Key::new(Kind::Sandbox, namespace, "")..).map(|(key, _)| key);
        there.take_while(|key| *key.namespace == *namespace).cloned().collect()
    }

    /// The tolerations that a pod got from its RuntimeClass.
    fn tolerations_of_class(&self, pod: Option<&Object>) -> &[Toleration] {
        let class = pod.and_then(|pod| pod.pod()?.runtime_class.as_deref());
        let class = class.and_then(|name| self.objects.get(&Key::new(Kind::RuntimeClass, "", name)));
        match class.map(|class| &class.body) {
            Some(Body::RuntimeClass(class)) => &class.tolerations,
            Some(_) | None => &[],
        }
    }

    /// Compares the members of a RuntimeClass with what was made. Without the class, its tolerations look as if somebody
    /// had added them, and could explain another change.
    pub(super) fn compare_members_of(&mut self, class: &Key) {
        let of_class = |pod: &Object| pod.pod().is_some_and(|pod| pod.runtime_class.as_deref() == Some(&*class.name));
        let members = self.members.values().flatten();
        let members = members.filter(|(_, (_, pod))| pod.as_deref().is_some_and(of_class));
        for member in members.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.note_touched(&member);
        }
    }

    /// Records a touch that no comparison shows. It replaces one that a comparison shows, which another comparison may end.
    pub(super) fn touch(&mut self, key: &Key, what: &str) {
        if self.touched.get(key).is_none_or(|touch| touch.shown) {
            self.set_touch(key, what, false);
        }
    }

    fn set_touch(&mut self, key: &Key, what: &str, shown: bool) {
        self.remove_warm(key);
        self.touched.insert(key.clone(), Touch { what: what.into(), shown });
    }

    /// Adds a Sandbox to the index of warm Sandboxes, if a claim can take it.
    pub(super) fn add_warm(&mut self, key: &Key) {
        if self.reservations.contains(key) || self.touched.contains_key(key) {
            return;
        }
        if let Some(object) = self.objects.get(key)
            && let Some(revision) = pool_revision(object)
        {
            let node = self.pod_of(object).and_then(|pod| pod.pod()?.node.clone());
            self.warm.insert(&revision, key, object.meta.created, node.unwrap_or_default());
        }
    }

    /// Removes a Sandbox from the index of warm Sandboxes.
    pub(super) fn remove_warm(&mut self, key: &Key) {
        if let Some(object) = self.objects.get(key).cloned() {
            self.remove_warm_object(&object);
        }
    }

    pub(super) fn remove_warm_object(&mut self, object: &Arc<Object>) {
        if let Some(revision) = pool_revision(object) {
            self.warm.remove(&revision, &object.key);
        }
    }
}
