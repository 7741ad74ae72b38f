//! The webhook over real TLS, called like an API server calls it.

mod flood;
mod unanswered;

use std::sync::Arc;

use jiff::Timestamp;
use paddock_api::names::label;
use paddock_core::admission::{Context, Entry};
use paddock_core::binding::{Binding, Bindings};
use paddock_core::question::{
    Answer, ClassChoice, Failure, FailureKind, Hook, PluginRef, RuntimeClassAnswer, RuntimeClassFact,
};
use prometheus::Registry;
use serde_json::{Value, json};

use super::*;
use paddock_kube::tls::issue;

/// A webhook that serves, with its address and its CA certificate.
struct Served1 {
    address: std::net::SocketAddr,
    authority: String,
    registry: Registry,
    stop: CancellationToken,
    ended: tokio::task::JoinHandle<()>,
}

fn context() -> Context {
    let plugin = PluginRef { name: "test".to_owned(), digest: "sha256:test".to_owned() };
    let binding = Binding::new(plugin, Hook::RuntimeClass);
    let class = RuntimeClassFact { name: "gvisor".to_owned(), handler: "runsc".to_owned(), isolated: true, nodes: 1 };
    Context { classes: Arc::new(vec![class]), bindings: Arc::new(Bindings::new(vec![binding])), ..Context::default() }
}

async fn start_with(look: Look, plugin_client: PluginClient) -> Served1 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let pair = issue(&["127.0.0.1".to_owned()], Timestamp::now(), Lifetimes::default().certificate).expect("issued");
    let serving_cert = ServingCert::default();
    serving_cert.serve(pair.certificate.as_bytes(), pair.key.as_bytes()).expect("served");
    let registry = Registry::new();
    let activities = FairQueue::new(limits::ACTIVITY);
    let app = App::new(look, plugin_client, activities, Reviews::register(&registry).expect("metrics"));
    let stop = CancellationToken::new();
    let end = stop.clone();
    let ended = tokio::spawn(async move {
        let tls = serving_cert.server_config().expect("TLS");
        let protocol = Protocol::Tls(Arc::new(ArcSwap::from_pointee(tls)));
        let server = Server { protocol, limits: limits::WEBHOOK_SERVER, on_incident: Arc::new(|_| {}) };
        serve(listener, server, app.router(), end).await;
    });
    Served1 { address, authority: pair.authority, registry, stop, ended }
}

async fn start_plain() -> Served1 {
    let plugin_client: PluginClient = Arc::new(|_, _, _| {
        let choice = ClassChoice::Class("gvisor".to_owned());
        Ok(Answer::RuntimeClass(RuntimeClassAnswer { choice, reason: "it isolates".to_owned() }))
    });
    start_with(Arc::new(|_| Some(context())), plugin_client).await
}

/// Sends a request over HTTP/1.1, like an API server, and returns the status and the body.
async fn post(webhook: &Served1, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
    post_with(&client(webhook), webhook, path, body).await
}

/// The same with a client that keeps its connection.
async fn post_with(client: &Client, webhook: &Served1, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let request = http::Request::post(format!("https://{}{path}", webhook.address))
        .header("content-type", "application/json")
        .body(kube::client::Body::from(body.to_vec()))
        .expect("a request");
    let response = client.send(request).await.expect("an answer");
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(axum::body::Body::new(response.into_body()), usize::MAX).await.expect("a body");
    (status, body.to_vec())
}

/// A client that trusts only this webhook's CA.
fn client(webhook: &Served1) -> Client {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let url = format!("https://{}", webhook.address).parse().expect("a URL");
    let mut config = kube::Config::new(url);
    let authority = CertificateDer::from_pem_slice(webhook.authority.as_bytes()).expect("PEM");
    config.root_cert = Some(vec![authority.to_vec()]);
    config.default_retry = false;
    Client::try_from(config).expect("a client")
}

fn review(object: Value) -> Vec<u8> {
    let body = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "operation": "CREATE", "name": "a", "namespace": "agents",
            "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "resource": { "group": "", "version": "v1", "resource": "pods" },
            "userInfo": { "username": "ada", "groups": [] },
            "object": object, "oldObject": null, "dryRun": false,
        },
    });
    // An API server writes the UID first.
    body.to_string().replacen(r#""request":{"#, r#""request":{"uid":"7","#, 1).into_bytes()
}

fn marked(class: Option<&str>) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "a", "labels": { label::GENERATED_CODE: "true" } },
        "spec": { "runtimeClassName": class, "containers": [{ "name": "c", "image": "i" }] },
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_gets_its_class_over_tls() {
    let webhook = start_plain().await;
    let (status, body) = post(&webhook, "/mutate/generated-code", &review(marked(None))).await;
    let answer: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!((status, &answer["response"]["allowed"], &answer["response"]["uid"]), (200, &json!(true), &json!("7")));
    use base64::Engine as _;
    let patch = answer["response"]["patch"].as_str().expect("a patch");
    let patch = base64::engine::general_purpose::STANDARD.decode(patch).expect("base64");
    let patch: json_patch::Patch = serde_json::from_slice(&patch).expect("a patch");
    let mut pod = marked(None);
    json_patch::patch(&mut pod, &patch).expect("it applies");
    assert_eq!(pod["spec"]["runtimeClassName"], "gvisor");

    let (_, body) = post(&webhook, "/validate/generated-code", &review(marked(Some("runc")))).await;
    let answer: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(answer["response"]["status"]["code"], 403);
    let text = format!("{:?}", webhook.registry.gather());
    assert!(text.contains("not-isolated") && text.contains("allowed"), "{text}");
    webhook.stop.cancel();
    webhook.ended.await.expect("ended in order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_answered_says_why_in_a_status() {
    let webhook = start_plain().await;
    let too_long = vec![b' '; limits::WEBHOOK_SERVER.body + 1];
    for (path, body, code) in [
        ("/mutate/generated-code", b"{".as_slice(), 400),
        ("/mutate/generated-code", b"".as_slice(), 400),
        ("/mutate/nothing", b"{}".as_slice(), 404),
        ("/ponder/generated-code", b"{}".as_slice(), 404),
        ("/mutate/generated-code", too_long.as_slice(), 413),
    ] {
        let (status, answer) = post(&webhook, path, body).await;
        let answer: Value = serde_json::from_slice(&answer).expect("a Status");
        assert_eq!((status, &answer["kind"], &answer["code"]), (code, &json!("Status"), &json!(code)), "{path}");
    }
    let ignorant = start_with(Arc::new(|_| None), Arc::new(|_, _, _| panic!("nobody is asked"))).await;
    let (status, _) = post(&ignorant, "/mutate/generated-code", &review(marked(None))).await;
    assert_eq!(status, 503, "not before everything is seen");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_review_that_fails_harms_no_other() {
    // `panic!` would run the panic hook, whose backtrace can take longer than a review may.
    let plugin_client: PluginClient =
        Arc::new(|_, _, _| std::panic::resume_unwind(Box::new("a plugin host that is broken")));
    let webhook = start_with(Arc::new(|_| Some(context())), plugin_client).await;
    let (status, answer) = post(&webhook, "/mutate/generated-code", &review(marked(None))).await;
    assert_eq!((status, denial(&answer)), (200, (500, "the log of the operator says more".to_owned())));
    let (status, _) = post(&webhook, "/validate/generated-code", &review(marked(Some("gvisor")))).await;
    assert_eq!(status, 200, "no question, no harm");
}

/// The answer comes while the plugin still computes, and no other review waits for it. The test does not depend on the
/// speed of the machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_review_that_takes_too_long_says_so_and_holds_nobody_up() {
    let (asked, began) = std::sync::mpsc::channel();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let slow: PluginClient = Arc::new(move |_, _, _| {
        asked.send(()).expect("the test waits");
        // The plugin computes until the test has its result.
        let _ = held.lock().expect("a lock").recv();
        Err(Failure { kind: FailureKind::Deadline, message: "late".to_owned() })
    });
    let webhook = Arc::new(start_with(Arc::new(|_| Some(context())), slow).await);
    let late = tokio::spawn({
        let webhook = webhook.clone();
        async move { post(&webhook, "/mutate/generated-code", &review(marked(None))).await }
    });
    tokio::task::spawn_blocking(move || began.recv()).await.expect("no panic").expect("the plugin is asked");
    let (status, _) = post(&webhook, "/validate/generated-code", &review(marked(Some("gvisor")))).await;
    assert_eq!(status, 200, "no question, nothing to wait for");
    assert!(!late.is_finished(), "the one that asks is still under way");
    // The limit of a review is a fraction of this timeout.
    let late = tokio::time::timeout(Duration::from_secs(60), late).await.expect("an end").expect("no panic");
    assert_eq!((late.0, denial(&late.1).0), (200, 504));
    drop(release);
}

/// The code of a denial, and the end of its message.
fn denial(answer: &[u8]) -> (u64, String) {
    let answer: Value = serde_json::from_slice(answer).expect("JSON");
    let response = &answer["response"];
    assert_eq!((&response["allowed"], &response["uid"]), (&json!(false), &json!("7")), "{answer}");
    let message = response["status"]["message"].as_str().expect("a message");
    assert!(message.starts_with("this request must not be admitted without a review"), "{message}");
    let end = message.rsplit("; ").next().unwrap_or_default();
    (response["status"]["code"].as_u64().expect("a code"), end.to_owned())
}

/// A shadow hangs for as long as the test holds it, and the reply comes all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shadow_policy_that_hangs_delays_no_reply() {
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let client: PluginClient = Arc::new(move |request, _, _| {
        if request.plugin.name == "shadow" {
            let _ = held.lock().expect("a lock").recv();
        }
        let choice = ClassChoice::Class("gvisor".to_owned());
        Ok(Answer::RuntimeClass(RuntimeClassAnswer { choice, reason: "it isolates".to_owned() }))
    });
    let mut bindings: Vec<Binding> = context().bindings.iter().cloned().collect();
    let plugin = PluginRef { name: "shadow".to_owned(), digest: "sha256:test".to_owned() };
    let mode = paddock_core::binding::Mode::Shadow;
    bindings.push(Binding { order: -1, mode, ..Binding::new(plugin, Hook::RuntimeClass) });
    let with_shadow = Context { bindings: Arc::new(Bindings::new(bindings)), ..context() };
    let webhook = start_with(Arc::new(move |_| Some(with_shadow.clone())), client).await;
    let (status, answer) = post(&webhook, "/mutate/generated-code", &review(marked(None))).await;
    let answer: Value = serde_json::from_slice(&answer).expect("JSON");
    assert_eq!((status, &answer["response"]["allowed"]), (200, &json!(true)), "{answer}");
    drop(release);
}

#[test]
fn a_review_ends_before_the_api_server_stops_waiting() {
    let (mutating, validating) = configurations(&desired(), None);
    let waits = mutating.webhooks.into_iter().flatten().map(|w| w.timeout_seconds);
    let waits = waits.chain(validating.webhooks.into_iter().flatten().map(|w| w.timeout_seconds));
    for seconds in waits {
        let seconds = u64::try_from(seconds.expect("a timeout")).expect("positive");
        assert!(limits::REVIEW_TIMEOUT < Duration::from_secs(seconds), "{:?} of {seconds} s", limits::REVIEW_TIMEOUT);
    }
}

fn desired() -> Desired {
    Desired {
        client_config: ClientConfig::Url("https://127.0.0.1:1".to_owned()),
        own_namespace: Some("agent-sandbox-system".to_owned()),
        operator_user: None,
        isolation_policies: false,
    }
}

#[test]
fn every_registered_path_is_served() {
    let (mutating, validating) = configurations(&desired(), None);
    let mut urls: Vec<String> = Vec::new();
    urls.extend(mutating.webhooks.into_iter().flatten().filter_map(|w| w.client_config.url));
    urls.extend(validating.webhooks.into_iter().flatten().filter_map(|w| w.client_config.url));
    assert_eq!(urls.len(), 3 + Entry::ALL.len());
    for url in urls {
        let mut parts = url.trim_start_matches("https://127.0.0.1:1/").split('/');
        let (phase, entry) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        assert!(app::place(phase, entry).is_some(), "{url}");
    }
}
