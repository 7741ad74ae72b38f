//! Clients with good, bad and no tokens, before an API server that answers or is away.

pub(crate) mod issuer;
mod scoped;

use std::convert::Infallible;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::body::Body;
use serde_json::{Value, json};
use tower::service_fn;

use super::*;

#[derive(Default)]
struct Server {
    tokens: AtomicUsize,
    rights: AtomicUsize,
    away: AtomicBool,
}

/// An API server that knows every token that begins with `user`, and lets `user1` use the Sandbox `mine`.
fn authorizer() -> (Authorizer, Arc<Server>) {
    let server = Arc::new(Server::default());
    let state = server.clone();
    let service = service_fn(move |request: http::Request<kube::client::Body>| {
        let server = state.clone();
        async move {
            if server.away.load(Ordering::Relaxed) {
                let status = json!({ "kind": "Status", "status": "Failure", "code": 503, "message": "etcd is away" });
                let reply = http::Response::builder().status(503).body(Body::from(status.to_string()));
                return Ok::<_, Infallible>(reply.unwrap());
            }
            let of_token = request.uri().path().ends_with("tokenreviews");
            let body: Value = serde_json::from_slice(&request.into_body().collect_bytes().await.unwrap()).unwrap();
            let status = if of_token {
                server.tokens.fetch_add(1, Ordering::Relaxed);
                let token = body["spec"]["token"].as_str().unwrap();
                json!({ "authenticated": token.starts_with("user"), "user": { "username": token, "groups": ["g"] } })
            } else {
                server.rights.fetch_add(1, Ordering::Relaxed);
                let wants = &body["spec"]["resourceAttributes"];
                let expected = json!({
                    "verb": "create", "group": "agents.x-k8s.io", "resource": "sandboxes", "subresource": "proxy",
                    "namespace": "ns", "name": wants["name"],
                });
                assert_eq!((wants, &body["spec"]["groups"]), (&expected, &json!(["g"])));
                json!({ "allowed": body["spec"]["user"] == "user1" && wants["name"] == "mine" })
            };
            let mut answer = body;
            answer["status"] = status;
            Ok(http::Response::new(Body::from(answer.to_string())))
        }
    });
    let client = Client::new(service, "default");
    (Authorizer::reviewed(client, ScopedTokens::Accept, Clock::default()), server)
}

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

async fn check(authorizer: &Authorizer, token: Option<&str>, sandbox: &str) -> Result<String, (Reason, String)> {
    check_from(authorizer, token, sandbox, CLIENT).await
}

async fn check_from(
    authorizer: &Authorizer,
    token: Option<&str>,
    sandbox: &str,
    from: IpAddr,
) -> Result<String, (Reason, String)> {
    let credential = token.map_or(Credential::None, |token| Credential::Bearer(token.into()));
    let target = Target { namespace: "ns".into(), name: sandbox.into(), port: 8888 };
    let checked = match authorizer.present(&credential, &target) {
        Ok(presented) => authorizer.admit(&presented, from, &target).await,
        Err(refusal) => Err(refusal),
    };
    checked.map(|caller| caller.name.to_string()).map_err(|refusal| (refusal.reason, refusal.detail))
}

#[tokio::test(start_paused = true)]
async fn only_a_user_with_the_right_on_that_sandbox_is_admitted() {
    let (authorizer, _) = authorizer();
    let unauthenticated = Err((Reason::Unauthenticated, "unauthenticated".to_owned()));
    let forbidden = Err((Reason::Forbidden, "forbidden".to_owned()));
    for (token, sandbox, expected) in [
        (None, "mine", &unauthenticated),
        (Some(""), "mine", &unauthenticated),
        (Some("stranger"), "mine", &unauthenticated),
        (Some("user1"), "mine", &Ok("user1".to_owned())),
        (Some("user1"), "yours", &forbidden),
        (Some("user2"), "mine", &forbidden),
    ] {
        assert_eq!(check(&authorizer, token, sandbox).await, *expected, "{token:?} {sandbox}");
        assert_eq!(check(&authorizer, token, sandbox).await, *expected, "{token:?} {sandbox}, from the cache");
    }
}

#[tokio::test(start_paused = true)]
async fn answers_are_remembered_for_a_while_and_a_token_is_asked_about_once() {
    let (authorizer, server) = authorizer();
    let asked = || (server.tokens.load(Ordering::Relaxed), server.rights.load(Ordering::Relaxed));
    for sandbox in ["mine", "a", "b", "c"] {
        let _ = check(&authorizer, Some("user1"), sandbox).await;
        let _ = check(&authorizer, Some("user1"), sandbox).await;
    }
    assert_eq!(asked(), (1, 4));
    tokio::time::advance(limits::REVIEWS.admitted).await;
    assert!(check(&authorizer, Some("user1"), "mine").await.is_ok());
    assert_eq!(asked(), (2, 5), "a right that is taken away ends after a minute");
}

#[tokio::test(start_paused = true)]
async fn client_that_was_admitted_lately_stays_admitted_without_the_api_server() {
    let (authorizer, server) = authorizer();
    assert!(check(&authorizer, Some("user1"), "mine").await.is_ok());
    server.away.store(true, Ordering::Relaxed);
    tokio::time::advance(limits::REVIEWS.admitted).await;
    assert!(check(&authorizer, Some("user1"), "mine").await.is_ok());
    let (reason, detail) = check(&authorizer, Some("user3"), "mine").await.unwrap_err();
    assert_eq!(reason, Reason::AuthorizerFailed);
    assert!(detail.contains("etcd is away"), "{detail}");
    tokio::time::advance(std::time::Duration::from_secs(600)).await;
    assert_eq!(check(&authorizer, Some("user1"), "mine").await.unwrap_err().0, Reason::AuthorizerFailed);
}

#[tokio::test(start_paused = true)]
async fn strangers_with_many_tokens_keep_no_other_client_out() {
    let (authorizer, server) = authorizer();
    let network = |network: u128, n: u32| {
        IpAddr::V6(Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) | (network << 64) | u128::from(n)))
    };
    // Eight networks send unknown tokens as fast as they can, for a while.
    let flood = futures::future::join_all((0..24_000_u32).map(|n| {
        let (authorizer, from) = (&authorizer, network(u128::from(n % 8), n));
        async move {
            tokio::time::sleep(std::time::Duration::from_millis(u64::from(n / 4))).await;
            check_from(authorizer, Some(&format!("stranger{n}")), "mine", from).await
        }
    }));
    let clients = async {
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        for (sandbox, from) in [("mine", CLIENT), ("mine", network(0, 1))] {
            let begun = tokio::time::Instant::now();
            assert_eq!(check_from(&authorizer, Some("user1"), sandbox, from).await, Ok("user1".to_owned()));
            assert!(begun.elapsed() < std::time::Duration::from_secs(1), "{:?}", begun.elapsed());
        }
    };
    let (strangers, ()) = tokio::join!(flood, clients);
    let reasons: Vec<Reason> = strangers.into_iter().map(|refused| refused.unwrap_err().0).collect();
    let busy = reasons.iter().filter(|reason| **reason == Reason::AuthorizerBusy).count();
    let unknown = reasons.iter().filter(|reason| **reason == Reason::Unauthenticated).count();
    assert_eq!(busy + unknown, 24_000);
    let asked = server.tokens.load(Ordering::Relaxed);
    assert!((1000..5000).contains(&asked), "{asked}: the process has a rate");
    assert_eq!(busy + asked - 1, 24_000, "every other stranger is told to try again");
}

#[tokio::test]
async fn everybody_is_admitted_only_if_configured() {
    let everybody = Authorizer::everybody();
    assert_eq!(check(&everybody, None, "mine").await, Ok("-".to_owned()));
    assert_eq!(check(&everybody, Some("stranger"), "mine").await, Ok("-".to_owned()));
}
