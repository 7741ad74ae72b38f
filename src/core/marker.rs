//! The marker of generated code, and the namespace label that means the same for all pods of a namespace.

use std::collections::BTreeMap;

use paddock_api::names::label;

/// The marker of generated code, read from the labels of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// The object runs generated code.
    Marked,
    /// The label is absent, or its value is `false`.
    Unmarked,
    /// The label has a value that is neither `true` nor `false`. A user set it on purpose, so it never counts as
    /// unmarked.
    Unclear,
}

impl Marker {
    /// Reads the marker from the labels of an object.
    #[must_use]
    pub fn of(labels: &BTreeMap<String, String>) -> Self {
        match labels.get(label::GENERATED_CODE).map(String::as_str) {
            Some(label::TRUE) => Marker::Marked,
            None | Some("false") => Marker::Unmarked,
            Some(_) => Marker::Unclear,
        }
    }
}

/// Whether a namespace requires an isolating runtime for each of its pods, according to its labels.
#[must_use]
pub fn requires_isolation(namespace_labels: &BTreeMap<String, String>) -> bool {
    namespace_labels.get(label::ISOLATION).is_some_and(|v| v != label::ISOLATION_NONE)
}
