//! The volume claims that a claim adds to its template.

use paddock_api::{InjectionPolicy, claim_data};
use serde_json::Value;

use super::claim_metadata::{annotation_is_allowed, unallowed_annotation};
use super::types::{Claim, Template, VolumeClaim};
use crate::settings::{ANY_DOMAIN, Settings};

/// The fields of a volume claim's spec that choose the content of the volume. The operator creates the volume claim, and
/// the API server asks nobody for a right on the volume that is copied.
const SOURCES: [&str; 4] = ["dataSource", "dataSourceRef", "selector", "volumeName"];

/// The volume claims of the template, with those that the claim adds.
pub(crate) fn merged_volume_claims(
    claim: &Claim,
    template: &Template,
    settings: &Settings,
) -> Result<Vec<VolumeClaim>, String> {
    let mut merged = template.volume_claims.clone();
    if claim.volume_claims.is_empty() {
        return Ok(merged);
    }
    if let Some(errors) = &claim.volume_errors {
        return Err(errors.to_string());
    }
    let volumes = pod_volumes(template);
    for added in &claim.volume_claims {
        let existing = merged.iter_mut().find(|c| c.name == added.name);
        match (template.volume_claims_policy, existing) {
            (InjectionPolicy::Disallowed, _) => {
                return Err(
                    "the template does not allow a claim to bring volumeClaimTemplates (volumeClaimTemplatesPolicy: Disallowed)"
                        .to_owned(),
                );
            }
            (InjectionPolicy::Allowed, Some(_)) => {
                return Err(format!(
                    "volumeClaimTemplate {} is the template's, which does not allow overrides (volumeClaimTemplatesPolicy: Allowed)",
                    added.name
                ));
            }
            (InjectionPolicy::Allowed, None) => {
                adds_only(added, &volumes, settings)?;
                merged.push(added.clone());
            }
            (InjectionPolicy::Overrides, Some(existing)) => *existing = added.clone(),
            (InjectionPolicy::Overrides, None) => merged.push(added.clone()),
        }
    }
    Ok(merged)
}

/// The names of the volumes that a pod of the template has, beside its volume claims.
fn pod_volumes(template: &Template) -> Vec<String> {
    let volumes = template.pod.spec.parse().volumes.into_iter().flatten().map(|volume| volume.name);
    volumes.chain(template.claim_data.iter().map(|_| claim_data::VOLUME.to_owned())).collect()
}

/// Checks that a volume claim adds an empty volume, and replaces none.
fn adds_only(added: &VolumeClaim, volumes: &[String], settings: &Settings) -> Result<(), String> {
    const POLICY: &str = "which does not allow overrides (volumeClaimTemplatesPolicy: Allowed)";

    let name = &added.name;
    if volumes.contains(name) {
        return Err(format!(
            "volumeClaimTemplate {name} has the name of a volume in the pod of the template, {POLICY}: give it another name"
        ));
    }
    let spec: Value = added.spec.parse();
    let says = |field: &&&str| match &spec[**field] {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => true,
    };
    if let Some(field) = SOURCES.iter().find(says) {
        return Err(format!(
            "volumeClaimTemplate {name}: spec.{field} must be left out, because it chooses the content of the volume, and \
             the claim may only add an empty volume to the template, {POLICY}"
        ));
    }
    if spec["storageClassName"] == "" {
        return Err(format!(
            "volumeClaimTemplate {name}: spec.storageClassName must not be empty, because the claim would get an existing \
             volume; name a StorageClass, or leave the field out"
        ));
    }
    // Some storage systems copy the volume that an annotation names, and no list knows all of them.
    let domains: Vec<String> = settings.annotation_domains.iter().filter(|of| *of != ANY_DOMAIN).cloned().collect();
    if let Some(key) = added.annotations.keys().find(|key| !annotation_is_allowed(key, &domains)) {
        return Err(format!(
            "volumeClaimTemplate {name}: metadata.annotations[{key}] {}",
            unallowed_annotation(&domains)
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use paddock_api::kind::ApiShape;
    use serde_json::json;

    use super::*;
    use crate::model::{parse_claim, parse_template};

    fn template(policy: &str) -> Template {
        let volumes = json!([
            { "name": "config", "configMap": { "name": "proxy" } },
            { "name": "work", "emptyDir": {} },
            { "name": "secret", "secret": { "secretName": "s" } },
            { "name": "host", "hostPath": { "path": "/srv" } },
            { "name": "disk", "persistentVolumeClaim": { "claimName": "d" } },
        ]);
        let spec = json!({
            "podTemplate": { "spec": {
                "containers": [{ "name": "agent", "image": "i", "command": ["run"] }], "volumes": volumes,
            } },
            "volumeClaimTemplates": [{
                "metadata": { "name": "own" },
                "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
            }],
            "claimData": { "mountPath": "/claim" },
            "volumeClaimTemplatesPolicy": policy,
        });
        parse_template(ApiShape::Upstream, &serde_json::from_value(spec).unwrap()).unwrap()
    }

    fn claim(name: &str, annotations: &Value, with: &Value) -> Claim {
        let mut spec = json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } });
        json_patch::merge(&mut spec, with);
        let added = json!([{ "metadata": { "name": name, "annotations": annotations }, "spec": spec }]);
        let document = json!({ "warmPoolRef": { "name": "p" }, "volumeClaimTemplates": added });
        parse_claim(ApiShape::Upstream, &serde_json::from_value(document).unwrap()).unwrap()
    }

    /// Each field, name and annotation that would give a claim more than an empty volume of its own.
    #[test]
    fn claim_adds_an_empty_volume_and_replaces_none_unless_overrides_are_allowed() {
        let copy = json!({ "kind": "PersistentVolumeClaim", "name": "workspace-of-bob" });
        let none = json!({});
        for (name, annotations, spec, refused) in [
            ("data", &none, json!({}), None),
            ("data", &none, json!({ "storageClassName": "fast", "volumeMode": "Filesystem", "volumeName": "" }), None),
            ("data", &json!({ "sandbox.users.io/note": "a", "note": "b" }), json!({}), None),
            ("own", &none, json!({}), Some("is the template's")),
            ("config", &none, json!({}), Some("has the name of a volume")),
            ("work", &none, json!({}), Some("has the name of a volume")),
            ("secret", &none, json!({}), Some("has the name of a volume")),
            ("host", &none, json!({}), Some("has the name of a volume")),
            ("disk", &none, json!({}), Some("has the name of a volume")),
            (claim_data::VOLUME, &none, json!({}), Some("has the name of a volume")),
            ("data", &none, json!({ "dataSource": copy }), Some("spec.dataSource must be left out")),
            ("data", &none, json!({ "dataSourceRef": copy }), Some("spec.dataSourceRef must be left out")),
            ("data", &none, json!({ "volumeName": "pv-1" }), Some("spec.volumeName must be left out")),
            ("data", &none, json!({ "storageClassName": "" }), Some("spec.storageClassName must not be empty")),
            ("data", &none, json!({ "selector": {} }), Some("spec.selector must be left out")),
            ("data", &none, json!({ "selector": { "matchLabels": { "a": "b" } } }), Some("spec.selector must be")),
            ("data", &json!({ "k8s.io/CloneRequest": "n/p" }), json!({}), Some("annotations[k8s.io/CloneRequest]")),
            (
                "data",
                &json!({ "trident.netapp.io/cloneFromPVC": "workspace-of-bob" }),
                json!({}),
                Some("annotations[trident.netapp.io/cloneFromPVC]"),
            ),
            (
                "data",
                &json!({ "cdi.kubevirt.io/storage.import.endpoint": "x" }),
                json!({}),
                Some("annotations[cdi.kubevirt.io/storage.import.endpoint]"),
            ),
        ] {
            let claim = claim(name, annotations, &spec);
            let mut settings = Settings::default();
            settings.annotation_domains.push(ANY_DOMAIN.to_owned());
            let found = merged_volume_claims(&claim, &template("Allowed"), &settings);
            match (&found, refused) {
                (Ok(merged), None) => assert_eq!(merged.len(), 2, "{name} {spec}"),
                (Err(problem), Some(says)) => assert!(problem.contains(says), "{name} {spec}: {problem}"),
                (Ok(_), Some(_)) | (Err(_), None) => panic!("{name} {annotations} {spec}: {found:?}"),
            }
            assert!(merged_volume_claims(&claim, &template("Overrides"), &settings).is_ok(), "{name} {spec}");
            assert!(merged_volume_claims(&claim, &template("Disallowed"), &settings).is_err(), "{name} {spec}");
        }
    }
}
