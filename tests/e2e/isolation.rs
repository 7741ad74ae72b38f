//! Generated code is isolated against every writer and every change, on a real API server.

use paddock_cluster::{eventually, eventually_some};
use serde_json::{Value, json};

use super::json::{condition, label, name, number, ready, reason, suspended, text};
use super::kinds::{CLAIM, EVENT, POD, POOL, SANDBOX, TEMPLATE};
use super::manifests::{claim, marked, merge, object, pod, pool, sandbox, template};
use super::namespace::TestNamespace;
use super::operator::NAMESPACE;
use super::pool::filled;
use super::setup::{namespace, setup};
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![
        another_webhook_puts_no_generated_code_on_the_hosts_kernel,
        claim_gets_no_warm_pod_from_before_its_namespace_required_isolation,
        marker_of_a_template_isolates_its_sandboxes,
        late_marker_of_a_claim_reaches_its_sandbox_and_stays,
        host_network_of_generated_code_is_refused,
        access_to_the_host_is_denied_to_generated_code_alone,
        pod_that_is_not_isolated_gets_no_new_code,
        status_writes_of_nodes_do_not_reach_the_webhook,
        marker_stays_on_a_terminating_pod,
        deletion_timestamp_in_an_apply_exempts_nothing,
        marker_is_not_removed_from_a_sandbox,
        namespace_of_the_operator_is_not_labelled,
    ]
}

const MARKER: &str = "policy.paddock.dev/generated-code";
const ISOLATION: &str = "policy.paddock.dev/isolation";

/// A Pod that runs.
fn bare_pod(name: &str, with: Value) -> Value {
    let mut spec = pod()["spec"].clone();
    merge(&mut spec, &with);
    object(POD, name, spec)
}

/// Labels a namespace, so that it requires isolation from now on.
async fn require_isolation(ns: &TestNamespace) {
    let required = format!("{ISOLATION}=required");
    ns.kubectl(&["label", "namespace", &ns.namespace, &required], None).await.expect("it is labelled");
}

/// The message with which the API server refuses an object.
async fn refusal(ns: &TestNamespace, object: &Value) -> String {
    super::webhook::refusal(ns, object).await.message
}

/// A MutatingAdmissionPolicy, which runs before all webhooks, gives the Pods of a namespace a class of the host.
async fn swap_class(ns: &TestNamespace) {
    let name = format!("class-for-{}", ns.namespace);
    let policies = json!({ "apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingAdmissionPolicy",
            "metadata": { "name": name },
            "spec": {
                "failurePolicy": "Fail",
                "reinvocationPolicy": "Never",
                "matchConstraints": {
                    "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": ns.namespace } },
                    "resourceRules": [
                        { "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"] },
                    ],
                },
                "mutations": [{
                    "patchType": "ApplyConfiguration",
                    "applyConfiguration": {
                        "expression": "Object{spec: Object.spec{runtimeClassName: \"host\"}}",
                    },
                }],
            },
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingAdmissionPolicyBinding",
            "metadata": { "name": name },
            "spec": { "policyName": name },
        },
    ] });
    ns.kubectl(&["apply", "-f", "-"], Some(&policies.to_string())).await.expect("the policy is accepted");
    eventually("the policy is in force", async || {
        let made = ns.dry_run(&bare_pod("probe", json!({}))).await.expect("admitted");
        text(&made, "/spec/runtimeClassName") == "host"
    })
    .await;
}

async fn another_webhook_puts_no_generated_code_on_the_hosts_kernel() {
    let ns = namespace("swapped").await;
    swap_class(&ns).await;
    require_isolation(&ns).await;
    ns.create(marked(sandbox("coder", json!({})))).await;
    ns.create(sandbox("tenant", json!({}))).await;
    for sandbox in ["coder", "tenant"] {
        let denied = ns.until(SANDBOX, sandbox, "denied", |s| reason(s, "Ready") == "PolicyDenied").await;
        let message = condition(&denied, "Ready").map(|c| text(c, "/message").to_owned()).unwrap_or_default();
        assert!(message.contains("\"host\"") && message.contains("gvisor, kata"), "{message}");
        assert_eq!(ns.find(POD, sandbox).await, None, "the pod was not created");
        let told = |events: &super::namespace::Objects| {
            events.values().any(|e| text(e, "/regarding/name") == sandbox && text(e, "/reason") == "AdmissionDenied")
        };
        ns.until_all(EVENT, "an Event says who denied the pod", told).await;
    }
}

async fn claim_gets_no_warm_pod_from_before_its_namespace_required_isolation() {
    let ns = namespace("relabelled").await;
    ns.create(template("tools", json!({ "networkPolicyManagement": "Unmanaged" }))).await;
    let of_template = ns.create(pool("tools", "tools", json!({ "replicas": 2 }))).await;
    let before = filled(&ns, &of_template, 2).await;
    ns.create(claim("early", "tools", json!({}))).await;
    let early = ns.until(CLAIM, "early", "Ready", ready).await;
    filled(&ns, &of_template, 2).await;
    require_isolation(&ns).await;
    // The claim that has its Sandbox keeps it. The status reports the pod, which is older than the label.
    let running = text(&early, "/status/sandbox/name").to_owned();
    let exposed = |s: &Value| text(s, "/status/isolation/problem").contains("no RuntimeClass");
    let reported = ns.until(SANDBOX, &running, "reported", exposed).await;
    assert!(ready(&reported), "a running Sandbox stays what it is");
    assert!(ready(&ns.get(CLAIM, "early").await));
    let told = |events: &super::namespace::Objects| {
        events.values().any(|e| text(e, "/regarding/name") == running && text(e, "/reason") == "NotIsolated")
    };
    ns.until_all(EVENT, "an Event reports the pod", told).await;
    let series = format!("paddock_sandboxes_not_isolated{{namespace=\"{}\"}}", ns.namespace);
    eventually("the metric counts the namespace", async || {
        setup().await.operator.metrics().await.lines().any(|line| line.starts_with(&series))
    })
    .await;

    ns.create(claim("late", "tools", json!({}))).await;
    let late = ns.until(CLAIM, "late", "Ready", ready).await;
    let taken = text(&late, "/status/sandbox/name");
    assert!(!before.contains_key(taken), "a pod from before");
    let isolated = ns.get(POD, taken).await;
    assert_eq!(text(&isolated, "/spec/runtimeClassName"), "gvisor");
    assert_eq!(label(&isolated, MARKER), "true", "the demand of the namespace stays on the pod");

    // An annotation with another name for the pod neither hides the pod nor keeps it.
    let hidden = json!({ "metadata": { "annotations": { "agents.x-k8s.io/pod-name": "other" } } });
    ns.merge(SANDBOX, &running, hidden).await;
    ns.merge(SANDBOX, &running, json!({ "spec": { "operatingMode": "Suspended" } })).await;
    ns.until_gone(POD, &running).await;
    ns.until(SANDBOX, &running, "suspended without a pod to report", |s| suspended(s) && !exposed(s)).await;
    // The pool replaces its members.
    ns.until_all(POD, "all warm pods are isolated", |pods| {
        let warm = pods.values().filter(|p| !label(p, "agents.x-k8s.io/warm-pool-sandbox").is_empty());
        let classes: Vec<&str> = warm.map(|p| text(p, "/spec/runtimeClassName")).collect();
        classes.len() == 2 && classes.iter().all(|class| *class == "gvisor")
    })
    .await;
}

async fn marker_of_a_template_isolates_its_sandboxes() {
    let ns = namespace("carried").await;
    ns.create(marked(template("labelled", json!({})))).await;
    let of_template = ns.create(pool("labelled", "labelled", json!({ "replicas": 1 }))).await;
    let there = filled(&ns, &of_template, 1).await;
    let warm = there.values().next().expect("one");
    assert_eq!(label(warm, MARKER), "true");
    assert_eq!(warm["status"]["isolation"]["generatedCode"], true);
    let isolated = ns.get(POD, name(warm)).await;
    assert_eq!((text(&isolated, "/spec/runtimeClassName"), label(&isolated, MARKER)), ("gvisor", "true"));
    // The marker of a claim reaches the Sandbox that is made for it.
    ns.create(template("plain", json!({}))).await;
    ns.create(pool("plain", "plain", json!({ "replicas": 1 }))).await;
    ns.until(POOL, "plain", "full", |p| number(p, "/status/readyReplicas") == Some(1)).await;
    ns.create(marked(claim("marked", "plain", json!({})))).await;
    let bound = ns.until(CLAIM, "marked", "Ready", ready).await;
    let isolated = ns.get(POD, text(&bound, "/status/sandbox/name")).await;
    assert_eq!((text(&isolated, "/spec/runtimeClassName"), label(&isolated, MARKER)), ("gvisor", "true"));
}

async fn late_marker_of_a_claim_reaches_its_sandbox_and_stays() {
    let ns = namespace("late").await;
    let mark = |value: Value| json!({ "metadata": { "labels": { MARKER: value } } });
    let recorded = |s: &Value| s["status"]["isolation"]["generatedCode"] == true;
    for (name, class) in [("isolated", Some("gvisor")), ("exposed", None)] {
        let mut spec = pod()["spec"].clone();
        if let Some(class) = class {
            spec["runtimeClassName"] = class.into();
        }
        ns.create(template(name, json!({ "podTemplate": { "spec": spec } }))).await;
        ns.create(pool(name, name, json!({ "replicas": 0 }))).await;
        ns.create(claim(name, name, json!({}))).await;
        let bound = ns.until(CLAIM, name, "Ready", ready).await;
        let sandbox = text(&bound, "/status/sandbox/name").to_owned();
        ns.merge(CLAIM, name, mark("true".into())).await;
        let marked = ns.until(SANDBOX, &sandbox, "its status records the marker", recorded).await;
        let problem = text(&marked, "/status/isolation/problem").to_owned();
        match class {
            Some(_) => {
                assert_eq!(problem, "");
                ns.until(POD, &sandbox, "the pod has the marker", |pod| label(pod, MARKER) == "true").await;
            }
            None => {
                assert!(problem.contains("no RuntimeClass") && ready(&marked), "{problem}");
                assert_eq!(label(&ns.get(POD, &sandbox).await, MARKER), "", "the pod cannot be isolated later");
            }
        }
        // The record outlasts the label, so the next pod is isolated.
        ns.merge(CLAIM, name, mark(Value::Null)).await;
        ns.merge(SANDBOX, &sandbox, json!({ "spec": { "operatingMode": "Suspended" } })).await;
        ns.until_gone(POD, &sandbox).await;
        ns.merge(SANDBOX, &sandbox, json!({ "spec": { "operatingMode": "Running" } })).await;
        let isolated = |p: &Value| text(p, "/spec/runtimeClassName") == "gvisor" && label(p, MARKER) == "true";
        ns.until(POD, &sandbox, "its next pod is isolated", isolated).await;
    }
}

async fn host_network_of_generated_code_is_refused() {
    let ns = namespace("hostnet").await;
    let spec = |marker: Option<&str>| {
        let labels = marker.map(|marker| json!({ MARKER: marker }));
        json!({
            "networkPolicyManagement": "Managed",
            "podTemplate": { "metadata": { "labels": labels }, "spec": { "hostNetwork": true } },
        })
    };
    let message = refusal(&ns, &template("exposed", spec(Some("true")))).await;
    assert!(message.contains("spec.podTemplate.spec.hostNetwork: must be false or absent"), "{message}");
    ns.create(template("unmarked", spec(None))).await;
    // A template from before it was marked cannot be marked later either.
    let how = format!("{MARKER}=true");
    let kind = format!("{}.extensions.agents.x-k8s.io", TEMPLATE.2);
    let output = ns.kubectl_output(&["label", &kind, "unmarked", &how], None).await;
    assert!(output.contains("hostNetwork"), "{output}");
}

async fn access_to_the_host_is_denied_to_generated_code_alone() {
    let ns = namespace("access").await;
    let container = |with: Value| {
        let mut container = json!({ "name": "agent", "image": "agent:1" });
        merge(&mut container, &with);
        json!([container])
    };
    let context = |with: Value| json!({ "containers": container(json!({ "securityContext": with })) });
    for (spec, field) in [
        (json!({ "hostNetwork": true }), "spec.hostNetwork"),
        (json!({ "hostPID": true }), "spec.hostPID"),
        (json!({ "hostIPC": true }), "spec.hostIPC"),
        (json!({ "volumes": [{ "name": "h", "hostPath": { "path": "/" } }] }), "spec.volumes[0].hostPath"),
        (context(json!({ "privileged": true })), "spec.containers[0].securityContext.privileged"),
        (context(json!({ "capabilities": { "add": ["SYS_ADMIN"] } })), "capabilities.add[0]"),
        (context(json!({ "seccompProfile": { "type": "Unconfined" } })), "seccompProfile.type"),
        (json!({ "containers": container(json!({ "ports": [{ "containerPort": 80, "hostPort": 80 }] })) }), "hostPort"),
        (
            json!({ "initContainers": [{ "name": "i", "image": "i", "securityContext": { "privileged": true } }] }),
            "spec.initContainers[0].securityContext.privileged",
        ),
        (json!({ "securityContext": { "sysctls": [{ "name": "kernel.msgmax", "value": "1" }] } }), "sysctls[0].name"),
    ] {
        let mut with_class = spec.clone();
        with_class["runtimeClassName"] = "gvisor".into();
        let message = refusal(&ns, &marked(bare_pod("a", with_class.clone()))).await;
        assert!(message.contains(field), "{field}: {message}");
        let made = json!({ "podTemplate": { "spec": spec } });
        let message = refusal(&ns, &marked(sandbox("a", made.clone()))).await;
        assert!(message.contains("spec.podTemplate.spec"), "{field}: {message}");
        ns.dry_run(&bare_pod("a", with_class)).await.expect("a Pod without the marker keeps what it may");
        ns.dry_run(&sandbox("a", made)).await.expect("a Sandbox without the marker keeps what it may");
    }
}

async fn pod_that_is_not_isolated_gets_no_new_code() {
    let ns = namespace("older").await;
    ns.create(bare_pod("old", json!({}))).await;
    ns.until(POD, "old", "runs", |p| text(p, "/status/phase") == "Running").await;
    require_isolation(&ns).await;
    let change = async |subresource: Option<&str>, patch: Value| {
        let subresource = subresource.map(|name| format!("--subresource={name}"));
        let patch = patch.to_string();
        let args = ["patch", "pod", "old", "--type=strategic", "-p", &patch];
        let args: Vec<&str> = args.into_iter().chain(subresource.as_deref()).collect();
        ns.kubectl_output(&args, None).await
    };
    let image = json!({ "spec": { "containers": [{ "name": "agent", "image": "evil:1" }] } });
    eventually("the API server asks about the namespace", async || {
        change(None, image.clone()).await.contains("this namespace requires isolation")
    })
    .await;
    let debug = json!({ "spec": { "ephemeralContainers": [{ "name": "debug", "image": "busybox" }] } });
    let output = change(Some("ephemeralcontainers"), debug).await;
    assert!(output.contains("this namespace requires isolation"), "{output}");
    let resources = json!({ "requests": { "cpu": "1m" } });
    let resize = json!({ "spec": { "containers": [{ "name": "agent", "resources": resources }] } });
    let output = change(Some("resize"), resize).await;
    assert!(output.contains("this namespace requires isolation") || output.contains("resize"), "{output}");
    let output = change(None, json!({ "metadata": { "labels": { "team": "a" } } })).await;
    assert!(output.contains("patched"), "a label changes no code: {output}");
    let stored = ns.get(POD, "old").await;
    assert_eq!(text(&stored, "/spec/containers/0/image"), "agent:1");
    assert_eq!(stored["spec"].get("ephemeralContainers"), None);
}

/// The number of validations of marked Pods so far.
async fn validations() -> u64 {
    let metrics = setup().await.operator.metrics().await;
    let of_it = |line: &&str| {
        line.starts_with("paddock_webhook_reviews_total{")
            && line.contains("entry=\"generated-code\"")
            && line.contains("validate")
    };
    metrics.lines().filter(of_it).filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

async fn status_writes_of_nodes_do_not_reach_the_webhook() {
    let ns = namespace("statuses").await;
    ns.create(marked(bare_pod("busy", json!({})))).await;
    ns.until(POD, "busy", "runs", |p| text(p, "/status/phase") == "Running").await;
    let before = validations().await;
    assert!(before > 0, "the creation was validated");
    // Other tests run at the same time, so the number of writes is larger than that of their reviews.
    const WRITES: u64 = 300;
    for n in 0..WRITES {
        ns.merge_status(POD, "busy", json!({ "status": { "message": format!("write {n}") } })).await;
    }
    let asked = validations().await - before;
    assert!(asked < WRITES, "{asked} reviews during {WRITES} status writes");
    // A write of the status that takes the marker away is reviewed.
    for value in [Value::Null, "false".into()] {
        let patch = json!({ "metadata": { "labels": { MARKER: value } } }).to_string();
        let args = ["patch", "pod", "busy", "--subresource=status", "--type=merge", "-p", &patch];
        let output = ns.kubectl_output(&args, None).await;
        assert!(output.contains("must not be removed from a Pod"), "{output}");
    }
    assert_eq!(label(&ns.get(POD, "busy").await, MARKER), "true");
}

async fn marker_stays_on_a_terminating_pod() {
    let ns = namespace("leaving").await;
    let mut held = marked(bare_pod("held", json!({})));
    held["metadata"]["finalizers"] = json!(["example.com/held"]);
    ns.create(held).await;
    ns.until(POD, "held", "runs", |p| text(p, "/status/phase") == "Running").await;
    ns.delete(POD, "held").await;
    let how = format!("{MARKER}-");
    let output = ns.kubectl_output(&["label", "pod", "held", &how], None).await;
    assert!(output.contains("must not be removed from a Pod"), "{output}");
    // The finalizer can be removed.
    ns.merge(POD, "held", json!({ "metadata": { "finalizers": null } })).await;
    ns.until_gone(POD, "held").await;
}

async fn deletion_timestamp_in_an_apply_exempts_nothing() {
    let ns = namespace("applied").await;
    let mut host = marked(bare_pod("a", json!({ "runtimeClassName": "gvisor", "hostPID": true })));
    host["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z".into();
    let error = ns.apply("somebody", &host).await.expect_err("denied").to_string();
    assert!(error.contains("spec.hostPID"), "{error}");
    // The mutating call chooses a class.
    let mut plain = marked(bare_pod("b", json!({})));
    plain["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z".into();
    let stored = ns.apply("somebody", &plain).await.expect("admitted");
    assert_eq!(text(&stored, "/spec/runtimeClassName"), "gvisor");
    // The mutating call removes the reservation that a user wrote.
    let mut reserved = claim("x", "p", json!({}));
    reserved["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z".into();
    reserved["metadata"]["annotations"] = json!({ "agents.x-k8s.io/sandbox-name": "any" });
    let stored = ns.apply("somebody", &reserved).await.expect("admitted");
    assert_eq!(stored["metadata"]["annotations"].get("agents.x-k8s.io/sandbox-name"), None);
}

async fn marker_is_not_removed_from_a_sandbox() {
    let ns = namespace("kept").await;
    let labels = json!({ MARKER: "true" });
    ns.create(sandbox("a", json!({ "podTemplate": { "metadata": { "labels": labels } } }))).await;
    let isolated = |s: &Value| s["status"]["isolation"]["generatedCode"] == true && ready(s);
    ns.until(SANDBOX, "a", "Ready and isolated", isolated).await;
    let patch = json!({ "spec": { "podTemplate": { "metadata": { "labels": { MARKER: null } } } } }).to_string();
    let remove = async || ns.kubectl_output(&["patch", "sandbox", "a", "--type=merge", "-p", &patch], None).await;
    let output = remove().await;
    assert!(output.contains("must not be removed from a Sandbox"), "{output}");
    // It stays while the Sandbox is suspended, and a label of its own with the value false changes nothing.
    ns.merge(SANDBOX, "a", json!({ "spec": { "operatingMode": "Suspended" } })).await;
    ns.until_gone(POD, "a").await;
    let output = remove().await;
    assert!(output.contains("must not be removed from a Sandbox"), "{output}");
    let with_false = json!({ "metadata": { "labels": { MARKER: "false" } }, "spec": { "operatingMode": "Running" } });
    ns.merge(SANDBOX, "a", with_false).await;
    let again = eventually_some("the pod is there again", async || {
        ns.find(POD, "a").await.ok_or_else(|| "there is no pod".to_owned())
    })
    .await;
    assert_eq!((text(&again, "/spec/runtimeClassName"), label(&again, MARKER)), ("gvisor", "true"));
}

async fn namespace_of_the_operator_is_not_labelled() {
    let ns = TestNamespace::existing(&setup().await.cluster, NAMESPACE);
    let label = async |how: &str| {
        ns.kubectl_output(&["label", "--overwrite", "namespace", NAMESPACE, &format!("{ISOLATION}{how}")], None).await
    };
    let output = label("=required").await;
    assert!(output.contains("is invalid") && output.contains("its Pods must start"), "{output}");
    let output = label("=none").await;
    assert!(output.contains("labeled"), "{output}");
    label("-").await;
    // Another namespace can be labelled.
    require_isolation(&namespace("other").await).await;
}
