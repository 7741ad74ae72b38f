//! The outcome of a review: admitted with a patch and warnings, or denied with a reason.

use std::collections::BTreeMap;

use paddock_api::DecidingPlugin;

use super::chain::PluginFailure;

/// The result of a review.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReviewVerdict {
    /// The denial, or `None` if the object is admitted.
    pub denial: Option<Denial>,
    /// Warnings for the user: each has at most [`MAX_WARNING_CHARS`](crate::question::limits::MAX_WARNING_CHARS)
    /// characters.
    pub warnings: Vec<String>,
    /// A JSON Patch for the object in the request. It is empty if nothing changes or the object is denied.
    pub patch: json_patch::Patch,
    /// Whether the claim keeps its reservation when it is stored.
    pub reservation_kept: bool,
    /// Annotations for the audit log: the RuntimeClass that was chosen, and the reason.
    pub audit: BTreeMap<String, String>,
    /// The plugins that decided, up to the one that denied, in the order in which they were asked.
    pub decided_by: Vec<DecidingPlugin>,
    /// The plugins that did not answer or whose answers were refused.
    pub plugin_failures: Vec<PluginFailure>,
}

impl ReviewVerdict {
    /// Whether the object is admitted.
    #[must_use]
    pub fn allowed(&self) -> bool {
        self.denial.is_none()
    }
}

/// The denial of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The reason in one word, which is also the label in metrics.
    pub why: Why,
    /// The message for the user: the problem and the remedy.
    pub message: String,
    /// The invalid fields.
    pub causes: Vec<Cause>,
}

/// An invalid field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The path of the field, such as `spec.idleTimeout`.
    pub field: String,
    /// The problem and the allowed values.
    pub message: String,
}

/// The reason for a denial, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum Why {
    /// The object does not parse, or it asks for something that is not possible.
    Invalid,
    /// The update changes an immutable field.
    Immutable,
    /// The object would run generated code on the host's kernel.
    NotIsolated,
    /// The object has an owner reference that only the operator may write.
    Forged,
    /// A plugin denies the object.
    DeniedByPlugin,
    /// A plugin did not answer, and the failure policy of its binding is to deny.
    PluginFailed,
    /// The connection to the pod of a warm Sandbox could not be recorded.
    NotRecorded,
    /// No watch has delivered a fact that the review needs.
    NotSeen,
}

impl Why {
    /// All reasons.
    pub const ALL: [Why; 8] = [
        Why::Invalid,
        Why::Immutable,
        Why::NotIsolated,
        Why::Forged,
        Why::DeniedByPlugin,
        Why::PluginFailed,
        Why::NotRecorded,
        Why::NotSeen,
    ];

    /// The word in metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The HTTP status of the denial: 422 if the object is not valid, 503 if the same request may succeed in a moment, and
    /// 403 otherwise.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Why::Invalid | Why::Immutable => 422,
            Why::NotSeen => 503,
            Why::NotIsolated | Why::Forged | Why::DeniedByPlugin | Why::PluginFailed | Why::NotRecorded => 403,
        }
    }
}
