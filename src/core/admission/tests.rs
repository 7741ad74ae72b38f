//! Tests of reviews as tables: a request, the answers of plugins, and the expected verdict.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use paddock_api::kind::{Key, Kind};
use serde_json::{Value, json};

use super::*;
use crate::binding::{Binding, Bindings, FailurePolicy, Mode};
use crate::object::TextMap;
use crate::question::{
    AdmissionAnswer, Answer, ClassChoice, Failure, FailureKind, Hook, PluginRef, Question, RuntimeClassAnswer,
    RuntimeClassFact, Verdict,
};

mod awake;
mod fuzz;
mod isolation;
mod kinds;
mod missing;
mod modes;
mod plugins;
mod pods;
mod updates;
mod warnings;

/// The user of the operator.
const OPERATOR: &str = "system:serviceaccount:agent-sandbox-system:agent-sandbox-controller";

/// The answer of a plugin in a test.
type Plugin = fn(&PluginRequest) -> Result<Answer, Failure>;

fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().expect("a time")
}

fn review(entry: Entry, operation: Verb, resource: (&str, &str), object: Value) -> Review {
    Review {
        phase: Phase::Mutate,
        entry,
        operation,
        group: resource.0.to_owned(),
        version: "v1".to_owned(),
        kind: object["kind"].as_str().unwrap_or_default().to_owned(),
        resource: resource.1.to_owned(),
        subresource: None,
        namespace: "agents".to_owned(),
        name: object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned(),
        object,
        old_object: Value::Null,
        write: Write::default(),
        dry_run: false,
        username: "ada".to_owned(),
        groups: vec!["system:authenticated".to_owned()],
        now: now(),
    }
}

fn class(name: &str, isolated: bool) -> RuntimeClassFact {
    RuntimeClassFact { name: name.to_owned(), handler: name.to_owned(), isolated, nodes: 1 }
}

fn binding(name: &str, hook: Hook, order: i32, failure_policy: FailurePolicy) -> Binding {
    let plugin = PluginRef { name: name.to_owned(), digest: format!("sha256:{name}") };
    let built_in = order == Binding::BUILT_IN_ORDER;
    Binding { order, failure_policy, built_in, ..Binding::new(plugin, hook) }
}

/// The context of a cluster with gVisor and runc, and with the built-in that chooses gVisor.
fn context() -> Context {
    let by_label = binding("by-label", Hook::RuntimeClass, Binding::BUILT_IN_ORDER, FailurePolicy::Fail);
    Context {
        classes: Arc::new(vec![class("gvisor", true), class("runc", false)]),
        bindings: Arc::new(Bindings::new(vec![by_label])),
        operator_user: Some(OPERATOR.into()),
        ..Context::default()
    }
}

fn choose(class: &str) -> Result<Answer, Failure> {
    let choice = ClassChoice::Class(class.to_owned());
    Ok(Answer::RuntimeClass(RuntimeClassAnswer { choice, reason: "because".to_owned() }))
}

fn allow(patch: Option<Value>) -> Result<Answer, Failure> {
    let patch = patch.map(|p| p.to_string());
    Ok(Answer::Admission(AdmissionAnswer { verdict: Verdict::Allow, warnings: Vec::new(), patch }))
}

fn broken(kind: FailureKind) -> Result<Answer, Failure> {
    Err(Failure { kind, message: "broken".to_owned() })
}

fn gvisor(_: &PluginRequest) -> Result<Answer, Failure> {
    choose("gvisor")
}

/// Asks plugins until no request is left. Returns the bindings that were asked, and the verdict.
fn decide(review: &Review, context: &Context, plugin: Plugin) -> (Vec<String>, ReviewVerdict) {
    let mut replies = Vec::new();
    // The limit is larger than the number of bindings in any test.
    for _ in 0..10 {
        let requests = questions(review, context, &replies);
        if requests.is_empty() {
            let asked = replies.iter().map(|a: &PluginReply| a.request.binding.clone()).collect();
            return (asked, verdict(review, context, &replies));
        }
        replies.extend(requests.into_iter().map(|request| PluginReply { result: plugin(&request), request }));
    }
    panic!("the questions do not end");
}

/// Mutates an object and then validates the result, as the API server does.
fn admit(mut review: Review, context: &Context, plugin: Plugin) -> Result<Value, Denial> {
    let (_, first) = decide(&review, context, plugin);
    if let Some(denial) = first.denial {
        return Err(denial);
    }
    json_patch::patch(&mut review.object, &first.patch).expect("our own patch applies");
    let (_, again) = decide(&review, context, plugin);
    assert!(again.patch.is_empty(), "mutating twice is mutating once: {:?}", again.patch);
    review.phase = Phase::Validate;
    let (_, second) = decide(&review, context, plugin);
    assert!(second.patch.is_empty(), "validating changes nothing");
    second.denial.map_or(Ok(review.object), Err)
}

#[test]
fn kube_system_is_exempt_and_so_is_what_the_operator_mutates() {
    let marked = json!({
        "kind": "Pod",
        "metadata": { "name": "a", "labels": { "policy.paddock.dev/generated-code": "true" } },
        "spec": { "runtimeClassName": "runc" },
    });
    let plain = review(Entry::MarkedPods, Verb::Create, ("", "pods"), marked);
    assert!(admit(plain.clone(), &context(), gvisor).is_err(), "not exempt");
    let system = Review { namespace: "kube-system".to_owned(), ..plain.clone() };
    assert!(admit(system, &context(), gvisor).is_ok());
    let (asked, mutated) = decide(&Review { username: OPERATOR.to_owned(), ..plain.clone() }, &context(), gvisor);
    assert!(asked.is_empty() && mutated.allowed() && mutated.patch.is_empty());
    // The validation of Pods is the check after all other webhooks, so it includes the operator.
    let validated = Review { username: OPERATOR.to_owned(), phase: Phase::Validate, ..plain };
    assert_eq!(decide(&validated, &context(), gvisor).1.denial.map(|d| d.why), Some(Why::NotIsolated));
}

#[test]
fn activity_is_noted_when_it_moves_by_a_tenth_of_the_idle_timeout_and_five_seconds() {
    let connect = Review {
        subresource: Some("exec".to_owned()),
        ..review(Entry::Connect, Verb::Connect, ("", "pods"), json!({ "kind": "PodExecOptions" }))
    };
    let noted = |ago: i64, timeout: u64| {
        let at = now() - jiff::SignedDuration::from_secs(ago);
        let until = at + jiff::SignedDuration::from_secs(3600);
        Context {
            sandbox: Some(ConnectedSandbox {
                key: Key::new(Kind::Sandbox, "agents", "a"),
                uid: "u".into(),
                resource_version: "7".into(),
                in_pool: false,
                untouched_in_pool: false,
                idle_timeout: Some(Duration::from_secs(timeout)),
                throttled: None,
                annotations: TextMap::from(BTreeMap::from([
                    ("policy.paddock.dev/last-activity".to_owned(), at.to_string()),
                    ("policy.paddock.dev/held-until".to_owned(), until.to_string()),
                ])),
            }),
            ..context()
        }
    };
    for (what, ago, timeout, written) in [
        ("a tenth of half an hour ago", 180, 1800, true),
        ("a little less", 179, 1800, false),
        ("a tenth of ten seconds is less than five", 4, 10, false),
        ("five seconds", 5, 10, true),
        ("a clock that was a little ahead", -4, 10, false),
        ("a clock that was an hour ahead", -3600, 1800, true),
        ("a clock that was 91 days ahead", -91 * 86_400, 1800, true),
    ] {
        assert_eq!(activity(&connect, &noted(ago, timeout)).is_some(), written, "{what}");
    }

    let mut throttled = noted(60, 1800);
    assert_eq!(activity(&connect, &throttled), None, "a minute ago");
    throttled.sandbox.as_mut().expect("a sandbox").throttled = Some(now());
    assert!(activity(&connect, &throttled).is_some(), "a minute ago, and throttled");

    let mut idle = noted(60, 1800);
    let annotations = &mut idle.sandbox.as_mut().expect("a sandbox").annotations;
    let mut with_wish = annotations.to_map();
    with_wish.insert("policy.paddock.dev/idle-since".to_owned(), "2026-11-23T11:59:30Z".to_owned());
    *annotations = TextMap::from(with_wish);
    assert!(activity(&connect, &idle).is_some(), "a minute ago, and said to be idle since");

    let mut first = noted(0, 1800);
    let sandbox = first.sandbox.as_mut().expect("a sandbox");
    sandbox.annotations = TextMap::default();
    let written = activity(&connect, &first).expect("never noted before");
    assert_eq!(written.annotations["policy.paddock.dev/last-activity"], "2026-11-23T12:00:00.000Z");
    assert_eq!(written.annotations["policy.paddock.dev/held-until"], "2026-11-23T13:00:00.000Z");
    for (resource, subresource) in CONNECTIONS {
        let (resource, subresource) = (resource.to_owned(), Some(subresource.to_owned()));
        let review = Review { resource, subresource, ..connect.clone() };
        assert!(activity(&review, &first).is_some(), "{review:?}");
    }

    let without_timeout =
        Context { sandbox: first.sandbox.clone().map(|s| ConnectedSandbox { idle_timeout: None, ..s }), ..context() };
    for (what, review, context) in [
        ("a dry run", Review { dry_run: true, ..connect.clone() }, &first),
        ("an unknown connection to a Service", Review { resource: "services".to_owned(), ..connect.clone() }, &first),
        ("logs", Review { subresource: Some("log".to_owned()), ..connect.clone() }, &first),
        ("a pod of nobody's", connect.clone(), &super::tests::context()),
        ("no idle timeout", connect.clone(), &without_timeout),
    ] {
        assert_eq!(activity(&review, context), None, "{what}");
        assert!(verdict(&review, context, &[]).allowed(), "{what}: never in the way");
    }
}

#[test]
fn a_connection_to_a_warm_pod_is_recorded_once_and_is_no_activity() {
    let connect = Review {
        subresource: Some("exec".to_owned()),
        ..review(Entry::Connect, Verb::Connect, ("", "pods"), json!({ "kind": "PodExecOptions" }))
    };
    let to = |in_pool: bool, untouched_in_pool: bool| Context {
        sandbox: Some(ConnectedSandbox {
            key: Key::new(Kind::Sandbox, "agents", "a"),
            uid: "u".into(),
            resource_version: "7".into(),
            in_pool,
            untouched_in_pool,
            idle_timeout: Some(Duration::from_secs(60)),
            throttled: None,
            annotations: TextMap::default(),
        }),
        ..context()
    };
    let touched = touch(&connect, &to(true, true)).expect("a record");
    assert_eq!(touched.patch, crate::as_made::record("ada used exec"));
    assert_eq!((&*touched.uid, &*touched.resource_version), ("u", "7"));
    for subresource in ["attach", "portforward"] {
        let review = Review { subresource: Some(subresource.to_owned()), ..connect.clone() };
        assert!(touch(&review, &to(true, true)).is_some(), "{subresource}");
    }
    assert_eq!(activity(&connect, &to(true, true)), None);
    assert_eq!(touch(&connect, &to(true, false)), None, "it was touched before");
    assert_eq!(touch(&connect, &to(false, false)), None, "it is the Sandbox of a claim");
    assert_eq!(touch(&Review { dry_run: true, ..connect.clone() }, &to(true, true)), None);
    assert_eq!(touch(&connect, &context()), None, "nobody's pod");
}
