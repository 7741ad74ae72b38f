//! The one rule that decides whether a pod is isolated. Admission and the reconcile both apply it.
//!
//! A pod is isolated if its RuntimeClass has an isolating handler, and if no field gives it access to its host. The
//! second part is the PodSecurity profile *baseline*, and raw block devices. An isolating runtime passes such access
//! on: gVisor and Kata write to a `hostPath` volume of the node, for example.

pub mod cel;
mod fields;
mod host_access;
mod workloads;

use crate::model::FieldError;
use crate::object::Pod;
use crate::question::RuntimeClassFact;
use crate::settings::Settings;

pub(crate) use fields::APPARMOR_ANNOTATION;
use fields::{AllFindings, Finding, Reader};
pub use fields::{PodFields, host_access};
pub use host_access::{HostAccess, HostAccessSet, UnknownHostAccess};
pub use workloads::{POD_KINDS, PodKind};

/// The maximum number of fields that one message names. A pod of hundreds of containers would fill a message that
/// nobody reads.
const MAX_FIELDS: usize = 16;

/// The facts and settings on which the isolation of a pod depends.
#[derive(Clone, Copy, Debug)]
pub struct Isolation<'a> {
    /// The RuntimeClasses of the cluster.
    pub classes: &'a [RuntimeClassFact],
    /// The access to the host that the platform team allows to generated code.
    pub allowed: HostAccessSet,
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
    /// The rule with these RuntimeClasses.
    #[must_use]
    pub fn new(classes: &'a [RuntimeClassFact], settings: &Settings) -> Self {
        Self { classes, allowed: settings.isolation_allow }
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
        let isolating: Vec<&str> = self.classes.iter().filter(|c| c.isolated).map(|c| c.name.as_str()).collect();
        if isolating.is_empty() {
            "this cluster has no RuntimeClass that isolates (gVisor or Kata): install one and set runtimeClassName to it"
                .to_owned()
        } else {
            format!("set runtimeClassName to one that isolates: {}", isolating.join(", "))
        }
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

    /// The parts of a running pod that break its isolation, such as `no RuntimeClass` or `hostPath, hostNetwork`. `None`
    /// if the pod is isolated.
    #[must_use]
    pub fn broken_by(&self, pod: &Pod) -> Option<String> {
        let class = match pod.runtime_class.as_deref() {
            None => Some("no RuntimeClass".to_owned()),
            Some(name) if self.is_isolating(name) => None,
            Some(name) => Some(format!("RuntimeClass {name}")),
        };
        let access = pod.host_access.without(self.allowed);
        let parts: Vec<String> = class.into_iter().chain(access.iter().map(|a| a.as_str().to_owned())).collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// Whether a RuntimeClass exists and isolates.
    fn is_isolating(&self, class: &str) -> bool {
        self.classes.iter().any(|c| c.name == class && c.isolated)
    }

    fn class_problem(&self, class: Option<&str>, rule: ClassRule) -> Option<String> {
        let Some(class) = class.filter(|class| !class.is_empty()) else {
            return (rule == ClassRule::Required).then(|| "names no RuntimeClass".to_owned());
        };
        match self.classes.iter().find(|c| c.name == class) {
            Some(fact) if fact.isolated => None,
            Some(_) => Some(format!("RuntimeClass {class:?} would run generated code on the host's kernel")),
            None => (rule == ClassRule::Required).then(|| format!("there is no RuntimeClass {class:?}")),
        }
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
