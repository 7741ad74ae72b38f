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
        assert_eq!(asked, ["built-in/admission", "noted/admission"], "{mode:?}");
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

/// Of four bindings in this order, those that act are asked first, and those with an answer in the reply before a shadow.
#[test]
fn bindings_that_do_not_act_are_asked_last_with_the_object_of_their_place() {
    let modes =
        [("shadow", Mode::Shadow), ("patching", Mode::Enforce), ("warned", Mode::Warn), ("last", Mode::Enforce)];
    let of = |(order, (plugin, mode)): (usize, (&str, Mode))| Binding {
        mode,
        ..binding(plugin, Hook::Admission, i32::try_from(order).expect("small"), FailurePolicy::Fail)
    };
    let bindings = Bindings::new(modes.into_iter().enumerate().map(of).collect());
    let context = Context { bindings: Arc::new(bindings), ..context() };
    let review = review(Entry::OwnKinds, Verb::Create, ("agents.x-k8s.io", "sandboxes"), sandbox());
    let (mut replies, mut saw) = (Vec::<PluginReply>::new(), Vec::new());
    let mut decided = None;
    while let Some(request) = questions(&review, &context, &replies).pop() {
        if !request.mode.acts() && decided.is_none() {
            decided = Some(verdict(&review, &context, &replies));
        }
        let Question::Admission(question) = &request.question else { panic!("{request:?}") };
        saw.push((request.plugin.name.clone(), question.object.contains(r#""labels":{"a":"b"}"#)));
        replies.push(PluginReply { result: answers(&request), request });
    }
    let seen: Vec<(&str, bool)> = saw.iter().map(|(plugin, patched)| (plugin.as_str(), *patched)).collect();
    assert_eq!(seen, [("patching", false), ("last", true), ("warned", true), ("shadow", false)]);
    let (decided, complete) = (decided.expect("a decision"), verdict(&review, &context, &replies));
    assert_eq!((&decided.denial, &decided.patch), (&complete.denial, &complete.patch));
    assert!(decided.allowed() && decided.plugin_failures.is_empty());
}

/// A shadow before the binding that denies is asked, and one after it is not, as if it acted.
#[test]
fn shadow_of_a_denied_object_is_asked_if_its_turn_would_have_come() {
    let at = |order, plugin, mode| Binding { mode, ..binding(plugin, Hook::Admission, order, FailurePolicy::Fail) };
    let bindings = vec![at(0, "before", Mode::Shadow), at(1, "noted", Mode::Enforce), at(2, "after", Mode::Shadow)];
    let context = Context { bindings: Arc::new(Bindings::new(bindings)), ..context() };
    let review = review(Entry::OwnKinds, Verb::Create, ("agents.x-k8s.io", "sandboxes"), sandbox());
    let (asked, outcome) = decide(&review, &context, answers);
    assert_eq!(asked, ["noted/admission", "before/admission"]);
    assert_eq!(outcome.denial.map(|denial| denial.why), Some(Why::DeniedByPlugin));
}

#[test]
fn shadow_of_another_hook_is_asked_after_the_decision_and_never_taken() {
    let shadow = Binding { mode: Mode::Shadow, ..binding("shadow", Hook::PoolSize, -1, FailurePolicy::Fail) };
    let bindings = [shadow, binding("decides", Hook::PoolSize, 0, FailurePolicy::Fail)];
    let question = |_: &Binding| {
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
