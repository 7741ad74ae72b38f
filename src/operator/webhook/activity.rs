//! Writes activity records to Sandboxes. This is separate from the writer of plans, because nothing is decided and
//! nothing waits for it.

use futures::StreamExt;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use paddock_api::Sandbox;
use paddock_core::admission::Activity;
use serde_json::json;
use tokio::sync::mpsc;
use tracing::warn;

use super::metrics::Reviews;
use crate::limits;

/// The field manager of the activity annotations.
const FIELD_MANAGER: &str = "paddock-activity";

/// Writes the received records until the sender is dropped.
pub(super) async fn write(client: Client, signs: mpsc::Receiver<Activity>, metrics: Reviews) {
    let signs = futures::stream::unfold(signs, async |mut signs| signs.recv().await.map(|sign| (sign, signs)));
    signs
        .for_each_concurrent(limits::ACTIVITY_WRITE_CONCURRENCY, |sign| {
            let (client, metrics) = (client.clone(), metrics.clone());
            async move { metrics.activity(if note(&client, &sign).await { "written" } else { "failed" }) }
        })
        .await;
}

/// Writes one record, with a few attempts. If the record of a session is lost, its Sandbox may be suspended while the
/// session runs.
async fn note(client: &Client, sign: &Activity) -> bool {
    let sandboxes: Api<Sandbox> = Api::namespaced(client.clone(), &sign.sandbox.namespace);
    // The UID is a precondition, because another Sandbox with this name was not used.
    let patch = json!({ "metadata": { "uid": sign.uid, "annotations": sign.annotations } });
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    for pause in limits::ACTIVITY_RETRY_DELAYS {
        match sandboxes.patch_metadata(&sign.sandbox.name, &params, &Patch::Merge(&patch)).await {
            Ok(_) => return true,
            // The Sandbox was deleted, or another one has its name. The record does not matter any more.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return false,
            Err(error) => warn!(sandbox = %sign.sandbox, %error, "an activity record was not written"),
        }
        tokio::time::sleep(pause).await;
    }
    false
}
