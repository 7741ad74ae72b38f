//! Writes signs of activity to Sandboxes: beside `act`, since it decides nothing and nothing waits for it.

use futures::StreamExt;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use paddock_core::api::Sandbox;
use paddock_core::review::Activity;
use serde_json::json;
use tokio::sync::mpsc;
use tracing::debug;

use crate::limits;

/// Owns the annotations.
const FIELD_MANAGER: &str = "paddock-activity";

/// Writes what comes, for ever.
pub(super) async fn write(client: Client, signs: mpsc::Receiver<Activity>) {
    let signs = futures::stream::unfold(signs, async |mut signs| signs.recv().await.map(|sign| (sign, signs)));
    signs
        .for_each_concurrent(limits::ACTIVITY_WRITES, |sign| {
            let client = client.clone();
            async move {
                let sandboxes: Api<Sandbox> = Api::namespaced(client, &sign.sandbox.namespace);
                // The UID is a precondition: another Sandbox of that name was not used.
                let patch = json!({ "metadata": { "uid": sign.uid, "annotations": sign.annotations } });
                let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
                let written = sandboxes.patch_metadata(&sign.sandbox.name, &params, &Patch::Merge(patch)).await;
                if let Err(error) = written {
                    debug!(sandbox = %sign.sandbox, %error, "a sign of activity was not written");
                }
            }
        })
        .await;
}
