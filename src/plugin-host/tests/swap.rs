//! Plugins are loaded and removed while others answer questions.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use paddock_core::question::{Answer, FailureKind, Hook};
use paddock_plugin_host::{Host, HostConfig, Limits, Source};

use crate::common::{ONE_CALL, ask, config, host, load, now, question, until_busy};

#[test]
fn components_of_one_name_are_loaded_side_by_side() {
    let host = host();
    let one = load(&host, "sizer", paddock_guests::POOL_FIXED).plugin;
    let two = load(&host, "sizer", paddock_guests::MISBEHAVE).plugin;
    assert_ne!(one.digest, two.digest);
    assert!(host.ask(&ask(&one, "{}", question(Hook::PoolSize)), now()).is_ok());
    assert!(host.ask(&ask(&two, r#"{"mode":"behave"}"#, question(Hook::PoolSize)), now()).is_ok());
    host.unload(&one);
    let failure = host.ask(&ask(&one, "{}", question(Hook::PoolSize)), now()).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Missing);
    assert!(host.ask(&ask(&two, r#"{"mode":"behave"}"#, question(Hook::PoolSize)), now()).is_ok());
}

#[test]
fn running_call_finishes_on_the_plugin_that_it_began_with() {
    let host = Host::new(HostConfig { memory_bytes: ONE_CALL, ..config() }).unwrap();
    // A loop uses up the most fuel within 0.4 s on a fast machine, so the deadlines are much shorter.
    let limits = |milliseconds| {
        Some(Limits { fuel: Limits::MAX.fuel, deadline: Duration::from_millis(milliseconds), ..Limits::default() })
    };
    let component = paddock_guests::MISBEHAVE;
    let old = host.load(Source { name: "old", component, limits: limits(200) }).unwrap().plugin;
    let probe = host.load(Source { name: "probe", component, limits: limits(100) }).unwrap().plugin;
    let probe = ask(&probe, r#"{"mode":"behave"}"#, question(Hook::Idle));
    std::thread::scope(|scope| {
        let calling = scope.spawn(|| host.ask(&ask(&old, r#"{"mode":"spin"}"#, question(Hook::Idle)), now()));
        let _ = until_busy(&host, &probe, now(), &calling);
        host.unload(&old);
        load(&host, "new", paddock_guests::POOL_FIXED);
        // The call's own deadline stopped it, and not the removal of the plugin.
        assert_eq!(calling.join().unwrap().unwrap_err().kind, FailureKind::Deadline);
    });
}

#[test]
fn questions_are_answered_while_plugins_are_replaced() {
    let host = host();
    let fixed = load(&host, "fixed", paddock_guests::POOL_FIXED).plugin;
    let (stop, answered) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for desired in [3, 4, 5] {
            let (host, fixed, stop, answered) = (&host, &fixed, &stop, &answered);
            scope.spawn(move || {
                let ask = ask(fixed, &format!(r#"{{"desired":{desired}}}"#), question(Hook::PoolSize));
                while !stop.load(Ordering::Relaxed) {
                    let Ok(Answer::PoolSize(pool)) = host.ask(&ask, now()) else { panic!("no answer") };
                    assert_eq!(pool.desired, desired, "an answer to another question");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for round in 0..5 {
            let other = load(&host, &format!("other-{round}"), paddock_guests::MISBEHAVE).plugin;
            load(&host, "fixed", paddock_guests::POOL_FIXED);
            let reply = host.ask(&ask(&other, r#"{"mode":"panic"}"#, question(Hook::PoolSize)), now());
            assert_eq!(reply.unwrap_err().kind, FailureKind::Trap);
            host.unload(&other);
        }
        while answered.load(Ordering::Relaxed) < 100 {
            std::thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
    });
}
