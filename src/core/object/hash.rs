//! The hash of a template, which is compared with the hash of the template that a Sandbox was made of.

use std::sync::Arc;

use serde_json::{Value, json};

use super::json::to_value;
use crate::kind::ApiShape;
use crate::model::{self, VolumeClaim};

/// Hash of what a template makes its sandboxes of: other fields may change without making them stale.
#[must_use]
pub(crate) fn template_hash(model: &model::Template) -> String {
    let parts = json!([
        model.pod.labels,
        model.pod.annotations,
        to_value(&*model.pod.spec),
        model.runtime_class,
        model.volume_claims.iter().map(wire_claim).collect::<Vec<_>>(),
        format!("{:?}", model.service),
        model.idle_timeout.map(|t| t.as_millis().to_string()),
        format!("{:?}", model.resume),
        model.shape == ApiShape::Seed,
    ]);
    format!("{:016x}", fnv64([parts.to_string().as_bytes()]))
}

/// A volume claim as it is written into a Sandbox.
pub(crate) fn wire_claim(claim: &VolumeClaim) -> Value {
    let spec: &Arc<_> = &claim.spec;
    json!({
        "metadata": { "name": claim.name, "labels": claim.labels, "annotations": claim.annotations },
        "spec": to_value(spec),
    })
}

/// 64-bit FNV-1a.
pub(crate) fn fnv64<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    parts
        .into_iter()
        .flatten()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
