//! Requests from inside of sandboxes, before an API server in memory.

use http::{Request, StatusCode};
use http_body_util::BodyExt;
use paddock_kube::server::RemoteAddress;
use serde_json::Value;
use tower::ServiceExt;

use super::*;

const UNTIL: &str = "policy.paddock.dev/keep-awake-until";
const SINCE: &str = "policy.paddock.dev/idle-since";

/// Sends a request from an address, and returns the status and the body of the answer.
async fn send(world: &World, from: &str, path: &str) -> (StatusCode, Value) {
    let request = Request::post(path).extension(RemoteAddress(from.parse().unwrap()));
    // Headers say nothing about who sends the request.
    let request = request.header("x-sandbox-id", "other").header("x-forwarded-for", "10.0.0.9");
    let request = request.body(axum::body::Body::empty()).unwrap();
    let response = crate::inside::router(world.sandboxes.clone()).oneshot(request).await.unwrap();
    let (status, body) = (response.status(), response.into_body().collect().await.unwrap().to_bytes());
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

/// The annotations of the writes of wishes, by Sandbox.
fn written(world: &World) -> Vec<(String, Value)> {
    let annotations = |(name, patch): (String, Value)| (name, patch["metadata"]["annotations"].clone());
    let wish =
        |(_, annotations): &(String, Value)| annotations.get(UNTIL).is_some() && annotations.get(SINCE).is_some();
    world.server.patches().into_iter().map(annotations).filter(wish).collect()
}

async fn world() -> World {
    let world = World::new().await;
    world.server.running("a", "10.0.0.7");
    world.server.running("other", "10.0.0.9");
    for name in ["a", "other"] {
        world.seen(name, |state| matches!(state, State::Running(_))).await;
    }
    world
}

#[tokio::test(start_paused = true)]
async fn sandbox_that_sends_a_wish_gets_its_annotation() {
    let world = world().await;
    let (status, body) = send(&world, "10.0.0.7", "/awake?for=10m").await;
    assert_eq!(status, 200, "{body}");
    let until: Timestamp = body["keepAwakeUntil"].as_str().unwrap().parse().unwrap();
    let ahead = until.duration_since(virtual_time()).as_secs();
    assert!((595..=600).contains(&ahead), "{ahead}");
    let expected = json!({ UNTIL: body["keepAwakeUntil"], SINCE: null });
    assert_eq!(written(&world), [("a".to_owned(), expected)]);
    // One request in a second.
    assert_eq!(send(&world, "10.0.0.7", "/idle").await.0, 429);
    sleep(Duration::from_secs(1)).await;
    let (status, body) = send(&world, "::ffff:10.0.0.7", "/idle").await;
    assert_eq!(status, 200, "{body}");
    let expected = json!({ UNTIL: null, SINCE: body["idleSince"] });
    assert_eq!(written(&world)[1], ("a".to_owned(), expected));
    assert_eq!(send(&world, "10.0.0.7", "/awake?for=ever").await.0, 400);
    assert_eq!(send(&world, "10.0.0.7", "/other").await.0, 404);
}

#[tokio::test(start_paused = true)]
async fn address_that_is_not_of_one_running_sandbox_changes_nothing() {
    let world = world().await;
    world.server.running("twin", "10.0.0.9");
    world.seen("twin", |state| matches!(state, State::Running(_))).await;
    world.server.suspended("asleep");
    world.seen("asleep", |state| matches!(state, State::Suspended(_))).await;
    // The pod of a Sandbox that is being deleted, and a warm one.
    world.server.running("leaving", "10.0.0.5");
    world.server.running("warm", "10.0.0.6");
    world.seen("leaving", |state| matches!(state, State::Running(_))).await;
    let leaving = json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } });
    world.server.change("pods", "leaving", &leaving);
    let pool = json!({
        "apiVersion": "extensions.agents.x-k8s.io/v1beta1", "kind": "SandboxWarmPool", "name": "p", "uid": "p",
        "controller": true,
    });
    world.server.change("sandboxes", "warm", &json!({ "metadata": { "ownerReferences": [pool] } }));
    world.seen("leaving", |state| matches!(state, State::Starting(_))).await;
    world.seen("warm", |state| *state == State::Warm).await;
    for address in ["10.0.0.9", "192.0.2.1", "127.0.0.1", "10.0.0.5", "10.0.0.6"] {
        let (status, body) = send(&world, address, "/idle").await;
        assert_eq!(status, 403, "{address}: {body}");
        assert!(body["detail"].as_str().unwrap().contains(address), "{body}");
    }
    assert_eq!(written(&world), []);
}

#[tokio::test(start_paused = true)]
async fn wish_that_would_be_wrong_is_not_written() {
    let world = world().await;
    let open = world.sandboxes.awake(&world.target("a"), &arrival(Purpose::Use)).unwrap().mark.begin();
    assert_eq!(send(&world, "10.0.0.7", "/idle").await.0, 409, "a request is open");
    drop(open);
    world.server.change("sandboxes", "a", &json!({ "spec": { "idleTimeout": null } }));
    let of_a = |world: &World| world.sandboxes.0.ways.directory.caller("10.0.0.7".parse().unwrap());
    world.until(|world| of_a(world).is_some_and(|caller| !caller.can_be_idle)).await;
    let (status, body) = send(&world, "10.0.0.7", "/awake?for=10m").await;
    assert_eq!(status, 409, "{body}");
    assert_eq!(written(&world), []);
    // The webhook and the policies of the API server have the last word.
    world.server.fail_next(Fault::Forbidden);
    assert_eq!(send(&world, "10.0.0.9", "/awake?for=999h").await.0, 422);
    sleep(Duration::from_secs(1)).await;
    world.server.fail_next(Fault::Conflict);
    assert_eq!(send(&world, "10.0.0.9", "/awake?for=1h").await.0, 200, "it is tried again with the newer version");
}
