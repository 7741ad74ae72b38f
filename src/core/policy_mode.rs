//! The mode of a binding: whether its answers decide. Requests have it too, so that a record of a request says it.

use serde::{Deserialize, Serialize};

/// The effect of the answers of a binding. Only the answers of a binding with the mode `Enforce` decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, strum::IntoStaticStr)]
pub enum Mode {
    /// The answers decide.
    #[default]
    Enforce,
    /// Only for admission: a denial becomes a warning for the user. The answers are counted.
    Warn,
    /// Only for admission: a denial is logged, and is in the audit log of the API server. The answers are counted.
    Audit,
    /// The answers are counted.
    Shadow,
}

impl Mode {
    /// All modes.
    pub const ALL: [Self; 4] = [Self::Enforce, Self::Warn, Self::Audit, Self::Shadow];

    /// The word in objects, metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether the answers decide.
    #[must_use]
    pub fn acts(self) -> bool {
        match self {
            Mode::Enforce => true,
            Mode::Warn | Mode::Audit | Mode::Shadow => false,
        }
    }
}
