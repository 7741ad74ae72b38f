//! Answers are repeatable, and the texts in them are limited.

use std::time::Instant;

use paddock_core::question::{Answer, Caller, FailureKind, Hook, Verdict};
use paddock_plugin_host::TrapKind;

use crate::common::{ask, host, load, misbehave, now, question};

#[test]
fn same_question_gets_the_same_answer() {
    let (host, other) = (host(), host());
    for host in [&host, &other] {
        host.load_built_ins().unwrap();
    }
    let bindings = host.load_built_ins().unwrap();
    for binding in bindings {
        let ask = ask(&binding.plugin, "{}", question(binding.hook));
        let first = host.ask(&ask, now()).unwrap();
        for host in [&host, &host, &other] {
            assert_eq!(host.ask(&ask, now()).unwrap(), first, "{}", binding.name);
        }
    }
}

#[test]
fn same_question_needs_the_same_fuel() {
    let host = host();
    let binding = host.load_built_ins().unwrap().into_iter().find(|b| b.hook == Hook::PoolSize).unwrap();
    let pool_by_demand =
        paddock_plugin_host::BUILT_INS.into_iter().find(|b| b.hook == Hook::PoolSize).unwrap().component;
    let ask = ask(&binding.plugin, "{}", question(Hook::PoolSize));
    let answers_with = |fuel| {
        let limits = Some(paddock_plugin_host::Limits { fuel, ..paddock_plugin_host::Limits::default() });
        host.load(paddock_plugin_host::Source { name: "pool-by-demand", component: pool_by_demand, limits }).is_ok()
            && host.ask(&ask, now()).is_ok()
    };
    // A binary search finds the least fuel that suffices. Each search finds the same number, so one unit less is never
    // enough.
    let least = || {
        let (mut too_little, mut enough) = (0_u64, 10_000_000_u64);
        while enough - too_little > 1 {
            let middle = u64::midpoint(too_little, enough);
            if answers_with(middle) { enough = middle } else { too_little = middle }
        }
        enough
    };
    let first = least();
    assert!((100..1_000_000).contains(&first), "{first}");
    assert_eq!(least(), first);
    assert!(!answers_with(first - 1) && answers_with(first));
    let (answer, usage) = host.ask_measured(&ask, Caller::Verified, now());
    assert!(answer.is_ok());
    assert_eq!(usage.fuel, first, "what a call uses is what it needs");
}

#[test]
fn usage_of_a_call_is_within_its_limits() {
    let host = host();
    let limits = host.config().limits;
    let plugin = load(&host, "misbehave", paddock_guests::MISBEHAVE).plugin;
    let usage = |mode: &str| {
        let settings = format!(r#"{{"mode":"{mode}"}}"#);
        host.ask_measured(&ask(&plugin, &settings, question(Hook::PoolSize)), Caller::Verified, now()).1
    };
    let (behaves, eats, spins, hogs) = (usage("behave"), usage("eat"), usage("spin"), usage("hog"));
    assert!(behaves.fuel > 0 && behaves.memory_bytes >= 64 << 10, "{behaves:?}");
    assert!(eats.memory_bytes > behaves.memory_bytes && eats.memory_bytes <= limits.memory_bytes, "{eats:?}");
    assert_eq!(spins.fuel, limits.fuel, "an endless loop uses all fuel");
    assert!(hogs.memory_bytes <= limits.memory_bytes && hogs.memory_bytes > eats.memory_bytes, "{hogs:?}");
    let unknown = paddock_core::question::PluginRef { name: "none".into(), digest: String::new() };
    let (answer, usage) = host.ask_measured(&ask(&unknown, "{}", question(Hook::PoolSize)), Caller::Verified, now());
    assert!(answer.is_err());
    assert_eq!(usage, paddock_plugin_host::Usage::default(), "no call, no use");
}

#[test]
fn parts_of_a_call_are_timed_and_its_trap_is_named() {
    let host = host();
    let plugin = load(&host, "misbehave", paddock_guests::MISBEHAVE).plugin;
    let measured = |mode: &str| {
        let request = ask(&plugin, &format!(r#"{{"mode":"{mode}"}}"#), question(Hook::PoolSize));
        let began = Instant::now();
        let (result, usage) = host.ask_measured(&request, Caller::Verified, now());
        (result.err().map(|failure| failure.kind), usage, began.elapsed())
    };
    let (_, usage, took) = measured("behave");
    let (waited, instantiated) = (usage.waited.unwrap(), usage.instantiated.unwrap());
    assert!(!instantiated.is_zero() && waited + instantiated <= took, "{usage:?} within {took:?}");
    for (mode, kind, trap) in [
        ("behave", None, None),
        ("panic", Some(FailureKind::Trap), Some(TrapKind::Unreachable)),
        ("spin", Some(FailureKind::Fuel), None),
        ("refuse", Some(FailureKind::Error), None),
    ] {
        let (failure, usage, _) = measured(mode);
        assert_eq!((failure, usage.trap), (kind, trap), "{mode}");
    }
}

#[test]
fn surface_of_a_component_names_what_it_imports_even_if_it_is_refused() {
    let host = host();
    let surface = host.surface(paddock_guests::POOL_FIXED).unwrap();
    assert!(surface.exports.contains(&"paddock:policy/pool-size@0.2.0".to_owned()), "{surface:?}");
    assert!(surface.imports.iter().all(|import| import == "paddock:policy/log@0.2.0"), "{surface:?}");
    assert!(surface.digest.starts_with("sha256:"));
    let refused = host.surface(paddock_guests::ASK_FOR_WASI).unwrap();
    assert!(refused.imports.iter().any(|import| import.starts_with("wasi:")), "{refused:?}");
    assert!(host.surface(b"\0asm\x01\0\0\0").is_err());
}

#[test]
fn long_text_is_cut_and_control_characters_are_removed() {
    let Ok(Answer::Idle(idle)) = misbehave(&host(), Hook::Idle, "long-reason") else { panic!() };
    assert_eq!(idle.reason.chars().count(), 256);
    assert!(idle.reason.starts_with("first line second  [31mred é"), "{:?}", idle.reason);
    assert!(idle.reason.ends_with('…'));
    let Ok(Answer::Admission(admission)) = misbehave(&host(), Hook::Admission, "long-reason") else { panic!() };
    let Verdict::Deny(message) = admission.verdict else { panic!() };
    assert_eq!(message.chars().count(), 1024);
}

#[test]
fn warnings_are_limited_in_number_and_length() {
    let Ok(Answer::Admission(admission)) = misbehave(&host(), Hook::Admission, "many-warnings") else { panic!() };
    assert_eq!(admission.warnings.len(), 16);
    assert!(admission.warnings.iter().all(|warning| warning.chars().count() == 256));
}

#[test]
fn size_out_of_bounds_is_passed_on_for_the_core_to_clamp() {
    let Ok(Answer::PoolSize(pool)) = misbehave(&host(), Hook::PoolSize, "too-many") else { panic!() };
    assert_eq!(pool.desired, u32::MAX);
}

/// The host only checks the syntax. `paddock_core::admission` decides which fields and operations a patch may contain.
#[test]
fn patch_is_passed_on_for_the_core_to_review() {
    for (mode, part) in [("forbidden-patch", "/metadata/ownerReferences"), ("stealing-patch", "/metadata/finalizers")] {
        let Ok(Answer::Admission(admission)) = misbehave(&host(), Hook::Admission, mode) else { panic!("{mode}") };
        assert!(admission.patch.is_some_and(|patch| patch.contains(part)), "{mode}");
    }
}

#[test]
fn settings_reach_the_plugin() {
    let host = host();
    let plugin = load(&host, "pool-fixed", paddock_guests::POOL_FIXED).plugin;
    for desired in [3, 17] {
        let settings = format!(r#"{{"desired":{desired}}}"#);
        let answer = host.ask(&ask(&plugin, &settings, question(Hook::PoolSize)), now()).unwrap();
        let Answer::PoolSize(pool) = answer else { panic!() };
        assert_eq!((pool.desired, pool.reason), (desired, format!("fixed at {desired}")));
    }
}

/// The log lines of a plugin reach the tracing subscriber of the thread. They carry the name of the plugin, and their
/// number is limited.
#[test]
fn log_lines_have_the_name_of_the_plugin_and_a_limit() {
    use std::sync::{Arc, Mutex};
    use tracing::field::{Field, Visit};
    use tracing::{Event, Metadata, Subscriber, span};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<String>>>);
    impl Visit for Lines {
        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            self.0.lock().unwrap().push(format!("{field}={value:?}"));
        }
    }
    impl Subscriber for Lines {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == "paddock::plugin"
        }
        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }
        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn event(&self, event: &Event<'_>) {
            event.record(&mut self.clone());
        }
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    }

    let lines = Lines::default();
    tracing::subscriber::with_default(lines.clone(), || {
        misbehave(&host(), Hook::Idle, "chatter").unwrap();
    });
    let lines = lines.0.lock().unwrap().clone();
    let of = |prefix: &str| lines.iter().filter(|line| line.starts_with(prefix)).count();
    assert_eq!((of("message=line "), of("plugin=\"misbehave\""), of("dropped=84")), (16, 17, 1), "{lines:?}");
}
