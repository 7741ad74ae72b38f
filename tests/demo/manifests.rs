//! The manifests that the demo applies: the unchanged samples, and its own.

use anyhow::{Context as _, Result};
use kube::ResourceExt as _;
use kube::api::DynamicObject;
use serde::Deserialize as _;
use serde_json::Value;

/// One Sandbox, in the seed shape.
pub(crate) const SANDBOX: &str = include_str!("../../deploy/samples/sandbox.yaml");
/// A template, a pool of this template, and a claim.
pub(crate) const WARM_POOL: &str = include_str!("../../deploy/samples/warm-pool.yaml");

/// All objects of a YAML text. Objects without a namespace are put into `namespace`, as with `kubectl -n`.
pub(crate) fn objects(text: &str, namespace: Option<&str>) -> Result<Vec<DynamicObject>> {
    let mut objects = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_str(text) {
        let value = Value::deserialize(document).context("reading YAML")?;
        if value.is_null() {
            continue;
        }
        let mut object: DynamicObject = serde_json::from_value(value).context("reading a Kubernetes object")?;
        if let (None, Some(namespace)) = (&object.metadata.namespace, namespace) {
            object.metadata.namespace = Some(namespace.to_owned());
        }
        objects.push(object);
    }
    Ok(objects)
}

/// The annotation that kubectl writes when it applies an object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// An object with kubectl's annotation for the applied configuration.
pub(crate) fn as_applied(object: &DynamicObject) -> Result<DynamicObject> {
    let note = serde_json::to_string(object).context("writing a Kubernetes object")?;
    let mut applied = object.clone();
    applied.annotations_mut().insert(LAST_APPLIED.to_owned(), format!("{note}\n"));
    Ok(applied)
}

/// The kind of an object.
pub(crate) fn kind(object: &DynamicObject) -> &str {
    object.types.as_ref().map_or("", |types| types.kind.as_str())
}

/// One object, from JSON.
pub(crate) fn object(value: Value) -> Result<DynamicObject> {
    serde_json::from_value(value).context("making a Kubernetes object")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_match_the_walkthrough() {
        let kinds = |text| -> Vec<String> {
            objects(text, Some("agents")).unwrap().iter().map(|o| kind(o).to_owned()).collect()
        };
        assert_eq!(kinds(SANDBOX), ["Sandbox"]);
        assert_eq!(kinds(WARM_POOL), ["SandboxTemplate", "SandboxWarmPool", "SandboxClaim"]);
    }

    #[test]
    fn what_was_applied_is_noted_whole() {
        let sample = &objects(SANDBOX, Some("agents")).unwrap()[0];
        let applied = as_applied(sample).unwrap();
        let note: Value = serde_json::from_str(&applied.annotations()[LAST_APPLIED]).unwrap();
        assert_eq!(note, serde_json::to_value(sample).unwrap());
        assert_eq!((&applied.data, applied.name_any()), (&sample.data, sample.name_any()));
    }

    #[test]
    fn namespace_is_added_only_if_it_is_missing() {
        let text = "metadata: { name: a, namespace: b }\napiVersion: v1\nkind: Pod\n---\napiVersion: v1\nkind: Pod\n";
        let namespaces: Vec<_> =
            objects(text, Some("c")).unwrap().into_iter().map(|o| o.metadata.namespace.unwrap()).collect();
        assert_eq!(namespaces, ["b", "c"]);
    }
}
