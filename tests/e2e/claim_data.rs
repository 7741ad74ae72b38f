//! What claims bring, on a real API server: the Secret of the pod, its announcement, and the rights that it needs. Tests
//! with containers are in `real_node`.

use std::time::Instant;

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::http;
use super::json::{annotation, label, message, name, ready, reason, text, uid};
use super::kinds::{CLAIM, EVENT, POD, ROLE_BINDING, SANDBOX, SECRET, SEED_CLAIM, TEMPLATE};
use super::manifests::{claim, merge, object, pool, template};
use super::namespace::TestNamespace;
use super::operator::{ACCOUNT, NAMESPACE};
use super::pool::filled;
use super::setup::{namespace, setup};
use super::writes::{Line, audit};
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![
        warm_pod_gets_the_data_of_its_claim,
        claim_with_data_costs_two_writes_more_and_one_without_costs_none,
        cold_pod_gets_the_data_of_its_claim,
        pod_that_is_made_again_gets_the_data_again,
        secret_that_somebody_prepared_is_replaced_or_left_alone_and_never_used,
        referenced_secret_needs_a_right_and_shows_up_nowhere_else,
        claim_is_told_what_its_template_does_not_admit,
        files_of_a_claim_stay_as_they_are,
    ]
}

const ANNOUNCED: &str = "policy.paddock.dev/claim-data";
const SENT: &str = "policy.paddock.dev/claim-data-sent";

/// A namespace with a template whose claims may bring data, and a full pool.
async fn warm(test: &str, replicas: usize, change: Value) -> (TestNamespace, Value) {
    let ns = namespace(test).await;
    let mut spec = json!({ "claimData": {}, "envVarsInjectionPolicy": "Allowed" });
    merge(&mut spec, &change);
    ns.create(template("t", spec)).await;
    let made = ns.create(pool("p", "t", json!({ "replicas": replicas }))).await;
    filled(&ns, &made, replicas).await;
    (ns, made)
}

/// The name of the Secret in the spec of a pod.
fn secret_of(pod: &Value) -> String {
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    let volume = volumes.into_iter().find(|volume| volume["name"] == "paddock-claim").expect("the volume");
    text(volume, "/projected/sources/0/secret/name").to_owned()
}

fn file(secret: &Value, key: &str) -> String {
    let bytes: ByteString = serde_json::from_value(secret["data"][key].clone()).expect("base64");
    String::from_utf8(bytes.0).expect("a text")
}

fn base64(text: &str) -> Value {
    json!(ByteString(text.as_bytes().to_vec()))
}

/// The Sandbox of a Ready claim, and its pod.
async fn sandbox_of(ns: &TestNamespace, task: &str) -> (Value, Value) {
    let done = ns.until(CLAIM, task, "Ready", ready).await;
    let sandbox = ns.get(SANDBOX, text(&done, "/status/sandbox/name")).await;
    let pod = ns.get(POD, name(&sandbox)).await;
    (sandbox, pod)
}

fn brings(content: &str) -> Value {
    json!({ "env": [{ "name": "MODE", "value": "fast" }], "files": [{ "name": "task.txt", "content": content }] })
}

async fn warm_pod_gets_the_data_of_its_claim() {
    let (ns, made) = warm("claim-data-warm", 1, json!({})).await;
    let before = ns.list(POD).await;
    let began = Instant::now();
    ns.create(claim("task", "p", brings("do it"))).await;
    let (sandbox, pod) = sandbox_of(&ns, "task").await;
    println!("Ready after {:?}", began.elapsed());
    assert_eq!(label(&sandbox, "agents.x-k8s.io/launch-type"), "warm");
    assert_eq!(before.get(name(&pod)).map(uid), Some(uid(&pod)), "the pod was there before its claim");
    let claim_uid = uid(&ns.get(CLAIM, "task").await).to_owned();
    assert_eq!(annotation(&pod, ANNOUNCED), format!("data {claim_uid}"));
    let secret = ns.get(SECRET, &secret_of(&pod)).await;
    assert_eq!(file(&secret, "task.txt"), "do it");
    let everything: Value = serde_json::from_str(&file(&secret, "claim.json")).expect("JSON");
    assert_eq!(
        everything,
        json!({
            "claim": { "name": "task", "namespace": ns.namespace, "uid": claim_uid },
            "env": [{ "name": "MODE", "value": "fast" }],
            "files": { "task.txt": "do it" },
        })
    );
    assert_eq!(text(&secret, "/metadata/ownerReferences/0/uid"), uid(&pod));
    // The environment of the pod is that of its template.
    assert!(pod["spec"]["containers"][0]["env"].is_null(), "{pod:#}");
    ns.until(POD, name(&pod), "the repetition is over", |pod| annotation(pod, SENT).is_empty()).await;
    // The data lives as long as the pod.
    filled(&ns, &made, 1).await;
    ns.delete(CLAIM, "task").await;
    ns.until_gone(POD, name(&pod)).await;
    ns.until_gone(SECRET, name(&secret)).await;
}

async fn claim_with_data_costs_two_writes_more_and_one_without_costs_none() {
    let (ns, made) = warm("claim-data-writes", 2, json!({})).await;
    let mut writes = Vec::new();
    for (task, spec) in [("without", json!({})), ("with", brings("x"))] {
        ns.create(claim(task, "p", spec)).await;
        let (_, pod) = sandbox_of(&ns, task).await;
        let announced = if task == "with" { "data " } else { "none" };
        let settled =
            |pod: &Value| annotation(pod, ANNOUNCED).starts_with(announced) && annotation(pod, SENT).is_empty();
        ns.until(POD, name(&pod), "announced, and not written again", settled).await;
        filled(&ns, &made, 2).await;
        // The watch is ahead of the log, and this write is after all others.
        let mark = format!("mark-{task}");
        let marker = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": mark } });
        ns.create(marker).await;
        let (namespace, pod_name, secret) = (ns.namespace.clone(), name(&pod).to_owned(), secret_of(&pod));
        let user = format!("{NAMESPACE}:{ACCOUNT}");
        let mut counted = Vec::new();
        paddock_cluster::eventually("the writes are in the log", async || {
            let lines = audit(&namespace, |line| {
                let object = &line.0["objectRef"];
                let about = object["name"] == *pod_name || object["name"] == *secret;
                let counts = line.user() == user && about;
                object["namespace"] == *namespace && (counts || object["name"] == *mark)
            })
            .await;
            let (marks, lines): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| line.user() != user);
            let changes = |what: &&String| ["patch pods", "create secrets", "delete secrets"].contains(&what.as_str());
            let all: Vec<String> = lines.iter().map(Line::what).collect();
            counted = all.iter().filter(changes).cloned().collect();
            !marks.is_empty()
        })
        .await;
        counted.sort();
        writes.push(counted);
    }
    assert_eq!(writes, [vec!["patch pods"], vec!["create secrets", "patch pods", "patch pods"]]);
}

async fn cold_pod_gets_the_data_of_its_claim() {
    let (ns, _) = warm("claim-data-cold", 0, json!({ "claimData": { "mountPath": "/data" } })).await;
    ns.create(claim("task", "p", brings("do it"))).await;
    let (sandbox, pod) = sandbox_of(&ns, "task").await;
    assert_eq!(label(&sandbox, "agents.x-k8s.io/launch-type"), "cold");
    assert_eq!(pod["spec"]["containers"][0]["volumeMounts"][0]["mountPath"], "/data");
    assert!(pod["spec"]["containers"][0]["env"].is_null(), "{pod:#}");
    assert_eq!(file(&ns.get(SECRET, &secret_of(&pod)).await, "task.txt"), "do it");
    ns.create(claim("nothing", "p", json!({}))).await;
    let (_, pod) = sandbox_of(&ns, "nothing").await;
    assert_eq!(annotation(&pod, ANNOUNCED), "none");
    assert!(ns.find(SECRET, &secret_of(&pod)).await.is_none());
}

async fn pod_that_is_made_again_gets_the_data_again() {
    let (ns, _) = warm("claim-data-again", 1, json!({})).await;
    ns.create(claim("task", "p", brings("do it"))).await;
    let (sandbox, first) = sandbox_of(&ns, "task").await;
    ns.merge(SANDBOX, name(&sandbox), json!({ "spec": { "operatingMode": "Suspended", "replicas": 0 } })).await;
    ns.until_gone(POD, name(&first)).await;
    ns.until_gone(SECRET, &secret_of(&first)).await;
    ns.merge(SANDBOX, name(&sandbox), json!({ "spec": { "operatingMode": "Running", "replicas": 1 } })).await;
    let announced = |pod: &Value| uid(pod) != uid(&first) && annotation(pod, ANNOUNCED).starts_with("data ");
    let second = ns.until(POD, name(&first), "another pod has the data", announced).await;
    assert_ne!(secret_of(&second), secret_of(&first));
    assert_eq!(file(&ns.get(SECRET, &secret_of(&second)).await, "task.txt"), "do it");
}

/// The name of the Secret can be read from a warm pod, so a user may create it before the operator does.
async fn secret_that_somebody_prepared_is_replaced_or_left_alone_and_never_used() {
    let (ns, _) = warm("claim-data-forged", 2, json!({})).await;
    let pods = ns.list(POD).await;
    let pods: Vec<&Value> = pods.values().collect();
    let secret = |pod: &Value, metadata: Value| {
        let mut secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": secret_of(pod) },
            "data": { "claim.json": base64("forged") },
        });
        merge(&mut secret["metadata"], &metadata);
        secret
    };
    // One that looks as the operator's, as after a crash between the Secret and the annotation.
    let owner =
        json!({ "apiVersion": "v1", "kind": "Pod", "name": name(pods[0]), "uid": uid(pods[0]), "controller": true });
    let labels = json!({ ANNOUNCED: "true" });
    ns.create(secret(pods[0], json!({ "labels": labels, "ownerReferences": [owner] }))).await;
    // One of somebody else.
    ns.create(secret(pods[1], json!({}))).await;
    ns.create(claim("one", "p", brings("do it"))).await;
    ns.create(claim("two", "p", brings("do it"))).await;
    let claims = ns
        .until_all(CLAIM, "one is Ready, and one says why not", |all| {
            let refused = |c: &&Value| message(c, "Ready").contains("exists and cannot be replaced");
            all.values().filter(|c| ready(c)).count() == 1 && all.values().filter(refused).count() == 1
        })
        .await;
    let of_ready = claims.values().find(|c| ready(c)).expect("one is Ready");
    let replaced = ns.get(SECRET, &secret_of(pods[0])).await;
    assert_eq!(text(of_ready, "/status/sandbox/name"), name(pods[0]));
    assert_eq!(file(&replaced, "task.txt"), "do it");
    // Nothing announces the Secret of somebody else. When it is gone, the data follows.
    assert_eq!(annotation(&ns.get(POD, name(pods[1])).await, ANNOUNCED), "");
    assert_eq!(file(&ns.get(SECRET, &secret_of(pods[1])).await, "claim.json"), "forged");
    ns.delete(SECRET, &secret_of(pods[1])).await;
    ns.until_all(CLAIM, "both are Ready", |all| all.values().filter(|c| ready(c)).count() == 2).await;
    assert_eq!(file(&ns.get(SECRET, &secret_of(pods[1])).await, "task.txt"), "do it");
}

async fn referenced_secret_needs_a_right_and_shows_up_nowhere_else() {
    const MARKER: &str = "m4rker-of-a-secret";
    // The claim itself contains these.
    const CONTENT: &str = "m4rker-of-a-file";
    const VALUE: &str = "m4rker-of-a-variable";
    let (ns, _) = warm("claim-data-denied", 1, json!({ "claimData": { "secrets": ["api-key"] } })).await;
    let user = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "api-key" }, "data": { "token": base64(MARKER) },
    });
    ns.create(user).await;
    let reference = json!({ "name": "token", "secretKeyRef": { "name": "api-key", "key": "token" } });
    let files = json!([reference, { "name": "task", "content": CONTENT }]);
    let env = json!([{ "name": "A", "value": VALUE }]);
    ns.create(claim("task", "p", json!({ "files": files, "env": env }))).await;
    let refused =
        |c: &Value| !ready(c) && message(c, "Ready").contains("reading Secret api-key, to which the claim refers");
    let waits = ns.until(CLAIM, "task", "says which right is missing", refused).await;
    assert!(message(&waits, "Ready").contains("cannot get resource"), "{}", message(&waits, "Ready"));
    ns.create(json!({
        "apiVersion": ROLE_BINDING.0, "kind": ROLE_BINDING.1, "metadata": { "name": "claim-secrets" },
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
            "name": "agent-sandbox-controller-claim-secrets",
        },
        "subjects": [{ "kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE }],
    }))
    .await;
    let (sandbox, pod) = sandbox_of(&ns, "task").await;
    let secret = ns.get(SECRET, &secret_of(&pod)).await;
    assert_eq!(file(&secret, "token"), MARKER);
    // Neither the value nor its base64 is anywhere else.
    let operator = &setup().await.operator;
    let mut texts = vec![std::fs::read_to_string(operator.process.log()).expect("a log")];
    for (kind, object) in [("sandboxes", &sandbox), ("pods", &pod)] {
        let path = format!("/debug/seen/{kind}/{}/{}", ns.namespace, name(object));
        texts.push(http::get(operator.debug, &path).await.expect("an answer").1);
    }
    let path = format!("/debug/seen/sandboxclaims.extensions.agents.x-k8s.io/{}/task", ns.namespace);
    texts.push(http::get(operator.debug, &path).await.expect("an answer").1);
    texts.push(operator.metrics().await);
    for kind in [SANDBOX, POD, TEMPLATE, EVENT] {
        texts.push(json!(ns.list(kind).await).to_string());
    }
    for found in [CONTENT, VALUE] {
        assert!(!texts.iter().any(|text| text.contains(found)), "{found} leaked");
    }
    texts.push(json!(ns.list(CLAIM).await).to_string());
    assert!(texts[1].contains("paddock-claim-"), "the page shows the delivery: {}", texts[1]);
    for found in [json!(MARKER), base64(MARKER)] {
        let found = found.as_str().expect("a text");
        assert!(!texts.iter().any(|text| text.contains(found)), "{found} leaked");
    }
}

async fn claim_is_told_what_its_template_does_not_admit() {
    let ns = namespace("claim-data-refused").await;
    ns.create(template("none", json!({}))).await;
    ns.create(pool("p-none", "none", json!({ "replicas": 0 }))).await;
    ns.create(template("some", json!({ "claimData": { "secrets": ["a", "b"] } }))).await;
    ns.create(pool("p-some", "some", json!({ "replicas": 0 }))).await;
    let reference = json!({ "files": [{ "name": "token", "secretKeyRef": { "name": "c", "key": "token" } }] });
    for (task, pool, spec, expected) in [
        (
            "files",
            "p-none",
            brings("x"),
            "spec.files: must be absent, because SandboxTemplate none has no spec.claimData",
        ),
        ("secret", "p-some", reference, "spec.files[0].secretKeyRef.name: `c` must be in spec.claimData.secrets"),
    ] {
        let output = ns.kubectl_output(&["create", "-f", "-"], Some(&claim(task, pool, spec).to_string())).await;
        assert!(output.contains("created") && output.contains(&format!("Warning: {expected}")), "{output}");
        let refused = ns.until(CLAIM, task, "refused", |c| reason(c, "Ready") == "ClaimDataRejected").await;
        assert!(message(&refused, "Ready").contains(expected), "{}", message(&refused, "Ready"));
    }
    // Variables without a permission are refused as ever.
    let env = json!({ "env": [{ "name": "A", "value": "1" }] });
    ns.create(claim("env", "p-some", env)).await;
    ns.until(CLAIM, "env", "refused", |c| reason(c, "Ready") == "EnvVarsInjectionRejected").await;
    // The schema and the webhook refuse what is never valid, in both shapes.
    for (what, file, expected) in [
        (
            "two sources",
            json!({ "name": "a", "content": "", "secretKeyRef": { "name": "s", "key": "k" } }),
            "exactly one of content",
        ),
        ("no source", json!({ "name": "a" }), "exactly one of content"),
        ("a path", json!({ "name": "a/b", "content": "" }), "should match"),
        ("a reserved name", json!({ "name": "claim.json", "content": "" }), "reserved"),
        ("a hidden link", json!({ "name": "..data", "content": "" }), "must not begin with '..'"),
        ("much", json!({ "name": "a", "content": "x".repeat(64 * 1024 + 1) }), "may not be more than 65536"),
    ] {
        let upstream = claim("x", "p-some", json!({ "files": [file] }));
        let seed = object(SEED_CLAIM, "x", json!({ "templateRef": { "name": "some" }, "files": [file] }));
        for document in [upstream, seed] {
            let error = ns.dry_run(&document).await.expect_err("refused").to_string();
            assert!(error.contains(expected), "{what}: {error}");
        }
    }
    let twice = json!({ "files": [{ "name": "a", "content": "1" }, { "name": "a", "content": "2" }] });
    let error = ns.dry_run(&claim("x", "p-some", twice)).await.expect_err("refused").to_string();
    assert!(error.contains("Duplicate"), "{error}");
    for (rules, expected) in [
        (json!({ "mountPath": "data" }), "should match"),
        (json!({ "mountPath": "/a/../b" }), "absolute path"),
        (json!({ "containers": ["x"] }), "name of one of"),
        (json!({ "secrets": ["paddock-claim-p"] }), "must not begin with"),
    ] {
        let error = ns.dry_run(&template("x", json!({ "claimData": rules }))).await.expect_err("refused").to_string();
        assert!(error.contains(expected), "{rules}: {error}");
    }
}

async fn files_of_a_claim_stay_as_they_are() {
    let (ns, _) = warm("claim-data-fixed", 1, json!({})).await;
    ns.create(claim("task", "p", brings("do it"))).await;
    sandbox_of(&ns, "task").await;
    let change = json!({ "spec": { "files": [{ "name": "task.txt", "content": "other" }] } });
    let output = ns
        .kubectl_output(
            &["patch", "sandboxclaims.extensions.agents.x-k8s.io", "task", "--type=merge", "-p", &change.to_string()],
            None,
        )
        .await;
    assert!(output.contains("spec.files: is immutable"), "{output}");
}
