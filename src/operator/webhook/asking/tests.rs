//! The order in which a review asks plugins, and what becomes of policies that are late.

use std::time::Duration;

use paddock_core::admission::Entry;
use paddock_core::binding::{Binding, Bindings, FailurePolicy};
use paddock_core::question::{AdmissionAnswer, Answer, PluginRef, Verdict};
use parking_lot::Mutex;
use serde_json::json;

use super::super::wire;
use super::*;

/// Policies whose plugins have their names, in the order in which they would be asked if all of them acted.
const POLICIES: [(&str, Mode); 3] = [("shadow", Mode::Shadow), ("warn", Mode::Warn), ("guard", Mode::Enforce)];

fn asked() -> Arc<Asked> {
    let body = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "7", "operation": "CREATE", "name": "a", "namespace": "agents",
            "kind": { "group": "agents.x-k8s.io", "version": "v1beta1", "kind": "Sandbox" },
            "resource": { "group": "agents.x-k8s.io", "version": "v1beta1", "resource": "sandboxes" },
            "object": {
                "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox",
                "metadata": { "name": "a", "namespace": "agents" },
                "spec": { "podTemplate": { "spec": { "containers": [{ "name": "c", "image": "i" }] } } },
            },
        },
    });
    let now = jiff::Timestamp::UNIX_EPOCH;
    Arc::new(wire::read(body.to_string().as_bytes(), Phase::Mutate, Entry::OwnKinds, now).unwrap())
}

fn context() -> Context {
    let binding = |(order, (name, mode)): (usize, &(&str, Mode))| {
        let plugin = PluginRef { name: (*name).to_owned(), digest: "sha256:1".to_owned() };
        let order = i32::try_from(order).unwrap();
        Binding { order, mode: *mode, ..Binding::new(plugin, Hook::Admission) }
    };
    let bindings = POLICIES.iter().enumerate().map(binding).collect();
    Context { bindings: Arc::new(Bindings::new(bindings)), ..Context::default() }
}

/// Every plugin denies.
fn deny(request: &PluginRequest) -> Answer {
    let verdict = Verdict::Deny(format!("{} says no", request.plugin.name));
    Answer::Admission(AdmissionAnswer { verdict, warnings: vec![], patch: None })
}

/// The plugins in the order in which they were asked, the last verdict, and the effects of those that do not act.
#[derive(Default)]
struct Outcome {
    asked: Mutex<Vec<String>>,
    effects: Mutex<Vec<(String, UnenforcedEffect)>>,
}

/// Runs a review that began at this time. `on_ask` is called before each answer, with the verdict that is known then.
fn run(
    started: Instant,
    shadows: usize,
    on_ask: impl Fn(&str, &watch::Receiver<Option<Known>>) + Send + Sync + 'static,
) -> (Arc<Outcome>, ReviewVerdict) {
    let outcome = Arc::new(Outcome::default());
    let (known, latest) = watch::channel(None);
    let plugin_client: PluginClient = Arc::new({
        let (outcome, latest) = (Arc::clone(&outcome), latest.clone());
        move |request, _, _| {
            outcome.asked.lock().push(request.plugin.name.clone());
            on_ask(&request.plugin.name, &latest);
            Ok(deny(request))
        }
    });
    let on_unenforced: OnUnenforced = Arc::new({
        let outcome = Arc::clone(&outcome);
        move |answers| {
            let effects = answers.iter().map(|answer| (answer.binding.clone(), answer.effect));
            outcome.effects.lock().extend(effects);
        }
    });
    let asker = Asker { on_unenforced, shadows: Arc::new(Semaphore::new(shadows)), ..Asker::new(plugin_client) };
    Asking::new(asked(), context(), (asker, Caller::Unverified)).run(started, known);
    let verdict = latest.borrow().clone().unwrap().verdict;
    (outcome, verdict)
}

fn effect(policy: &str, effect: UnenforcedEffect) -> (String, UnenforcedEffect) {
    (format!("{policy}/admission"), effect)
}

/// Whether the reply contains the note of the policy in the mode Warn.
fn is_noted(verdict: &ReviewVerdict) -> bool {
    verdict.warnings.iter().any(|warning| warning.contains("warn says no"))
}

#[test]
fn verdict_is_sent_before_any_policy_that_does_not_act_is_asked() {
    let (outcome, verdict) = run(Instant::now(), 1, |plugin, latest| {
        let known = latest.borrow().clone();
        let denied = known.as_ref().is_some_and(|known| known.verdict.denial.is_some());
        let is_complete = known.is_some_and(|known| known.is_complete);
        // The sender is dropped before a shadow is asked, so the reply does not wait for it.
        let expected = match plugin {
            "guard" => (false, false, true),
            "warn" => (true, false, true),
            _ => (true, true, false),
        };
        assert_eq!((denied, is_complete, latest.has_changed().is_ok()), expected, "{plugin}");
    });
    assert_eq!(*outcome.asked.lock(), ["guard", "warn", "shadow"]);
    assert!(is_noted(&verdict), "{verdict:?}");
    assert!(verdict.denial.unwrap().message.contains("guard says no"));
    let expected = [effect("warn", UnenforcedEffect::Denied), effect("shadow", UnenforcedEffect::Denied)];
    assert_eq!(*outcome.effects.lock(), expected);
}

#[test]
fn policies_that_do_not_act_are_skipped_and_counted_when_the_time_is_over() {
    let late = |policies: &[&str]| -> Vec<_> {
        policies.iter().map(|policy| effect(policy, UnenforcedEffect::Late)).collect()
    };
    let before = |time: Duration| Instant::now().checked_sub(time).unwrap();
    // The API server waits no longer.
    let (outcome, verdict) = run(before(limits::REVIEW_TIMEOUT), 1, |_, _| ());
    assert_eq!(*outcome.asked.lock(), ["guard"]);
    assert!(verdict.denial.is_some() && !is_noted(&verdict), "{verdict:?}");
    assert_eq!(*outcome.effects.lock(), late(&["warn", "shadow"]));
    // Too many other reviews ask shadows.
    let (outcome, verdict) = run(Instant::now(), 0, |_, _| ());
    assert_eq!(*outcome.asked.lock(), ["guard", "warn"]);
    assert!(is_noted(&verdict), "{verdict:?}");
    assert_eq!(outcome.effects.lock()[1..], late(&["shadow"]));
}

#[test]
fn note_that_comes_too_late_is_not_in_the_reply() {
    let started = Instant::now().checked_sub(limits::NOTES_TIMEOUT - Duration::from_millis(300)).unwrap();
    let (outcome, verdict) = run(started, 1, |plugin, _| {
        if plugin == "warn" {
            std::thread::sleep(Duration::from_millis(400));
        }
    });
    assert!(verdict.denial.is_some() && !is_noted(&verdict), "{verdict:?}");
    assert_eq!(outcome.effects.lock()[0], effect("warn", UnenforcedEffect::Late));
}

/// A review that is late is denied whatever the failure policies are.
#[test]
fn plugins_that_act_fail_before_their_review_is_late() {
    let binding = |name: &str| {
        let plugin = PluginRef { name: name.to_owned(), digest: "sha256:1".to_owned() };
        Binding { failure_policy: FailurePolicy::Ignore, ..Binding::new(plugin, Hook::Admission) }
    };
    let bindings = Arc::new(Bindings::new(vec![binding("first"), binding("second")]));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let plugin_client: PluginClient = Arc::new({
        let seen = Arc::clone(&seen);
        move |request, _, _| {
            seen.lock().push(request.plugin.name.clone());
            Ok(Answer::Admission(AdmissionAnswer { verdict: Verdict::Allow, warnings: vec![], patch: None }))
        }
    });
    let started = Instant::now().checked_sub(limits::ACTING_TIMEOUT).unwrap();
    let (known, latest) = watch::channel(None);
    let context = Context { bindings, ..Context::default() };
    Asking::new(asked(), context, (Asker::new(plugin_client), Caller::Unverified)).run(started, known);
    assert_eq!(*seen.lock(), ["first"]);
    let verdict = latest.borrow().clone().unwrap().verdict;
    assert!(verdict.denial.is_none() && verdict.plugin_failures.len() == 1, "{verdict:?}");
}
