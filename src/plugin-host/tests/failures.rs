//! A call of a misbehaving plugin ends with a typed failure, and the next question is answered.

use std::time::{Duration, Instant};

use paddock_core::binding::Mode;
use paddock_core::question::{Caller, FailureKind, Hook, PluginRef, PluginRequest};
use paddock_plugin_host::{Host, HostConfig, Limits, QuarantinePolicy, QuarantineReport, Source, Usage};

use crate::common::{ONE_CALL, ask, config, host, load, misbehave, now, question, until_busy};

/// Checks that a call fails in this way, and that the same host answers the next question.
fn check(hook: Hook, mode: &str, kind: FailureKind, message: &str) {
    let host = host();
    let failure = misbehave(&host, hook, mode).unwrap_err();
    assert_eq!(failure.kind, kind, "{mode}: {}", failure.message);
    assert!(failure.message.contains(message), "{mode}: {}", failure.message);
    assert!(misbehave(&host, hook, "behave").is_ok(), "no answer after {mode}");
}

#[test]
fn endless_loop_runs_out_of_fuel() {
    for hook in Hook::ALL {
        check(hook, "spin", FailureKind::Fuel, "50000000 units of fuel");
    }
}

#[test]
fn endless_loop_with_enough_fuel_ends_at_its_deadline() {
    let deadline = Duration::from_millis(100);
    let host = host();
    let limits = Some(Limits { fuel: Limits::MAX.fuel, deadline, ..Limits::default() });
    let component = paddock_guests::MISBEHAVE;
    let plugin = host.load(Source { name: "misbehave", component, limits }).unwrap();
    let started = Instant::now();
    let failure = host.ask(&ask(&plugin.plugin, r#"{"mode":"spin"}"#, question(Hook::Idle)), now()).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Deadline, "{}", failure.message);
    assert!(started.elapsed() >= deadline, "stopped early");
}

#[test]
fn endless_allocation_ends_at_the_memory_limit() {
    for hook in Hook::ALL {
        check(hook, "hog", FailureKind::Memory, "33554432 bytes of memory");
    }
}

#[test]
fn memory_below_the_limit_is_granted() {
    assert!(misbehave(&host(), Hook::PoolSize, "eat").is_ok());
}

#[test]
fn panic_is_a_trap() {
    check(Hook::PoolSize, "panic", FailureKind::Trap, "unreachable");
}

#[test]
fn endless_recursion_is_a_trap() {
    check(Hook::PoolSize, "recurse", FailureKind::Trap, "");
}

#[test]
fn error_that_the_plugin_returns_is_no_trap() {
    check(Hook::PoolSize, "refuse", FailureKind::Error, "I would rather not");
}

#[test]
fn settings_that_do_not_parse_are_an_error_of_the_plugin() {
    check(Hook::PoolSize, "no-such-mode", FailureKind::Error, "mode: unknown variant `no-such-mode`");
}

#[test]
fn answers_that_the_host_cannot_accept_are_invalid() {
    for (hook, mode, message) in [
        (Hook::PoolSize, "big-state", "state: the state has 17408 bytes, but must have at most 16384"),
        (Hook::Idle, "big-state", "state: the state has 17408 bytes, but must have at most 16384"),
        (Hook::PoolSize, "no-such-time", "next-check: 18446744073709551615"),
        (Hook::Idle, "no-such-time", "next-check: 18446744073709551615"),
        (Hook::RuntimeClass, "no-such-name", "choice: \"Not A Name\""),
        (Hook::Admission, "broken-patch", "patch: not a JSON Patch"),
        (Hook::Admission, "patch-and-deny", "patch: not allowed beside a denial"),
        // The number of bytes that the host copies is limited, even if the guest's memory contains more.
        (Hook::Idle, "long-line", ""),
    ] {
        check(hook, mode, FailureKind::Invalid, message);
    }
}

#[test]
fn plugin_that_is_not_loaded_is_missing() {
    let host = host();
    let nobody = PluginRef { name: "nobody".into(), digest: "sha256:00".into() };
    let failure = host.ask(&ask(&nobody, "{}", question(Hook::Idle)), now()).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Missing);
}

#[test]
fn hook_that_a_plugin_does_not_export_is_missing() {
    let host = host();
    let plugin = load(&host, "pool-fixed", paddock_guests::POOL_FIXED);
    let failure = host.ask(&ask(&plugin.plugin, "{}", question(Hook::Idle)), now()).unwrap_err();
    assert_eq!((failure.kind, &*failure.message), (FailureKind::Missing, "pool-fixed has no hook idle"));
}

#[test]
fn question_waits_until_its_deadline_for_a_free_instance() {
    let quarantine = QuarantinePolicy { failures: 1, ..QuarantinePolicy::default() };
    let host = Host::new(HostConfig { memory_bytes: ONE_CALL, quarantine, ..config() }).unwrap();
    // A loop uses up the most fuel within 0.4 s on a fast machine, so the deadlines are much shorter.
    let limits = |milliseconds| {
        Some(Limits { fuel: Limits::MAX.fuel, deadline: Duration::from_millis(milliseconds), ..Limits::default() })
    };
    let component = paddock_guests::MISBEHAVE;
    let slow = host.load(Source { name: "slow", component, limits: limits(200) }).unwrap();
    let quick = host.load(Source { name: "quick", component, limits: limits(100) }).unwrap();
    let behave = ask(&quick.plugin, r#"{"mode":"behave"}"#, question(Hook::Idle));
    // Until the two calls meet; an hour later the plugin that spins has left its quarantine.
    let mut hours = (0..).map(|hour| now() + Duration::from_secs(3600 * hour));
    let failure = std::thread::scope(|scope| {
        hours.find_map(|now| {
            let spin = ask(&slow.plugin, r#"{"mode":"spin"}"#, question(Hook::Idle));
            let host = &host;
            let spinning = scope.spawn(move || host.ask(&spin, now));
            let failure = until_busy(host, &behave, now, &spinning);
            assert_eq!(spinning.join().unwrap().unwrap_err().kind, FailureKind::Deadline);
            failure
        })
    });
    let (failure, usage) = failure.unwrap();
    assert_eq!(failure.kind, FailureKind::Deadline);
    let waited = usage.waited.unwrap();
    assert!(waited >= Duration::from_millis(100), "{waited:?}");
    assert_eq!(usage, Usage { waited: Some(waited), ..Usage::default() }, "it did not begin");
    let message = "no room for a call of 68 MiB within 100 ms, because other calls of plugins took the memory; raise \
                   --plugin-memory-budget, or lower limits.memory of the plugins";
    assert_eq!(failure.message, message);
    assert!(host.ask(&behave, now()).is_ok(), "quarantined for what was not its own failure");
}

/// Loads the misbehaving guest with the most fuel, so that a loop ends at this deadline.
fn with_deadline(host: &Host, name: &str, milliseconds: u64) -> PluginRef {
    let deadline = Duration::from_millis(milliseconds);
    let limits = Some(Limits { fuel: Limits::MAX.fuel, deadline, ..Limits::default() });
    host.load(Source { name, component: paddock_guests::MISBEHAVE, limits }).unwrap().plugin
}

#[test]
fn deadline_that_a_wait_for_room_used_up_begins_no_quarantine() {
    let quarantine = QuarantinePolicy { failures: 1, ..QuarantinePolicy::default() };
    let host = Host::new(HostConfig { memory_bytes: ONE_CALL, quarantine, ..config() }).unwrap();
    let (first, second) = (with_deadline(&host, "first", 200), with_deadline(&host, "second", 200));
    let probe = with_deadline(&host, "probe", 50);
    let mode = |plugin, mode: &str| ask(plugin, &format!(r#"{{"mode":"{mode}"}}"#), question(Hook::Idle));
    // Until the second call waits for the first one; an hour later the plugins have left their quarantines.
    let mut hours = (0..).map(|hour| now() + Duration::from_secs(3600 * hour));
    let waited = hours.find(|now| {
        std::thread::scope(|scope| {
            let (host, spin, now) = (&host, mode(&first, "spin"), *now);
            let spinning = scope.spawn(move || host.ask(&spin, now));
            let is_busy = until_busy(host, &mode(&probe, "behave"), now, &spinning).is_some();
            let (answer, usage) = host.ask_measured(&mode(&second, "spin"), Caller::Verified, now);
            assert_eq!(answer.unwrap_err().kind, FailureKind::Deadline);
            assert_eq!(spinning.join().unwrap().unwrap_err().kind, FailureKind::Deadline);
            is_busy && usage.instantiated.is_some() && usage.waited > Some(Duration::from_millis(20))
        })
    });
    assert!(host.ask(&mode(&second, "behave"), waited.unwrap()).is_ok(), "quarantined for the wait");
    assert_eq!(
        host.ask(&mode(&first, "behave"), waited.unwrap()).unwrap_err().kind,
        FailureKind::Quarantined,
        "a deadline counts without a wait"
    );
}

/// Each call of one hook waits for a call of the other hook of the same plugin, so it never has the whole time.
#[test]
fn plugin_that_hangs_is_in_quarantine_although_its_calls_wait_for_each_other() {
    let quarantine = QuarantinePolicy { failures: 1, ..QuarantinePolicy::default() };
    let host = Host::new(HostConfig { memory_bytes: ONE_CALL, quarantine, ..config() }).unwrap();
    let (slow, probe) = (with_deadline(&host, "slow", 200), with_deadline(&host, "probe", 50));
    let spin = |hook| ask(&slow, r#"{"mode":"spin"}"#, question(hook));
    let behave = ask(&probe, r#"{"mode":"behave"}"#, question(Hook::Idle));
    // An hour later, the hook whose calls do not wait has left its quarantine.
    let mut hours = (0..100).map(|hour| now() + Duration::from_secs(3600 * hour));
    let is_quarantined = hours.any(|hour| {
        std::thread::scope(|scope| {
            let (host, idle) = (&host, spin(Hook::Idle));
            let running = scope.spawn(move || host.ask(&idle, hour));
            let is_busy = until_busy(host, &behave, hour, &running).is_some();
            let waited = is_busy.then(|| host.ask(&spin(Hook::PoolSize), now()).unwrap_err().kind);
            assert_eq!(running.join().unwrap().unwrap_err().kind, FailureKind::Deadline);
            waited == Some(FailureKind::Quarantined)
        })
    });
    assert!(is_quarantined, "calls that had a part of the time never count");
}

#[test]
fn plugin_that_keeps_failing_is_in_quarantine_for_a_while() {
    let policy = QuarantinePolicy { failures: 3, first: Duration::from_secs(30), longest: Duration::from_secs(60) };
    let host = Host::new(HostConfig { quarantine: policy, ..config() }).unwrap();
    let plugin = load(&host, "misbehave", paddock_guests::MISBEHAVE).plugin;
    let kind = |hook, mode: &str, seconds| {
        let at = now() + Duration::from_secs(seconds);
        let settings = format!(r#"{{"mode":"{mode}"}}"#);
        host.ask(&ask(&plugin, &settings, question(hook)), at).err().map(|failure| failure.kind)
    };
    for second in 0..3 {
        assert_eq!(kind(Hook::PoolSize, "panic", second), Some(FailureKind::Trap));
    }
    assert_eq!(kind(Hook::PoolSize, "behave", 3), Some(FailureKind::Quarantined));
    assert_eq!(kind(Hook::Idle, "behave", 3), None, "other hooks go on");
    let behave = ask(&plugin, r#"{"mode":"behave"}"#, question(Hook::PoolSize));
    let shadow = PluginRequest { mode: Mode::Shadow, ..behave };
    assert!(host.ask(&shadow, now() + Duration::from_secs(3)).is_ok(), "policies of other modes go on");
    let report = host.plugins(now() + Duration::from_secs(4));
    assert_eq!(
        report[0].quarantined,
        [QuarantineReport {
            hook: Hook::PoolSize,
            mode: Mode::Enforce,
            caller: Caller::Verified,
            namespace: "agents".to_owned(),
            until: now() + Duration::from_secs(32),
        }]
    );
    assert_eq!(kind(Hook::PoolSize, "behave", 32), None, "the stay is over");
    assert_eq!(kind(Hook::PoolSize, "panic", 33), Some(FailureKind::Trap), "and forgotten");
    assert_eq!(kind(Hook::PoolSize, "behave", 34), None);
}

#[test]
fn errors_that_the_plugin_returns_begin_no_quarantine() {
    let host = Host::new(HostConfig {
        quarantine: QuarantinePolicy { failures: 2, ..QuarantinePolicy::default() },
        ..config()
    })
    .unwrap();
    for _ in 0..5 {
        assert_eq!(misbehave(&host, Hook::Idle, "refuse").unwrap_err().kind, FailureKind::Error);
    }
}
