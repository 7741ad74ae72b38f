//! The marker of generated code, and the namespace label that means the same for all pods of a namespace.

use paddock_api::names::label;
use serde::Serialize;
use serde_json::Value;

use crate::object::{Object, Texts};
use crate::settings::Settings;

/// The marker of generated code, read from the labels of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
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
    pub fn of(labels: &impl Texts) -> Self {
        Self::of_value(labels.text(label::GENERATED_CODE))
    }

    /// Reads the marker from the labels at a place of an object. The place is a JSON pointer.
    #[must_use]
    pub fn at(object: &Value, place: &str) -> Self {
        let labels = object.pointer(place);
        Self::of_value(labels.and_then(|labels| labels.get(label::GENERATED_CODE)).and_then(Value::as_str))
    }

    fn of_value(value: Option<&str>) -> Self {
        match value {
            Some(label::TRUE) => Marker::Marked,
            None | Some("false") => Marker::Unmarked,
            Some(_) => Marker::Unclear,
        }
    }

    /// The marker of something that has several sources: the strongest of them. A source that says `false` never takes
    /// away what another source says.
    #[must_use]
    pub fn strongest(sources: impl IntoIterator<Item = Marker>) -> Marker {
        sources.into_iter().fold(Marker::Unmarked, |a, b| match (a, b) {
            (Marker::Marked, _) | (_, Marker::Marked) => Marker::Marked,
            (Marker::Unclear, _) | (_, Marker::Unclear) => Marker::Unclear,
            (Marker::Unmarked, Marker::Unmarked) => Marker::Unmarked,
        })
    }

    /// Whether the object counts as generated code. An unclear marker counts too.
    #[must_use]
    pub fn is_generated_code(self) -> bool {
        match self {
            Marker::Marked | Marker::Unclear => true,
            Marker::Unmarked => false,
        }
    }
}

/// The places of the labels of an object that can carry the marker: its own, and those of its pod template in each API
/// shape. They are JSON pointers.
pub const MARKER_PLACES: [&str; 3] =
    ["/metadata/labels", "/spec/podTemplate/metadata/labels", "/spec/template/metadata/labels"];

/// The marker of an object, from all labels of the object that can carry it.
#[must_use]
pub fn marker_of_object(object: &Value) -> Marker {
    Marker::strongest(MARKER_PLACES.iter().map(|place| Marker::at(object, place)))
}

/// The strongest marker of several objects. Of a template, the labels of its pods count too.
#[must_use]
pub fn marker_of_all<'a>(objects: impl IntoIterator<Item = Option<&'a Object>>) -> Marker {
    let markers = objects.into_iter().flatten().flat_map(|object| {
        let model = object.template().and_then(|template| template.spec.as_ref().ok());
        [Some(Marker::of(&object.meta.labels)), model.map(|model| Marker::of(&model.pod.labels))]
    });
    Marker::strongest(markers.flatten())
}

/// Whether a namespace with these labels requires that each of its pods is isolated. The namespace of the operator never
/// does.
#[must_use]
pub fn namespace_isolates(settings: &Settings, namespace: &str, labels: &impl Texts) -> bool {
    settings.own_namespace.as_deref() != Some(namespace) && requires_isolation(labels)
}

/// Whether the labels of a namespace require that each of its pods is isolated, whichever namespace it is.
#[must_use]
pub fn requires_isolation(namespace_labels: &impl Texts) -> bool {
    namespace_labels.text(label::ISOLATION).is_some_and(|v| v != label::ISOLATION_NONE)
}
