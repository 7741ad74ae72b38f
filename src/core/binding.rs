//! Which plugin judges which object: bindings, their selectors, and what a failure means.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::question::{Hook, PluginRef};

/// A plugin bound to one hook for the objects that its selectors match.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Binding {
    /// Unique among all bindings: `<plugin>/<hook>` for files and built-ins.
    pub name: String,
    /// The hook taken over.
    pub hook: Hook,
    /// Who answers.
    pub plugin: PluginRef,
    /// Lower comes first; built-ins stand at [`Binding::BUILT_IN_ORDER`]; names break ties.
    pub order: i32,
    /// Namespaces it applies to.
    pub namespaces: Selector,
    /// Objects it applies to (labels of the Sandbox, pool, Pod or pod template).
    pub objects: Selector,
    /// Kinds whose admission it judges; empty for every kind that is reviewed. The other hooks are about one kind each.
    pub kinds: Vec<String>,
    /// JSON document handed to the plugin.
    pub settings: String,
    /// What follows when it does not answer.
    pub failure_policy: FailurePolicy,
    /// Whether this is one of the operator's own.
    pub built_in: bool,
}

impl Binding {
    /// Where built-ins stand: after everything that a user drops in without saying an order.
    pub const BUILT_IN_ORDER: i32 = i32::MAX;

    /// Whether it judges the admission of this kind.
    #[must_use]
    pub fn judges(&self, kind: &str) -> bool {
        self.kinds.is_empty() || self.kinds.iter().any(|judged| judged == kind)
    }
}

/// What follows when a plugin does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum FailurePolicy {
    /// Admission and runtime-class deny; idle and pool-size fall back on the built-in.
    Fail,
    /// As if this plugin were not bound: the next one is asked.
    Ignore,
    /// The built-in of the hook is asked.
    #[default]
    Fallback,
}

impl FailurePolicy {
    /// The word in files and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            FailurePolicy::Fail => "Fail",
            FailurePolicy::Ignore => "Ignore",
            FailurePolicy::Fallback => "Fallback",
        }
    }
}

/// A Kubernetes label selector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Selector {
    /// Labels that must be there with this value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Further requirements, ANDed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<Requirement>,
}

/// One requirement of a [`Selector`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// Label key.
    pub key: String,
    /// How values are compared.
    pub operator: Operator,
    /// Values, for `In` and `NotIn`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// Operators of a [`Requirement`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operator {
    /// The label's value is one of the values.
    In,
    /// The label is absent or its value is none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
}

impl Selector {
    /// Whether these labels satisfy every requirement; an empty selector matches everything.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels.iter().all(|(k, v)| labels.get(k) == Some(v))
            && self.match_expressions.iter().all(|r| r.matches(labels))
    }
}

impl Requirement {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            Operator::In => value.is_some_and(|v| self.values.contains(v)),
            Operator::NotIn => value.is_none_or(|v| !self.values.contains(v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

/// All bindings, in the order in which they are asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Bindings(Vec<Binding>);

impl Bindings {
    /// Sorts by order, then name.
    #[must_use]
    pub fn new(mut bindings: Vec<Binding>) -> Self {
        bindings.sort_by(|a, b| (a.order, &a.name).cmp(&(b.order, &b.name)));
        Self(bindings)
    }

    /// The bindings of a hook that apply to an object, first asked first.
    pub fn applying<'a>(
        &'a self,
        hook: Hook,
        namespace_labels: &'a BTreeMap<String, String>,
        labels: &'a BTreeMap<String, String>,
    ) -> impl Iterator<Item = &'a Binding> {
        self.0
            .iter()
            .filter(move |b| b.hook == hook && b.namespaces.matches(namespace_labels) && b.objects.matches(labels))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Binding> {
        self.0.iter()
    }
}
