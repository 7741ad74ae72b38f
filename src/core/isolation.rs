//! The one rule that decides whether a pod is isolated. Admission and the reconcile both apply it.
//!
//! A pod is isolated if its RuntimeClass has an isolating handler, and if no field gives it access to its host. The
//! second part is the PodSecurity profile *baseline*, and raw block devices. An isolating runtime passes such access
//! on: gVisor and Kata write to a `hostPath` volume of the node, for example.

mod fields;
mod host_access;

use crate::model::FieldError;
use crate::object::Pod;
use crate::question::RuntimeClassFact;
use crate::settings::Settings;

pub(crate) use fields::APPARMOR_ANNOTATION;
pub use fields::{PodFields, host_access};
pub use host_access::{HostAccess, HostAccessSet, UnknownHostAccess};

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

    /// Returns the errors of a pod that runs generated code: each field that breaks its isolation, with the right value.
    /// It returns none if the pod is isolated. `remedy` completes the error of the RuntimeClass.
    #[must_use]
    pub fn judge(&self, pod: &PodFields<'_>, rule: ClassRule, remedy: &str) -> Vec<FieldError> {
        let class = self
            .class_problem(pod.class, rule)
            .map(|problem| FieldError::new(pod.class_path.clone(), format!("{problem}; {remedy}")));
        let access = host_access(pod).into_iter().filter(|(access, _)| !self.allowed.contains(*access));
        class.into_iter().chain(access.map(|(_, error)| error)).collect()
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

/// Limits the number of errors in a message. The last error then says how many others there are.
#[must_use]
pub fn limited(mut errors: Vec<FieldError>) -> Vec<FieldError> {
    let more = errors.len().saturating_sub(MAX_FIELDS);
    errors.truncate(MAX_FIELDS);
    if more > 0 {
        errors.push(FieldError::new("spec", format!("{more} more fields break the isolation of the pod")));
    }
    errors
}

#[cfg(test)]
pub(crate) mod tests;
