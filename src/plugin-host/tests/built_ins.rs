//! The built-in plugins, called through the host. Each hook has one, and every field of a question reaches it.

use std::time::Duration;

use paddock_api::kind::Kind;
use paddock_core::question::{
    AdmissionAnswer, AdmissionQuestion, Answer, ClassChoice, Hook, IdleTier, PoolSizeQuestion, Question, Verdict,
};
use paddock_plugin_host::{BUILT_INS, Host};

use crate::common::{ask, host, idle, labels, now, pod, pool, question, runtime_class};

/// The answer of the built-in for the question's hook.
fn answer(host: &Host, question: Question) -> Answer {
    let binding = host.load_built_ins().unwrap().into_iter().find(|b| b.hook == question.hook()).unwrap();
    host.ask(&ask(&binding.plugin, "{}", question), now()).unwrap()
}

#[test]
fn each_hook_has_a_built_in_that_answers() {
    let host = host();
    let bindings = host.load_built_ins().unwrap();
    let hooks: Vec<_> = bindings.iter().map(|binding| binding.hook).collect();
    assert_eq!(hooks, Hook::ALL);
    for binding in &bindings {
        assert!(binding.built_in && binding.namespaces.matches(&labels(&[])), "{}", binding.name);
        assert_eq!(binding.name, format!("{}/{}", binding.plugin.name, binding.hook.as_str()));
        assert!(host.ask(&ask(&binding.plugin, "{}", question(binding.hook)), now()).is_ok());
    }
}

#[test]
fn admission_built_in_is_asked_about_every_kind_that_it_patches() {
    let host = host();
    let binding = host.load_built_ins().unwrap().into_iter().find(|b| b.hook == Hook::Admission).unwrap();
    let containers = r#"{"containers":[]}"#;
    let own = Kind::OWN.map(|kind| (kind.group(), kind.name()));
    for (group, kind) in own.into_iter().chain([("", "Pod")]) {
        let object = match kind {
            "Pod" => format!(r#"{{"spec":{containers}}}"#),
            _ => format!(r#"{{"spec":{{"podTemplate":{{"spec":{containers}}}}}}}"#),
        };
        let question = AdmissionQuestion { group: group.into(), kind: kind.into(), object, ..pod() };
        let Answer::Admission(AdmissionAnswer { patch, .. }) = answer(&host, Question::Admission(Box::new(question)))
        else {
            panic!()
        };
        assert_eq!(patch.is_some(), binding.reviews_kind(kind), "{group} {kind}");
    }
}

#[test]
fn generated_code_gets_an_isolating_class() {
    let host = host();
    let Answer::Admission(AdmissionAnswer { verdict: Verdict::Allow, warnings, patch: Some(patch) }) =
        answer(&host, Question::Admission(Box::new(pod())))
    else {
        panic!()
    };
    assert!(warnings.is_empty() && patch.contains("\"/spec/runtimeClassName\"") && patch.contains("\"gvisor\""));
    let mut named = pod();
    named.object = r#"{"spec":{"runtimeClassName":"runc","containers":[]}}"#.into();
    let Answer::Admission(AdmissionAnswer { verdict: Verdict::Deny(message), .. }) =
        answer(&host, Question::Admission(Box::new(named)))
    else {
        panic!()
    };
    assert!(message.ends_with("set it to one of: gvisor, kata"), "{message}");
}

#[test]
fn label_names_the_class() {
    let mut pod = runtime_class();
    pod.labels = labels(&[("policy.paddock.dev/runtime-class", "kata")]);
    let Answer::RuntimeClass(answer) = answer(&host(), Question::RuntimeClass(Box::new(pod))) else { panic!() };
    assert_eq!(answer.choice, ClassChoice::Class("kata".into()));
}

#[test]
fn idle_sandbox_is_suspended_at_its_next_check() {
    let host = host();
    let Answer::Idle(early) = answer(&host, Question::Idle(Box::new(idle()))) else { panic!() };
    assert_eq!((early.action, early.next_check), (None, Some(now() + Duration::from_secs(10))));
    let mut later = idle();
    later.now = early.next_check.unwrap();
    let Answer::Idle(due) = answer(&host, Question::Idle(Box::new(later))) else { panic!() };
    assert_eq!((due.action, due.next_check), (Some(IdleTier::Suspend), None));
}

#[test]
fn pool_follows_demand_and_keeps_its_state() {
    let host = host();
    let Answer::PoolSize(busy) = answer(&host, Question::PoolSize(Box::new(pool()))) else { panic!() };
    assert!((3..=50).contains(&busy.desired), "{busy:?}");
    let mut quiet = pool();
    (quiet.arrivals, quiet.state) = (vec![0; 10], busy.state.clone().unwrap());
    quiet.now = now() + Duration::from_secs(60);
    let Answer::PoolSize(held) = answer(&host, Question::PoolSize(Box::new(quiet.clone()))) else { panic!() };
    assert!(held.desired > quiet.min && held.desired <= busy.desired, "{held:?}");
    quiet.state = vec![];
    let Answer::PoolSize(empty) = answer(&host, Question::PoolSize(Box::new(quiet.clone()))) else { panic!() };
    assert_eq!(empty.desired, quiet.min);
}

#[test]
fn pool_seasonal_learns_in_its_state_and_forecasts_from_it() {
    let host = host();
    let built_in = BUILT_INS.iter().find(|built_in| built_in.name == "pool-seasonal").unwrap();
    let plugin = host.load_built_in(built_in).unwrap().plugin;
    // One claim in ten seconds for four days, with a question every five minutes.
    let mut steady = PoolSizeQuestion { arrivals: vec![1; 60], bucket_seconds: 10, ..pool() };
    let mut reason = String::new();
    for _ in 0..4 * 24 * 12 + 12 {
        let question = Question::PoolSize(Box::new(steady.clone()));
        let Answer::PoolSize(answer) = host.ask(&ask(&plugin, "{}", question), now()).unwrap() else { panic!() };
        assert!((steady.min..=steady.max).contains(&answer.desired), "{answer:?}");
        assert!(answer.state.as_ref().is_none_or(|state| state.len() < 4096));
        steady.state = answer.state.unwrap_or(steady.state);
        steady.now += Duration::from_secs(300);
        reason = answer.reason;
    }
    assert!(reason.starts_with("6.0 claims/min expected"), "{reason}");
}
