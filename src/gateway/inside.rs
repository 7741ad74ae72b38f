//! The listener for requests from inside of sandboxes: `POST /awake?for=10m` and `POST /idle`.
//!
//! It has a port of its own. Sandboxed code must not reach the proxy, and a path of the proxy could be one of a Sandbox.

use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Router};
use jiff::Timestamp;
use paddock_api::activity;
use paddock_api::duration::parse_go_duration;
use paddock_kube::server::RemoteAddress;
use serde_json::{Value, json};

use crate::sandboxes::{NotTaken, Sandboxes, Wish};

/// The routes of the listener.
pub(crate) fn router(sandboxes: Sandboxes) -> Router {
    Router::new().route("/awake", post(awake)).route("/idle", post(idle)).fallback(unknown).with_state(sandboxes)
}

async fn awake(
    State(sandboxes): State<Sandboxes>,
    Extension(RemoteAddress(source)): Extension<RemoteAddress>,
    RawQuery(query): RawQuery,
) -> Response {
    match time(query.as_deref().unwrap_or_default()) {
        Ok(time) => answer("keepAwakeUntil", sandboxes.wish(source, Wish::Awake(time)).await),
        Err(detail) => json_answer(StatusCode::BAD_REQUEST, &json!({ "detail": detail })),
    }
}

async fn idle(
    State(sandboxes): State<Sandboxes>,
    Extension(RemoteAddress(source)): Extension<RemoteAddress>,
) -> Response {
    answer("idleSince", sandboxes.wish(source, Wish::Idle).await)
}

async fn unknown() -> Response {
    let detail = "there is no such page; send POST /awake?for=10m or POST /idle";
    json_answer(StatusCode::NOT_FOUND, &json!({ "detail": detail }))
}

/// The value of the parameter `for`. A Go duration has no character that a query escapes.
fn time(query: &str) -> Result<Duration, String> {
    let wrong =
        || format!("the query {query:?} must be for= and a Go duration above zero, such as for=10m or for=1h30m");
    let value = query.strip_prefix("for=").ok_or_else(wrong)?;
    let nanos = parse_go_duration(value).ok().and_then(|nanos| u64::try_from(nanos).ok()).ok_or_else(wrong)?;
    Some(Duration::from_nanos(nanos)).filter(|time| !time.is_zero()).ok_or_else(wrong)
}

fn answer(field: &str, taken: Result<Timestamp, NotTaken>) -> Response {
    let refused = match taken {
        Ok(at) => return json_answer(StatusCode::OK, &json!({ field: activity::text(at) })),
        Err(refused) => refused,
    };
    let (status, again) = match &refused {
        NotTaken::Stranger(_) => (StatusCode::FORBIDDEN, false),
        NotTaken::NeverIdle | NotTaken::InUse => (StatusCode::CONFLICT, false),
        NotTaken::TooOften => (StatusCode::TOO_MANY_REQUESTS, true),
        NotTaken::Refused(_) => (StatusCode::UNPROCESSABLE_ENTITY, false),
        NotTaken::Failed => (StatusCode::SERVICE_UNAVAILABLE, true),
    };
    let mut response = json_answer(status, &json!({ "detail": refused.to_string() }));
    if again {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn json_answer(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_a_duration_above_zero() {
        assert_eq!(time("for=1h30m"), Ok(Duration::from_secs(5400)));
        for query in ["", "for=", "for=0s", "for=-1m", "for=10", "for=10m&x=1", "to=10m", "for=soon"] {
            let error = time(query).unwrap_err();
            assert!(error.contains("for=10m"), "{query}: {error}");
        }
    }

    #[test]
    fn each_refusal_has_its_status() {
        for (refused, status) in [
            (NotTaken::Stranger([192, 0, 2, 1].into()), 403),
            (NotTaken::NeverIdle, 409),
            (NotTaken::InUse, 409),
            (NotTaken::TooOften, 429),
            (NotTaken::Refused("too late".to_owned()), 422),
            (NotTaken::Failed, 503),
        ] {
            let response = answer("idleSince", Err(refused));
            assert_eq!(response.status(), status);
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), matches!(status, 429 | 503));
        }
    }
}
