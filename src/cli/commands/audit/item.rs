//! An object to audit, and its place in a file.

use serde::Serialize;
use serde_json::Value;

/// An object of Kubernetes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Item {
    pub(super) object: Value,
    /// The place of the manifest. `None` for an object of a cluster.
    pub(super) place: Option<Place>,
}

/// The place of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Place {
    /// The path of the file, or `-` for standard input.
    pub(super) file: String,
    /// The number of the document in the file. The first one is 1.
    pub(super) document: usize,
    /// The line on which the document begins. The first one is 1.
    pub(super) line: usize,
}

impl Item {
    /// The API group. Empty for the core group.
    pub(super) fn group(&self) -> &str {
        self.text("/apiVersion").split_once('/').map_or("", |(group, _)| group)
    }

    /// The kind on the wire.
    pub(super) fn kind(&self) -> &str {
        self.text("/kind")
    }

    /// The name. An object to which the API server gives a name is called by the prefix of that name.
    pub(super) fn name(&self) -> String {
        match (self.text("/metadata/name"), self.text("/metadata/generateName")) {
            ("", "") => "(no name)".to_owned(),
            ("", prefix) => format!("{prefix}*"),
            (name, _) => name.to_owned(),
        }
    }

    /// The namespace, or this one if the object names none.
    pub(super) fn namespace<'a>(&'a self, default: &'a str) -> &'a str {
        match self.text("/metadata/namespace") {
            "" => default,
            namespace => namespace,
        }
    }

    /// The kind and the name of the controller.
    pub(super) fn controller(&self) -> Option<(&str, &str)> {
        let owners = self.object.pointer("/metadata/ownerReferences")?.as_array()?;
        let controller = owners.iter().find(|owner| owner["controller"] == true)?;
        Some((controller["kind"].as_str()?, controller["name"].as_str()?))
    }

    fn text(&self, pointer: &str) -> &str {
        self.object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }
}
