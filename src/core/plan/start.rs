//! How a claim gets its Sandbox, for the metrics of pools.

use paddock_api::kind::Key;
use serde::Serialize;

/// The start of a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClaimStart {
    /// Whether the start is warm, or the reason for a cold one.
    pub kind: StartKind,
    /// The pool that the warm Sandbox is from. After a cold start: each pool in which the claim looked for one.
    pub pools: Vec<Key>,
}

/// Whether a claim starts warm, or the reason for its cold start. The word is the value of a label in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum StartKind {
    /// The claim takes a warm Sandbox.
    Warm,
    /// No Sandbox of the pools is free and fit: Ready, on a usable node, and isolated if it must be.
    NoneReady,
    /// The Ready Sandboxes of the pools are from an older version of the template.
    TemplateChanged,
    /// The claim has environment variables or volume claims that a running pod cannot get.
    OwnEnvOrVolumes,
    /// The API server refused to let the claim take a warm Sandbox.
    TakeRefused,
}

impl StartKind {
    /// All kinds.
    pub const ALL: &'static [StartKind] = <StartKind as strum::VariantArray>::VARIANTS;

    /// The word in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}
