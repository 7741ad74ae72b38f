//! The hash of a template. A Sandbox has the hash of its template in a label, so that a stale Sandbox is recognized.

use paddock_api::kind::ApiShape;
use paddock_api::names::label;
use paddock_api::{ClaimDataStart, DrainPolicy};
use serde_json::{Value, json};

use crate::model::{self, VolumeClaim};

/// Returns the hash of those fields of a template that define its sandboxes, in 16 hex digits. A change of another
/// field does not make a Sandbox stale. Of the pod's metadata, only the marker counts: new sandboxes have the rest.
#[must_use]
pub(crate) fn template_hash(model: &model::Template) -> String {
    let marker = model.pod.labels.get(label::GENERATED_CODE);
    let mut parts = json!([
        marker.map_or_else(|| json!({}), |marker| json!({ label::GENERATED_CODE: marker })),
        // Annotations were here. A hash that changes without a reason would replace every warm sandbox.
        {},
        model.pod.spec.text().parse::<Value>(),
        model.runtime_class,
        model.volume_claims.iter().map(wire_claim).collect::<Vec<_>>(),
        format!("{:?}", model.service),
        model.idle_timeout.map(|t| t.as_millis().to_string()),
        format!("{:?}", model.resume),
        model.shape == ApiShape::Seed,
    ]);
    if let (Some(rules), Value::Array(parts)) = (&model.claim_data, &mut parts) {
        // The Secrets are not part of a sandbox.
        parts.push(json!([rules.mount_path, rules.containers]));
        if rules.start == ClaimDataStart::AfterDelivery {
            parts.push("AfterDelivery".into());
        }
    }
    if let (DrainPolicy::Suspend, Value::Array(parts)) = (model.drain, &mut parts) {
        parts.push(json!({ "drainPolicy": "Suspend" }));
    }
    if let (Some(wake), Value::Array(parts)) = (&model.wake, &mut parts) {
        parts.push(json!({ "wakeSchedule": wake.meaning() }));
    }
    format!("{:016x}", fnv64([parts.to_string().as_bytes()]))
}

/// Returns a volume claim template in the form in which a Sandbox contains it.
pub(crate) fn wire_claim(claim: &VolumeClaim) -> Value {
    json!({
        "metadata": { "name": claim.name, "labels": claim.labels, "annotations": claim.annotations },
        "spec": claim.spec.parse::<Value>(),
    })
}

/// The 64-bit FNV-1a hash of the concatenated parts.
pub(crate) fn fnv64<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    parts
        .into_iter()
        .flatten()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(change: &Value) -> String {
        let mut spec = json!({ "podTemplate": { "spec": { "containers": [{ "name": "c", "image": "i" }] } } });
        json_patch::merge(&mut spec["podTemplate"], change);
        template_hash(&model::parse_template(ApiShape::Upstream, &serde_json::from_value(spec).unwrap()).unwrap())
    }

    /// Existing tools label their templates, and expect that the warm sandboxes stay.
    #[test]
    fn metadata_of_the_pod_does_not_define_a_sandbox_but_the_marker_does() {
        let plain = hash(&json!({}));
        for metadata in [json!({ "labels": { "team": "blue" } }), json!({ "annotations": { "note": "new" } })] {
            assert_eq!(hash(&json!({ "metadata": metadata })), plain, "{metadata}");
        }
        let marked = hash(&json!({ "metadata": { "labels": { label::GENERATED_CODE: "true" } } }));
        let renewed = hash(&json!({ "spec": { "containers": [{ "name": "c", "image": "i:2" }] } }));
        assert!(marked != plain && renewed != plain && marked != renewed);
    }
}
