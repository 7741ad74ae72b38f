//! The series of plugins after calls, compilations, new versions and removals.

use jiff::Timestamp;
use paddock_core::binding::Mode;
use paddock_core::question::{
    AdmissionAnswer, IdleAnswer, IdleQuestion, PluginRef, PoolSizeAnswer, PoolSizeQuestion, RuntimeClassAnswer,
};

use super::*;
use crate::metrics::Metrics;

const MICRO: Duration = Duration::from_micros(1);

fn idle_question() -> Question {
    Question::Idle(Box::new(IdleQuestion {
        namespace: "agents".to_owned(),
        name: "s".to_owned(),
        labels: [].into(),
        idle_timeout_ms: 1000,
        created: Timestamp::UNIX_EPOCH,
        ready_since: None,
        last_activity: None,
        held_until: None,
        connections: None,
        cpu_millicores: None,
        tiers: vec![],
        state: vec![],
        now: Timestamp::UNIX_EPOCH,
    }))
}

/// A question about a pool with three Sandboxes, of which one is not Ready.
fn pool_question() -> Question {
    Question::PoolSize(Box::new(PoolSizeQuestion {
        namespace: "agents".to_owned(),
        name: "p".to_owned(),
        labels: [].into(),
        min: 0,
        max: 9,
        ready: 2,
        creating: 1,
        claimed: 0,
        bucket_seconds: 10,
        arrivals: vec![],
        hits: 0,
        misses: 0,
        refill_ms: None,
        state: vec![],
        now: Timestamp::UNIX_EPOCH,
    }))
}

fn request(plugin: &str, question: Question) -> PluginRequest {
    PluginRequest {
        binding: format!("{plugin}/idle"),
        plugin: PluginRef { name: plugin.to_owned(), digest: "sha256:0".to_owned() },
        mode: Mode::Enforce,
        settings: "{}".to_owned(),
        question,
    }
}

fn idle_answer(action: Option<IdleTier>) -> Answer {
    Answer::Idle(IdleAnswer { action, next_check: None, reason: "in use".to_owned(), state: None })
}

fn failed(kind: FailureKind) -> Result<Answer, Failure> {
    Err(Failure { kind, message: "no".to_owned() })
}

/// What a call used that waited for one microsecond, and whose instance took three.
fn usage(fuel: u64, memory_bytes: usize) -> Usage {
    Usage { fuel, memory_bytes, waited: Some(MICRO), instantiated: Some(3 * MICRO), trap: None }
}

fn text(metrics: &Metrics) -> String {
    String::from_utf8(metrics.text().unwrap()).unwrap()
}

fn assert_lines(metrics: &Metrics, lines: &[&str]) {
    let text = text(metrics);
    for line in lines {
        assert!(text.lines().any(|l| l == *line), "{line} is not in:\n{text}");
    }
}

fn status(name: &str, digest: &str) -> PluginStatus {
    PluginStatus { name: name.to_owned(), digest: Some(digest.to_owned()), ..PluginStatus::default() }
}

fn call(metrics: &Metrics, plugin: &str, usage: Usage) {
    metrics.asked(&request(plugin, idle_question()), &Ok(idle_answer(None)), (usage, 10 * MICRO));
}

#[test]
fn parts_of_a_call_have_times_and_use_from_a_microsecond_on() {
    let metrics = Metrics::new().unwrap();
    call(&metrics, "sleepy", usage(42_000, 65_536));
    assert_lines(
        &metrics,
        &[
            r#"paddock_plugin_calls_total{hook="idle",plugin="sleepy"} 1"#,
            r#"paddock_plugin_duration_seconds_bucket{hook="idle",plugin="sleepy",le="0.000005"} 0"#,
            r#"paddock_plugin_duration_seconds_bucket{hook="idle",plugin="sleepy",le="0.00001"} 1"#,
            r#"paddock_plugin_duration_seconds_sum{hook="idle",plugin="sleepy"} 0.00001"#,
            r#"paddock_plugin_queue_duration_seconds_bucket{hook="idle",plugin="sleepy",le="0.000001"} 1"#,
            r#"paddock_plugin_instantiate_duration_seconds_bucket{hook="idle",plugin="sleepy",le="0.0000025"} 0"#,
            r#"paddock_plugin_instantiate_duration_seconds_bucket{hook="idle",plugin="sleepy",le="0.000005"} 1"#,
            r#"paddock_plugin_fuel_units_bucket{hook="idle",plugin="sleepy",le="10000"} 0"#,
            r#"paddock_plugin_fuel_units_bucket{hook="idle",plugin="sleepy",le="50000"} 1"#,
            r#"paddock_plugin_fuel_units_sum{hook="idle",plugin="sleepy"} 42000"#,
            r#"paddock_plugin_memory_high_water_bytes{hook="idle",plugin="sleepy"} 65536"#,
        ],
    );
}

#[test]
fn call_that_found_no_room_has_only_waited() {
    let metrics = Metrics::new().unwrap();
    let late = Usage { waited: Some(MICRO), ..Usage::default() };
    metrics.asked(&request("late", idle_question()), &failed(FailureKind::Deadline), (late, MICRO));
    metrics.asked(&request("late", idle_question()), &failed(FailureKind::Quarantined), (Usage::default(), MICRO));
    assert_lines(
        &metrics,
        &[
            r#"paddock_plugin_calls_total{hook="idle",plugin="late"} 2"#,
            r#"paddock_plugin_queue_duration_seconds_count{hook="idle",plugin="late"} 1"#,
            r#"paddock_plugin_instantiate_duration_seconds_count{hook="idle",plugin="late"} 0"#,
            r#"paddock_plugin_fuel_units_count{hook="idle",plugin="late"} 0"#,
        ],
    );
}

#[test]
fn high_water_mark_of_memory_only_rises_and_starts_again_with_a_version() {
    let metrics = Metrics::new().unwrap();
    let is = |bytes: u32| {
        let line = format!("paddock_plugin_memory_high_water_bytes{{hook=\"idle\",plugin=\"p\"}} {bytes}");
        assert_lines(&metrics, &[&line]);
    };
    for (bytes, highest) in [(100, 100), (300, 300), (200, 300)] {
        call(&metrics, "p", usage(1, bytes));
        is(highest);
    }
    metrics.plugins(&[status("p", "sha256:1")]);
    is(300);
    // Another plugin with the name is refused and has no version.
    let refused = PluginStatus { digest: None, ..status("p", "") };
    metrics.plugins(&[status("p", "sha256:1"), refused.clone()]);
    metrics.plugins(&[refused, status("p", "sha256:1")]);
    is(300);
    metrics.plugins(&[status("p", "sha256:2")]);
    is(0);
    call(&metrics, "p", usage(1, 200));
    is(200);
}

#[test]
fn a_plugin_that_was_asked_has_its_failures_and_traps_at_zero() {
    let metrics = Metrics::new().unwrap();
    let counted = |family: &str, label: &str, kind: &str, count: u32| {
        let own = format!("{label}=\"{kind}\"");
        let mut labels = [&*own, "hook=\"idle\"", "plugin=\"sleepy\""];
        labels.sort_unstable();
        assert_lines(&metrics, &[&format!("paddock_plugin_{family}_total{{{}}} {count}", labels.join(","))]);
    };
    call(&metrics, "sleepy", usage(1, 1));
    FailureKind::ALL.iter().for_each(|kind| counted("failures", "failure", kind.as_str(), 0));
    TrapKind::ALL.iter().for_each(|kind| counted("traps", "trap", kind.as_str(), 0));
    let request = request("sleepy", idle_question());
    for (kind, trap) in [
        (FailureKind::Trap, Some(TrapKind::Unreachable)),
        (FailureKind::Trap, Some(TrapKind::Unreachable)),
        (FailureKind::Trap, None),
        (FailureKind::Fuel, None),
    ] {
        metrics.asked(&request, &failed(kind), (Usage { trap, ..usage(1, 1) }, MICRO));
    }
    for (kind, count) in [("trap", 3), ("fuel", 1), ("deadline", 0)] {
        counted("failures", "failure", kind, count);
    }
    for (kind, count) in [("unreachable", 2), ("other", 1), ("stack-overflow", 0)] {
        counted("traps", "trap", kind, count);
    }
}

#[test]
fn decisions_are_counted_by_what_follows_from_the_answer() {
    let admission = |verdict, patch: Option<&str>| {
        Answer::Admission(AdmissionAnswer { verdict, warnings: vec![], patch: patch.map(str::to_owned) })
    };
    let class = |choice| Answer::RuntimeClass(RuntimeClassAnswer { choice, reason: String::new() });
    let size =
        |desired| Answer::PoolSize(PoolSizeAnswer { desired, next_check: None, reason: String::new(), state: None });
    for (hook, answer, decision) in [
        (Hook::Admission, admission(Verdict::Allow, None), "allow"),
        (Hook::Admission, admission(Verdict::Allow, Some("[]")), "patch"),
        (Hook::Admission, admission(Verdict::Deny("no".to_owned()), None), "deny"),
        (Hook::RuntimeClass, class(ClassChoice::Class("gvisor".to_owned())), "class"),
        (Hook::RuntimeClass, class(ClassChoice::Default), "default"),
        (Hook::RuntimeClass, class(ClassChoice::Refuse), "refuse"),
        (Hook::Idle, idle_answer(None), "keep"),
        (Hook::Idle, idle_answer(Some(IdleTier::Throttle)), "throttle"),
        (Hook::Idle, idle_answer(Some(IdleTier::Suspend)), "suspend"),
        (Hook::Idle, idle_answer(Some(IdleTier::Hibernate)), "hibernate"),
        (Hook::Idle, idle_answer(Some(IdleTier::Delete)), "delete"),
        (Hook::PoolSize, size(4), "grow"),
        (Hook::PoolSize, size(3), "keep"),
        (Hook::PoolSize, size(2), "shrink"),
    ] {
        let found = Decision::of(&pool_question(), &answer);
        assert_eq!(found.as_str(), decision);
        assert!(Decision::of_hook(hook).contains(&found), "{decision} has no series");
    }
    let metrics = Metrics::new().unwrap();
    call(&metrics, "p", usage(1, 1));
    assert_lines(
        &metrics,
        &[
            r#"paddock_plugin_decisions_total{decision="keep",hook="idle",plugin="p"} 1"#,
            r#"paddock_plugin_decisions_total{decision="suspend",hook="idle",plugin="p"} 0"#,
        ],
    );
    assert!(!text(&metrics).contains("decision=\"deny\""), "another hook has no series");
}

#[test]
fn series_of_a_plugin_end_with_the_plugin() {
    let metrics = Metrics::new().unwrap();
    for plugin in ["stays", "gone"] {
        metrics.compiled(plugin, Duration::from_millis(20));
        call(&metrics, plugin, usage(1, 1));
    }
    metrics.plugins(&[status("stays", "sha256:1"), status("gone", "sha256:2")]);
    assert_lines(
        &metrics,
        &[
            r#"paddock_plugin_compile_duration_seconds_bucket{plugin="gone",le="0.01"} 0"#,
            r#"paddock_plugin_compile_duration_seconds_bucket{plugin="gone",le="0.025"} 1"#,
        ],
    );
    metrics.plugins(&[status("stays", "sha256:1")]);
    let text = text(&metrics);
    let of = |plugin: &str| text.lines().filter(|line| line.contains(&format!("plugin=\"{plugin}\""))).count();
    assert_eq!(of("gone"), 0, "{text}");
    assert!(of("stays") > 50, "{text}");
}

#[test]
fn call_that_ends_after_its_plugin_brings_no_series_back() {
    let metrics = Metrics::new().unwrap();
    let has = |family: &str| {
        let text = text(&metrics);
        text.lines().any(|line| line.starts_with(family) && line.contains("plugin=\"p\""))
    };
    let (calls, compilations) = ("paddock_plugin_calls_total", "paddock_plugin_compile_duration_seconds_count");
    let (with, without) = ([status("stays", "sha256:1"), status("p", "sha256:2")], [status("stays", "sha256:1")]);
    metrics.plugins(&with);
    metrics.plugins(&without);
    call(&metrics, "p", usage(1, 1));
    assert!(!has(calls), "the first call of the plugin ended after it");
    // The plugin is created again, and is compiled before the states say so.
    metrics.compiled("p", MICRO);
    call(&metrics, "p", usage(1, 1));
    assert!(has(calls) && has(compilations));
    metrics.plugins(&with);
    metrics.plugins(&without);
    metrics.plugins(&[status("stays", "sha256:3")]);
    call(&metrics, "p", usage(1, 1));
    assert!(!has(calls) && !has(compilations), "another report does not end the removal");
    // A component with the bytes of another plugin is not compiled.
    metrics.plugins(&with);
    call(&metrics, "p", usage(1, 1));
    assert!(has(calls));
}

#[test]
fn plugin_that_is_newer_than_the_reported_states_keeps_its_series() {
    let metrics = Metrics::new().unwrap();
    let has = || text(&metrics).contains("plugin=\"new\"");
    metrics.compiled("new", MICRO);
    metrics.plugins(&[status("other", "sha256:1")]);
    assert!(has(), "the states are those before the compilation");
    metrics.plugins(&[status("other", "sha256:2")]);
    assert!(!has(), "the plugin was never there");
}
