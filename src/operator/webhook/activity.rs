//! Writes records of connections to Sandboxes: of activity, and of the connections to warm pods. This is separate from
//! the writer of plans, because nothing is decided. A session may depend on a record, and never a reconcile.

use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use lru::LruCache;
use paddock_api::Sandbox;
use paddock_api::activity::FIELD_MANAGER;
use paddock_core::admission::{Activity, Touch};
use paddock_kube::fair_queue::FairQueue;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::warn;

use super::metrics::Reviews;
use crate::limits;

/// Writes the records of the queue, until the future is dropped.
pub(super) async fn write(client: Client, activities: FairQueue<Activity>, metrics: Reviews) {
    let written: Mutex<LruCache<_, Instant>> = Mutex::new(LruCache::new(limits::RECENT_ACTIVITY_CAPACITY));
    activities
        .run(async |activity: Activity| {
            let (now, uid) = (Instant::now(), activity.uid.clone());
            let recent = |at: &Instant| now.duration_since(*at) < limits::ACTIVITY_REPEAT_INTERVAL;
            if written.lock().peek(&uid).is_some_and(recent) {
                return metrics.activity("merged");
            }
            let result = note(&client, &activity).await;
            if result {
                written.lock().put(uid, now);
            }
            metrics.activity(if result { "written" } else { "failed" });
        })
        .await;
}

/// Writes one record, with a few attempts. If the record of a session is lost, its Sandbox may be suspended while the
/// session runs.
async fn note(client: &Client, activity: &Activity) -> bool {
    let sandboxes: Api<Sandbox> = Api::namespaced(client.clone(), &activity.sandbox.namespace);
    // The UID is a precondition, because another Sandbox with this name was not used.
    let patch = json!({ "metadata": { "uid": activity.uid, "annotations": activity.annotations } });
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    for pause in limits::ACTIVITY_RETRY_DELAYS {
        match sandboxes.patch_metadata(&activity.sandbox.name, &params, &Patch::Merge(&patch)).await {
            Ok(_) => return true,
            // The Sandbox was deleted, or another one has its name. The record does not matter any more.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return false,
            Err(error) => {
                let (sandbox, namespace) = (&activity.sandbox, &*activity.sandbox.namespace);
                warn!(%sandbox, namespace, %error, "an activity record was not written");
            }
        }
        tokio::time::sleep(pause).await;
    }
    false
}

/// A connection to a warm Sandbox, and the receiver of the result: whether the connection was recorded.
pub(super) type NewTouch = (Touch, oneshot::Sender<bool>);

/// Records the connections of the queue, until the future is dropped.
pub(super) async fn write_touches(client: Client, touches: FairQueue<NewTouch>) {
    touches
        .run(async |(touch, reply): NewTouch| {
            // A review that timed out does not wait any more.
            let _ = reply.send(record(&client, &touch).await);
        })
        .await;
}

async fn record(client: &Client, touch: &Touch) -> bool {
    let sandboxes: Api<Sandbox> = Api::namespaced(client.clone(), &touch.sandbox.namespace);
    let mut patch = touch.patch.clone();
    patch["metadata"] = json!({ "uid": touch.uid, "resourceVersion": touch.resource_version });
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let written = sandboxes.patch_metadata(&touch.sandbox.name, &params, &Patch::Merge(&patch)).await;
    if let Err(error) = &written
        && !matches!(error, kube::Error::Api(status) if matches!(status.code, 404 | 409))
    {
        warn!(sandbox = %touch.sandbox, %error, "a connection to a warm pod was not recorded");
    }
    written.is_ok()
}
