//! A refusal as an answer: JSON with `detail` for HTTP clients, trailers for gRPC, and a page that reloads itself for
//! browsers that wait for a Sandbox.

use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use http::{Method, Response, StatusCode};
use serde::Serialize;

use crate::body::{Body, full};
use crate::grpc;
use crate::kind::Kind;
use crate::refusal::Refusal;

/// The header with the reason of a refusal.
pub(crate) const REASON_HEADER: &str = "x-paddock-reason";
/// The header with the state of the Sandbox.
pub(crate) const STATE_HEADER: &str = "x-sandbox-state";

#[derive(Serialize)]
struct Detail<'a> {
    detail: &'a str,
}

/// The answer to a request that was refused.
pub(crate) fn refuse(refusal: &Refusal, kind: Kind, browser: bool) -> Response<Body> {
    let mut response = match kind {
        Kind::Http if browser && refusal.retry_after.is_some() => page(refusal),
        Kind::Http => json(refusal),
        Kind::Grpc | Kind::GrpcWeb(_) => grpc::refuse(refusal, kind),
    };
    let headers = response.headers_mut();
    headers.insert(REASON_HEADER, HeaderValue::from_static(refusal.reason.as_str()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(state) = refusal.state {
        headers.insert(STATE_HEADER, HeaderValue::from_static(state.into()));
    }
    if let Some(after) = refusal.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    if refusal.reason.status() == StatusCode::UNAUTHORIZED {
        headers.insert(http::header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// Whether a person waits for the answer in a browser: a navigation, and not a script or a program.
pub(crate) fn is_browser(method: &Method, headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    method == Method::GET && accepts.into_iter().any(|accept| accept.contains("text/html"))
}

fn json(refusal: &Refusal) -> Response<Body> {
    // A text always has a JSON form.
    let mut text = serde_json::to_vec(&Detail { detail: &refusal.detail }).unwrap_or_default();
    text.push(b'\n');
    let mut response = Response::new(full(text));
    *response.status_mut() = refusal.reason.status();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A page that reloads itself until the Sandbox answers.
fn page(refusal: &Refusal) -> Response<Body> {
    let seconds = refusal.retry_after.map_or(1, |after| after.as_secs().max(1));
    let detail = escaped(&refusal.detail);
    let text = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"refresh\" content=\"{seconds}\"><title>Starting</title></head>\n\
         <body><p>The sandbox is starting. This page reloads itself.</p><p>{detail}</p></body></html>\n"
    );
    let mut response = Response::new(full(text));
    *response.status_mut() = refusal.reason.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(http::header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'"));
    response
}

fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut html, c| {
        match c {
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '&' => html.push_str("&amp;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
        html
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt;

    use super::*;
    use crate::refusal::{Reason, SandboxState};

    async fn text(response: Response<Body>) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_refusal_is_json_with_a_newline() {
        let refusal = Refusal::new(Reason::SandboxIdRequired, "X-Sandbox-ID header is required.");
        let response = refuse(&refusal, Kind::Http, false);
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        assert_eq!(response.headers()[REASON_HEADER], "SandboxIdRequired");
        assert!(!response.headers().contains_key(RETRY_AFTER));
        assert_eq!(text(response).await, "{\"detail\":\"X-Sandbox-ID header is required.\"}\n");
    }

    #[tokio::test]
    async fn a_browser_that_may_try_again_gets_a_page_that_reloads_itself() {
        let refusal = Refusal::new(Reason::HoldLimit, "<b>").retry_after(Duration::from_secs(2));
        let refusal = refusal.state(SandboxState::Waking);
        let response = refuse(&refusal, Kind::Http, true);
        assert_eq!((response.status().as_u16(), &response.headers()[RETRY_AFTER]), (503, &HeaderValue::from(2)));
        assert_eq!(response.headers()[STATE_HEADER], "waking");
        let page = text(response).await;
        assert!(page.contains("content=\"2\"") && page.contains("&lt;b&gt;") && !page.contains("<b>"), "{page}");
        // A page that reloads itself for ever would be no help.
        let suspended = refuse(&Refusal::new(Reason::Suspended, "by somebody"), Kind::Http, true);
        assert_eq!(suspended.headers()[CONTENT_TYPE], "application/json");
    }
}
