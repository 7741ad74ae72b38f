//! Requests that an operation needs beside its own write: reads before it, and the Secret of a delivery.

use axum::body::Bytes;
use http::{HeaderMap, StatusCode};
use kube::Client;
use kube::api::GetParams;
use kube::client::Body;
use kube::core::request::Error;
use kube::core::{Request, Status};
use paddock_api::kind::Key;
use paddock_core::plan::Outcome;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::body::read_body;
use super::reply::Reply;
use super::request::collection;
use crate::limiter::Signal;
use crate::limits;

/// Sends requests and reads complete responses.
#[derive(Clone)]
pub(super) struct Calls {
    client: Client,
}

impl Calls {
    /// `client` must not retry by itself.
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Reads an object. The timeout is that of a write.
    ///
    /// # Errors
    /// The reply with which the whole operation ends, if there is no response.
    pub(super) async fn get(&self, collection: &Request, name: &str) -> Result<Answer, Reply> {
        let request = collection.get(name, &GetParams::default());
        let answer = tokio::time::timeout(limits::WRITE_TIMEOUT, self.send(request)).await;
        // Nothing was written yet.
        answer.unwrap_or_else(|_elapsed| Err(Reply::unsent()))
    }

    /// Sends a request, and reads the response to its end.
    ///
    /// # Errors
    /// The reply with which the whole operation ends, if there is no response.
    pub(super) async fn send(&self, request: Result<http::Request<Vec<u8>>, Error>) -> Result<Answer, Reply> {
        let request =
            request.map_err(|_| rejected(400, "a name of the operation does not fit into a URL".to_owned()))?;
        // Nothing is known about a request without a reply, and its repetition does no harm.
        let response = self.client.send(request.map(Body::from)).await.map_err(|_| Reply::lost())?;
        let (parts, body) = response.into_parts();
        let body = read_body(&parts, body).await.ok_or_else(Reply::lost)?;
        Ok(Answer { code: parts.status, headers: parts.headers, body })
    }

    /// Reads parts of an object that existed when the operation was planned.
    ///
    /// # Errors
    /// The reply with which the whole operation ends. It is a conflict if the object does not exist any more: the watch
    /// will show that.
    pub(super) async fn read<T: DeserializeOwned>(&self, key: &Key) -> Result<T, Reply> {
        let (kind, name) = (key.kind.name(), &key.name);
        let answer = self.get(&collection(key), name).await?;
        if answer.code == StatusCode::NOT_FOUND {
            return Err(conflict());
        }
        if !answer.code.is_success() {
            return Err(answer.refused(&format!("reading {kind} {name}")));
        }
        // The error could quote the content.
        serde_json::from_slice(&answer.body).map_err(|_| rejected(422, format!("{kind} {name} cannot be read")))
    }

    /// Checks that an object with this UID exists and is not terminating.
    ///
    /// # Errors
    /// The reply with which the whole operation ends. It is a conflict if the object is another one or terminating.
    pub(super) async fn check_is_live(&self, key: &Key, uid: &str) -> Result<(), Reply> {
        let Live { metadata } = self.read(key).await?;
        if metadata.uid == uid && metadata.deletion_timestamp.is_none() { Ok(()) } else { Err(conflict()) }
    }
}

/// The parts of an object that tell whether it is the same one and stays.
#[derive(Deserialize)]
struct Live {
    metadata: LiveMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LiveMetadata {
    uid: String,
    deletion_timestamp: Option<String>,
}

/// A complete response.
pub(super) struct Answer {
    pub(super) code: StatusCode,
    headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    fn status(&self) -> Option<Status> {
        serde_json::from_slice(&self.body).ok()
    }

    pub(super) fn already_exists(&self) -> bool {
        self.code == StatusCode::CONFLICT && self.status().is_some_and(|status| status.reason == "AlreadyExists")
    }

    /// The reply of the operation, if this part of it failed.
    pub(super) fn refused(&self, what: &str) -> Reply {
        // An admission plugin (ResourceQuota) had a conflict of its own.
        if self.code == StatusCode::CONFLICT {
            return conflict();
        }
        Reply::of_failure(self.code, &self.headers, self.status(), |message| format!("{what}: {message}"))
    }
}

pub(super) fn rejected(status: u16, message: String) -> Reply {
    Reply { outcome: Outcome::rejected(status, message, false), signal: Signal::Served }
}

pub(super) fn conflict() -> Reply {
    Reply { outcome: Outcome::Conflict, signal: Signal::Served }
}
