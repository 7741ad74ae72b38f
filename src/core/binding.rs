//! Bindings: the rules that say which plugin answers for which objects, and what happens after a failure.

mod bindings;

use std::collections::BTreeMap;

pub use bindings::Bindings;
pub use paddock_api::PolicyMode as Mode;
use serde::{Deserialize, Serialize};

use crate::object::Texts;
use crate::question::{Failure, FailureKind, Hook, PluginRef, PluginRequest, Question};

/// The beginning of the names of the bindings of SandboxPolicies. The bindings of files have names in lower case.
const POLICY_PREFIX: &str = "SandboxPolicy/";

/// A plugin bound to one hook for the objects that its selectors match.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Binding {
    /// The name, which is unique among all bindings. For files and built-ins it is `<plugin>/<hook>`, and for a
    /// SandboxPolicy it is [`Binding::name_of_policy`].
    pub name: String,
    /// The hook for which the plugin answers.
    pub hook: Hook,
    /// The plugin that answers.
    pub plugin: PluginRef,
    /// The place in the order in which bindings are asked: the lowest number first, and the name decides between equal
    /// numbers. Built-ins have [`Binding::BUILT_IN_ORDER`].
    pub order: i32,
    /// The namespaces that the binding applies to, by their labels.
    pub namespaces: Selector,
    /// The objects that the binding applies to, by the labels of the Sandbox, pool, Pod or pod template.
    pub objects: Selector,
    /// The kinds whose admission the plugin decides. If the list is empty, it decides about every kind that is
    /// reviewed. Each of the other hooks is about one kind.
    pub kinds: Vec<String>,
    /// The settings for the plugin: a JSON document.
    pub settings: String,
    /// The policy for a failure of the plugin.
    pub failure_policy: FailurePolicy,
    /// The effect of the plugin's answers.
    pub mode: Mode,
    /// Whether the plugin is a built-in.
    pub built_in: bool,
    /// The reason why the plugin is configured but not loaded. Such a plugin is not asked: it fails, and its failure
    /// policy applies.
    pub not_loaded: Option<String>,
}

impl Binding {
    /// The order of built-ins: the highest number, so that they are asked after the bindings of users.
    pub const BUILT_IN_ORDER: i32 = i32::MAX;

    /// The binding of a plugin for all objects, without settings, and with the default failure policy of the hook. Its
    /// answers decide.
    #[must_use]
    pub fn new(plugin: PluginRef, hook: Hook) -> Self {
        Self {
            name: format!("{}/{}", plugin.name, hook.as_str()),
            hook,
            plugin,
            order: 0,
            namespaces: Selector::default(),
            objects: Selector::default(),
            kinds: Vec::new(),
            settings: "{}".to_owned(),
            failure_policy: FailurePolicy::default_of(hook),
            mode: Mode::Enforce,
            built_in: false,
            not_loaded: None,
        }
    }

    /// The name of the binding of a SandboxPolicy.
    #[must_use]
    pub fn name_of_policy(policy: &str) -> String {
        format!("{POLICY_PREFIX}{policy}")
    }

    /// The name of the SandboxPolicy whose binding has this name. `None` for the binding of a file or a built-in.
    #[must_use]
    pub fn policy_of_name(name: &str) -> Option<&str> {
        name.strip_prefix(POLICY_PREFIX)
    }

    /// The request for the plugin with this question.
    #[must_use]
    pub fn request(&self, question: Question) -> PluginRequest {
        PluginRequest {
            binding: self.name.clone(),
            plugin: self.plugin.clone(),
            mode: self.mode,
            settings: self.settings.clone(),
            question,
        }
    }

    /// Whether this is the binding of an admission plugin other than the built-ins.
    #[must_use]
    pub fn is_custom_admission(&self) -> bool {
        self.hook == Hook::Admission && !self.built_in
    }

    /// Whether the plugin decides about the admission of this kind.
    #[must_use]
    pub fn reviews_kind(&self, kind: &str) -> bool {
        self.kinds.is_empty() || self.kinds.iter().any(|reviewed| reviewed == kind)
    }

    /// The failure that takes the place of every answer of a plugin that is not loaded.
    #[must_use]
    pub fn standing_failure(&self) -> Option<Failure> {
        let message = self.not_loaded.as_ref()?;
        Some(Failure { kind: FailureKind::Missing, message: format!("it is not loaded: {message}") })
    }
}

/// What happens when a plugin does not answer. It concerns the binding of that plugin alone: the other bindings are
/// asked as ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
pub enum FailurePolicy {
    /// The hooks `admission` and `runtime-class` deny. The hooks `idle` and `pool-size` fall back to the built-in.
    Fail,
    /// The next binding is asked, as if this one did not exist.
    Ignore,
    /// The built-in of the hook answers in the place of this binding.
    Fallback,
}

impl FailurePolicy {
    /// The policy of a binding that states none. A plugin of `admission` or `runtime-class` guards the cluster, so its
    /// absence denies. The other two hooks have a built-in that is always a reasonable answer.
    #[must_use]
    pub fn default_of(hook: Hook) -> Self {
        match hook {
            Hook::Admission | Hook::RuntimeClass => Self::Fail,
            Hook::Idle | Hook::PoolSize => Self::Fallback,
        }
    }

    /// The word in files and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A Kubernetes label selector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Selector {
    /// Labels that the object must have with these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Further requirements. All of them must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<Requirement>,
}

/// One requirement of a [`Selector`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// The key of the label.
    pub key: String,
    /// The comparison of the label with the values.
    pub operator: Operator,
    /// The values for `In` and `NotIn`.
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
    /// The label exists.
    Exists,
    /// The label is absent.
    DoesNotExist,
}

impl Selector {
    /// Whether these labels satisfy every requirement. An empty selector matches everything.
    #[must_use]
    pub fn matches(&self, labels: &impl Texts) -> bool {
        self.match_labels.iter().all(|(k, v)| labels.text(k) == Some(v))
            && self.match_expressions.iter().all(|r| r.matches(labels))
    }

    /// Whether a label with this value excludes an object, whatever its other labels are.
    #[must_use]
    pub fn excludes(&self, key: &str, value: &str) -> bool {
        let label = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        self.match_labels.get(key).is_some_and(|wanted| wanted != value)
            || self.match_expressions.iter().any(|r| r.key == key && !r.matches(&label))
    }

    /// Whether no other label than this one decides whether an object is selected.
    #[must_use]
    pub fn depends_only_on(&self, key: &str) -> bool {
        self.match_labels.keys().all(|other| other == key) && self.match_expressions.iter().all(|r| r.key == key)
    }
}

impl Requirement {
    fn matches(&self, labels: &impl Texts) -> bool {
        let value = labels.text(&self.key);
        let listed = |value: &str| self.values.iter().any(|v| v == value);
        match self.operator {
            Operator::In => value.is_some_and(listed),
            Operator::NotIn => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}
