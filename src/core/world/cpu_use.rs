//! The CPU that the pods of Sandboxes use, and the namespaces whose idle plugins may ask for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use paddock_api::kind::Kind;

use super::relations::sandbox_of;
use super::state::World;
use crate::binding::Binding;
use crate::cpu_use::{CpuFacts, CpuSample, PodCpuUse};
use crate::object::Object;
use crate::question::Hook;

impl World {
    /// The namespaces in which an idle plugin may ask for the CPU that a Sandbox uses, and for its open connections. The
    /// built-in needs neither: its settings have no threshold, and it relies on the records of activity.
    #[must_use]
    pub fn namespaces_with_idle_plugins(&self) -> Vec<Arc<str>> {
        let asks = |binding: &Binding| binding.hook == Hook::Idle && !binding.built_in && binding.not_loaded.is_none();
        let mut needed: Vec<Arc<str>> = Vec::new();
        if !self.bindings.iter().any(asks) {
            return needed;
        }
        // Sandboxes are in the order of their namespaces.
        let (mut namespace, mut labels) = ("", BTreeMap::new());
        for sandbox in self.of_kind(Kind::Sandbox).filter(|sandbox| may_be_idle(sandbox)) {
            let of = &sandbox.key.namespace;
            if needed.last() == Some(of) {
                continue;
            }
            if **of != *namespace {
                (namespace, labels) = (&**of, self.namespace_labels(of));
            }
            if self.bindings.applying(Hook::Idle, &labels, &sandbox.meta.labels).any(asks) {
                needed.push(of.clone());
            }
        }
        needed
    }

    /// Keeps the samples of pods that belong to a Sandbox.
    pub(super) fn cpu_used(&mut self, uses: Vec<PodCpuUse>, now: Timestamp) {
        for PodCpuUse { pod, millicores, measured, window } in uses {
            let Some((key, object)) = self.objects.get_key_value(&pod) else { continue };
            // A sample that began before its pod may be of an earlier pod of the name.
            let of_this_pod = measured.checked_sub(window).is_ok_and(|began| began >= object.meta.created);
            let known = self.cpu.samples.get(key);
            let is_new = known.is_none_or(|known| known.pod != object.meta.uid || known.measured != measured);
            if of_this_pod && is_new && sandbox_of(object).is_some() {
                let sample = CpuSample { pod: object.meta.uid.clone(), millicores, measured, window, seen: now };
                self.cpu.samples.insert(key.clone(), sample);
            }
        }
    }

    /// Notes the end of a list.
    pub(super) fn cpu_use_listed(&mut self, now: Timestamp) {
        self.cpu.listed = Some(now);
    }

    /// The facts about the pod of a Sandbox.
    pub(super) fn cpu_facts(&self, sandbox: &Object) -> CpuFacts {
        let sample = self.pod_of(sandbox).and_then(|pod| self.cpu.samples.get(&pod.key)).cloned();
        CpuFacts { sample, listed: self.cpu.listed }
    }
}

/// Whether the idle policy may be asked about a Sandbox.
fn may_be_idle(sandbox: &Object) -> bool {
    let model = sandbox.sandbox().and_then(|sandbox| sandbox.spec.as_ref().ok());
    model.is_some_and(|model| model.idle_timeout.is_some()) && !sandbox.meta.in_pool() && sandbox.runs()
}

#[cfg(test)]
mod tests;
