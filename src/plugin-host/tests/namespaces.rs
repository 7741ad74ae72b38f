//! One namespace cannot stop the plugins of another, and the memory of all calls fits.

use std::sync::atomic::{AtomicBool, Ordering};

use paddock_core::question::{Caller, FailureKind, Hook};
use paddock_plugin_host::{Host, HostConfig, HostError, Limits, LoadError, QuarantinePolicy, Source};

use crate::common::{ONE_CALL, ask, config, load, now, question_in};

#[test]
fn quarantine_in_one_namespace_is_none_in_another() {
    let policy = QuarantinePolicy { failures: 3, ..QuarantinePolicy::default() };
    let host = Host::new(HostConfig { quarantine: policy, ..config() }).unwrap();
    let plugin = load(&host, "misbehave", paddock_guests::MISBEHAVE).plugin;
    for hook in Hook::ALL {
        let kind = |namespace: &str, mode: &str| {
            let settings = format!(r#"{{"mode":"{mode}"}}"#);
            host.ask(&ask(&plugin, &settings, question_in(namespace, hook)), now()).err().map(|f| f.kind)
        };
        for _ in 0..3 {
            assert_eq!(kind("hostile", "panic"), Some(FailureKind::Trap));
        }
        assert_eq!(kind("hostile", "behave"), Some(FailureKind::Quarantined), "{}", hook.as_str());
        assert_eq!(kind("good", "behave"), None, "{}", hook.as_str());
        assert_eq!(kind("hostile", "behave"), Some(FailureKind::Quarantined), "a success elsewhere ends nothing");
    }
}

/// Made-up reviews that name a namespace do not stop the reconciles of its objects, and the other way round.
#[test]
fn quarantine_of_unverified_callers_is_none_of_the_operator() {
    let policy = QuarantinePolicy { failures: 3, ..QuarantinePolicy::default() };
    for (failing, other) in [(Caller::Unverified, Caller::Verified), (Caller::Verified, Caller::Unverified)] {
        let host = Host::new(HostConfig { quarantine: policy, ..config() }).unwrap();
        let plugin = load(&host, "misbehave", paddock_guests::MISBEHAVE).plugin;
        let kind = |caller: Caller, mode: &str| {
            let settings = format!(r#"{{"mode":"{mode}"}}"#);
            let request = ask(&plugin, &settings, question_in("agents", Hook::Admission));
            host.ask_measured(&request, caller, now()).0.err().map(|failure| failure.kind)
        };
        for _ in 0..3 {
            assert_eq!(kind(failing, "panic"), Some(FailureKind::Trap));
        }
        assert_eq!(kind(failing, "behave"), Some(FailureKind::Quarantined));
        assert_eq!(kind(other, "behave"), None, "{failing:?}");
        assert_eq!(kind(failing, "behave"), Some(FailureKind::Quarantined), "a success of others ends nothing");
        let report = host.plugins(now());
        assert_eq!(report[0].quarantined.iter().map(|q| q.caller).collect::<Vec<_>>(), [failing]);
    }
}

#[test]
fn namespace_whose_calls_never_end_leaves_instances_to_others() {
    // Two calls fit, and sixteen of the hostile namespace want to run at any time.
    let host = Host::new(HostConfig { memory_bytes: 96 << 20, ..config() }).unwrap();
    let plugin = load(&host, "misbehave", paddock_guests::MISBEHAVE).plugin;
    let spin = ask(&plugin, r#"{"mode":"spin"}"#, question_in("hostile", Hook::Admission));
    let behave = ask(&plugin, r#"{"mode":"behave"}"#, question_in("good", Hook::Admission));
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    let _ = host.ask(&spin, now());
                }
            });
        }
        let results: Vec<_> = (0..20).map(|_| host.ask(&behave, now()).err()).collect();
        ended.store(true, Ordering::Relaxed);
        assert!(results.iter().all(Option::is_none), "{results:?}");
    });
}

#[test]
fn plugin_whose_call_does_not_fit_is_refused() {
    let host = Host::new(HostConfig { memory_bytes: ONE_CALL, ..config() }).unwrap();
    let limits = Limits { memory_bytes: 128 << 20, ..config().limits };
    let large = Source { name: "large", component: paddock_guests::POOL_FIXED, limits: Some(limits) };
    let error = host.load(large).unwrap_err();
    assert!(matches!(error, LoadError::Memory { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        "one call takes 132 MiB (the memory limit and the call itself), but all calls of plugins together may use 70 \
         MiB; lower limits.memory, or raise --plugin-memory-budget"
    );
    let small = Limits { memory_bytes: 8 << 20, ..limits };
    assert!(host.load(Source { limits: Some(small), ..large }).is_ok());
}

#[test]
fn host_without_memory_for_one_call_is_refused() {
    let error = Host::new(HostConfig { memory_bytes: 32 << 20, ..HostConfig::default() }).unwrap_err();
    assert!(matches!(error, HostError::Memory(_)), "{error:?}");
    let least = HostConfig { memory_bytes: HostConfig::LEAST_MEMORY, ..HostConfig::default() };
    Host::new(least).unwrap().load_built_ins().unwrap();
}
