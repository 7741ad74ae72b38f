//! The write of a Sandbox, by which the gateway wakes it, records activity and notes wishes.

use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use paddock_api::document::Document;
use paddock_api::kind::Kind;
use paddock_kube::watch::resource;
use serde_json::Value;
use tokio::time::timeout;

use super::directory::Directory;
use super::feed::read_sandbox;
use super::limits;
use super::observed::Name;

/// The reason why a Sandbox was not patched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotPatched {
    /// Somebody changed or deleted the Sandbox, or another one has its name. The watch will show it.
    Changed,
    /// The API server refused the write, with its message.
    Refused(String),
    /// The API server gave no usable answer, with the error.
    Failed(String),
}

/// Patches a Sandbox. The directory gets the reply, which is often earlier than the event of the watch.
///
/// # Errors
/// If the API server did not store the patch, or did not say in time that it did.
pub(crate) async fn patch_sandbox(
    (client, directory): (&Client, &Directory),
    name: &Name,
    field_manager: &str,
    patch: &Value,
) -> Result<(), NotPatched> {
    let sandboxes: Api<Document> = Api::namespaced_with(client.clone(), &name.namespace, &resource(Kind::Sandbox));
    let params = PatchParams { field_manager: Some(field_manager.to_owned()), ..PatchParams::default() };
    match timeout(limits::WRITE_TIMEOUT, sandboxes.patch(&name.name, &params, &Patch::Merge(patch))).await {
        Ok(Ok(document)) => {
            if let Some((name, sandbox)) = read_sandbox(&document) {
                directory.replied(name, sandbox);
            }
            Ok(())
        }
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => Err(NotPatched::Changed),
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 400..=428) => {
            Err(NotPatched::Refused(status.message.clone()))
        }
        Ok(Err(error)) => Err(NotPatched::Failed(error.to_string())),
        Err(_elapsed) => Err(NotPatched::Failed("the API server did not answer in time".to_owned())),
    }
}
