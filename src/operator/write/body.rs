//! Reads the bodies of responses. The body of a failure has a limit, because the API server repeats the refused values in
//! its message.

use axum::body::{Body as ReplyBody, Bytes};
use futures::StreamExt as _;
use http::header::CONTENT_TYPE;
use http::response::Parts;
use kube::client::Body;
use serde_json::json;

use crate::limits;

/// Reads a body to its end, or returns `None` if the connection ends before it. In place of a failure that is too long,
/// returns a short Status with the same code.
pub(super) async fn read_body(head: &Parts, body: Body) -> Option<Bytes> {
    if head.status.is_success() {
        return body.collect_bytes().await.ok();
    }
    let mut chunks = ReplyBody::new(body).into_data_stream();
    let mut read = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.ok()?;
        if read.len() + chunk.len() > limits::FAILURE_BYTES {
            return Some(unread(head));
        }
        read.extend_from_slice(&chunk);
    }
    Some(read.into())
}

/// The Status of a failure that is not read. An answer that is not in JSON is from a proxy and not from the API server, and
/// becomes an empty body.
fn unread(head: &Parts) -> Bytes {
    let content = head.headers.get(CONTENT_TYPE).and_then(|content| content.to_str().ok());
    if !content.is_some_and(|content| content.starts_with("application/json")) {
        return Bytes::new();
    }
    let message = format!("its message has more than {} KiB and was not read", limits::FAILURE_BYTES / 1024);
    // With a reason and a kind, the refusal counts as one of the API server itself and not of an admission policy, whose
    // messages are short.
    let status = json!({
        "kind": "Status", "status": "Failure", "code": head.status.as_u16(), "reason": "TooLong", "message": message,
        "details": { "kind": "unread" },
    });
    status.to_string().into()
}

#[cfg(test)]
mod tests {
    use http::Response;
    use kube::core::Status;

    use super::*;

    async fn read(code: u16, content: &str, bytes: usize) -> Bytes {
        let response = Response::builder().status(code).header(CONTENT_TYPE, content).body(()).unwrap();
        let (head, ()) = response.into_parts();
        read_body(&head, Body::from(vec![b'x'; bytes])).await.unwrap()
    }

    #[tokio::test]
    async fn failure_that_is_too_long_keeps_its_code_and_a_short_message() {
        assert_eq!(read(422, "application/json", limits::FAILURE_BYTES).await.len(), limits::FAILURE_BYTES);
        let unread = read(422, "application/json", limits::FAILURE_BYTES + 1).await;
        let status: Status = serde_json::from_slice(&unread).unwrap();
        assert_eq!((status.code, status.message.len() < 100), (422, true), "{}", status.message);
    }

    #[tokio::test]
    async fn long_page_of_a_proxy_says_nothing() {
        assert!(read(403, "text/html", limits::FAILURE_BYTES + 1).await.is_empty());
    }

    #[tokio::test]
    async fn object_is_read_whatever_its_size_is() {
        assert_eq!(read(200, "application/json", 4 * limits::FAILURE_BYTES).await.len(), 4 * limits::FAILURE_BYTES);
    }
}
