//! The explanation of an object in sentences: what was seen, asked, answered and decided.
//!
//! `/debug/explain` serves it, and `paddock explain` prints it. The texts contain names, times and messages, and never
//! the content of objects.

mod asked;
mod decided;
mod seen;
#[cfg(test)]
mod tests;
mod words;

use serde::{Deserialize, Serialize};

pub use self::asked::asked;
pub use self::decided::decided;
pub use self::seen::{condition, seen, status};
pub use self::words::when;

/// The explanation of one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The kind, the namespace and the name of the object, such as `SandboxClaim agents/demo`.
    pub object: String,
    /// The UID of the object. Absent if the object does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The parts of the explanation, in the order of the output.
    pub sections: Vec<Section>,
}

/// A part of an explanation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    /// The title, such as `Seen`.
    pub title: String,
    /// The sentences. A line that begins with two spaces belongs to the line before it.
    pub lines: Vec<String>,
}

impl Section {
    /// A part with this title.
    #[must_use]
    pub fn new(title: impl Into<String>, lines: Vec<String>) -> Self {
        Self { title: title.into(), lines }
    }
}
