//! The rules of SandboxPolicies about isolation: what they allow to generated code in some namespaces, and the
//! RuntimeClasses that it may have there.

use paddock_api::names::label;
use paddock_api::{IsolationRules, SandboxPolicySpec};
use serde::Serialize;

use super::HostAccessSet;
use crate::binding::Selector;
use crate::object::Texts;

/// The rules of one SandboxPolicy about the isolation of generated code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IsolationRule {
    /// The name of the SandboxPolicy.
    pub policy: String,
    /// The namespaces that the rules apply to, by their labels.
    #[serde(rename = "namespaceSelector")]
    pub namespaces: Selector,
    /// The access to the host that generated code may have.
    pub allow: HostAccessSet,
    /// The RuntimeClasses that generated code may have. `None` if the policy limits none.
    pub runtime_classes: Option<Vec<String>>,
}

/// The labels of a namespace.
#[derive(Debug)]
pub enum NamespaceLabels<'a, T> {
    /// All labels, as the last watch event delivered them.
    Known(&'a T),
    /// Labels that may be incomplete or out of date. The label with the name of the namespace never changes, so it
    /// counts, if it is there.
    Uncertain(&'a T),
}

impl IsolationRule {
    /// The rules of a SandboxPolicy. `None` if it has none.
    ///
    /// # Errors
    /// If the selector has an operator that Kubernetes does not have. The schema refuses such a policy.
    pub fn of(policy: &str, spec: &SandboxPolicySpec) -> Result<Option<Self>, String> {
        let Some(IsolationRules { allow, runtime_classes }) = &spec.isolation else { return Ok(None) };
        let namespaces = match &spec.namespace_selector {
            None => Selector::default(),
            Some(selector) => serde_json::to_value(selector)
                .and_then(serde_json::from_value)
                .map_err(|error| format!("spec.namespaceSelector: {error}"))?,
        };
        Ok(Some(Self {
            policy: policy.to_owned(),
            namespaces,
            allow: allow.iter().copied().collect(),
            runtime_classes: runtime_classes.clone(),
        }))
    }

    /// Whether the rules apply to a namespace. `None` if that depends on labels that are not known.
    #[must_use]
    pub fn applies(&self, labels: &NamespaceLabels<'_, impl Texts>) -> Option<bool> {
        let (selector, name) = (&self.namespaces, label::NAMESPACE_NAME);
        match labels {
            NamespaceLabels::Known(labels) => Some(selector.matches(*labels)),
            NamespaceLabels::Uncertain(labels) => match labels.text(name) {
                Some(namespace) if selector.excludes(name, namespace) => Some(false),
                Some(_) if selector.depends_only_on(name) => Some(true),
                None if *selector == Selector::default() => Some(true),
                Some(_) | None => None,
            },
        }
    }

    /// Whether generated code may have this RuntimeClass, as far as these rules say.
    pub(super) fn permits(&self, class: &str) -> bool {
        self.runtime_classes.as_ref().is_none_or(|names| names.iter().any(|name| name == class))
    }
}

#[cfg(test)]
mod tests;
