//! The webhook, called over TLS by the real API server: the objects that it changes, denies and records.

use serde_json::{Value, json};

use super::json::{annotation, name, text};
use super::kinds::{CLAIM, POD, SANDBOX, SEED_CLAIM};
use super::manifests::{claim, merge, object, pod, sandbox};
use super::namespace::TestNamespace;
use super::setup::{namespace, setup};
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![
        a_marked_pod_is_isolated,
        a_marked_pod_that_names_the_hosts_kernel_is_denied,
        namespace_that_requires_isolation_isolates_its_first_pod,
        the_marker_comes_only_with_isolation_and_stays,
        kube_system_is_left_alone,
        mode_fields_are_synchronized,
        invalid_sandbox_is_denied_with_its_field,
        immutable_fields_cannot_be_changed,
        claim_gets_a_timestamp_and_no_hint_of_the_user,
        dry_run_shows_the_result_and_stores_nothing,
        forbidden_claim_labels_return_a_warning,
        exec_updates_last_activity,
    ]
}

const MARKER: &str = "policy.paddock.dev/generated-code";
const STAMP: &str = "agents.x-k8s.io/controller-first-observed-at";
const HINT: &str = "agents.x-k8s.io/sandbox-name";

fn bare_pod(name: &str, marker: Option<&str>, class: Option<&str>) -> Value {
    let mut pod = object(POD, name, pod()["spec"].clone());
    if let Some(marker) = marker {
        pod["metadata"]["labels"] = json!({ MARKER: marker });
    }
    if let Some(class) = class {
        pod["spec"]["runtimeClassName"] = class.into();
    }
    pod
}

/// The status with which the API server refuses an object.
pub(super) async fn refusal(ns: &TestNamespace, object: &Value) -> kube::core::Status {
    match ns.try_create(object).await {
        Err(kube::Error::Api(status)) => *status,
        other => panic!("not refused: {object:#}: {other:?}"),
    }
}

async fn a_marked_pod_is_isolated() {
    let ns = namespace("marked").await;
    let made = ns.create(bare_pod("plain", Some("true"), None)).await;
    assert_eq!(made["spec"]["runtimeClassName"], "gvisor");
    let chosen = ns.create(bare_pod("kata", Some("true"), Some("kata"))).await;
    assert_eq!(chosen["spec"]["runtimeClassName"], "kata", "an isolating class is not changed");
    let unmarked = ns.create(bare_pod("unmarked", None, None)).await;
    assert_eq!(unmarked["spec"].get("runtimeClassName"), None);
}

async fn a_marked_pod_that_names_the_hosts_kernel_is_denied() {
    let ns = namespace("host").await;
    let status = refusal(&ns, &bare_pod("a", Some("true"), Some("host"))).await;
    assert_eq!(status.code, 403, "{status:?}");
    // The message has the problem and the remedy, whether a plugin or the operator itself denies the Pod.
    for part in ["\"host\"", "gvisor, kata"] {
        assert!(status.message.contains(part), "{part}: {}", status.message);
    }
    let status = refusal(&ns, &bare_pod("b", Some("yes"), Some("gvisor"))).await;
    assert_eq!(status.code, 422);
    assert!(status.message.contains("must be \"true\" or \"false\""), "{}", status.message);
}

async fn namespace_that_requires_isolation_isolates_its_first_pod() {
    // A value other than `required` must not switch isolation off, unless it is `none`.
    for (required, class) in [("true", "gvisor"), ("none", ""), ("required", "gvisor")] {
        let labels = json!({ "policy.paddock.dev/isolation": required });
        let ns = TestNamespace::labelled(&setup().await.cluster, "isolated", labels).await;
        // The Pod is created right after the namespace, whether or not the operator has received the namespace.
        let made = ns.create(bare_pod("a", None, None)).await;
        assert_eq!(text(&made, "/spec/runtimeClassName"), class, "{required}");
    }
    let labels = json!({ "policy.paddock.dev/isolation": "required" });
    let ns = TestNamespace::labelled(&setup().await.cluster, "isolated", labels).await;
    let status = refusal(&ns, &bare_pod("b", Some("false"), Some("host"))).await;
    assert!(status.message.contains("isolated-namespaces.pods.paddock.dev"), "{}", status.message);
}

async fn the_marker_comes_only_with_isolation_and_stays() {
    let ns = namespace("marker").await;
    ns.create(bare_pod("host", None, None)).await;
    ns.create(bare_pod("isolated", None, Some("gvisor"))).await;
    ns.until_all(POD, "there", |pods| pods.len() == 2).await;
    let label = |pod: &'static str, how: &'static str| {
        let ns = ns.clone();
        async move { ns.kubectl_output(&["label", "--overwrite", "pod", pod, &format!("{MARKER}{how}")], None).await }
    };
    let output = label("host", "=true").await;
    assert!(output.contains("denied") && output.contains("names no RuntimeClass"), "{output}");
    let output = label("isolated", "=true").await;
    assert!(output.contains("labeled"), "{output}");
    for how in ["-", "=false"] {
        let output = label("isolated", how).await;
        assert!(output.contains("must not be removed from a Pod"), "{how}: {output}");
    }
    // A marked Pod can still be changed and deleted.
    ns.merge(POD, "isolated", json!({ "metadata": { "annotations": { "a": "b" } } })).await;
    ns.delete(POD, "isolated").await;
    ns.until_gone(POD, "isolated").await;
}

async fn kube_system_is_left_alone() {
    let ns = TestNamespace::existing(&setup().await.cluster, "kube-system");
    let would_be = ns.dry_run(&bare_pod("a", Some("true"), None)).await.expect("taken as it is");
    assert_eq!(would_be["spec"].get("runtimeClassName"), None);
}

async fn mode_fields_are_synchronized() {
    let ns = namespace("modes").await;
    for (name, spec, mode, replicas) in [
        ("plain", json!({}), "Running", 1),
        ("suspended", json!({ "operatingMode": "Suspended" }), "Suspended", 0),
        ("scaled", json!({ "replicas": 0 }), "Suspended", 0),
    ] {
        let made = ns.create(sandbox(name, spec)).await;
        assert_eq!(
            (&made["spec"]["operatingMode"], &made["spec"]["replicas"]),
            (&json!(mode), &json!(replicas)),
            "{name}"
        );
    }
    // A client that knows only v1beta1 writes back the fields that it knows.
    let mut known = ns.until(SANDBOX, "suspended", "acted on", |s| text(s, "/status/mode") == "Suspended").await;
    known["spec"].as_object_mut().expect("a spec").remove("replicas");
    known["spec"]["operatingMode"] = "Running".into();
    let stored = ns.replace(&known).await.expect("an update");
    assert_eq!(stored["spec"]["replicas"], 1, "the dropped field follows");
}

async fn invalid_sandbox_is_denied_with_its_field() {
    let ns = namespace("wrong").await;
    let limits = json!({ "requests": { "memory": "2Gi" }, "limits": { "memory": "1Gi" } });
    let container = json!([{ "name": "agent", "image": "agent:1", "resources": limits }]);
    for (spec, field) in [
        (json!({ "podTemplate": { "spec": { "containers": container } } }), "resources"),
        (json!({ "template": pod() }), "spec"),
        (json!({ "idleTimeout": "soon" }), "spec.idleTimeout"),
        (json!({ "shutdownTime": "tomorrow" }), "spec.shutdownTime"),
    ] {
        let status = refusal(&ns, &sandbox("a", spec.clone())).await;
        assert_eq!(status.code, 422, "{spec}: {status:?}");
        assert!(status.message.contains(field), "{spec}: {}", status.message);
    }
    assert!(ns.list(SANDBOX).await.is_empty());
}

async fn immutable_fields_cannot_be_changed() {
    let ns = namespace("immutable").await;
    ns.create(sandbox("a", json!({}))).await;
    for patch in [
        r#"{"spec":{"resumePolicy":"OnDemand"}}"#,
        r#"{"spec":{"volumeClaimTemplates":[{"metadata":{"name":"d"},"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}}}]}}"#,
    ] {
        let output = ns.kubectl_output(&["patch", "sandbox", "a", "--type=merge", "-p", patch], None).await;
        assert!(output.contains("immutable"), "{patch}: {output}");
    }
}

async fn claim_gets_a_timestamp_and_no_hint_of_the_user() {
    let ns = namespace("stamp").await;
    for (kind, made) in [
        (CLAIM, claim("a", "not-there", json!({}))),
        (SEED_CLAIM, object(SEED_CLAIM, "a", json!({ "templateRef": { "name": "not-there" } }))),
    ] {
        let mut claim = made;
        let annotations = json!({ HINT: "somebody-elses", STAMP: "2001-01-01T00:00:00Z", "example.com/kept": "yes" });
        claim["metadata"]["annotations"] = annotations;
        let stored = ns.create(claim).await;
        let stamp = annotation(&stored, STAMP).parse::<jiff::Timestamp>().expect("a time");
        let age = jiff::Timestamp::now().duration_since(stamp);
        assert!(age.as_secs() < 60, "{kind:?} was stamped {age} ago");
        assert!(annotation(&stored, STAMP).contains('.'), "with parts of a second");
        assert_eq!((annotation(&stored, HINT), annotation(&stored, "example.com/kept")), ("", "yes"), "{kind:?}");
    }
}

async fn dry_run_shows_the_result_and_stores_nothing() {
    let ns = namespace("dry").await;
    let would_be = ns.dry_run(&claim("a", "not-there", json!({}))).await.expect("taken");
    assert_ne!(annotation(&would_be, STAMP), "");
    let would_be = ns.dry_run(&bare_pod("a", Some("true"), None)).await.expect("taken");
    assert_eq!(would_be["spec"]["runtimeClassName"], "gvisor");
    assert!(ns.list(CLAIM).await.is_empty() && ns.list(POD).await.is_empty());
}

async fn forbidden_claim_labels_return_a_warning() {
    let ns = namespace("warned").await;
    let spec = json!({ "additionalPodMetadata": { "labels": { "kubernetes.io/os": "none" } } });
    let manifest = claim("a", "not-there", spec).to_string();
    let output = ns.kubectl_output(&["create", "-f", "-"], Some(&manifest)).await;
    assert!(output.contains("created") && output.contains("Warning: spec.additionalPodMetadata"), "{output}");
}

async fn exec_updates_last_activity() {
    let ns = namespace("connect").await;
    for (sandbox_name, spec) in [("used", json!({ "idleTimeout": "1h" })), ("without", json!({}))] {
        ns.create(sandbox(sandbox_name, spec)).await;
        ns.until(POD, sandbox_name, "runs", |p| text(p, "/status/phase") == "Running").await;
    }
    let mut stranger = bare_pod("stranger", None, None);
    merge(&mut stranger, &json!({ "spec": { "nodeName": null } }));
    ns.create(stranger).await;
    // These nodes have no kubelet, so the connection fails, but only after it was admitted.
    for pod in ["without", "stranger", "used"] {
        ns.kubectl_output(&["exec", pod, "--request-timeout=60s", "--", "true"], None).await;
    }
    let noted = |s: &Value| !annotation(s, "policy.paddock.dev/last-activity").is_empty();
    let used = ns.until(SANDBOX, "used", "activity noted", noted).await;
    let at = |key| annotation(&used, key).parse::<jiff::Timestamp>().expect("a time");
    let held = at("policy.paddock.dev/held-until").duration_since(at("policy.paddock.dev/last-activity"));
    assert_eq!(held.as_secs(), 3600, "one exec keeps it running for an hour");
    assert!(!noted(&ns.get(SANDBOX, "without").await), "nobody asks when it was used");

    // A second connection a moment later writes nothing new.
    let before = text(&used, "/metadata/resourceVersion").to_owned();
    ns.kubectl_output(&["exec", name(&used), "--request-timeout=60s", "--", "true"], None).await;
    let after = ns.get(SANDBOX, "used").await;
    assert_eq!(
        annotation(&after, "policy.paddock.dev/last-activity"),
        annotation(&used, "policy.paddock.dev/last-activity"),
        "since {before}"
    );
}
