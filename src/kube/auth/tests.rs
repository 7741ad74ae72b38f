//! Clients with good, bad and no tokens, before an API server that answers, refuses or is away.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use axum::routing::get;
use serde_json::{Value, json};
use tower::{ServiceExt, service_fn};

use super::*;

/// An API server that knows the tokens `reader` and `other`, of which only the first may read the metrics.
struct Server {
    reviews: AtomicUsize,
    away: std::sync::atomic::AtomicBool,
}

fn gated() -> (Router, Arc<Server>) {
    let server = Arc::new(Server { reviews: AtomicUsize::new(0), away: false.into() });
    let state = server.clone();
    let service = service_fn(move |request: http::Request<kube::client::Body>| {
        let server = state.clone();
        async move {
            server.reviews.fetch_add(1, Ordering::Relaxed);
            if server.away.load(Ordering::Relaxed) {
                return Err(std::io::Error::other("away"));
            }
            let token_review = request.uri().path().ends_with("tokenreviews");
            let body: Value = serde_json::from_slice(&request.into_body().collect_bytes().await.unwrap()).unwrap();
            let status = if token_review {
                let token = body["spec"]["token"].as_str().unwrap();
                let known = matches!(token, "reader" | "other");
                json!({ "authenticated": known, "user": { "username": token, "groups": ["g"] } })
            } else {
                let attributes = &body["spec"]["nonResourceAttributes"];
                assert_eq!(
                    (attributes, &body["spec"]["groups"]),
                    (&json!({ "path": "/metrics", "verb": "get" }), &json!(["g"]))
                );
                json!({ "allowed": body["spec"]["user"] == "reader" })
            };
            let mut answer = body;
            answer["status"] = status;
            Ok(http::Response::new(Body::from(answer.to_string())))
        }
    });
    let client = Client::new(service, "default");
    (require(Router::new().route("/metrics", get(|| async { "numbers" })), client, None), server)
}

async fn ask(router: &Router, authorization: Option<&str>) -> u16 {
    ask_from(router, [10, 0, 0, 1], authorization).await
}

async fn ask_from(router: &Router, address: [u8; 4], authorization: Option<&str>) -> u16 {
    let mut request = http::Request::get("/metrics").extension(RemoteAddress(IpAddr::from(address)));
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status().as_u16()
}

#[tokio::test(start_paused = true)]
async fn only_a_user_with_the_right_gets_the_metrics() {
    let (router, _) = gated();
    for (authorization, status) in [
        (None, 401),
        (Some(""), 401),
        (Some("Bearer "), 401),
        (Some("Basic cmVhZGVyOnJlYWRlcg=="), 401),
        (Some("reader"), 401),
        (Some("Bearer nobody"), 401),
        (Some("Bearer other"), 403),
        (Some("Bearer reader"), 200),
        (Some("bearer  reader"), 200),
    ] {
        assert_eq!(ask(&router, authorization).await, status, "{authorization:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_known_client_is_not_asked_about_for_a_while_and_stays_admitted_without_the_api_server() {
    let (router, server) = gated();
    for _ in 0..100 {
        assert_eq!(ask(&router, Some("Bearer reader")).await, 200);
    }
    assert_eq!(server.reviews.load(Ordering::Relaxed), 2);
    server.away.store(true, Ordering::Relaxed);
    tokio::time::advance(limits::AUTH.admitted).await;
    assert_eq!(ask(&router, Some("Bearer reader")).await, 200);
    assert_eq!(ask(&router, Some("Bearer other")).await, 503);
    tokio::time::advance(limits::AUTH_STALE_TIME).await;
    assert_eq!(ask(&router, Some("Bearer reader")).await, 503);
    server.away.store(false, Ordering::Relaxed);
    assert_eq!(ask(&router, Some("Bearer reader")).await, 200);
}

#[tokio::test(start_paused = true)]
async fn strangers_with_many_tokens_ask_the_api_server_at_a_rate_and_keep_no_known_client_out() {
    let (router, server) = gated();
    assert_eq!(ask(&router, Some("Bearer reader")).await, 200);
    let before = server.reviews.load(Ordering::Relaxed);
    let strangers = async || {
        let tokens: Vec<String> = (0..1000).map(|n| format!("Bearer stranger{n}")).collect();
        futures::future::join_all(tokens.iter().map(|token| ask(&router, Some(token)))).await
    };
    let begun = tokio::time::Instant::now();
    let refused = strangers().await;
    assert!(refused.iter().all(|status| matches!(status, 401 | 503)), "{refused:?}");
    assert!(begun.elapsed() <= limits::AUTH_TIMEOUT, "{:?}", begun.elapsed());
    let asked = server.reviews.load(Ordering::Relaxed) - before;
    assert!((1..=31).contains(&asked), "{asked}: a burst, and two in a second");
    tokio::time::advance(limits::AUTH.admitted).await;
    strangers().await;
    assert_eq!(ask(&router, Some("Bearer reader")).await, 200);
}

#[tokio::test(start_paused = true)]
async fn strangers_of_one_address_do_not_take_the_turns_of_another() {
    let (router, _) = gated();
    let tokens: Vec<String> = (0..1000).map(|n| format!("Bearer stranger{n}")).collect();
    let strangers = tokens.iter().map(|token| ask_from(&router, [10, 0, 0, 1], Some(token)));
    let reader = ask_from(&router, [10, 0, 0, 2], Some("Bearer reader"));
    let (refused, status) = tokio::join!(futures::future::join_all(strangers), reader);
    assert_eq!(status, 200);
    assert!(refused.contains(&503), "the questions of the strangers filled the queue");
}
