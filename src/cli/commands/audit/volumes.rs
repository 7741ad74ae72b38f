//! Finds file systems that several sandboxes share. Code in one of them can change what the others read.

use std::collections::BTreeMap;

use paddock_core::isolation::PodFields;
use serde_json::Value;

use super::facts::{Facts, Name, writable_by_many};
use super::finding::{Finding, Rule};
use super::item::Item;
use super::workload::Workload;

/// The number of other users of a volume claim that a message names.
const MAX_NAMED: usize = 3;

/// The volume claims of all workloads.
#[derive(Default)]
pub(super) struct Mounts<'a> {
    by_claim: BTreeMap<Name, Vec<Mount<'a>>>,
    found: Vec<Finding>,
}

/// A volume of a pod.
struct Mount<'a> {
    item: &'a Item,
    field: String,
    read_only: bool,
    /// Whether many Sandboxes have this volume.
    many: bool,
}

fn list(value: &Value) -> impl Iterator<Item = (usize, &Value)> {
    value.as_array().into_iter().flatten().enumerate()
}

impl<'a> Mounts<'a> {
    /// Adds the volumes of a pod. The controller of an object mounts the same ones, so only the controller counts. A
    /// Sandbox counts even if a pool or a claim controls it.
    pub(super) fn add(&mut self, workload: Workload<'a>, namespace: &str, pod: &PodFields<'_>) {
        let item = workload.item;
        if workload.own().is_none() && item.controller().is_some() {
            return;
        }
        for (at, volume) in list(&pod.spec["volumes"]) {
            let path = format!("{}.volumes[{at}]", pod.spec_path);
            let source = &volume["persistentVolumeClaim"];
            if let Some(claim) = source["claimName"].as_str() {
                let field = format!("{path}.persistentVolumeClaim.claimName");
                let read_only = source["readOnly"] == true;
                let mount = Mount { item, field, read_only, many: workload.makes_many() };
                self.by_claim.entry((namespace.to_owned(), claim.to_owned())).or_default().push(mount);
            }
            let template = &volume["ephemeral"]["volumeClaimTemplate"]["spec"];
            self.check_template(item, namespace, template, &format!("{path}.ephemeral.volumeClaimTemplate"));
        }
        for (at, template) in list(&item.object["spec"]["volumeClaimTemplates"]) {
            self.check_template(item, namespace, &template["spec"], &format!("spec.volumeClaimTemplates[{at}]"));
        }
    }

    fn check_template(&mut self, item: &Item, namespace: &str, spec: &Value, path: &str) {
        if writable_by_many(spec) {
            let message = "must not contain ReadWriteMany, which lets pods of other nodes write to the volume; use \
                           ReadWriteOnce or ReadWriteOncePod";
            let field = format!("{path}.spec.accessModes");
            self.found.push(Finding::new(Rule::SharedVolume, item, namespace, field, message.to_owned()));
        }
    }

    /// The findings about all volumes. Volumes that nobody can write to are not reported.
    pub(super) fn findings(self, facts: &Facts) -> Vec<Finding> {
        let mut found = self.found;
        for (key, mounts) in &self.by_claim {
            let written = mounts.iter().any(|mount| !mount.read_only);
            for (at, mount) in mounts.iter().enumerate() {
                let claim = &key.1;
                let others = mounts.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, other)| other.item);
                let others: Vec<String> = others.map(|item| format!("{} {}", item.kind(), item.name())).collect();
                let problem = if !written {
                    continue;
                } else if !others.is_empty() {
                    format!("volume claim {claim:?} is also mounted by {}", named(&others))
                } else if mount.many {
                    format!("volume claim {claim:?} is mounted by every Sandbox that is made from this object")
                } else if facts.is_shared(key) && !mount.read_only {
                    format!("volume claim {claim:?} has the access mode ReadWriteMany")
                } else {
                    continue;
                };
                let message = format!("{problem}; use volumeClaimTemplates, so that each Sandbox has files of its own");
                found.push(Finding::new(Rule::SharedVolume, mount.item, &key.0, mount.field.clone(), message));
            }
        }
        found
    }
}

/// The first names, and the number of the others.
fn named(names: &[String]) -> String {
    let first = names.iter().take(MAX_NAMED).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MAX_NAMED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}
