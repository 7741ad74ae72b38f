//! The hash of a template. A Sandbox has the hash of its template in a label, so that a stale Sandbox is recognized.

use paddock_api::kind::ApiShape;
use paddock_api::{ClaimDataStart, DrainPolicy};
use serde_json::{Value, json};

use crate::model::{self, VolumeClaim};

/// Returns the hash of those fields of a template that define its sandboxes, in 16 hex digits. A change of another
/// field does not make a Sandbox stale.
#[must_use]
pub(crate) fn template_hash(model: &model::Template) -> String {
    let mut parts = json!([
        model.pod.labels,
        model.pod.annotations,
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
