//! The rules, with their levels and texts, and what the audit reports.

use serde::{Serialize, Serializer};

use super::item::{Item, Place};

/// The level of a finding. The names are those of SARIF.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// Generated code is isolated, but something else is wrong or not known.
    Warning,
    /// Generated code is not isolated.
    Error,
}

impl Level {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }
}

/// A rule of the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rule {
    /// Generated code without a RuntimeClass that isolates.
    RuntimeClass,
    /// Generated code with access to its host.
    HostAccess,
    /// Generated code with a RuntimeClass that nobody knows.
    UnknownRuntimeClass,
    /// A marker that is neither `true` nor `false`.
    InvalidMarker,
    /// Files that several sandboxes share.
    SharedVolume,
    /// The token of a ServiceAccount in a sandbox.
    ServiceAccountToken,
    /// An object of the Sandbox API that the webhook denies.
    InvalidObject,
}

/// The identifier, the level, a short text and a remedy.
type Facts = (&'static str, Level, &'static str, &'static str);

impl Rule {
    pub(super) const ALL: [Rule; 7] = [
        Rule::RuntimeClass,
        Rule::HostAccess,
        Rule::UnknownRuntimeClass,
        Rule::InvalidMarker,
        Rule::SharedVolume,
        Rule::ServiceAccountToken,
        Rule::InvalidObject,
    ];

    /// The table of the rules. `docs/audit.md` has the same one.
    const fn facts(self) -> Facts {
        match self {
            Rule::RuntimeClass => (
                "runtime-class",
                Level::Error,
                "Generated code must run with a RuntimeClass that isolates.",
                "Set runtimeClassName to a RuntimeClass with an isolating handler, such as runsc or kata.",
            ),
            Rule::HostAccess => (
                "host-access",
                Level::Error,
                "Generated code must have no access to its host.",
                "Remove the field. Pods of generated code must comply with the PodSecurity profile baseline.",
            ),
            Rule::UnknownRuntimeClass => (
                "unknown-runtime-class",
                Level::Warning,
                "The RuntimeClass of generated code must be known.",
                "Add the manifest of the RuntimeClass to the audit, or create the RuntimeClass in the cluster.",
            ),
            Rule::InvalidMarker => (
                "invalid-marker",
                Level::Warning,
                "The marker of generated code must be \"true\" or \"false\".",
                "Correct the label. Until then, the object counts as generated code.",
            ),
            Rule::SharedVolume => (
                "shared-volume",
                Level::Warning,
                "Sandboxes must not share a file system.",
                "Give each sandbox its own volume claim with volumeClaimTemplates, or mount the shared one read-only.",
            ),
            Rule::ServiceAccountToken => (
                "service-account-token",
                Level::Warning,
                "Sandboxes and generated code must have no token of a ServiceAccount.",
                "Set automountServiceAccountToken to false.",
            ),
            Rule::InvalidObject => (
                "invalid-object",
                Level::Warning,
                "An object of the Sandbox API must be valid.",
                "Correct the field. The webhook denies the object.",
            ),
        }
    }

    pub(super) fn id(self) -> &'static str {
        self.facts().0
    }

    pub(super) fn level(self) -> Level {
        self.facts().1
    }

    /// What must be true.
    pub(super) fn summary(self) -> &'static str {
        self.facts().2
    }

    pub(super) fn remedy(self) -> &'static str {
        self.facts().3
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

/// A violation of a rule by a field of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Finding {
    /// The place of the manifest. `None` for an object of a cluster.
    #[serde(flatten)]
    pub(super) place: Option<Place>,
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) rule: Rule,
    /// The path of the field.
    pub(super) field: String,
    pub(super) message: String,
}

impl Finding {
    pub(super) fn new(rule: Rule, item: &Item, namespace: &str, field: String, message: String) -> Self {
        Self {
            place: item.place.clone(),
            api_version: item.object["apiVersion"].as_str().unwrap_or_default().to_owned(),
            kind: item.kind().to_owned(),
            namespace: namespace.to_owned(),
            name: item.name(),
            rule,
            field,
            message,
        }
    }

    /// The kind, the namespace and the name of the object.
    pub(super) fn object(&self) -> String {
        format!("{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// The result of an audit.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Report {
    /// The number of workloads that were judged.
    pub(super) workloads: usize,
    pub(super) findings: Vec<Finding>,
}

impl Report {
    /// The number of the findings of a level.
    pub(super) fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|finding| finding.rule.level() == level).count()
    }
}
