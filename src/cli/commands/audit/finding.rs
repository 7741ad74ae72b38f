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

/// What the reports say about a rule.
struct Description {
    id: &'static str,
    level: Level,
    /// What must be true.
    summary: &'static str,
    remedy: &'static str,
}

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
    const fn description(self) -> Description {
        match self {
            Rule::RuntimeClass => Description {
                id: "runtime-class",
                level: Level::Error,
                summary: "Generated code must run with a RuntimeClass that isolates.",
                remedy: "Set runtimeClassName to a RuntimeClass with an isolating handler, such as runsc or kata.",
            },
            Rule::HostAccess => Description {
                id: "host-access",
                level: Level::Error,
                summary: "Generated code must have no access to its host.",
                remedy: "Remove the field. Pods of generated code must comply with the PodSecurity profile baseline.",
            },
            Rule::UnknownRuntimeClass => Description {
                id: "unknown-runtime-class",
                level: Level::Warning,
                summary: "The RuntimeClass of generated code must be known.",
                remedy: "Add the manifest of the RuntimeClass to the audit, or create the RuntimeClass in the cluster.",
            },
            Rule::InvalidMarker => Description {
                id: "invalid-marker",
                level: Level::Warning,
                summary: "The marker of generated code must be \"true\" or \"false\".",
                remedy: "Correct the label. Until then, the object counts as generated code.",
            },
            Rule::SharedVolume => Description {
                id: "shared-volume",
                level: Level::Warning,
                summary: "Sandboxes must not share a file system.",
                remedy: "Give each sandbox its own volume claim with volumeClaimTemplates, or mount the shared one read-only.",
            },
            Rule::ServiceAccountToken => Description {
                id: "service-account-token",
                level: Level::Warning,
                summary: "Sandboxes and generated code must have no token of a ServiceAccount.",
                remedy: "Set automountServiceAccountToken to false.",
            },
            Rule::InvalidObject => Description {
                id: "invalid-object",
                level: Level::Warning,
                summary: "An object of the Sandbox API must be valid.",
                remedy: "Correct the field. The webhook denies the object.",
            },
        }
    }

    pub(super) fn id(self) -> &'static str {
        self.description().id
    }

    pub(super) fn level(self) -> Level {
        self.description().level
    }

    /// What must be true.
    pub(super) fn summary(self) -> &'static str {
        self.description().summary
    }

    pub(super) fn remedy(self) -> &'static str {
        self.description().remedy
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
