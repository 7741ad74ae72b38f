//! Tests of reviews that lack a fact about the cluster.

use paddock_api::names::label;

use super::*;
use crate::binding::{Operator, Requirement, Selector};

const SANDBOXES: (&str, &str) = ("agents.x-k8s.io", "sandboxes");
const PODS: (&str, &str) = ("", "pods");

fn sandbox() -> Value {
    json!({
        "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox",
        "metadata": { "name": "a", "namespace": "agents" },
        "spec": { "podTemplate": { "spec": { "containers": [{ "name": "c", "image": "i" }] } } },
    })
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "a", "labels": {} },
        "spec": { "containers": [{ "name": "c", "image": "i" }] },
    })
}

/// A policy for the namespaces of one team. Its plugin denies.
fn selective(hook: Hook) -> Binding {
    let team = Selector { match_labels: [("team".to_owned(), "red".to_owned())].into(), ..Selector::default() };
    Binding { namespaces: team, ..binding("selective", hook, 0, FailurePolicy::Fail) }
}

/// A policy for all namespaces but some, or for these alone, by their names. Its plugin denies.
fn by_name(operator: Operator, names: &[&str]) -> Binding {
    let values = names.iter().map(|&name| name.to_owned()).collect();
    let named = Requirement { key: label::NAMESPACE_NAME.to_owned(), operator, values };
    let namespaces = Selector { match_expressions: vec![named], ..Selector::default() };
    Binding { namespaces, ..binding("selective", Hook::Admission, 0, FailurePolicy::Fail) }
}

/// The label of a namespace with its name, which is known without the namespace.
fn name_of(namespace: &str) -> BTreeMap<String, String> {
    [(label::NAMESPACE_NAME.to_owned(), namespace.to_owned())].into()
}

/// The reason of the denial in a namespace that is not known, with this binding.
fn denied(review: &Review, bound: Binding) -> Option<Why> {
    let bindings: Vec<Binding> = context().bindings.iter().cloned().chain([bound]).collect();
    let bindings = Arc::new(Bindings::new(bindings));
    let namespace_labels = name_of(&review.namespace);
    let context = Context { missing: Some(Missing::Namespace), bindings, namespace_labels, ..context() };
    let (_, verdict) = decide(review, &context, gvisor);
    let why = verdict.denial.map(|denial| denial.why);
    assert_eq!(awaits_a_fact(review, &context), why == Some(Why::NotSeen));
    let known = Context { missing: None, ..context };
    assert!(
        !awaits_a_fact(review, &known) && decide(review, &known, gvisor).1.allowed(),
        "with labels that do not match"
    );
    why
}

#[test]
fn review_in_an_unknown_namespace_is_denied_if_a_policy_needs_its_labels() {
    let sandboxes = review(Entry::OwnKinds, Verb::Create, SANDBOXES, sandbox());
    assert_eq!(denied(&sandboxes, selective(Hook::Admission)), Some(Why::NotSeen));
    let pods = review(Entry::IsolatedNamespaces, Verb::Create, PODS, pod());
    for hook in [Hook::Admission, Hook::RuntimeClass] {
        assert_eq!(denied(&pods, selective(hook)), Some(Why::NotSeen), "{hook:?}");
    }
    let context = Context {
        missing: Some(Missing::Namespace),
        bindings: Arc::new(Bindings::new(vec![selective(Hook::Admission)])),
        ..context()
    };
    let denial = verdict(&sandboxes, &context, &[]).denial.expect("denied");
    assert_eq!(denial.why.code(), 503);
    assert!(denial.message.ends_with("whether selective/admission applies; try again"), "{}", denial.message);
    let outdated = Context { missing: Some(Missing::FreshLabels), ..context };
    assert_eq!(verdict(&sandboxes, &outdated, &[]).denial.map(|denial| denial.why), Some(Why::NotSeen));
    assert!(!awaits_a_fact(&sandboxes, &outdated), "no watch delivers them in a moment");
}

#[test]
fn review_that_needs_no_labels_goes_on_without_them() {
    let sandboxes = review(Entry::OwnKinds, Verb::Create, SANDBOXES, sandbox());
    let optional = Binding { failure_policy: FailurePolicy::Ignore, ..selective(Hook::Admission) };
    let shadow = Binding { mode: Mode::Shadow, ..selective(Hook::Admission) };
    let of_pods = Binding { kinds: vec!["Pod".to_owned()], ..selective(Hook::Admission) };
    for binding in [optional, shadow, of_pods, selective(Hook::Idle), selective(Hook::RuntimeClass)] {
        assert_eq!(denied(&sandboxes, binding.clone()), None, "{binding:?}");
    }
    let owned = review(Entry::OwnedSandboxes, Verb::Create, SANDBOXES, sandbox());
    assert_eq!(denied(&owned, selective(Hook::Admission)), None, "plugins are asked by another entry");
    let ours = Review { username: OPERATOR.to_owned(), ..sandboxes.clone() };
    assert_eq!(denied(&ours, selective(Hook::Admission)), None, "our own writes are exempt");
    let deleted = Review { operation: Verb::Delete, ..sandboxes };
    assert_eq!(denied(&deleted, selective(Hook::Admission)), None, "a delete is exempt");
}

#[test]
fn policy_that_names_other_namespaces_does_not_deny_in_an_unknown_one() {
    let sandboxes = review(Entry::OwnKinds, Verb::Create, SANDBOXES, sandbox());
    let other = Selector { match_labels: name_of("other"), ..Selector::default() };
    let other = Binding { namespaces: other, ..selective(Hook::Admission) };
    for binding in [other, by_name(Operator::In, &["other", "third"]), by_name(Operator::NotIn, &["agents"])] {
        assert_eq!(denied(&sandboxes, binding.clone()), None, "{binding:?}");
    }
    for binding in [by_name(Operator::In, &["agents"]), by_name(Operator::NotIn, &["other"])] {
        for missing in [Missing::Namespace, Missing::FreshLabels] {
            let bindings = Arc::new(Bindings::new(vec![binding.clone()]));
            let namespace_labels = name_of("agents");
            let context = Context { missing: Some(missing), bindings, namespace_labels, ..context() };
            let denial = verdict(&sandboxes, &context, &[]).denial;
            assert_eq!(denial.map(|denial| denial.why), Some(Why::NotSeen), "its plugin gets the labels: {binding:?}");
        }
    }
}

#[test]
fn connection_to_an_unknown_pod_is_denied() {
    let object = json!({ "kind": "PodExecOptions" });
    let exec = Review {
        subresource: Some("exec".to_owned()),
        name: "warm".to_owned(),
        ..review(Entry::Connect, Verb::Connect, PODS, object)
    };
    let context = Context { missing: Some(Missing::Connected), ..context() };
    let denial = verdict(&exec, &context, &[]).denial.expect("denied");
    assert_eq!((denial.why, awaits_a_fact(&exec, &context)), (Why::NotSeen, true));
    assert!(denial.message.contains("has not seen pods warm yet"), "{}", denial.message);
    let system = Review { namespace: "kube-system".to_owned(), ..exec };
    assert!(verdict(&system, &context, &[]).allowed());
}
