//! All bindings, and the rules of SandboxPolicies that need no plugin.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Binding;
use crate::isolation::IsolationRule;
use crate::object::Texts;
use crate::question::Hook;

/// All bindings, in the order in which they are asked, and the rules of SandboxPolicies that need no plugin.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Bindings {
    bindings: Vec<Binding>,
    isolation: Vec<IsolationRule>,
}

impl Bindings {
    /// Sorts the bindings by order, then by name.
    #[must_use]
    pub fn new(mut bindings: Vec<Binding>) -> Self {
        bindings.sort_by(|a, b| (a.order, &a.name).cmp(&(b.order, &b.name)));
        Self { bindings, isolation: Vec::new() }
    }

    /// The same bindings with these rules about isolation.
    #[must_use]
    pub fn with_isolation(self, isolation: Vec<IsolationRule>) -> Self {
        Self { isolation, ..self }
    }

    /// The rules about isolation.
    #[must_use]
    pub fn isolation(&self) -> &[IsolationRule] {
        &self.isolation
    }

    /// The bindings of a hook that apply to an object, in the order in which they are asked.
    pub fn applying<'a>(
        &'a self,
        hook: Hook,
        namespace_labels: &'a BTreeMap<String, String>,
        labels: &'a impl Texts,
    ) -> impl Iterator<Item = &'a Binding> {
        self.bindings
            .iter()
            .filter(move |b| b.hook == hook && b.namespaces.matches(namespace_labels) && b.objects.matches(labels))
    }

    /// All bindings, in the same order.
    pub fn iter(&self) -> impl Iterator<Item = &Binding> {
        self.bindings.iter()
    }
}
