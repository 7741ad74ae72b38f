//! The name by which the API server knows the user of a client.

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::limits;

/// The reason why the name is not known.
#[derive(Debug, thiserror::Error)]
pub enum UnknownUser {
    /// The request failed.
    #[error("the request for the user's name failed: {0}")]
    Request(#[source] Box<kube::Error>),
    /// The reply has no name.
    #[error("the API server did not return the user's name")]
    NoName,
}

/// Asks the API server for the name of the client's own user.
///
/// # Errors
/// If the request fails, or the reply has no name.
pub async fn whoami(client: &Client) -> Result<String, UnknownUser> {
    let api: Api<SelfSubjectReview> = Api::all(client.clone());
    let reply = api.create(&PostParams::default(), &SelfSubjectReview::default()).await;
    let review = reply.map_err(|error| UnknownUser::Request(Box::new(error)))?;
    review.status.and_then(|status| status.user_info?.username).ok_or(UnknownUser::NoName)
}

/// The name of a ServiceAccount as a user.
#[must_use]
pub fn service_account_user(namespace: &str, account: &str) -> String {
    format!("system:serviceaccount:{namespace}:{account}")
}

/// The namespace of the ServiceAccount with the name of this user. `None` if the user is no ServiceAccount.
#[must_use]
pub fn service_account_namespace(user: &str) -> Option<&str> {
    let (namespace, _account) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    Some(namespace)
}

/// Repeats the question until there is an answer. `None` after `stop`.
pub async fn wait_for_user(client: &Client, stop: &CancellationToken) -> Option<String> {
    let mut delays = limits::WATCH_BACKOFF.delays();
    loop {
        match whoami(client).await {
            Ok(user) => return Some(user),
            Err(error) => warn!(%error, "the operator's own user is not known yet"),
        }
        tokio::select! {
            () = stop.cancelled() => return None,
            () = sleep(delays.next().unwrap_or_default()) => {}
        }
    }
}
