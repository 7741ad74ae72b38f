//! Tests of Pods that are marked as running generated code or are in namespaces that require isolation.

use super::*;

fn pod(marker: Option<&str>, class: Option<&str>) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "a", "labels": { "app": "x" } },
        "spec": { "containers": [{ "name": "c", "image": "i" }] },
    });
    if let Some(marker) = marker {
        pod["metadata"]["labels"]["policy.paddock.dev/generated-code"] = marker.into();
    }
    if let Some(class) = class {
        pod["spec"]["runtimeClassName"] = class.into();
    }
    pod
}

fn refuses(_: &PluginRequest) -> Result<Answer, Failure> {
    let reason = "no node is ready".to_owned();
    Ok(Answer::RuntimeClass(RuntimeClassAnswer { choice: ClassChoice::Refuse, reason }))
}

fn default_runtime(_: &PluginRequest) -> Result<Answer, Failure> {
    let reason = "fast".to_owned();
    Ok(Answer::RuntimeClass(RuntimeClassAnswer { choice: ClassChoice::Default, reason }))
}

#[test]
fn a_new_pod_of_generated_code_is_isolated_or_denied() {
    let namespace = Entry::IsolatedNamespaces;
    /// A case: its name, the entry, the Pod, the answers of plugins, and the class that the Pod gets or a part of the
    /// denial.
    type Case = (&'static str, Entry, Value, Plugin, Result<&'static str, &'static str>);
    let cases: [Case; 15] = [
        ("marked, no class", Entry::MarkedPods, pod(Some("true"), None), gvisor, Ok("gvisor")),
        ("marked, empty class", Entry::MarkedPods, pod(Some("true"), Some("")), gvisor, Ok("gvisor")),
        ("marked, isolated", Entry::MarkedPods, pod(Some("true"), Some("gvisor")), refuses, Ok("gvisor")),
        (
            "marked, host",
            Entry::MarkedPods,
            pod(Some("true"), Some("runc")),
            gvisor,
            Err("to one that isolates: gvisor"),
        ),
        (
            "marked, unknown",
            Entry::MarkedPods,
            pod(Some("true"), Some("kata")),
            gvisor,
            Err("no RuntimeClass \"kata\""),
        ),
        ("namespace, no class", namespace, pod(None, None), gvisor, Ok("gvisor")),
        ("namespace, host", namespace, pod(None, Some("runc")), gvisor, Err("this namespace requires isolation")),
        ("namespace, said not to be", namespace, pod(Some("false"), Some("runc")), gvisor, Err("requires isolation")),
        ("unclear marker", Entry::MarkedPods, pod(Some("yes"), Some("gvisor")), gvisor, Err("\"true\" or \"false\"")),
        ("unmarked", Entry::MarkedPods, pod(Some("false"), Some("runc")), gvisor, Ok("runc")),
        ("the plugin refuses", Entry::MarkedPods, pod(Some("true"), None), refuses, Err("no node is ready")),
        (
            "the plugin says default",
            Entry::MarkedPods,
            pod(Some("true"), None),
            default_runtime,
            Err("default runtime"),
        ),
        (
            "a class of the host",
            Entry::MarkedPods,
            pod(Some("true"), None),
            |_| choose("runc"),
            Err("does not isolate"),
        ),
        ("a class not there", Entry::MarkedPods, pod(Some("true"), None), |_| choose("kata"), Err("there is no")),
        ("the plugin traps", Entry::MarkedPods, pod(Some("true"), None), |_| broken(FailureKind::Trap), Err("trap")),
    ];
    for (what, entry, pod, plugin, expected) in cases {
        let outcome = admit(review(entry, Verb::Create, ("", "pods"), pod), &context(), plugin);
        match (outcome, expected) {
            (Ok(pod), Ok(class)) => assert_eq!(pod["spec"]["runtimeClassName"], class, "{what}"),
            (Err(denial), Err(part)) => assert!(denial.message.contains(part), "{what}: {}", denial.message),
            (outcome, expected) => panic!("{what}: {outcome:?}, expected {expected:?}"),
        }
    }
}

#[test]
fn a_namespace_that_requires_isolation_does_so_through_any_entry() {
    let labels = BTreeMap::from([("policy.paddock.dev/isolation".to_owned(), "required".to_owned())]);
    let context = Context { namespace_labels: labels, ..context() };
    let review = review(Entry::MarkedPods, Verb::Create, ("", "pods"), pod(Some("false"), Some("runc")));
    assert_eq!(admit(review, &context, gvisor).map_err(|d| d.why), Err(Why::NotIsolated));
}

#[test]
fn a_cluster_without_isolating_classes_says_what_to_install() {
    let context = Context { classes: Arc::new(vec![class("runc", false)]), ..context() };
    let review = review(Entry::MarkedPods, Verb::Create, ("", "pods"), pod(Some("true"), None));
    let denial = admit(review, &context, refuses).expect_err("nothing isolates");
    assert!(denial.message.contains("install one"), "{}", denial.message);
    assert_eq!(denial.causes[0].field, "spec.runtimeClassName");
}

#[test]
fn nobody_bound_means_denied_unless_a_class_is_named() {
    let context = Context { bindings: Arc::default(), ..context() };
    for (class, admitted) in [(None, false), (Some("gvisor"), true)] {
        let review = review(Entry::MarkedPods, Verb::Create, ("", "pods"), pod(Some("true"), class));
        assert_eq!(admit(review, &context, gvisor).is_ok(), admitted, "{class:?}");
    }
}

#[test]
fn the_marker_is_added_to_isolated_pods_only_and_never_taken_away() {
    let cases = [
        ("added, isolated", pod(None, Some("gvisor")), pod(Some("true"), Some("gvisor")), None),
        ("added, host", pod(None, Some("runc")), pod(Some("true"), Some("runc")), Some(Why::NotIsolated)),
        ("added, no class", pod(None, None), pod(Some("true"), None), Some(Why::NotIsolated)),
        ("made clear, host", pod(Some("yes"), None), pod(Some("true"), None), Some(Why::NotIsolated)),
        ("removed", pod(Some("true"), Some("gvisor")), pod(None, Some("gvisor")), Some(Why::Immutable)),
        ("denied later", pod(Some("true"), Some("gvisor")), pod(Some("false"), Some("gvisor")), Some(Why::Immutable)),
        ("made unclear", pod(None, Some("gvisor")), pod(Some("yes"), Some("gvisor")), Some(Why::Invalid)),
        ("unclear since before", pod(Some("yes"), None), pod(Some("yes"), None), None),
        ("its class went since", pod(Some("true"), Some("kata")), pod(Some("true"), Some("kata")), None),
    ];
    for (what, old, new, expected) in cases {
        let review = Review { old_object: old, ..review(Entry::MarkedPods, Verb::Update, ("", "pods"), new) };
        let denial = admit(review, &context(), gvisor).err();
        assert_eq!(denial.as_ref().map(|d| d.why), expected, "{what}");
        if let Some(denial) = denial.filter(|d| d.why == Why::NotIsolated) {
            // The class of a Pod cannot be set any more, so the message must not advise that.
            assert!(denial.message.contains("create it again with the label"), "{what}: {}", denial.message);
            assert!(!denial.message.contains("set runtimeClassName"), "{what}: {}", denial.message);
        }
    }
}

#[test]
fn updates_of_pods_in_an_isolated_namespace_stay_possible() {
    let old = pod(None, Some("runc"));
    let review =
        Review { old_object: old.clone(), ..review(Entry::IsolatedNamespaces, Verb::Update, ("", "pods"), old) };
    assert!(admit(review, &context(), gvisor).is_ok(), "it ran before the namespace was labelled");
}
