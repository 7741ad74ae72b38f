//! Writes signs of activity to Sandboxes: beside `act`, since it decides nothing and nothing waits for it.

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

/// Owns the annotations.
const FIELD_MANAGER: &str = "paddock-activity";

/// Writes what comes, for ever.
pub(super) async fn write(client: Client, signs: mpsc::Receiver<Activity>, metrics: Reviews) {
    let signs = futures::stream::unfold(signs, async |mut signs| signs.recv().await.map(|sign| (sign, signs)));
    signs
        .for_each_concurrent(limits::ACTIVITY_WRITE_CONCURRENCY, |sign| {
            let (client, metrics) = (client.clone(), metrics.clone());
            async move { metrics.activity(if note(&client, &sign).await { "written" } else { "failed" }) }
        })
        .await;
}

/// Tries a few times: a session whose sign is lost may be put to sleep under its user.
async fn note(client: &Client, sign: &Activity) -> bool {
    let sandboxes: Api<Sandbox> = Api::namespaced(client.clone(), &sign.sandbox.namespace);
    // The UID is a precondition: another Sandbox of that name was not used.
    let patch = json!({ "metadata": { "uid": sign.uid, "annotations": sign.annotations } });
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    for pause in limits::ACTIVITY_RETRY_DELAYS {
        match sandboxes.patch_metadata(&sign.sandbox.name, &params, &Patch::Merge(&patch)).await {
            Ok(_) => return true,
            // It is gone, or another one of its name is there: nobody's activity any more.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return false,
            Err(error) => warn!(sandbox = %sign.sandbox, %error, "a sign of activity was not written"),
        }
        tokio::time::sleep(pause).await;
    }
    false
}
