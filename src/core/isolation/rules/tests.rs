//! Rules as tables: policies, the labels of a namespace, and what generated code may have there.

use std::collections::BTreeMap;

use paddock_api::kind::Kind;
use serde_json::{Value, json};

use super::*;
use crate::isolation::{ClassRule, HostAccess, Isolation, PodFields};
use crate::object::Object;
use crate::question::RuntimeClassFact;
use crate::settings::Settings;

fn rule(policy: &str, spec: Value) -> IsolationRule {
    let spec: SandboxPolicySpec = serde_json::from_value(spec).expect("a spec");
    IsolationRule::of(policy, &spec).expect("a selector").expect("rules")
}

fn classes() -> Vec<RuntimeClassFact> {
    let class =
        |name: &str, isolated| RuntimeClassFact { name: name.to_owned(), handler: name.to_owned(), isolated, nodes: 1 };
    vec![class("gvisor", true), class("kata", true), class("runc", false)]
}

/// The policy `few`, which permits these RuntimeClasses in all namespaces.
fn few(permitted: &[&str]) -> Vec<IsolationRule> {
    vec![rule("few", json!({ "isolation": { "runtimeClasses": permitted } }))]
}

fn everywhere<'a>(classes: &'a [RuntimeClassFact], rules: &'a [IsolationRule]) -> Isolation<'a> {
    let labels = BTreeMap::<String, String>::new();
    Isolation::new(classes, &Settings::default()).in_namespace(rules, &NamespaceLabels::Known(&labels))
}

/// What is allowed adds up, and a RuntimeClass must be permitted by every policy that names some.
#[test]
fn policies_that_select_a_namespace_add_fields_and_limit_classes() {
    let rules = [
        rule(
            "red",
            json!({ "namespaceSelector": { "matchLabels": { "team": "red" } }, "isolation": { "allow": ["hostPath"] } }),
        ),
        rule(
            "teams",
            json!({
                "namespaceSelector": { "matchExpressions": [{ "key": "team", "operator": "Exists" }] },
                "isolation": { "allow": ["hostPort"], "runtimeClasses": ["gvisor", "kata"] },
            }),
        ),
        rule(
            "lab",
            json!({
                "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "lab" } },
                "isolation": { "allow": ["hostIPC"], "runtimeClasses": ["kata", "later"] },
            }),
        ),
        rule("all", json!({ "isolation": { "allow": ["procMount"] } })),
    ];
    let settings = Settings { isolation_allow: [HostAccess::Sysctls].into_iter().collect(), ..Settings::default() };
    let classes = classes();
    let (name, team) = ("kubernetes.io/metadata.name", "team");
    let all = &["gvisor", "kata", "runc"][..];
    for (labels, known, allowed, offered) in [
        (&[(name, "x"), (team, "red")][..], true, &["hostPath", "hostPort"][..], &["gvisor", "kata"][..]),
        (&[(name, "x"), (team, "blue")], true, &["hostPort"], &["gvisor", "kata"]),
        (&[(name, "lab")], true, &["hostIPC"], &["kata"]),
        (&[(name, "lab"), (team, "red")], true, &["hostPath", "hostIPC", "hostPort"], &["kata"]),
        (&[(name, "x")], true, &[], all),
        (&[], true, &[], all),
        // A label that may be out of date allows nothing, and a policy that may apply limits. Names do not change.
        (&[(name, "lab"), (team, "red")], false, &["hostIPC"], &["kata"]),
        (&[(name, "x"), (team, "red")], false, &[], &["gvisor", "kata"]),
        (&[(name, "x")], false, &[], &["gvisor", "kata"]),
        (&[], false, &[], &["kata"]),
    ] {
        let what = format!("{labels:?}, known: {known}");
        let labels: BTreeMap<&str, &str> = labels.iter().copied().collect();
        let labels = if known { NamespaceLabels::Known(&labels) } else { NamespaceLabels::Uncertain(&labels) };
        let isolation = Isolation::new(&classes, &settings).in_namespace(&rules, &labels);
        let names: Vec<&str> = isolation.allowed.iter().map(HostAccess::as_str).collect();
        // The flag and the policy for all namespaces allow these everywhere.
        let expected: Vec<&str> = allowed.iter().copied().chain(["procMount", "sysctls"]).collect();
        assert_eq!(names, expected, "{what}");
        let names: Vec<String> = isolation.offered().into_iter().map(|class| class.name).collect();
        assert_eq!(names, offered, "{what}");
    }
}

#[test]
fn class_that_the_namespace_may_not_use_is_an_error_of_pods_and_of_templates() {
    let (classes, rules) = (classes(), few(&["gvisor", "runc"]));
    let isolation = everywhere(&classes, &rules);
    for (class, required, known) in [
        (Value::Null, "names no RuntimeClass", ""),
        ("gvisor".into(), "", ""),
        ("kata".into(), "this namespace may not use", "this namespace may not use"),
        ("later".into(), "there is no RuntimeClass", "this namespace may not use"),
        ("runc".into(), "on the host's kernel", "on the host's kernel"),
    ] {
        let pod = json!({ "spec": { "runtimeClassName": class } });
        for (rule, expected) in [(ClassRule::Required, required), (ClassRule::IfKnown, known)] {
            let errors = isolation.judge(&PodFields::of_pod(&pod), rule, "do this");
            let messages: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
            match messages.as_slice() {
                [] => assert_eq!(expected, "", "{pod} {rule:?}"),
                [message] => assert!(!expected.is_empty() && message.contains(expected), "{pod} {rule:?}: {message}"),
                _ => panic!("{pod}: {messages:?}"),
            }
        }
    }
    let message = isolation.forbidden("kata").expect("a problem");
    assert_eq!(message, "this namespace may not use RuntimeClass \"kata\", as SandboxPolicy few says");
    let to_set = |permitted: &[&str]| everywhere(&classes, &few(permitted)).what_to_set();
    assert_eq!(to_set(&["kata"]), "set runtimeClassName to one that isolates: kata");
    assert!(to_set(&["runc"]).contains("may use no RuntimeClass that isolates"), "{}", to_set(&["runc"]));
    assert!(to_set(&["runc"]).ends_with("(few)"), "{}", to_set(&["runc"]));
}

/// The old version had the RuntimeClass when no policy limited it.
#[test]
fn change_of_a_pod_keeps_a_class_that_a_policy_forbids_later() {
    let (classes, rules) = (classes(), few(&["gvisor"]));
    let isolation = everywhere(&classes, &rules);
    let pod = |spec: Value| json!({ "spec": spec });
    let [old, new, worse] = [
        pod(json!({ "runtimeClassName": "kata" })),
        pod(json!({ "runtimeClassName": "kata", "activeDeadlineSeconds": 1 })),
        pod(json!({ "runtimeClassName": "kata", "hostPID": true })),
    ];
    let judge = |new: &Value| {
        isolation.judge_change(&PodFields::of_pod(&old), &PodFields::of_pod(new), ClassRule::Required, "").len()
    };
    assert_eq!((judge(&new), judge(&worse)), (0, 1));
}

#[test]
fn running_pod_is_exposed_by_a_class_that_its_namespace_may_not_use() {
    let (classes, rules) = (classes(), few(&["gvisor"]));
    let forbidden = "RuntimeClass kata, which its namespace may not use";
    for (class, host_pid, expected) in [
        ("gvisor", false, None),
        ("kata", false, Some(forbidden.to_owned())),
        ("kata", true, Some(format!("hostPID, which does not isolate, and with {forbidden}"))),
        ("runc", true, Some("RuntimeClass runc, hostPID, which does not isolate".to_owned())),
    ] {
        let owner = json!({
            "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "name": "a", "uid": "1", "controller": true,
        });
        let document = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "a", "ownerReferences": [owner] },
            "spec": { "runtimeClassName": class, "hostPID": host_pid, "containers": [] },
        });
        let object = Object::from_json(Kind::Pod, document).expect("a Pod");
        assert_eq!(everywhere(&classes, &rules).broken_by(object.pod().expect("a Pod")), expected, "{class}");
    }
}

#[test]
fn policy_without_rules_has_none_and_a_selector_that_is_none_is_an_error() {
    let of = |spec: Value| IsolationRule::of("p", &serde_json::from_value(spec).expect("a spec"));
    assert_eq!(of(json!({ "plugin": "p", "hook": "idle" })), Ok(None));
    let selector = json!({ "matchExpressions": [{ "key": "team", "operator": "Is", "values": ["red"] }] });
    let error = of(json!({ "namespaceSelector": selector, "isolation": { "allow": ["hostPath"] } }));
    assert!(error.is_err_and(|error| error.starts_with("spec.namespaceSelector: ")));
}
