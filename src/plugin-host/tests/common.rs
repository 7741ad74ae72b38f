//! A host, questions and requests that the tests share.

use std::collections::BTreeMap;
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use jiff::Timestamp;
use paddock_core::binding::Mode;
use paddock_core::question::{
    AdmissionQuestion, Answer, Caller, Failure, Hook, IdleQuestion, IdleTier, Operation, PluginRef, PluginRequest,
    PoolSizeQuestion, Question, RuntimeClassFact, RuntimeClassQuestion,
};
use paddock_plugin_host::{Host, HostConfig, Limits, Plugin, QuarantinePolicy, Source, Usage};

pub(crate) fn now() -> Timestamp {
    "2026-09-01T12:00:00Z".parse().unwrap()
}

/// Small limits, so that a misbehaving plugin is stopped soon. The quarantine has a test of its own and is off here.
pub(crate) fn config() -> HostConfig {
    HostConfig {
        limits: Limits { memory_bytes: 32 << 20, fuel: 50_000_000, deadline: Limits::MAX.deadline },
        quarantine: QuarantinePolicy { failures: 1000, ..QuarantinePolicy::default() },
        ..HostConfig::default()
    }
}

/// Memory for one call with the limits of [`config`], or with the default limits.
pub(crate) const ONE_CALL: usize = 80 << 20;

pub(crate) fn host() -> Host {
    Host::new(config()).unwrap()
}

pub(crate) fn load(host: &Host, name: &str, component: &[u8]) -> Plugin {
    host.load(Source { name, component, limits: None }).unwrap()
}

pub(crate) fn ask(plugin: &PluginRef, settings: &str, question: Question) -> PluginRequest {
    PluginRequest {
        binding: "test".into(),
        plugin: plugin.clone(),
        mode: Mode::Enforce,
        settings: settings.into(),
        question,
    }
}

/// Calls a probe until another call has the only instance of the host, so that the probe gets no instance. Returns the
/// failure of the probe and its measurements. `None` if the other call has ended before: a busy machine may run one after
/// the other.
pub(crate) fn until_busy<T>(
    host: &Host,
    probe: &PluginRequest,
    now: Timestamp,
    call: &ScopedJoinHandle<'_, T>,
) -> Option<(Failure, Usage)> {
    loop {
        match host.ask_measured(probe, Caller::Verified, now) {
            (Ok(_), _) if call.is_finished() => return None,
            (Ok(_), _) => {}
            (Err(failure), usage) => return Some((failure, usage)),
        }
    }
}

/// Asks the misbehaving guest one question. `mode` selects the misbehaviour.
pub(crate) fn misbehave(host: &Host, hook: Hook, mode: &str) -> Result<Answer, Failure> {
    let plugin = load(host, "misbehave", paddock_guests::MISBEHAVE);
    let settings = format!(r#"{{"mode":"{mode}"}}"#);
    host.ask(&ask(&plugin.plugin, &settings, question(hook)), now())
}

pub(crate) fn question(hook: Hook) -> Question {
    match hook {
        Hook::Admission => Question::Admission(Box::new(pod())),
        Hook::RuntimeClass => Question::RuntimeClass(Box::new(runtime_class())),
        Hook::Idle => Question::Idle(Box::new(idle())),
        Hook::PoolSize => Question::PoolSize(Box::new(pool())),
    }
}

/// A question about an object of a namespace.
pub(crate) fn question_in(namespace: &str, hook: Hook) -> Question {
    let mut question = question(hook);
    match &mut question {
        Question::Admission(question) => question.namespace = namespace.into(),
        Question::RuntimeClass(question) => question.namespace = namespace.into(),
        Question::Idle(question) => question.namespace = namespace.into(),
        Question::PoolSize(question) => question.namespace = namespace.into(),
    }
    question
}

pub(crate) fn labels(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
    labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

pub(crate) fn classes() -> Vec<RuntimeClassFact> {
    let class =
        |name: &str, isolated, nodes| RuntimeClassFact { name: name.into(), handler: name.into(), isolated, nodes };
    // The names are not sorted, because the host is expected to sort them.
    vec![class("runc", false, 3), class("kata", true, 1), class("gvisor", true, 2)]
}

pub(crate) fn pod() -> AdmissionQuestion {
    AdmissionQuestion {
        operation: Operation::Create,
        group: String::new(),
        version: "v1".into(),
        kind: "Pod".into(),
        namespace: "agents".into(),
        name: "p".into(),
        object: r#"{"metadata":{"name":"p"},"spec":{"containers":[]}}"#.into(),
        old_object: None,
        namespace_labels: labels(&[("team", "a")]),
        username: "jane".into(),
        groups: vec!["system:authenticated".into()],
        generated_code: true,
        classes: classes(),
        dry_run: false,
        now: now(),
    }
}

pub(crate) fn runtime_class() -> RuntimeClassQuestion {
    RuntimeClassQuestion {
        namespace: "agents".into(),
        name: "p".into(),
        labels: labels(&[]),
        images: vec!["python:3".into()],
        requested: None,
        generated_code: true,
        namespace_labels: labels(&[]),
        classes: classes(),
        now: now(),
    }
}

pub(crate) fn idle() -> IdleQuestion {
    let ago = |seconds: i64| now() - Duration::from_secs(seconds.unsigned_abs());
    IdleQuestion {
        namespace: "agents".into(),
        name: "p".into(),
        labels: labels(&[]),
        idle_timeout_ms: 60_000,
        created: ago(3600),
        ready_since: Some(ago(3590)),
        last_activity: Some(ago(50)),
        held_until: None,
        connections: None,
        cpu_millicores: None,
        tiers: vec![IdleTier::Suspend],
        state: vec![],
        now: now(),
    }
}

pub(crate) fn pool() -> PoolSizeQuestion {
    PoolSizeQuestion {
        namespace: "agents".into(),
        name: "pool".into(),
        labels: labels(&[]),
        min: 2,
        max: 50,
        ready: 2,
        creating: 0,
        claimed: 7,
        bucket_seconds: 60,
        arrivals: vec![0, 3, 9, 4, 30, 2, 0, 1, 8, 5],
        hits: 50,
        misses: 3,
        refill_ms: Some(4200),
        state: vec![],
        now: now(),
    }
}
