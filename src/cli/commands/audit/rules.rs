//! Judges workloads with the functions of the core that the webhook uses.

use std::collections::BTreeSet;

use paddock_api::kind::Kind;
use paddock_core::admission::invalid_fields;
use paddock_core::isolation::{ClassRule, Isolation, PodFields};
use paddock_core::settings::Settings;
use serde_json::Value;

use super::facts::{Facts, Source};
use super::finding::{Finding, Report, Rule};
use super::item::Item;
use super::volumes::Mounts;
use super::workload::Workload;

/// Judges the workloads among these objects, or only those of one namespace.
pub(super) fn judge(items: &[Item], facts: &Facts, namespace: Option<&str>, settings: &Settings) -> Report {
    let default = facts.default_namespace.as_str();
    let of_namespace = |item: &&Item| namespace.is_none_or(|only| item.namespace(default) == only);
    let workloads: Vec<Workload<'_>> = items.iter().filter(of_namespace).filter_map(Workload::of).collect();
    let names: BTreeSet<(&str, &str, String)> =
        workloads.iter().map(|w| (w.item.kind(), w.item.namespace(default), w.item.name())).collect();
    // The ReplicaSets of a Deployment and the Jobs of a CronJob have its pod template.
    let is_copy = |workload: &Workload<'_>| {
        let controller = workload.item.controller().filter(|(kind, _)| matches!(*kind, "Deployment" | "CronJob"));
        controller.is_some_and(|(kind, name)| {
            workload.item.kind() != "Pod" && names.contains(&(kind, workload.item.namespace(default), name.to_owned()))
        })
    };
    let (mut findings, mut mounts, mut count) = (Vec::new(), Mounts::default(), 0);
    for workload in workloads.iter().filter(|workload| !is_copy(workload)) {
        count += 1;
        Judge { workload: *workload, facts, settings, namespace: workload.item.namespace(default) }
            .judge(&mut findings, &mut mounts);
    }
    findings.extend(mounts.findings(facts));
    findings.sort();
    findings.dedup();
    Report { workloads: count, findings }
}

/// One workload, and the objects on which its judgement depends.
struct Judge<'a> {
    workload: Workload<'a>,
    facts: &'a Facts,
    settings: &'a Settings,
    namespace: &'a str,
}

impl<'a> Judge<'a> {
    fn judge(&self, findings: &mut Vec<Finding>, mounts: &mut Mounts<'a>) {
        let (workload, object) = (self.workload, &self.workload.item.object);
        let own = workload.own();
        let errors = workload.marker_errors();
        findings.extend(errors.into_iter().map(|error| self.finding(Rule::InvalidMarker, error.path, error.message)));
        let errors = own.map(|kind| invalid_fields(kind, object)).unwrap_or_default();
        findings.extend(errors.into_iter().map(|error| self.finding(Rule::InvalidObject, error.path, error.message)));
        let generated = workload.marker().is_generated_code() || self.facts.namespace_isolates(self.namespace);
        for pod in workload.pods() {
            if generated {
                findings.extend(self.class(&pod, own));
                let errors = self.isolation().access_errors(&pod);
                findings
                    .extend(errors.into_iter().map(|error| self.finding(Rule::HostAccess, error.path, error.message)));
            }
            if generated || own.is_some() {
                findings.extend(self.token(&pod, own));
                mounts.add(workload, self.namespace, &pod);
            }
        }
    }

    fn isolation(&self) -> Isolation<'a> {
        self.facts.isolation(self.namespace, self.settings)
    }

    fn finding(&self, rule: Rule, field: String, message: String) -> Finding {
        Finding::new(rule, self.workload.item, self.namespace, field, message)
    }

    /// The finding about the RuntimeClass of generated code. The operator chooses a class for Sandboxes that name none, as
    /// long as the cluster has one that isolates.
    fn class(&self, pod: &PodFields<'_>, own: Option<Kind>) -> Option<Finding> {
        let classes = &self.facts.classes;
        let isolation = self.isolation();
        let known = self.facts.source == Source::Cluster || !classes.is_empty();
        let remedy = if known {
            isolation.what_to_set()
        } else {
            let handlers = self.settings.isolated_handlers.join(", ");
            format!("set runtimeClassName to a RuntimeClass whose handler isolates: {handlers}")
        };
        let name = pod.class.filter(|name| !name.is_empty());
        let unknown = name.filter(|name| classes.iter().all(|class| class.name != *name));
        if let Some(problem) = unknown.and_then(|name| isolation.forbidden(name)) {
            return Some(self.finding(Rule::RuntimeClass, pod.class_path.clone(), format!("{problem}; {remedy}")));
        }
        match (unknown, self.facts.source) {
            (Some(name), Source::Manifests) => {
                let message = format!(
                    "RuntimeClass {name:?} is not among the manifests, so its handler is not known; add its manifest to \
                     the audit"
                );
                return Some(self.finding(Rule::UnknownRuntimeClass, pod.class_path.clone(), message));
            }
            (Some(name), Source::Cluster) if own.is_some() => {
                let message = format!("there is no RuntimeClass {name:?}, and no pod is made without it; create it");
                return Some(self.finding(Rule::UnknownRuntimeClass, pod.class_path.clone(), message));
            }
            (Some(_) | None, _) => {}
        }
        let can_choose = !known || isolation.offered().iter().any(|class| class.isolated);
        let rule = if own.is_some() && can_choose { ClassRule::IfKnown } else { ClassRule::Required };
        let error = isolation.class_error(pod, rule, &remedy)?;
        Some(self.finding(Rule::RuntimeClass, error.path, error.message))
    }

    /// The finding about the token of a ServiceAccount. The operator mounts none into a Sandbox unless the pod template asks
    /// for it.
    fn token(&self, pod: &PodFields<'_>, own: Option<Kind>) -> Option<Finding> {
        let flag = &pod.spec["automountServiceAccountToken"];
        let account = pod.spec["serviceAccountName"].as_str().filter(|name| !name.is_empty()).unwrap_or("default");
        let unmounted = match flag {
            Value::Null => own.is_some() || self.facts.mounts_no_token(self.namespace, account),
            Value::Bool(mounted) => !mounted,
            Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => false,
        };
        let message = || format!("must be false: the code in the pod gets the rights of ServiceAccount {account:?}");
        let field = format!("{}.automountServiceAccountToken", pod.spec_path);
        (!unmounted).then(|| self.finding(Rule::ServiceAccountToken, field, message()))
    }
}
