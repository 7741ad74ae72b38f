//! The generated-code marker and the namespace label that stands for it.

use std::collections::BTreeMap;

use crate::names::label;

/// What an object's labels say of the code it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// It runs generated code.
    Marked,
    /// It does not say so.
    Unmarked,
    /// The label is there with a value that is neither `true` nor `false`. Who set it meant something: never taken for unmarked.
    Unclear,
}

impl Marker {
    /// Reads the marker.
    #[must_use]
    pub fn of(labels: &BTreeMap<String, String>) -> Self {
        match labels.get(label::GENERATED_CODE).map(String::as_str) {
            Some(label::TRUE) => Marker::Marked,
            None | Some("false") => Marker::Unmarked,
            Some(_) => Marker::Unclear,
        }
    }
}

/// Whether a namespace demands an isolating runtime for every pod in it.
#[must_use]
pub fn requires_isolation(namespace_labels: &BTreeMap<String, String>) -> bool {
    namespace_labels.get(label::ISOLATION).is_some_and(|v| v != label::ISOLATION_NONE)
}
