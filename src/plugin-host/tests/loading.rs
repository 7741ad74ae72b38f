//! Valid components are loaded. Invalid components are refused with the reason.

use std::sync::mpsc::channel;

use paddock_core::question::{FailureKind, Hook};
use paddock_plugin_host::{Host, HostConfig, Limits, LoadError, SettingsError, Source, componentize};

use crate::common::{config, host, load, now};

fn refusal(component: &[u8]) -> LoadError {
    let host = host();
    let error = host.load(Source { name: "bad", component, limits: None }).unwrap_err();
    assert_eq!(host.plugins(now()), [], "a refused component is not there");
    error
}

#[test]
fn component_is_read_before_it_runs() {
    let plugin = load(&host(), "misbehave", paddock_guests::MISBEHAVE);
    assert_eq!((&*plugin.wit_version, &*plugin.hooks), ("0.1.0", &Hook::ALL[..]));
    let plugin = load(&host(), "pool-fixed", paddock_guests::POOL_FIXED);
    assert_eq!((&*plugin.wit_version, &*plugin.hooks), ("0.2.0", &[Hook::PoolSize][..]));
    assert!(plugin.plugin.digest.starts_with("sha256:") && plugin.plugin.digest.len() == 71);
}

#[test]
fn compilation_is_reported_once_for_the_same_bytes() {
    let (report, compiled) = channel();
    let host = host().on_compiled(move |plugin, took| report.send((plugin.to_owned(), took)).unwrap());
    load(&host, "first", paddock_guests::POOL_FIXED);
    load(&host, "second", paddock_guests::POOL_FIXED);
    host.load(Source { name: "broken", component: b"\0asm\x0d\0\x01\0", limits: None }).unwrap_err();
    let reports: Vec<_> = compiled.try_iter().collect();
    let [(plugin, took)] = reports.as_slice() else { panic!("{reports:?}") };
    assert!(plugin == "first" && !took.is_zero(), "{reports:?}");
}

#[test]
fn imports_beyond_logging_are_refused_by_name() {
    assert_eq!(refusal(paddock_guests::ASK_FOR_MORE), LoadError::Import("example:net/fetch@1.0.0".into()));
    assert_eq!(refusal(paddock_guests::ASK_FOR_WASI), LoadError::Wasi("wasi:clocks/wall-clock@0.2.0".into()));
}

#[test]
fn component_of_an_unsupported_version_is_refused_with_the_supported_ones() {
    let error = refusal(paddock_guests::FROM_THE_FUTURE).to_string();
    assert_eq!(
        error,
        "paddock:policy/pool-size@0.9.0 belongs to version \"0.9.0\" of paddock:policy, but this host supports 0.1.0 \
         and 0.2.0"
    );
}

#[test]
fn bytes_that_are_no_component_are_refused() {
    assert_eq!(refusal(b"NAME: not wasm"), LoadError::NotWasm);
    assert_eq!(refusal(b"\0asm\x01\0\0\0"), LoadError::CoreModule);
    assert_eq!(refusal(b"\0asm\x0d\0\x01\0"), LoadError::NoHooks);
}

#[test]
fn incomplete_component_is_refused() {
    let whole = paddock_guests::POOL_FIXED;
    for part in [9, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
        let error = refusal(&whole[..part]);
        assert!(matches!(error, LoadError::Compile(_)), "{part}: {error}");
    }
}

#[test]
fn component_that_is_too_large_is_refused() {
    let host = Host::new(HostConfig { component_bytes: 1000, ..config() }).unwrap();
    let component = paddock_guests::POOL_FIXED;
    let error = host.load(Source { name: "large", component, limits: None }).unwrap_err();
    assert_eq!(error, LoadError::TooLarge { size: component.len(), limit: 1000 });
}

#[test]
fn component_that_cannot_start_within_its_memory_is_refused() {
    let limits = Some(Limits { memory_bytes: 64 << 10, ..Limits::default() });
    let source = Source { name: "small", component: paddock_guests::POOL_FIXED, limits };
    let error = host().load(source).unwrap_err();
    assert_eq!(error, LoadError::Start("wanted more than 65536 bytes of memory".into()));
}

#[test]
fn limits_are_cut_to_those_of_the_host() {
    let asked = Limits { memory_bytes: usize::MAX, fuel: 7, deadline: std::time::Duration::MAX };
    let host = host();
    let given = |limits| host.load(Source { name: "p", component: paddock_guests::POOL_FIXED, limits }).unwrap().limits;
    assert_eq!(given(Some(asked)), Limits { fuel: 7, ..Limits::MAX });
    assert_eq!(given(None), config().limits);
}

#[test]
fn settings_are_checked_before_a_plugin_is_admitted() {
    let host = host();
    let source = Source { name: "pool-fixed", component: paddock_guests::POOL_FIXED, limits: None };
    let candidate = host.prepare(source).unwrap();
    let check = |settings| host.check_settings(&candidate, Hook::PoolSize, settings);
    assert_eq!(check("{}"), Ok(()));
    assert_eq!(check(r#"{"desired":3}"#), Ok(()));
    for (settings, says) in [
        (r#"{"desired":"3"}"#, "/desired: must be an integer, is a string"),
        (r#"{"desird":3}"#, "/desird: unknown field; the schema has desired"),
        ("[]", "not a JSON object"),
        ("{", "not a JSON object"),
    ] {
        let Err(SettingsError::Refused(failure)) = check(settings) else { panic!("{settings} is accepted") };
        assert_eq!(failure.kind, FailureKind::Error, "{settings}");
        assert!(failure.message.contains(says), "{settings}: {}", failure.message);
    }
    let error = host.check_settings(&candidate, Hook::Idle, "{}").unwrap_err().to_string();
    assert!(error.contains("no hook"), "{error}");
    assert_eq!(host.plugins(now()), [], "a candidate is not there before it is admitted");
    host.admit(candidate);
    assert_eq!(host.plugins(now()).len(), 1);
}

#[test]
fn component_of_a_module_without_a_world_has_no_hooks() {
    // A valid core module that contains nothing.
    let component = componentize(b"\0asm\x01\0\0\0").unwrap();
    assert_eq!(refusal(&component), LoadError::NoHooks);
    assert!(componentize(b"rubbish").is_err());
}
