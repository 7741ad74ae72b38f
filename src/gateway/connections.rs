//! The page `/connections` on the listener of the metrics: the connections that this gateway has open, for the operator.
//!
//! The names of Sandboxes are no secret to the operator, but they are to others, so the page needs a token and a right.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use kube::Client;
use paddock_api::open_connections::{AUDIENCE, PATH};
use paddock_kube::auth::require;
use tokio::task::spawn_blocking;

use crate::sandboxes::Sandboxes;

/// The route of the page. The API server decides who may read it.
pub(crate) fn router(sandboxes: Sandboxes, reviewer: Client) -> Router {
    require(Router::new().route(PATH, get(list)).with_state(sandboxes), reviewer, Some(AUDIENCE))
}

async fn list(State(sandboxes): State<Sandboxes>) -> Response {
    // A list of many thousand Sandboxes takes milliseconds, in which no request may wait.
    match spawn_blocking(move || serde_json::to_vec(&sandboxes.open_connections())).await {
        Ok(Ok(list)) => ([(header::CONTENT_TYPE, "application/json")], list).into_response(),
        Ok(Err(_)) | Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use paddock_api::open_connections::{BYTES_MAX, OpenConnections, SandboxConnections};
    use paddock_kube::clock::Clock;
    use serde_json::{Value, json};
    use tower::{ServiceExt as _, service_fn};

    use super::*;
    use crate::limits::{FORWARDED_REQUEST, Limits};
    use crate::sandboxes::{Config, Metrics};

    /// An API server that knows `operator` and `other` with the audience of the page, and `everything` as one of its own
    /// tokens. Only `operator` has the right.
    fn reviewer() -> Client {
        let service = service_fn(|request: http::Request<kube::client::Body>| async move {
            let is_token_review = request.uri().path().ends_with("tokenreviews");
            let body: Value = serde_json::from_slice(&request.into_body().collect_bytes().await.unwrap()).unwrap();
            let status = if is_token_review {
                let token = body["spec"]["token"].as_str().unwrap();
                let known = match token {
                    "operator" | "other" => body["spec"]["audiences"] == json!([AUDIENCE]),
                    "everything" => body["spec"]["audiences"].is_null(),
                    _ => false,
                };
                json!({ "authenticated": known, "user": { "username": token }, "audiences": body["spec"]["audiences"] })
            } else {
                assert_eq!(body["spec"]["nonResourceAttributes"], json!({ "path": "/connections", "verb": "get" }));
                json!({ "allowed": body["spec"]["user"] == "operator" })
            };
            let mut answer = body;
            answer["status"] = status;
            Ok::<_, std::convert::Infallible>(http::Response::new(Body::from(answer.to_string())))
        });
        Client::new(service, "default")
    }

    #[tokio::test]
    async fn list_is_for_users_with_the_right_and_a_token_for_it() {
        let sandboxes = Sandboxes::new(reviewer(), Config::default(), Clock::default(), Metrics::for_tests());
        let router = router(sandboxes, reviewer());
        for (token, wanted) in [("", 401), ("nobody", 401), ("everything", 401), ("other", 403), ("operator", 200)] {
            let request = http::Request::get(PATH).header("authorization", format!("Bearer {token}"));
            let answer = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            assert_eq!(answer.status().as_u16(), wanted, "{token}");
            if wanted == 200 {
                let body = to_bytes(answer.into_body(), BYTES_MAX).await.unwrap();
                let list: OpenConnections = serde_json::from_slice(&body).unwrap();
                assert_eq!(list.sandboxes, []);
            }
        }
    }

    /// Each request to a Sandbox has taken its part of the bytes for forwarded requests.
    #[test]
    fn largest_list_is_within_its_limit() {
        let entry = SandboxConnections {
            namespace: "n".repeat(63),
            name: "a".repeat(253),
            pod_uid: "0".repeat(36),
            open: u32::MAX,
        };
        let requests = Limits::within(u64::MAX).forwarded / FORWARDED_REQUEST;
        assert_eq!(requests, 26_214, "the number in the description of the limit");
        let bytes = serde_json::to_vec(&entry).unwrap().len() + 1;
        assert!(bytes <= 410 && requests * bytes < BYTES_MAX, "{bytes}");
    }
}
