//! Tests of the comparison, as tables of changes.

use k8s_openapi::api::core::v1::Toleration;
use serde_json::{Value, json};

use super::*;
use crate::manifest::{self, PodPlan};
use paddock_api::kind::{Key, Kind};

fn object(kind: Kind, document: Value) -> Object {
    Object::from_json(kind, document).expect("an object")
}

/// A member of a pool and its Pod, as the operator makes them and the API server stores them.
fn as_made() -> (Value, Value) {
    as_made_of(json!({}))
}

/// The same, of a template whose spec has a change.
fn as_made_of(change: Value) -> (Value, Value) {
    let mut template = json!({
        "metadata": { "name": "python", "namespace": "agents", "uid": "t" },
        "spec": { "podTemplate": {
            "metadata": { "labels": { "team": "red", "kueue.x-k8s.io/queue-name": "q" }, "annotations": { "note": "a" } },
            "spec": {
                "schedulingGates": [{ "name": "example.com/admission" }],
                "containers": [{
                    "name": "agent", "image": "agent:1", "resources": { "limits": { "cpu": "500m" } },
                }],
            },
        } },
    });
    json_patch::merge(&mut template["spec"], &change);
    let template = object(Kind::Template, template);
    let pool = object(
        Kind::Pool,
        json!({
            "metadata": { "name": "p", "namespace": "agents", "uid": "p" },
            "spec": { "sandboxTemplateRef": { "name": "python" }, "replicas": 1 },
        }),
    );
    let model = template.template().expect("a template").spec.as_ref().expect("a valid one");
    let mut sandbox = manifest::warm_sandbox(&pool, &template, model, "p-a");
    sandbox["metadata"]["uid"] = "s".into();
    sandbox["metadata"]["generation"] = 1.into();
    let made = object(Kind::Sandbox, sandbox.clone());
    let plan = PodPlan {
        name: "p-a",
        runtime_class: Some("gvisor"),
        class_reason: Some("because"),
        class_plugin: Some("by-label"),
        kept_dirs: &[],
        now: jiff::Timestamp::UNIX_EPOCH,
        init_image: Some("paddock:1"),
        isolate: false,
    };
    let model = made.sandbox().expect("a Sandbox").spec.as_ref().expect("a valid one");
    let mut pod = manifest::pod(&made, model, &plan);
    pod["metadata"]["generation"] = 1.into();
    // The API server gives every Pod these tolerations when it is created.
    pod["spec"]["tolerations"] = json!([toleration("node.kubernetes.io/not-ready")]);
    (sandbox, pod)
}

fn toleration(key: &str) -> Value {
    json!({ "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 })
}

fn judged(sandbox: &Value, pod: &Value) -> Option<String> {
    judged_with(sandbox, pod, false)
}

fn judged_with(sandbox: &Value, pod: &Value, plugins: bool) -> Option<String> {
    judged_by(sandbox, pod, (plugins, false, &[]))
}

/// `isolate` says whether the Pod has to be isolated, and `class_tolerations` are those of its RuntimeClass.
fn judged_by(
    sandbox: &Value,
    pod: &Value,
    (plugins_may_change_pods, isolate, class_tolerations): (bool, bool, &[Toleration]),
) -> Option<String> {
    let settings = Settings { init_image: Some("paddock:1".to_owned()), ..Settings::default() };
    let (sandbox, pod) = (object(Kind::Sandbox, sandbox.clone()), object(Kind::Pod, pod.clone()));
    touched(&sandbox, Some(&pod), Rules { settings: &settings, plugins_may_change_pods, isolate, class_tolerations })
}

/// Merges a change into a document, as a merge patch of a user does.
fn changed(document: &Value, patch: &Value) -> Value {
    let mut document = document.clone();
    json_patch::merge(&mut document, patch);
    document
}

/// With a lookup of each key in a map of all others, this takes minutes.
#[test]
fn a_member_with_as_many_labels_and_annotations_as_fit_is_judged_at_once() {
    let many = |count: usize| -> Value {
        (0..count).map(|n| (format!("k{n:05}"), "".into())).collect::<serde_json::Map<_, _>>().into()
    };
    let of_template = json!({ "labels": many(900), "annotations": many(900) });
    let (sandbox, pod) = as_made_of(json!({ "podTemplate": { "metadata": of_template } }));
    let annotated = changed(&pod, &json!({ "metadata": { "annotations": many(80_000) } }));
    let listed = (0..20_000).map(|n| format!("k{n:05}")).collect::<Vec<_>>().join(",");
    let by_plugins = json!({ "metadata": {
        "annotations": { "policy.paddock.dev/plugin-labels": listed }, "labels": many(20_000),
    } });
    let labelled = changed(&annotated, &by_plugins);
    let begin = crate::stopwatch::Stopwatch::start();
    assert_eq!(judged(&sandbox, &annotated), None, "nobody acts on these annotations");
    assert_eq!(judged_with(&sandbox, &labelled, true), None, "plugins added these labels");
    assert_says(judged(&sandbox, &labelled), "label k00900 was added", &Value::Null);
    begin.assert_linear();
}

/// A Pod may have many of these parts only if somebody added them, and they would need memory and time.
#[test]
fn a_changed_pod_with_more_parts_than_a_template_is_touched() {
    let (sandbox, pod) = as_made();
    let own = pod["spec"]["tolerations"][0].clone();
    let tolerations = |count: usize| {
        let last = toleration("example.com/late");
        let all: Vec<Value> = std::iter::repeat_n(own.clone(), count).chain([last]).collect();
        changed(&pod, &json!({ "metadata": { "generation": 2 }, "spec": { "tolerations": all } }))
    };
    let says = "the spec of its Pod was changed";
    assert_eq!(judged(&sandbox, &tolerations(999)), None, "one change added the last toleration");
    assert_says(judged(&sandbox, &tolerations(1_000)), says, &Value::Null);
    let names: serde_json::Map<String, Value> = (0..4_100).map(|n| (format!("example.com/{n}"), "1".into())).collect();
    let mut resources = tolerations(1);
    resources["spec"]["containers"][0]["resources"]["requests"] = names.into();
    assert_says(judged(&sandbox, &resources), says, &Value::Null);
    let changed = object(Kind::Pod, resources).pod().expect("a Pod").changed.clone();
    assert_eq!(changed, None, "nothing of it is kept");
}

#[test]
fn a_member_is_as_made_until_somebody_changes_what_matters() {
    let (sandbox, pod) = as_made();
    assert_eq!(judged(&sandbox, &pod), None);
    let labels = |change: Value| json!({ "metadata": { "labels": change } });
    let annotations = |change: Value| json!({ "metadata": { "annotations": change } });
    let container = |change: Value| {
        let mut spec = pod["spec"].clone();
        json_patch::merge(&mut spec["containers"][0], &change);
        json!({ "metadata": { "generation": 2 }, "spec": spec })
    };
    for (sandbox_change, says) in [
        (json!({ "metadata": { "generation": 2 } }), "its spec was changed"),
        (record("somebody used exec"), "somebody used exec"),
        (labels(json!({ "team": "blue" })), "label team was added to it"),
        (labels(json!({ "agents.x-k8s.io/sandbox-template-ref-hash": "0" })), "labels or annotations"),
        (labels(json!({ "agents.x-k8s.io/sandbox-template-hash": "0" })), "labels or annotations"),
        (labels(json!({ "agents.x-k8s.io/launch-type": null })), "labels or annotations"),
        (annotations(json!({ "policy.paddock.dev/ephemeral-volumes": "true" })), "labels or annotations"),
        (annotations(json!({ "policy.paddock.dev/last-activity": "2099-01-01T00:00:00Z" })), "labels or annotations"),
        (annotations(json!({ "policy.paddock.dev/idle-since": "2026-01-01T00:00:00Z" })), "labels or annotations"),
        (annotations(json!({ "agents.x-k8s.io/sandbox-template-ref": "other" })), "labels or annotations"),
        (annotations(json!({ "agents.x-k8s.io/pod-name": null })), "labels or annotations"),
        (labels(json!({ "topology.kubernetes.io/zone": "a" })), ""),
        (annotations(json!({ "example.com/seen": "yes" })), ""),
        (json!({ "metadata": { "resourceVersion": "7", "finalizers": ["example.com/a"] } }), ""),
    ] {
        assert_says(judged(&changed(&sandbox, &sandbox_change), &pod), says, &sandbox_change);
    }
    for (pod_change, says) in [
        (json!({ "metadata": { "generation": 2 } }), "the spec of its Pod"),
        (container(json!({ "image": "evil:1" })), "the spec of its Pod"),
        (container(json!({ "resources": { "limits": { "cpu": "4" } } })), "the spec of its Pod"),
        (labels(json!({ "team": "blue" })), "label team of its Pod"),
        (labels(json!({ "team": null })), "label team was removed"),
        (labels(json!({ "role": "db-client" })), "label role was added"),
        (labels(json!({ "agents.x-k8s.io/sandbox-template-ref-hash": "0" })), "sandbox-template-ref-hash of its Pod"),
        (labels(json!({ "policy.paddock.dev/sandbox-uid": null })), "sandbox-uid was removed"),
        (labels(json!({ "agents.x-k8s.io/claim-uid": "c" })), "claim-uid was added"),
        (annotations(json!({ "note": "b" })), "annotation note of its Pod"),
        (annotations(json!({ "note": null })), "annotation note was removed"),
        (annotations(json!({ "cluster-autoscaler.kubernetes.io/safe-to-evict": "false" })), "safe-to-evict of its Pod"),
        (annotations(json!({ "policy.paddock.dev/anything": "b" })), "anything was added"),
        (annotations(json!({ "policy.paddock.dev/pod-revision": "{}" })), "pod-revision of its Pod"),
        (annotations(json!({ "io.katacontainers.config.hypervisor.kernel_params": "b" })), "kernel_params was added"),
        (annotations(json!({ "dev.gvisor.flag.debug": "true" })), "debug was added"),
        (annotations(json!({ "k8s.v1.cni.cncf.io/networks": "host" })), "networks was added"),
        (annotations(json!({ "cni.projectcalico.org/ipAddrs": "[]" })), "ipAddrs was added"),
        (annotations(json!({ "kubernetes.io/egress-bandwidth": "1G" })), "egress-bandwidth was added"),
        (annotations(json!({ "policy.paddock.dev/plugin-labels": "role" })), ""),
        // Network plugins, autoscalers and the API server write these.
        (annotations(json!({ "cni.projectcalico.org/podIP": "10.0.0.1/32" })), ""),
        (annotations(json!({ "k8s.v1.cni.cncf.io/network-status": "[]" })), ""),
        (annotations(json!({ "k8s.ovn.org/pod-networks": "{}" })), ""),
        (annotations(json!({ "example.com/seen": "yes" })), ""),
        (labels(json!({ "topology.kubernetes.io/zone": "a" })), ""),
        (labels(json!({ "kueue.x-k8s.io/podset": "main" })), ""),
        (labels(json!({ "kueue.x-k8s.io/queue-name": "other" })), "queue-name of its Pod"),
    ] {
        assert_says(judged(&sandbox, &changed(&pod, &pod_change)), says, &pod_change);
    }
}

fn assert_says(judged: Option<String>, says: &str, change: &Value) {
    match judged {
        None => assert_eq!(says, "", "{change}"),
        Some(touch) => assert!(!says.is_empty() && touch.contains(says), "{change}: {touch}"),
    }
}

/// The spec of the Sandbox does not have the image, so it is the operator's that counts.
#[test]
fn image_of_the_init_container_is_that_of_the_operator() {
    let container = json!({ "name": "agent", "image": "agent:1", "command": ["run"] });
    let (sandbox, pod) = as_made_of(json!({
        "claimData": { "start": "AfterDelivery" }, "podTemplate": { "spec": { "containers": [container] } },
    }));
    assert_eq!(judged(&sandbox, &pod), None);
    for (image, says) in [("paddock:1", ""), ("paddock:0", "the spec of its Pod"), ("evil:1", "the spec of its Pod")] {
        let mut changed = pod.clone();
        changed["metadata"]["generation"] = 2.into();
        changed["spec"]["schedulingGates"] = json!([]);
        changed["spec"]["initContainers"][0]["image"] = image.into();
        assert_says(judged(&sandbox, &changed), says, &json!(image));
    }
}

#[test]
fn a_removed_gate_and_one_batch_of_tolerations_explain_a_generation_each_and_nothing_else() {
    let (sandbox, pod) = as_made();
    let spec = |generation: i64, change: Value| json!({ "metadata": { "generation": generation }, "spec": change });
    let more = json!([toleration("node.kubernetes.io/not-ready"), toleration("example.com/a")]);
    let many: Vec<Value> = ["a", "b", "c", "d", "e"].map(|key| toleration(&format!("example.com/{key}"))).to_vec();
    let evil = json!([{ "name": "agent", "image": "evil:1", "resources": { "limits": { "cpu": "500m" } } }]);
    // The API server completes and normalizes resources.
    let same = json!([{
        "name": "agent", "image": "agent:1",
        "resources": { "limits": { "cpu": "0.5", "memory": "1Gi" }, "requests": { "cpu": "0.5" } },
    }]);
    for (pod_change, says) in [
        (spec(2, json!({ "schedulingGates": null })), ""),
        (spec(2, json!({ "schedulingGates": null, "nodeSelector": { "pool": "a" }, "containers": same })), ""),
        (spec(3, json!({ "schedulingGates": null, "tolerations": more })), ""),
        (spec(2, json!({ "tolerations": more })), ""),
        (spec(4, json!({ "schedulingGates": null, "tolerations": more })), "the spec of its Pod"),
        // One request may add all of them, so they explain no second change.
        (spec(2, json!({ "tolerations": many })), ""),
        (spec(3, json!({ "tolerations": many })), "the spec of its Pod"),
        (spec(3, json!({ "schedulingGates": null, "tolerations": many })), ""),
        (spec(4, json!({ "schedulingGates": null, "tolerations": many })), "the spec of its Pod"),
        (spec(2, json!({ "schedulingGates": null, "containers": evil })), "the spec of its Pod"),
        (spec(2, json!({ "schedulingGates": null, "activeDeadlineSeconds": 5 })), "the spec of its Pod"),
        (spec(2, json!({ "schedulingGates": null, "ephemeralContainers": [{ "name": "x" }] })), "ephemeral"),
        (spec(2, json!({ "schedulingGates": null, "initContainers": [{ "name": "x" }] })), "the spec of its Pod"),
    ] {
        assert_says(judged(&sandbox, &changed(&pod, &pod_change)), says, &pod_change);
    }
}

#[test]
fn tolerations_of_the_runtime_class_explain_no_change() {
    let (sandbox, pod) = as_made();
    let of_class = json!({ "key": "sandbox.example.com/runtime", "operator": "Exists", "effect": "NoSchedule" });
    let class: Vec<Toleration> = vec![serde_json::from_value(of_class.clone()).expect("a toleration")];
    let made = json!([toleration("node.kubernetes.io/not-ready"), of_class]);
    let later = json!([toleration("node.kubernetes.io/not-ready"), of_class, toleration("example.com/a")]);
    for (what, tolerations, generation, class, says) in [
        ("a change that left no trace", &made, 2, &class[..], "the spec of its Pod"),
        ("the same without the class", &made, 2, &class[..0], ""),
        ("a toleration that was added", &later, 2, &class[..], ""),
        ("that toleration and a change", &later, 3, &class[..], "the spec of its Pod"),
        ("a new pod", &made, 1, &class[..], ""),
    ] {
        let change = json!({ "metadata": { "generation": generation }, "spec": { "tolerations": tolerations } });
        assert_says(judged_by(&sandbox, &changed(&pod, &change), (false, false, class)), says, &what.into());
    }
}

/// The garbage collector keeps an object for as long as one of its owners exists.
#[test]
fn another_owner_is_a_touch() {
    let (sandbox, pod) = as_made();
    let owner = json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "c-1" });
    let with_owner = |document: &Value| {
        let mut document = document.clone();
        document["metadata"]["ownerReferences"].as_array_mut().expect("a list").push(owner.clone());
        document
    };
    let (owned_sandbox, owned_pod) = (with_owner(&sandbox), with_owner(&pod));
    assert_says(judged(&owned_sandbox, &pod), "an owner was added to it", &owner);
    assert_says(judged(&sandbox, &owned_pod), "an owner was added to its Pod", &owner);
    let read = |kind: Kind, document: &Value| object(kind, document.clone());
    assert!(!same_sandbox(&read(Kind::Sandbox, &sandbox), &read(Kind::Sandbox, &owned_sandbox)));
    assert!(!same_pod(Some(&read(Kind::Pod, &pod)), Some(&read(Kind::Pod, &owned_pod))));
}

#[test]
fn marker_of_a_pod_is_a_touch_unless_the_operator_gives_it() {
    let (sandbox, pod) = as_made();
    let recorded = changed(&sandbox, &json!({ "status": { "isolation": { "generatedCode": true } } }));
    for (what, sandbox, value, isolate, says) in [
        ("nobody demands it", &sandbox, "true", false, "generated-code was added to its Pod"),
        ("the pool or the namespace demands it", &sandbox, "true", true, ""),
        ("the status records it", &recorded, "true", false, ""),
        ("the operator writes no other value", &sandbox, "false", true, "generated-code was added to its Pod"),
    ] {
        let label = json!({ "metadata": { "labels": { "policy.paddock.dev/generated-code": value } } });
        let marked = changed(&pod, &label);
        assert_says(judged_by(sandbox, &marked, (false, isolate, &[])), says, &what.into());
        assert_eq!(judged_by(sandbox, &pod, (false, isolate, &[])), None, "{what}: a pod without the marker");
    }
}

#[test]
fn resources_of_the_pod_as_a_whole_are_compared() {
    let whole = |cpu: &str| json!({ "resources": { "limits": { "cpu": cpu } } });
    let (sandbox, pod) = as_made_of(json!({ "podTemplate": { "spec": whole("1") } }));
    for (spec, says) in
        [(whole("1000m"), ""), (whole("2"), "the spec of its Pod"), (json!({ "resources": null }), "spec")]
    {
        let mut change = json!({ "metadata": { "generation": 2 }, "spec": { "schedulingGates": null } });
        json_patch::merge(&mut change["spec"], &spec);
        let mut changed = changed(&pod, &change);
        if spec["resources"].is_null() {
            changed["spec"].as_object_mut().expect("a spec").remove("resources");
        }
        assert_says(judged(&sandbox, &changed), says, &spec);
    }
}

#[test]
fn the_deletion_of_a_pod_is_no_touch() {
    let (sandbox, pod) = as_made();
    let deleted = json!({ "metadata": { "generation": 2, "deletionTimestamp": "2030-01-01T00:00:00Z" } });
    assert_eq!(judged(&sandbox, &changed(&pod, &deleted)), None);
}

#[test]
fn changes_of_admission_plugins_are_as_made_and_only_where_there_are_plugins() {
    let (sandbox, made) = as_made();
    let mut pod = changed(&made, &json!({ "metadata": { "labels": { "cost": "7", "team": "green" } } }));
    list_plugin_changes(&made, &mut pod);
    assert_eq!(pod["metadata"]["annotations"]["policy.paddock.dev/plugin-labels"], "cost,team");
    assert_eq!(judged_with(&sandbox, &pod, true), None);
    assert!(judged_with(&sandbox, &pod, false).is_some(), "a user could write the list");
    let other = changed(&pod, &json!({ "metadata": { "labels": { "other": "x" } } }));
    assert!(judged_with(&sandbox, &other, true).is_some());
}

#[test]
fn a_member_of_an_earlier_version_has_no_digest_and_is_compared_by_the_rest() {
    let (mut sandbox, pod) = as_made();
    sandbox["spec"]["podTemplate"]["metadata"]["annotations"] = json!({ "note": "a" });
    let labelled = changed(&sandbox, &json!({ "metadata": { "labels": { "team": "blue" } } }));
    assert_eq!(judged(&labelled, &pod), None);
    assert!(judged(&changed(&sandbox, &json!({ "metadata": { "generation": 2 } })), &pod).is_some());
}

#[test]
fn the_records_are_not_annotations_of_the_pod() {
    let (sandbox, pod) = as_made();
    let text = sandbox["spec"]["podTemplate"].to_string();
    assert!(text.contains(annotation::AS_MADE) && !pod.to_string().contains(annotation::AS_MADE), "{text}");
    assert_eq!(object(Kind::Sandbox, sandbox).key, Key::new(Kind::Sandbox, "agents", "p-a"));
}
