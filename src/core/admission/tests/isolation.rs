//! Isolation at admission: every control of the profile *baseline*, in every workload, by every kind of request and user.

mod unknown_namespace;

use super::*;
use crate::isolation::tests::{names, pods};
use crate::isolation::{HostAccess, HostAccessSet, IsolationRule};

const MARKER: &str = "policy.paddock.dev/generated-code";
const SUBRESOURCES: [&str; 3] = ["ephemeralcontainers", "resize", "status"];

/// The workloads that are made of a pod: the group, resource and kind, and the field that contains the pod.
const WORKLOADS: [(&str, &str, &str, &str); 5] = [
    ("", "pods", "Pod", ""),
    ("agents.x-k8s.io", "sandboxes", "Sandbox", "podTemplate"),
    ("agents.x-k8s.io", "sandboxes", "Sandbox", "template"),
    ("extensions.agents.x-k8s.io", "sandboxtemplates", "SandboxTemplate", "podTemplate"),
    ("agents.x-k8s.io", "sandboxtemplates", "SandboxTemplate", "template"),
];

/// A workload with this pod. Its own metadata has the marker.
fn workload(kind: &str, field: &str, mut pod: Value, marker: Option<&str>) -> Value {
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        let containers = pod["spec"][list].as_array_mut().into_iter().flatten();
        for (i, container) in containers.enumerate() {
            container["name"] = format!("{}{i}", list.to_ascii_lowercase()).into();
            container["image"] = "image:1".into();
        }
    }
    if pod["spec"]["containers"].is_null() {
        pod["spec"]["containers"] = json!([{ "name": "main", "image": "image:1" }]);
    }
    pod["spec"]["runtimeClassName"] = "gvisor".into();
    let mut object = if field.is_empty() { pod } else { json!({ "spec": { field: pod } }) };
    object["kind"] = kind.into();
    object["metadata"]["name"] = "a".into();
    if let Some(marker) = marker {
        object["metadata"]["labels"] = json!({ MARKER: marker });
    }
    object
}

fn entry(resource: &str, marker: Option<&str>) -> Entry {
    match (resource, marker) {
        ("pods", Some("true")) => Entry::MarkedPods,
        ("pods", _) => Entry::IsolatedNamespaces,
        (_, _) => Entry::OwnKinds,
    }
}

/// The context of a namespace that requires isolation, or of another one.
fn in_namespace(required: bool) -> Context {
    let label = ("policy.paddock.dev/isolation".to_owned(), "required".to_owned());
    Context { namespace_labels: required.then_some(label).into_iter().collect(), ..context() }
}

/// All requests that store `new`: its creation, and its update from `old`, also by a subresource.
fn requests(group: &str, resource: &str, entry: Entry, (old, new): (&Value, &Value)) -> Vec<Review> {
    let create = Review { phase: Phase::Validate, ..review(entry, Verb::Create, (group, resource), new.clone()) };
    let update = Review { operation: Verb::Update, old_object: old.clone(), ..create.clone() };
    let mut all = vec![create, update.clone()];
    if resource == "pods" {
        all.extend(SUBRESOURCES.map(|name| Review { subresource: Some(name.to_owned()), ..update.clone() }));
    }
    all
}

#[test]
fn every_control_is_denied_in_every_workload_by_every_request() {
    for (access, bad, good, pattern) in pods() {
        for (group, resource, kind, field) in WORKLOADS {
            for (marker, required) in [(Some("true"), false), (None, true), (Some("false"), true)] {
                let [old, new] = [&good, &bad].map(|pod| workload(kind, field, pod.clone(), marker));
                let prefix = if field.is_empty() { String::new() } else { format!("spec.{field}.") };
                let pattern = format!("{prefix}{pattern}");
                let entry = entry(resource, marker);
                for review in requests(group, resource, entry, (&old, &new)) {
                    for user in ["ada", OPERATOR] {
                        let review = Review { username: user.to_owned(), ..review.clone() };
                        let what = format!(
                            "{access:?}, {kind} {field}, {marker:?}, {user}, {:?} {:?}",
                            review.operation, review.subresource
                        );
                        let (_, verdict) = decide(&review, &in_namespace(required), gvisor);
                        // What the operator makes of its own kinds is judged in the reconcile, as a Pod.
                        let judged = user != OPERATOR || resource == "pods";
                        let causes = verdict.denial.map(|denial| denial.causes).unwrap_or_default();
                        let named = causes.iter().any(|cause| names(&cause.field, &pattern));
                        assert_eq!(named, judged, "{what}: {pattern} in {causes:?}");
                        // The allowed value, and the same field where the platform team allows it.
                        let right = Review { object: old.clone(), ..review.clone() };
                        let causes = decide(&right, &in_namespace(required), gvisor).1.denial.map(|d| d.causes);
                        assert!(!causes.into_iter().flatten().any(|cause| names(&cause.field, &pattern)), "{what}");
                        let settings = crate::settings::Settings {
                            isolation_allow: [access].into_iter().collect::<HostAccessSet>(),
                            ..Default::default()
                        };
                        let context = Context { settings: Arc::new(settings), ..in_namespace(required) };
                        let causes = decide(&review, &context, gvisor).1.denial.map(|d| d.causes);
                        assert!(!causes.into_iter().flatten().any(|cause| names(&cause.field, &pattern)), "{what}");
                    }
                }
            }
        }
    }
}

/// The context of a namespace with these labels, in a cluster with these policies.
fn with_policies(policies: &[(&str, Value)], labels: &[(&str, &str)]) -> Context {
    let rule = |(name, spec): &(&str, Value)| {
        let spec = serde_json::from_value(spec.clone()).expect("a spec");
        IsolationRule::of(name, &spec).expect("a selector").expect("rules")
    };
    let bindings = Bindings::new(context().bindings.iter().cloned().collect());
    let bindings = bindings.with_isolation(policies.iter().map(rule).collect());
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Context { bindings: Arc::new(bindings), namespace_labels: labels, ..context() }
}

/// A policy that allows a field to the namespaces of a team.
fn open_to_the_red_team(access: HostAccess) -> (&'static str, Value) {
    let selector = json!({ "matchLabels": { "team": "red" } });
    ("open", json!({ "namespaceSelector": selector, "isolation": { "allow": [access] } }))
}

#[test]
fn a_field_that_a_policy_allows_is_admitted_in_its_namespaces_alone() {
    for (access, bad, good, pattern) in pods() {
        let other = if access == HostAccess::HostPath { HostAccess::HostPort } else { HostAccess::HostPath };
        for (group, resource, kind, field) in WORKLOADS {
            let [old, new] = [&good, &bad].map(|pod| workload(kind, field, pod.clone(), Some("true")));
            let prefix = if field.is_empty() { String::new() } else { format!("spec.{field}.") };
            let pattern = format!("{prefix}{pattern}");
            for review in requests(group, resource, entry(resource, Some("true")), (&old, &new)) {
                for (team, allowed, admitted) in [("red", access, true), ("red", other, false), ("blue", access, false)]
                {
                    let context = with_policies(&[open_to_the_red_team(allowed)], &[("team", team)]);
                    let causes = decide(&review, &context, gvisor).1.denial.map(|denial| denial.causes);
                    let named = causes.into_iter().flatten().any(|cause| names(&cause.field, &pattern));
                    assert_eq!(named, !admitted, "{access:?} in {kind} {field}, {allowed:?} for {team}");
                }
            }
        }
    }
}

#[test]
fn generated_code_gets_only_a_class_that_its_namespace_may_use() {
    let few = ("few", json!({ "isolation": { "runtimeClasses": ["kata"] } }));
    let classes = Arc::new(vec![class("gvisor", true), class("kata", true), class("runc", false)]);
    let context = Context { classes, ..with_policies(&[few], &[]) };
    let pod = |class: Option<&str>| {
        let spec = json!({ "runtimeClassName": class, "containers": [{ "name": "c", "image": "i" }] });
        let object = json!({ "kind": "Pod", "metadata": { "name": "a", "labels": { MARKER: "true" } }, "spec": spec });
        review(Entry::MarkedPods, Verb::Create, ("", "pods"), object)
    };
    let first_offered: Plugin = |request| match &request.question {
        Question::RuntimeClass(question) => choose(&question.classes[0].name),
        Question::Admission(_) | Question::Idle(_) | Question::PoolSize(_) => allow(None),
    };
    let admitted = admit(pod(None), &context, first_offered).expect("admitted");
    assert_eq!(admitted["spec"]["runtimeClassName"], "kata");
    assert!(admit(pod(Some("kata")), &context, gvisor).is_ok());
    let chosen = admit(pod(None), &context, gvisor).expect_err("the choice is not accepted");
    let problem = "there is no RuntimeClass gvisor that the namespace may use";
    assert!(chosen.message.contains(problem), "{}", chosen.message);
    let named = admit(pod(Some("gvisor")), &context, gvisor).expect_err("denied");
    assert_eq!(named.why, Why::NotIsolated);
    assert!(named.message.contains("as SandboxPolicy few says; set runtimeClassName"), "{}", named.message);
}

#[test]
fn workloads_without_the_marker_keep_what_upstream_admits() {
    for (access, bad, good, pattern) in pods() {
        for (group, resource, kind, field) in WORKLOADS {
            for marker in [None, Some("false")] {
                let [old, new] = [&good, &bad].map(|pod| workload(kind, field, pod.clone(), marker));
                for review in requests(group, resource, Entry::OwnKinds, (&old, &new)) {
                    let causes = decide(&review, &context(), gvisor).1.denial.map(|d| d.causes).unwrap_or_default();
                    assert!(!causes.iter().any(|c| names(&c.field, &format!("*{pattern}"))), "{access:?}: {causes:?}");
                }
            }
        }
    }
}

/// A running Pod with an access to its host, from before its namespace required isolation.
fn exposed() -> Value {
    let pod = json!({ "spec": {
        "hostPID": true,
        "containers": [{}],
        "tolerations": [{ "key": "a" }],
        "schedulingGates": [{ "name": "g" }],
    } });
    workload("Pod", "", pod, None)
}

#[test]
fn a_pod_that_is_not_isolated_gets_no_new_code() {
    let with = |at: &str, value: Value| {
        let mut pod = exposed();
        *pod.pointer_mut(at).unwrap_or_else(|| panic!("{at}")) = value;
        pod
    };
    let mut resized = exposed();
    resized["spec"]["containers"][0]["resources"] = json!({ "limits": { "cpu": "2" } });
    let mut debugged = exposed();
    debugged["spec"]["ephemeralContainers"] = json!([{ "name": "debug", "image": "busybox" }]);
    let mut labelled = exposed();
    labelled["metadata"]["labels"] = json!({ "app": "a" });
    let mut annotated = exposed();
    annotated["metadata"]["annotations"] = json!({ "example.com/a": "b" });
    let mut unconfined = exposed();
    let apparmor = "container.apparmor.security.beta.kubernetes.io/main";
    unconfined["metadata"]["annotations"] = json!({ apparmor: "unconfined" });
    let mut ended = exposed();
    ended["spec"]["activeDeadlineSeconds"] = 1.into();
    ended["spec"]["terminationGracePeriodSeconds"] = 1.into();
    let mut marked = exposed();
    marked["metadata"]["labels"] = json!({ MARKER: "true" });
    for (what, new, admitted) in [
        ("another image", with("/spec/containers/0/image", "image:2".into()), false),
        ("an ephemeral container", debugged, false),
        ("a resize", resized, false),
        ("its scheduling gate is removed", with("/spec/schedulingGates", json!([])), false),
        ("the marker", marked, false),
        ("an annotation that a runtime reads", unconfined, false),
        ("a label", labelled, true),
        ("an annotation", annotated, true),
        ("a deadline", ended, true),
        ("a toleration", with("/spec/tolerations", json!([{ "key": "a" }, { "key": "b" }])), true),
        ("nothing", exposed(), true),
    ] {
        let plain = review(Entry::IsolatedNamespaces, Verb::Update, ("", "pods"), new);
        let plain = Review { old_object: exposed(), phase: Phase::Validate, ..plain };
        let subresources = SUBRESOURCES.map(|name| Some(name.to_owned()));
        for subresource in [None].into_iter().chain(subresources) {
            for user in ["ada", OPERATOR] {
                let review = Review { subresource: subresource.clone(), username: user.to_owned(), ..plain.clone() };
                let denial = decide(&review, &context(), gvisor).1.denial;
                // The operator restores the CPU of a throttled pod. An admission policy limits it to the CPU.
                let restores = subresource.as_deref() == Some("resize") && user == OPERATOR && what == "a resize";
                let admitted = admitted || restores;
                assert_eq!(denial.is_none(), admitted, "{what}, {subresource:?}, {user}: {denial:?}");
                if let Some(denial) = denial {
                    assert_eq!(denial.why, Why::NotIsolated, "{what}");
                    assert!(denial.causes.iter().all(|cause| !cause.field.is_empty()), "{what}");
                }
            }
        }
    }
    // The same changes of an isolated Pod are admitted.
    let mut old = exposed();
    old["spec"]["hostPID"] = false.into();
    let mut new = old.clone();
    new["spec"]["containers"][0]["image"] = "image:2".into();
    let review = Review { old_object: old, ..review(Entry::IsolatedNamespaces, Verb::Update, ("", "pods"), new) };
    assert!(admit(review, &context(), gvisor).is_ok());
}

#[test]
fn a_marker_is_taken_from_no_pod_by_no_request_and_no_user() {
    let pod = |marker: Option<&str>| workload("Pod", "", json!({ "spec": {} }), marker);
    for marker in ["true", "yes"] {
        for left in [None, Some("false")] {
            let (old, new) = (pod(Some(marker)), pod(left));
            for review in requests("", "pods", Entry::MarkedPods, (&old, &new)).into_iter().skip(1) {
                for user in ["ada", OPERATOR] {
                    let mut terminating = [old.clone(), new.clone()];
                    for object in &mut terminating {
                        object["metadata"]["deletionTimestamp"] = "2026-11-23T11:59:00Z".into();
                    }
                    let [gone, still] = terminating;
                    for (old, new) in [(old.clone(), new.clone()), (gone, still)] {
                        let review =
                            Review { old_object: old, object: new, username: user.to_owned(), ..review.clone() };
                        let why = decide(&review, &context(), gvisor).1.denial.map(|d| d.why);
                        assert_eq!(why, Some(Why::Immutable), "{marker} to {left:?}, {user}");
                    }
                }
            }
        }
    }
}

#[test]
fn only_the_finalizers_of_a_terminating_object_can_be_changed_without_a_review() {
    let at = json!("2026-11-23T11:59:00Z");
    let bad = |terminating: bool, finalizers: Value, image: &str| {
        let mut pod = workload("Pod", "", json!({ "spec": { "hostPID": true, "containers": [{}] } }), Some("true"));
        pod["metadata"]["finalizers"] = finalizers;
        pod["metadata"]["managedFields"] = json!([{ "manager": image }]);
        pod["spec"]["containers"][0]["image"] = image.into();
        if terminating {
            pod["metadata"]["deletionTimestamp"] = at.clone();
        }
        pod
    };
    let held = json!(["example.com/a"]);
    for (what, verb, old, new, exempt) in [
        ("a finalizer is removed", Verb::Update, bad(true, held.clone(), "a"), bad(true, json!([]), "a"), true),
        ("the image changes too", Verb::Update, bad(true, held.clone(), "a"), bad(true, json!([]), "b"), false),
        ("only the new object says so", Verb::Update, bad(false, held.clone(), "a"), bad(true, json!([]), "b"), false),
        ("created with the field", Verb::Create, Value::Null, bad(true, held, "a"), false),
    ] {
        let review = review(Entry::MarkedPods, verb, ("", "pods"), new);
        for phase in [Phase::Mutate, Phase::Validate] {
            let review = Review { phase, old_object: old.clone(), ..review.clone() };
            assert_eq!(decide(&review, &context(), gvisor).1.allowed(), exempt, "{what}, {phase:?}");
        }
    }
}

#[test]
fn a_deletion_timestamp_in_a_create_keeps_no_plugin_from_being_asked() {
    let asks = binding("asks", Hook::Admission, 0, FailurePolicy::Fail);
    let context = Context { bindings: Arc::new(Bindings::new(vec![asks])), ..context() };
    let claim = json!({
        "kind": "SandboxClaim",
        "metadata": {
            "name": "x",
            "deletionTimestamp": "2030-01-01T00:00:00Z",
            "annotations": { "agents.x-k8s.io/sandbox-name": "any" },
        },
        "spec": { "warmPoolRef": { "name": "p" } },
    });
    let of = review(Entry::OwnKinds, Verb::Create, ("extensions.agents.x-k8s.io", "sandboxclaims"), claim);
    for phase in [Phase::Mutate, Phase::Validate] {
        let (asked, _) = decide(&Review { phase, ..of.clone() }, &context, |_| allow(None));
        assert_eq!(asked, ["asks/admission"], "{phase:?}");
    }
    let (_, mutated) = decide(&of, &context, |_| allow(None));
    let mut stored = of.object.clone();
    json_patch::patch(&mut stored, &mutated.patch).expect("our own patch applies");
    assert_eq!(stored.pointer("/metadata/annotations/agents.x-k8s.io~1sandbox-name"), None);
}

#[test]
fn a_later_marker_on_a_template_is_judged_with_its_other_fields() {
    for (group, resource, kind, field) in WORKLOADS.into_iter().filter(|(_, resource, ..)| *resource != "pods") {
        let pod = json!({ "spec": { "hostNetwork": true, "containers": [{}] } });
        let [old, new] = [None, Some("true")].map(|marker| workload(kind, field, pod.clone(), marker));
        let update = review(Entry::OwnKinds, Verb::Update, (group, resource), new.clone());
        let review = Review { old_object: old, phase: Phase::Validate, ..update.clone() };
        let denial = decide(&review, &context(), gvisor).1.denial.expect("denied");
        assert!(denial.message.contains("hostNetwork"), "{kind} {field}: {}", denial.message);
        // What was stored before is a warning in later updates, so that its labels can still be changed.
        let review = Review { old_object: new, phase: Phase::Validate, ..update };
        let verdict = decide(&review, &context(), gvisor).1;
        assert!(verdict.allowed() && verdict.warnings.iter().any(|w| w.contains("hostNetwork")), "{kind} {field}");
    }
}

#[test]
fn a_false_marker_never_wins_against_another_source() {
    for (own, of_pod) in [("false", "true"), ("true", "false")] {
        for (group, resource, kind, field) in WORKLOADS.into_iter().filter(|(_, resource, ..)| *resource != "pods") {
            let pod = json!({
                "metadata": { "labels": { MARKER: of_pod } },
                "spec": { "hostPID": true, "containers": [{}] },
            });
            let object = workload(kind, field, pod, Some(own));
            let review = review(Entry::OwnKinds, Verb::Create, (group, resource), object);
            let review = Review { phase: Phase::Validate, ..review };
            let denial = decide(&review, &context(), gvisor).1.denial.expect("denied");
            assert!(denial.message.contains("hostPID"), "{kind} {field} {own} {of_pod}: {}", denial.message);
            // A selector of a plugin that matches generated code matches the object too.
            let state = ReviewState::new(&review, &context(), &[]).labels();
            assert_eq!(state.get(MARKER).map(String::as_str), Some(own));
        }
    }
}

#[test]
fn a_sandbox_is_not_marked_while_its_pod_has_access_to_the_host() {
    let pod = json!({ "spec": { "containers": [{}] } });
    let [old, new] = [None, Some("true")].map(|marker| {
        let mut sandbox = workload("Sandbox", "podTemplate", pod.clone(), marker);
        sandbox["status"] = json!({ "replicas": 1, "runtimeClass": { "name": "gvisor" } });
        sandbox
    });
    let review = review(Entry::OwnKinds, Verb::Update, ("agents.x-k8s.io", "sandboxes"), new);
    let review = Review { old_object: old, phase: Phase::Validate, ..review };
    assert!(decide(&review, &context(), gvisor).1.allowed());
    // The template has been changed since the pod was made.
    let exposed = Context { exposed_by: Some(HostAccess::HostPath.as_str().to_owned()), ..context() };
    let denial = decide(&review, &exposed, gvisor).1.denial.expect("denied");
    assert_eq!(denial.why, Why::NotIsolated);
    assert!(denial.message.contains("hostPath"), "{}", denial.message);
}

#[test]
fn the_namespace_of_the_operator_never_requires_isolation() {
    let own = "agent-sandbox-system";
    let settings = crate::settings::Settings { own_namespace: Some(own.to_owned()), ..Default::default() };
    let context = Context { settings: Arc::new(settings), ..in_namespace(true) };
    let namespace = |name: &str, isolation: Option<&str>| {
        let labels = isolation.map(|value| json!({ "policy.paddock.dev/isolation": value }));
        json!({ "kind": "Namespace", "metadata": { "name": name, "labels": labels } })
    };
    for (what, name, old, new, admitted) in [
        ("required", own, None, Some("required"), false),
        ("a spelling mistake", own, Some("none"), Some("requried"), false),
        ("none", own, None, Some("none"), true),
        ("another label", own, None, None, true),
        ("labelled before", own, Some("required"), Some("required"), true),
        ("removed", own, Some("required"), None, true),
        ("another namespace", "team", None, Some("required"), true),
    ] {
        for verb in [Verb::Create, Verb::Update] {
            let review = Review {
                phase: Phase::Validate,
                namespace: name.to_owned(),
                old_object: namespace(name, old),
                ..review(Entry::OwnNamespace, verb, ("", "namespaces"), namespace(name, new))
            };
            let denial = decide(&review, &context, gvisor).1.denial;
            assert_eq!(denial.is_none(), admitted, "{what}: {denial:?}");
            if let Some(denial) = denial {
                assert!(denial.message.contains("the operator runs in the namespace"), "{}", denial.message);
            }
        }
    }
    // A label that is there already has no effect on the Pods of the namespace.
    let pod = workload("Pod", "", json!({ "spec": { "hostPID": true } }), None);
    let of = |namespace: &str| Review {
        namespace: namespace.to_owned(),
        phase: Phase::Validate,
        ..review(Entry::MarkedPods, Verb::Create, ("", "pods"), pod.clone())
    };
    assert!(decide(&of(own), &context, gvisor).1.allowed());
    assert!(!decide(&of("team"), &context, gvisor).1.allowed());
}
