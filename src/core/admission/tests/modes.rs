//! Tests of bindings that do not act: they are asked, and their answers decide nothing.

use super::*;
use crate::question::{PoolSizeAnswer, PoolSizeQuestion};

fn sandbox() -> Value {
    json!({
        "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox",
        "metadata": { "name": "a", "namespace": "agents" },
        "spec": { "podTemplate": { "spec": { "containers": [{ "name": "c", "image": "i" }] } } },
    })
}

/// The plugin `noted` denies, `patching` changes the object, `broken` fails, and all others allow.
fn answers(request: &PluginRequest) -> Result<Answer, Failure> {
    let answer = |verdict, patch: Option<Value>| {
        let patch = patch.map(|patch| patch.to_string());
        Ok(Answer::Admission(AdmissionAnswer { verdict, warnings: vec!["a hint".to_owned()], patch }))
    };
    match request.plugin.name.as_str() {
        "noted" => answer(Verdict::Deny("pin the image".to_owned()), None),
        "patching" => {
            answer(Verdict::Allow, Some(json!([{ "op": "add", "path": "/metadata/labels", "value": { "a": "b" } }])))
        }
        "broken" => broken(FailureKind::Trap),
        _ => allow(None),
    }
}

fn bound(plugin: &str, mode: Mode) -> Context {
    let first = Binding { mode, ..binding(plugin, Hook::Admission, 0, FailurePolicy::Fail) };
    let bindings = vec![first, binding("built-in", Hook::Admission, Binding::BUILT_IN_ORDER, FailurePolicy::Fail)];
    Context { bindings: Arc::new(Bindings::new(bindings)), ..context() }
}

#[test]
fn denial_of_a_binding_that_does_not_act_is_a_warning_or_in_the_audit_log() {
    let review = review(Entry::OwnKinds, Verb::Create, ("agents.x-k8s.io", "sandboxes"), sandbox());
    for (mode, warned, audited) in [(Mode::Warn, true, false), (Mode::Audit, false, true), (Mode::Shadow, false, false)]
    {
        let (asked, outcome) = decide(&review, &bound("noted", mode), answers);
        assert_eq!(asked, ["noted/admission", "built-in/admission"], "{mode:?}");
        assert!(outcome.allowed() && outcome.plugin_failures.is_empty(), "{mode:?}");
        let text = "noted/admission would deny this: plugin noted: pin the image";
        assert_eq!(outcome.warnings.iter().any(|warning| warning == text), warned, "{mode:?}: {:?}", outcome.warnings);
        let noted = outcome.audit.get("noted.admission").map(String::as_str);
        assert_eq!(noted, audited.then_some(text), "{mode:?}");
    }
    let (_, outcome) = decide(&review, &bound("noted", Mode::Enforce), answers);
    assert_eq!(outcome.denial.map(|denial| denial.why), Some(Why::DeniedByPlugin));
}

#[test]
fn patch_and_failure_of_a_binding_that_does_not_act_change_nothing() {
    for mode in [Mode::Warn, Mode::Audit, Mode::Shadow] {
        for plugin in ["patching", "broken"] {
            let review = review(Entry::OwnKinds, Verb::Create, ("agents.x-k8s.io", "sandboxes"), sandbox());
            let (_, without) = decide(&review, &context(), answers);
            let (_, outcome) = decide(&review, &bound(plugin, mode), answers);
            assert!(outcome.allowed() && outcome.plugin_failures.is_empty(), "{mode:?} {plugin}");
            assert_eq!(outcome.patch, without.patch, "{mode:?} {plugin}");
            assert_eq!(!outcome.warnings.is_empty(), mode == Mode::Warn, "{mode:?} {plugin}: {:?}", outcome.warnings);
        }
    }
    // A plugin that is not loaded denies nothing either.
    let mut missing = bound("noted", Mode::Audit).bindings.iter().cloned().collect::<Vec<_>>();
    missing[0].not_loaded = Some("there is no SandboxPlugin".to_owned());
    let context = Context { bindings: Arc::new(Bindings::new(missing)), ..context() };
    let review = review(Entry::OwnKinds, Verb::Create, ("agents.x-k8s.io", "sandboxes"), sandbox());
    assert!(decide(&review, &context, answers).1.allowed());
}

#[test]
fn shadow_of_another_hook_is_asked_after_the_decision_and_never_taken() {
    let shadow = Binding { mode: Mode::Shadow, ..binding("shadow", Hook::PoolSize, -1, FailurePolicy::Fail) };
    let bindings = [shadow, binding("decides", Hook::PoolSize, 0, FailurePolicy::Fail)];
    let question = || {
        Question::PoolSize(Box::new(PoolSizeQuestion {
            namespace: "ns".to_owned(),
            name: "pool".to_owned(),
            labels: [].into(),
            min: 1,
            max: 9,
            ready: 0,
            creating: 0,
            claimed: 0,
            bucket_seconds: 10,
            arrivals: vec![],
            hits: 0,
            misses: 0,
            refill_ms: None,
            state: vec![],
            now: now(),
        }))
    };
    let size = |answer: &Answer| match answer {
        Answer::PoolSize(answer) => Ok(answer.desired),
        Answer::Admission(_) | Answer::RuntimeClass(_) | Answer::Idle(_) => Err("another hook".to_owned()),
    };
    let mut replies: Vec<PluginReply> = Vec::new();
    let three = PoolSizeAnswer { desired: 3, next_check: None, reason: String::new(), state: None };
    for (asked, result) in [("decides", Ok(Answer::PoolSize(three))), ("shadow", broken(FailureKind::Trap))] {
        let (chain, _) = first_answer(bindings.iter(), &replies, question, size);
        let Chain::Request(request) = chain else { panic!("{chain:?}") };
        assert_eq!(request.plugin.name, asked);
        replies.push(PluginReply { request: *request, result });
    }
    let (chain, failures) = first_answer(bindings.iter(), &replies, question, size);
    assert!(matches!(chain, Chain::Reply(binding, 3) if binding.plugin.name == "decides"), "{chain:?}");
    assert!(failures.is_empty(), "{failures:?}");
}
