//! The outcome of a review: admitted with a patch and warnings, or denied with a reason.

use std::collections::BTreeMap;

use super::chain::PluginFailure;

/// The outcome of a review.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReviewVerdict {
    /// Why not, if not.
    pub denial: Option<Denial>,
    /// What to tell the user all the same, each at most 256 characters.
    pub warnings: Vec<String>,
    /// JSON Patch to the object as it came; empty if nothing changes or it is denied.
    pub patch: json_patch::Patch,
    /// Whether the claim is stored with the reservation that it was given.
    pub reservation_kept: bool,
    /// For the audit log: what was chosen and why.
    pub audit: BTreeMap<String, String>,
    /// Plugins that did not answer, or whose answer was refused.
    pub plugin_failures: Vec<PluginFailure>,
}

impl ReviewVerdict {
    /// Whether the object is admitted.
    #[must_use]
    pub fn allowed(&self) -> bool {
        self.denial.is_none()
    }
}

/// Why an object is not admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// In one word: the label of metrics.
    pub why: Why,
    /// For the user: what is wrong and what would be right.
    pub message: String,
    /// The fields at fault.
    pub causes: Vec<Cause>,
}

/// A field at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The field, as `spec.idleTimeout`.
    pub field: String,
    /// What is wrong with it and what would be right.
    pub message: String,
}

/// Why an object is not admitted, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// It does not parse, or asks for what cannot be.
    Invalid,
    /// It changes what must not change.
    Immutable,
    /// It would run generated code on the host's kernel.
    NotIsolated,
    /// It claims to have been made by the operator.
    Forged,
    /// A plugin denies it.
    DeniedByPlugin,
    /// A plugin did not answer, and its policy is to deny then.
    PluginFailed,
}

impl Why {
    /// Every word.
    pub const ALL: [Why; 6] =
        [Why::Invalid, Why::Immutable, Why::NotIsolated, Why::Forged, Why::DeniedByPlugin, Why::PluginFailed];

    /// The word in metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Why::Invalid => "invalid",
            Why::Immutable => "immutable",
            Why::NotIsolated => "not-isolated",
            Why::Forged => "forged",
            Why::DeniedByPlugin => "denied-by-plugin",
            Why::PluginFailed => "plugin-failed",
        }
    }

    /// The HTTP status of the denial: 422 where the object is at fault, else 403.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Why::Invalid | Why::Immutable => 422,
            Why::NotIsolated | Why::Forged | Why::DeniedByPlugin | Why::PluginFailed => 403,
        }
    }
}
