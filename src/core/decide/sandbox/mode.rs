//! Keeps the two mode fields of a Sandbox in step.

use paddock_api::OperatingMode;
use paddock_api::names::annotation;
use serde_json::json;

use super::situation::mode;
use crate::model;
use crate::plan::{Op, Reason};
use crate::snapshot::SandboxSnapshot;

/// Makes both mode fields agree. A Sandbox that is to run loses the record of who suspended it, because the next suspend
/// may be another one's. The webhook removes the record in the write of the mode, unless it was away.
pub(super) fn sync(snapshot: &SandboxSnapshot, model: &model::Sandbox) -> Option<Op> {
    let decision = mode(snapshot, model);
    let recorded = snapshot.sandbox.meta.annotations.get(annotation::SUSPENDED_BY).is_some();
    let outdated = recorded && decision.mode == OperatingMode::Running;
    // A Sandbox of a pool is not changed: the pool uses it as it was created, or replaces it.
    if (decision.in_step() && !outdated) || snapshot.sandbox.meta.in_pool() {
        return None;
    }
    let mut body = json!({});
    if outdated {
        body["metadata"] = json!({ "annotations": { annotation::SUSPENDED_BY: null } });
    }
    let mut spec = serde_json::Map::new();
    if let Some(mode) = decision.write_operating_mode {
        spec.insert("operatingMode".to_owned(), json!(mode));
    }
    if let Some(replicas) = decision.write_replicas {
        spec.insert("replicas".to_owned(), replicas.into());
    }
    if !spec.is_empty() {
        body["spec"] = spec.into();
    }
    Some(Op::patch_if_unchanged(&snapshot.sandbox, Reason::ModeInStep, body))
}
