//! The one rule that decides whether a pod is isolated. Admission and the reconcile both apply it.
//!
//! A pod is isolated if its RuntimeClass has an isolating handler, and if no field gives it access to its host. The
//! second part is the PodSecurity profile *baseline*, and raw block devices. An isolating runtime passes such access
//! on: gVisor and Kata write to a `hostPath` volume of the node, for example.

pub mod cel;
mod fields;
mod host_access;
mod rules;
mod workloads;

use crate::model::FieldError;
use crate::object::{Pod, Texts};
use crate::question::RuntimeClassFact;
use crate::settings::Settings;

pub(crate) use fields::APPARMOR_ANNOTATION;
use fields::{AllFindings, Finding, Reader};
pub use fields::{PodFields, host_access};
pub use host_access::HostAccessSet;
pub use paddock_api::{HostAccess, UnknownHostAccess};
pub use rules::{IsolationRule, NamespaceLabels};
pub use workloads::{POD_KINDS, PodKind};

/// The maximum number of fields that one message names. A pod of hundreds of containers would fill a message that
/// nobody reads.
const MAX_FIELDS: usize = 16;

/// The facts, settings and rules on which the isolation of a pod depends.
#[derive(Clone, Debug)]
pub struct Isolation<'a> {
    /// The RuntimeClasses of the cluster.
    pub classes: &'a [RuntimeClassFact],
    /// The access to the host that the platform team allows to generated code.
    pub allowed: HostAccessSet,
    /// The rules that limit the RuntimeClasses of the namespace. Each of them must permit a RuntimeClass.
    limits: Vec<&'a IsolationRule>,
}

/// The RuntimeClass that a pod must name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassRule {
    /// A class that exists and isolates. This is the rule for Pods.
    Required,
    /// None, or any class that does not exist yet, or one that isolates. This is the rule for the objects that pods are
    /// made from: a plugin chooses the class when the pod is made.
    IfKnown,
}

impl<'a> Isolation<'a> {
    /// The rule with these RuntimeClasses, for a namespace to which no rules of a policy apply.
    #[must_use]
    pub fn new(classes: &'a [RuntimeClassFact], settings: &Settings) -> Self {
        Self { classes, allowed: settings.isolation_allow, limits: Vec::new() }
    }

    /// The same rule for a namespace with these labels. The policies that apply to it add what they allow, and each of
    /// them limits the RuntimeClasses. If it is not known whether a policy applies, it allows nothing, and limits.
    #[must_use]
    pub fn in_namespace(mut self, rules: &'a [IsolationRule], labels: &NamespaceLabels<'_, impl Texts>) -> Self {
        for rule in rules {
            let applies = rule.applies(labels);
            if applies == Some(true) {
                self.allowed = self.allowed.with(rule.allow);
            }
            if applies != Some(false) && rule.runtime_classes.is_some() {
                self.limits.push(rule);
            }
        }
        self
    }

    /// Returns the errors of a pod that runs generated code: the fields that break its isolation, with the right values,
    /// and the number of further ones if there are many. It returns none if the pod is isolated. `remedy` completes the
    /// error of the RuntimeClass.
    #[must_use]
    pub fn judge(&self, pod: &PodFields<'_>, rule: ClassRule, remedy: &str) -> Vec<FieldError> {
        self.errors(pod, self.class_error(pod, rule, remedy), &[])
    }

    /// Returns the same errors of the new version of a pod, without those that its old version has.
    #[must_use]
    pub fn judge_change(
        &self,
        old: &PodFields<'_>,
        new: &PodFields<'_>,
        rule: ClassRule,
        remedy: &str,
    ) -> Vec<FieldError> {
        let mut existing = AllFindings::default();
        fields::read(old, &mut existing);
        existing.0.sort_unstable();
        let before = self.class_error(old, rule, remedy);
        let class = self.class_error(new, rule, remedy).filter(|error| before.as_ref() != Some(error));
        self.errors(new, class, &existing.0)
    }

    /// The error of the RuntimeClass alone, as in [`Isolation::judge`].
    #[must_use]
    pub fn class_error(&self, pod: &PodFields<'_>, rule: ClassRule, remedy: &str) -> Option<FieldError> {
        let problem = self.class_problem(pod.class, rule)?;
        Some(FieldError::new(pod.class_path.clone(), format!("{problem}; {remedy}")))
    }

    /// The errors of the fields that give access to the host alone, as in [`Isolation::judge`].
    #[must_use]
    pub fn access_errors(&self, pod: &PodFields<'_>) -> Vec<FieldError> {
        self.errors(pod, None, &[])
    }

    /// The remedy for a pod without a RuntimeClass that isolates, with the isolating classes of the cluster.
    #[must_use]
    pub fn what_to_set(&self) -> String {
        let isolating = self.classes.iter().filter(|c| c.isolated).map(|c| c.name.as_str());
        let (permitted, others): (Vec<&str>, Vec<&str>) = isolating.partition(|name| self.limit_of(name).is_none());
        if !permitted.is_empty() {
            format!("set runtimeClassName to one that isolates: {}", permitted.join(", "))
        } else if !others.is_empty() {
            let policies: Vec<&str> = self.limits.iter().map(|rule| rule.policy.as_str()).collect();
            format!(
                "this namespace may use no RuntimeClass that isolates: change the SandboxPolicies that limit its \
                 RuntimeClasses ({})",
                policies.join(", ")
            )
        } else {
            "this cluster has no RuntimeClass that isolates (gVisor or Kata): install one and set runtimeClassName to it"
                .to_owned()
        }
    }

    /// The RuntimeClasses among which a plugin may choose for generated code.
    #[must_use]
    pub fn offered(&self) -> Vec<RuntimeClassFact> {
        self.classes.iter().filter(|class| self.limit_of(&class.name).is_none()).cloned().collect()
    }

    /// The problem of a RuntimeClass that generated code may not have in the namespace.
    #[must_use]
    pub fn forbidden(&self, class: &str) -> Option<String> {
        let policy = &self.limit_of(class)?.policy;
        Some(format!("this namespace may not use RuntimeClass {class:?}, as SandboxPolicy {policy} says"))
    }

    /// The first rule that does not permit a RuntimeClass.
    fn limit_of(&self, class: &str) -> Option<&'a IsolationRule> {
        self.limits.iter().copied().find(|rule| !rule.permits(class))
    }

    fn errors(&self, pod: &PodFields<'_>, class: Option<FieldError>, existing: &[Finding<'_>]) -> Vec<FieldError> {
        let mut errors = Errors { allowed: self.allowed, pod, existing, named: class.into_iter().collect(), more: 0 };
        fields::read(pod, &mut errors);
        let Errors { mut named, more, .. } = errors;
        if more > 0 {
            named.push(FieldError::new("spec", format!("{more} more fields break the isolation of the pod")));
        }
        named
    }

    /// The parts of a running pod that break its isolation, such as `hostPath, hostNetwork, which does not isolate`. `None`
    /// if the pod is isolated.
    #[must_use]
    pub fn broken_by(&self, pod: &Pod) -> Option<String> {
        let class = pod.runtime_class.as_deref();
        let exposing = match class {
            None => Some("no RuntimeClass".to_owned()),
            Some(name) if self.is_isolating(name) => None,
            Some(name) => Some(format!("RuntimeClass {name}")),
        };
        let forbidden = class.filter(|name| exposing.is_none() && self.limit_of(name).is_some());
        let access = pod.host_access.without(self.allowed);
        let exposing: Vec<String> =
            exposing.into_iter().chain(access.iter().map(|access| access.as_str().to_owned())).collect();
        let exposing = (!exposing.is_empty()).then(|| format!("{}, which does not isolate", exposing.join(", ")));
        let forbidden = forbidden.map(|name| format!("RuntimeClass {name}, which its namespace may not use"));
        let parts: Vec<String> = exposing.into_iter().chain(forbidden).collect();
        (!parts.is_empty()).then(|| parts.join(", and with "))
    }

    /// Whether a RuntimeClass exists and isolates.
    fn is_isolating(&self, class: &str) -> bool {
        self.classes.iter().any(|c| c.name == class && c.isolated)
    }

    fn class_problem(&self, class: Option<&str>, rule: ClassRule) -> Option<String> {
        let Some(class) = class.filter(|class| !class.is_empty()) else {
            return (rule == ClassRule::Required).then(|| "names no RuntimeClass".to_owned());
        };
        let problem = match self.classes.iter().find(|c| c.name == class) {
            Some(fact) if fact.isolated => None,
            Some(_) => Some(format!("RuntimeClass {class:?} would run generated code on the host's kernel")),
            None => (rule == ClassRule::Required).then(|| format!("there is no RuntimeClass {class:?}")),
        };
        problem.or_else(|| self.forbidden(class))
    }
}

/// The errors of the first fields, and the number of the others.
struct Errors<'e, 'a> {
    allowed: HostAccessSet,
    pod: &'e PodFields<'a>,
    /// The fields that are no errors, in order.
    existing: &'e [Finding<'e>],
    named: Vec<FieldError>,
    more: usize,
}

impl<'a> Reader<'a> for Errors<'_, 'a> {
    fn wants(&self, access: HostAccess) -> bool {
        !self.allowed.contains(access)
    }

    fn take(&mut self, finding: Finding<'a>) {
        if self.existing.binary_search(&finding).is_ok() {
            return;
        }
        if self.named.len() < MAX_FIELDS { self.named.push(finding.error(self.pod)) } else { self.more += 1 }
    }
}

#[cfg(test)]
pub(crate) mod tests;
