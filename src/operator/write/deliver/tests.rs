//! Deliveries against a server that speaks HTTP: the requests in their order, and the outcome of each failure.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{Method, Uri};
use axum::response::{IntoResponse, Response};
use kube::Client;
use paddock_api::kind::Kind;
use paddock_core::plan::Outcome;
use serde_json::{Value, json};

use super::*;

/// A content that no message may contain.
const MARKER: &str = "s3cret-marker";

type Answers = Arc<dyn Fn(&str, usize) -> Option<(u16, Value)> + Send + Sync>;

#[derive(Clone)]
struct Server {
    answers: Answers,
    seen: Arc<Mutex<Vec<String>>>,
    bodies: Arc<Mutex<Vec<Value>>>,
}

fn claim() -> Value {
    json!({
        "metadata": { "name": "c", "uid": "uid-of-c" },
        "spec": {
            "warmPoolRef": { "name": "p" },
            "env": [{ "name": "A", "value": MARKER }],
            "files": [
                { "name": "task", "content": MARKER },
                { "name": "token", "secretKeyRef": { "name": "api-key", "key": "token" } },
                { "name": "copy", "secretKeyRef": { "name": "api-key", "key": "token" } },
            ],
        },
    })
}

fn failure(code: u16, reason: &str) -> (u16, Value) {
    let details = json!({ "kind": "secrets", "name": "x" });
    (
        code,
        json!({ "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": "m", "details": details }),
    )
}

async fn handle(State(server): State<Server>, method: Method, uri: Uri, body: String) -> Response {
    let name = format!("{method} {}", uri.path());
    let before = {
        let mut seen = server.seen.lock().unwrap();
        let before = seen.iter().filter(|request| **request == name).count();
        seen.push(name.clone());
        before
    };
    if method == Method::POST {
        server.bodies.lock().unwrap().push(serde_json::from_str(&body).unwrap());
    }
    let usual = || match name.as_str() {
        GET_CLAIM => (200, claim()),
        // base64 of `token`
        GET_SECRET => (200, json!({ "metadata": { "name": "api-key" }, "data": { "token": "dG9rZW4=" } })),
        _ => (201, json!({ "kind": "Status", "status": "Success" })),
    };
    let (code, body) = (server.answers)(&name, before).unwrap_or_else(usual);
    (axum::http::StatusCode::from_u16(code).unwrap(), body.to_string()).into_response()
}

const GET_CLAIM: &str = "GET /apis/extensions.agents.x-k8s.io/v1beta1/namespaces/ns/sandboxclaims/c";
const GET_SECRET: &str = "GET /api/v1/namespaces/ns/secrets/api-key";
const POST: &str = "POST /api/v1/namespaces/ns/secrets";
const DELETE: &str = "DELETE /api/v1/namespaces/ns/secrets/paddock-claim-p-a-0011";

/// Delivers. Returns the outcome, the requests, and the bodies of the creations.
async fn deliver(
    answers: impl Fn(&str, usize) -> Option<(u16, Value)> + Send + Sync + 'static,
) -> (Option<Outcome>, Vec<String>, Vec<Value>) {
    let server = Server { answers: Arc::new(answers), seen: Arc::default(), bodies: Arc::default() };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, Router::new().fallback(handle).with_state(server.clone())).into_future());
    let mut config = kube::Config::new(format!("http://{address}").parse().unwrap());
    config.default_retry = false;
    let client = Client::try_from(config).unwrap();
    let spec: SandboxClaimSpec = serde_json::from_value(claim()["spec"].clone()).unwrap();
    let data = ClaimDelivery {
        claim: Key::new(Kind::Claim, "ns", "c"),
        claim_uid: "uid-of-c".to_owned(),
        digest: model::digest(&spec),
        secret: "paddock-claim-p-a-0011".to_owned(),
        held: false,
        large: false,
    };
    let pod = Key::new(Kind::Pod, "ns", "p-a");
    let deliverer = Deliverer::new(Calls::new(client));
    let delivered = match deliverer.read(&pod, "uid-of-pod", &data).await {
        Ok(body) => deliverer.create_secret(&pod, &data, &body).await,
        Err(reply) => Err(reply),
    };
    let outcome = delivered.err().map(|reply| reply.outcome);
    assert!(!format!("{outcome:?}{data:?}{spec:?}").contains(MARKER), "{outcome:?}");
    let (seen, bodies) = (server.seen.lock().unwrap().clone(), server.bodies.lock().unwrap().clone());
    (outcome, seen, bodies)
}

#[tokio::test]
async fn secret_is_made_of_the_claim_and_of_each_referenced_secret_read_once() {
    let (outcome, seen, bodies) = deliver(|_, _| None).await;
    assert!(outcome.is_none(), "{outcome:?}");
    assert_eq!(seen, [GET_CLAIM, GET_SECRET, POST]);
    assert_eq!(bodies[0]["metadata"]["name"], "paddock-claim-p-a-0011");
    assert_eq!(bodies[0]["data"]["token"], "dG9rZW4=");
}

/// What an earlier attempt or somebody else has stored under the name is not trusted.
#[tokio::test]
async fn secret_that_exists_is_replaced() {
    let exists = |request: &str, before| (request == POST && before == 0).then(|| failure(409, "AlreadyExists"));
    let (outcome, seen, bodies) = deliver(exists).await;
    assert!(outcome.is_none(), "{outcome:?}");
    assert_eq!(seen, [GET_CLAIM, GET_SECRET, POST, DELETE, POST]);
    assert_eq!(bodies[0], bodies[1]);
    // The Secret of a stranger, which the admission policy protects, stays, and nothing is announced.
    let protected = move |request: &str, before| match request {
        DELETE => Some(failure(403, "Forbidden")),
        request => exists(request, before),
    };
    let (outcome, ..) = deliver(protected).await;
    let Some(Outcome::Rejected { status: 403, message, .. }) = outcome else { panic!("{outcome:?}") };
    assert!(message.contains("exists and cannot be replaced"), "{message}");
    // Somebody creates it again and again, or it has a finalizer.
    let (outcome, ..) = deliver(|request, _| (request == POST).then(|| failure(409, "AlreadyExists"))).await;
    let Some(Outcome::Rejected { status: 409, message, .. }) = outcome else { panic!("{outcome:?}") };
    assert!(message.contains("Remove the finalizer, or delete Pod p-a"), "{message}");
}

#[tokio::test]
async fn nothing_is_stored_for_a_claim_that_is_another_one_by_now() {
    let mut changed = claim();
    changed["spec"]["files"][0]["content"] = "other".into();
    let mut replaced = claim();
    replaced["metadata"]["uid"] = "another".into();
    let absent = failure(404, "NotFound");
    for answer in [(200, changed), (200, replaced), absent] {
        let (outcome, seen, _) = deliver(move |request, _| (request == GET_CLAIM).then(|| answer.clone())).await;
        assert!(matches!(outcome, Some(Outcome::Conflict)), "{outcome:?}");
        assert_eq!(seen, [GET_CLAIM]);
    }
}

#[tokio::test]
async fn each_failure_says_what_is_missing() {
    let no_key = (200, json!({ "metadata": { "name": "api-key" }, "data": { "other": "dG9rZW4=" } }));
    let large = "eHh4".repeat(100 * 1024);
    let large = (200, json!({ "metadata": { "name": "api-key" }, "data": { "token": large, "other": large } }));
    for (request, answer, expected) in [
        // Two files name the key.
        (GET_SECRET, large, "at most 256 KiB, and they have 614427 bytes"),
        (GET_SECRET, failure(404, "NotFound"), "Secret api-key, to which the claim refers, does not exist"),
        (GET_SECRET, failure(403, "Forbidden"), "reading Secret api-key, to which the claim refers: m"),
        (GET_SECRET, no_key, "Secret api-key has no key token"),
        (GET_CLAIM, failure(403, "Forbidden"), "reading SandboxClaim c: m"),
        (GET_CLAIM, (200, json!({ "metadata": { "uid": "u" }, "spec": { "files": MARKER } })), "cannot be read"),
        (POST, failure(403, "Forbidden"), "Secret paddock-claim-p-a-0011: m"),
        (POST, failure(422, "Invalid"), "Secret paddock-claim-p-a-0011: m"),
    ] {
        let (outcome, ..) = deliver(move |path, _| (path == request).then(|| answer.clone())).await;
        let Some(Outcome::Rejected { message, .. }) = outcome else { panic!("{request} {expected}: {outcome:?}") };
        assert!(message.contains(expected), "{message}");
    }
    for request in [GET_CLAIM, GET_SECRET, POST] {
        let (outcome, ..) = deliver(move |path, _| (path == request).then(|| failure(429, "TooManyRequests"))).await;
        assert!(matches!(outcome, Some(Outcome::Busy)), "{request}: {outcome:?}");
        let (outcome, ..) = deliver(move |path, _| (path == request).then(|| (502, json!("proxy")))).await;
        assert!(matches!(outcome, Some(Outcome::Unknown)), "{request}: {outcome:?}");
    }
}
