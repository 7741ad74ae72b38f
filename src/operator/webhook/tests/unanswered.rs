//! Reviews that end without a verdict, reviews that lack a fact, and the callers of plugins.
//!
//! A failed call would be admitted by every entry whose failure policy is Ignore, and a user can cause most failures.
//! So the webhook denies the request itself.

use paddock_core::admission::Missing;
use paddock_core::question::Caller;
use parking_lot::Mutex;

use super::*;

/// The paths of the entries whose requests are denied if a review fails.
const DENYING: [&str; 6] =
    ["generated-code", "isolated-namespaces", "sandboxes", "owned-sandboxes", "own-namespace", "connect"];

/// A Sandbox of 94 kB whose review would need more memory than there is.
fn padded() -> Value {
    let empty: Vec<Value> = (0..1000).map(|_| json!({})).collect();
    let container = |n| json!({ "name": format!("c{n}"), "image": "i", "envFrom": empty });
    let containers: Vec<Value> = (0..31).map(container).collect();
    json!({
        "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox",
        "metadata": { "name": "a", "namespace": "agents", "finalizers": ["example.com/a"] },
        "spec": { "podTemplate": { "spec": { "containers": containers } } },
    })
}

/// The review of an update of a Sandbox.
fn update(old: &Value, new: &Value) -> Vec<u8> {
    let mut body: Value = serde_json::from_slice(&review(new.clone())).expect("JSON");
    let request = &mut body["request"];
    request.as_object_mut().expect("a request").remove("uid");
    request["operation"] = "UPDATE".into();
    request["oldObject"] = old.clone();
    request["kind"] = json!({ "group": "agents.x-k8s.io", "version": "v1beta1", "kind": "Sandbox" });
    request["resource"] = json!({ "group": "agents.x-k8s.io", "version": "v1beta1", "resource": "sandboxes" });
    body.to_string().replacen(r#""request":{"#, r#""request":{"uid":"7","#, 1).into_bytes()
}

/// The review of a connection to a pod.
fn exec(pod: &str) -> Vec<u8> {
    let body = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "operation": "CONNECT", "name": pod, "namespace": "agents", "subResource": "exec",
            "kind": { "group": "", "version": "v1", "kind": "PodExecOptions" },
            "resource": { "group": "", "version": "v1", "resource": "pods" },
            "userInfo": { "username": "ada", "groups": [] },
            "object": { "kind": "PodExecOptions" }, "oldObject": null, "dryRun": false,
        },
    });
    body.to_string().replacen(r#""request":{"#, r#""request":{"uid":"7","#, 1).into_bytes()
}

/// The user can cause such an error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn object_that_is_too_costly_to_review_is_denied_by_the_webhook_itself() {
    let webhook = start_plain().await;
    let volumes: Vec<Value> = (0..40_000).map(|n| json!({ "name": format!("v{n}"), "emptyDir": {} })).collect();
    let mut pod = marked(Some("gvisor"));
    pod["spec"]["volumes"] = volumes.into();
    for object in [pod, padded()] {
        let body = review(object);
        for entry in DENYING {
            let (status, answer) = post(&webhook, &format!("/validate/{entry}"), &body).await;
            let (code, remedy) = denial(&answer);
            assert_eq!((status, code), (200, 413), "{entry}");
            assert!(remedy.starts_with("make the object smaller"), "{remedy}");
        }
        // The settings of a policy are checked again later, so the API server admits it.
        let (status, _) = post(&webhook, "/validate/policies", &body).await;
        assert_eq!(status, 413);
    }
    let text = format!("{:?}", webhook.registry.gather());
    assert!(text.contains("unanswered"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn body_that_is_too_large_or_no_review_is_denied() {
    let webhook = start_plain().await;
    let mut large = review(json!({}));
    large.resize(limits::WEBHOOK_SERVER.body + (1 << 20), b' ');
    let whole = review(padded());
    let nested = {
        let text = String::from_utf8(review(json!({ "deep": "@" }))).expect("UTF-8");
        text.replace("\"@\"", &format!("{}{}", "[".repeat(200), "]".repeat(200))).into_bytes()
    };
    for entry in DENYING {
        for (body, expected) in [(&large[..], 413), (&whole[..whole.len() / 2], 400), (&nested[..], 400)] {
            let (status, answer) = post(&webhook, &format!("/mutate/{entry}"), body).await;
            assert_eq!((status, denial(&answer).0), (200, expected), "{entry}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finalizers_of_an_object_that_is_too_costly_can_be_removed() {
    let webhook = start_plain().await;
    let mut old = padded();
    old["metadata"]["deletionTimestamp"] = "2026-11-30T12:00:00Z".into();
    let mut without = old.clone();
    without["metadata"]["finalizers"] = json!([]);
    let mut changed = without.clone();
    changed["spec"]["podTemplate"]["spec"]["containers"][0]["image"] = "other".into();
    for phase in ["mutate", "validate"] {
        let path = format!("/{phase}/sandboxes");
        let (status, answer) = post(&webhook, &path, &update(&old, &without)).await;
        let answer: Value = serde_json::from_slice(&answer).expect("JSON");
        let response = &answer["response"];
        assert_eq!((status, &response["allowed"], &response["uid"]), (200, &json!(true), &json!("7")), "{phase}");
        let (_, answer) = post(&webhook, &path, &update(&old, &changed)).await;
        assert_eq!(denial(&answer).0, 413, "{phase}");
    }
}

/// Small reviews run on the thread that serves the connection, so a panic would end the connection without an answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn review_that_panics_is_denied() {
    // `panic!` would run the panic hook, whose backtrace can take longer than a review may.
    let look: Look = Arc::new(|_| std::panic::resume_unwind(Box::new("a World that is broken")));
    let webhook = start_with(look, Arc::new(|_, _, _| panic!("nobody is asked"))).await;
    for entry in DENYING {
        let (status, answer) = post(&webhook, &format!("/validate/{entry}"), &review(marked(None))).await;
        assert_eq!((status, denial(&answer)), (200, (500, "the log of the operator says more".to_owned())), "{entry}");
    }
}

/// The watch of pods is broken, or delivers the pod while the review waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connection_waits_for_its_pod_and_is_denied_without_it() {
    for arrives in [true, false] {
        let looks = Arc::new(Mutex::new(0));
        let counted = looks.clone();
        let look: Look = Arc::new(move |_| {
            let mut looks = counted.lock();
            *looks += 1;
            let missing = (!arrives || *looks <= 3).then_some(Missing::Connected);
            Some(Context { missing, ..context() })
        });
        let webhook = start_with(look, Arc::new(|_, _, _| panic!("nobody is asked"))).await;
        let (status, answer) = post(&webhook, "/validate/connect", &exec("new")).await;
        let answer: Value = serde_json::from_slice(&answer).expect("JSON");
        let response = &answer["response"];
        assert_eq!((status, &response["allowed"]), (200, &json!(arrives)), "{answer}");
        if arrives {
            assert_eq!(*looks.lock(), 4, "it waited no longer");
        } else {
            assert_eq!(response["status"]["code"], 503);
            assert_eq!(response["status"]["reason"], "ServiceUnavailable");
            let message = response["status"]["message"].as_str().expect("a message");
            assert!(message.contains("has not seen pods new yet") && message.ends_with("try again"), "{message}");
            assert_eq!(*looks.lock(), 1 + limits::FACT_RETRY_DELAYS.len());
        }
    }
}

/// A watch delivers a namespace that was created together with its first Pod.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn review_waits_for_the_labels_of_its_namespace() {
    let plugin = PluginRef { name: "guard".to_owned(), digest: "sha256:guard".to_owned() };
    let mut bindings: Vec<Binding> = context().bindings.iter().cloned().collect();
    bindings.push(Binding::new(plugin, Hook::Admission));
    let with_guard = Context { bindings: Arc::new(Bindings::new(bindings)), ..context() };
    for arrives in [true, false] {
        let looks = Mutex::new(0);
        let with_guard = with_guard.clone();
        let look: Look = Arc::new(move |_| {
            let mut looks = looks.lock();
            *looks += 1;
            let missing = (!arrives || *looks <= 2).then_some(Missing::Namespace);
            Some(Context { missing, ..with_guard.clone() })
        });
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = asked.clone();
        let client: PluginClient = Arc::new(move |request, subject, _| {
            noted.lock().push((request.plugin.name.clone(), subject.caller));
            Err(Failure { kind: FailureKind::Trap, message: "broken".to_owned() })
        });
        let webhook = start_with(look, client).await;
        let (_, answer) = post(&webhook, "/validate/generated-code", &review(marked(Some("gvisor")))).await;
        let answer: Value = serde_json::from_slice(&answer).expect("JSON");
        let code = if arrives { 403 } else { 503 };
        assert_eq!(answer["response"]["status"]["code"], code, "{answer}");
        // Without a certificate, the caller is unverified.
        let expected = arrives.then(|| ("guard".to_owned(), Caller::Unverified));
        assert_eq!(*asked.lock(), expected.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn labels_of_namespaces_are_missing_while_their_watch_fails() {
    use crate::sync::{UnknownKinds, UnsyncedKinds};
    use paddock_api::kind::Kind;
    use paddock_core::admission::Phase;

    let world = SharedWorld::new(paddock_core::world::World::new(Default::default()));
    let (unsynced, unknown) = (watch::Sender::new(UnsyncedKinds::new()), watch::Sender::new(UnknownKinds::new()));
    let watched = Watched { namespace: None, unsynced: unsynced.subscribe(), unknown: unknown.subscribe() };
    let look = look(world, watched, None);
    let body = review(marked(None));
    let asked = wire::read(&body, Phase::Validate, Entry::MarkedPods, Timestamp::now()).expect("a review");
    let missing = || look(&asked.review).expect("facts").missing;
    assert_eq!(missing(), None);
    unknown.send_replace(UnknownKinds::from([Kind::Pod]));
    assert_eq!(missing(), None, "other kinds have no labels of namespaces");
    unknown.send_replace(UnknownKinds::from([Kind::Namespace]));
    assert_eq!(missing(), Some(Missing::FreshLabels));
    unsynced.send_replace(UnsyncedKinds::from([Kind::Pod]));
    assert!(look(&asked.review).is_none(), "nothing is answered before everything is listed");
}
