//! Settings are compared with the schema of their plugin, which is read when the component is loaded.

use std::time::{Duration, Instant};

use paddock_core::question::{FailureKind, Hook};
use paddock_guests::with_schema;
use paddock_plugin_host::{BUILT_INS, Candidate, Host, LoadError, SettingsError, Source};
use serde_json::json;

use crate::common::{host, now};

fn prepare(host: &Host, component: &[u8]) -> Result<Candidate, LoadError> {
    host.prepare(Source { name: "p", component, limits: None })
}

/// The message about settings. Empty if they are valid.
fn checked(host: &Host, candidate: &Candidate, hook: Hook, settings: &str) -> String {
    match host.check_settings(candidate, hook, settings) {
        Ok(()) => String::new(),
        Err(SettingsError::Refused(failure)) => {
            assert_eq!(failure.kind, FailureKind::Error, "{settings}");
            failure.message
        }
        Err(error @ SettingsError::Busy(_)) => error.to_string(),
    }
}

#[test]
fn settings_are_compared_with_the_schema_and_then_checked_by_the_plugin() {
    let host = host();
    let former = prepare(&host, paddock_guests::REPEAT_V0_1_0).unwrap();
    let latest = prepare(&host, paddock_guests::REPEAT_V0_2_0).unwrap();
    for (settings, of_former, of_latest) in [
        (r#"{"part":1}"#, "", ""),
        (r#"{"part":"1"}"#, "part: invalid type: string", "/part: must be an integer, is a string"),
        (r#"{"part":1001}"#, "", "/part: must be at most 1000, is 1001"),
        (r#"{"prat":1}"#, "prat: unknown field", "/prat: unknown field; the schema has part"),
        (r#"{"part":999}"#, "part: must be another one", "part: must be another one"),
    ] {
        for (candidate, expected) in [(&former, of_former), (&latest, of_latest)] {
            let message = checked(&host, candidate, Hook::PoolSize, settings);
            assert!(
                message.starts_with(expected) && message.is_empty() == expected.is_empty(),
                "{settings}: {message}"
            );
        }
    }
    assert_eq!(former.settings_schema(Hook::PoolSize), None);
    let schema = latest.settings_schema(Hook::PoolSize).unwrap();
    assert_eq!(schema.pointer("/properties/part/maximum"), Some(&json!(1000)));
}

#[test]
fn schemas_of_the_built_ins_accept_what_the_plugins_accept() {
    let host = host();
    let built_in = |name: &str| {
        let built_in = BUILT_INS.iter().find(|built_in| built_in.name == name).unwrap();
        (prepare(&host, built_in.component).unwrap(), built_in.hook)
    };
    for (name, good, bad) in [
        (
            "pool-by-demand",
            vec![
                r#"{"serviceLevel":0.5,"refillSeconds":0.1,"halfLifeBuckets":86400,"peakBuckets":1,"releaseSeconds":1}"#,
                r#"{"serviceLevel":0.9999,"refillSeconds":86400,"peakBuckets":4294967295,"releaseSeconds":86400.0}"#,
            ],
            vec![
                (r#"{"serviceLevel":1}"#, "/serviceLevel: must be at most 0.9999, is 1"),
                (r#"{"refillSeconds":0}"#, "/refillSeconds: must be at least 0.1, is 0"),
                (r#"{"halfLifeBuckets":"5"}"#, "/halfLifeBuckets: must be a number, is a string"),
                (r#"{"peakBuckets":0}"#, "/peakBuckets: must be at least 1, is 0"),
                (r#"{"releaseSeconds":86401}"#, "/releaseSeconds: must be at most 86400, is 86401"),
                (
                    r#"{"relaseSeconds":1}"#,
                    "/relaseSeconds: unknown field; the schema has halfLifeBuckets, peakBuckets, refillSeconds, \
                     releaseSeconds, serviceLevel",
                ),
            ],
        ),
        (
            "pool-seasonal",
            vec![
                r#"{"hitRate":0.5,"learnWeeks":1,"memoryWeeks":12,"refillSeconds":0.1,"peakBuckets":4294967295}"#,
                r#"{"hitRate":0.9999,"learnWeeks":12,"memoryWeeks":1,"halfLifeBuckets":86400,"releaseSeconds":1}"#,
            ],
            vec![
                (r#"{"hitRate":1}"#, "/hitRate: must be at most 0.9999, is 1"),
                (r#"{"learnWeeks":13}"#, "/learnWeeks: must be at most 12, is 13"),
                (r#"{"memoryWeeks":"four"}"#, "/memoryWeeks: must be an integer, is a string"),
            ],
        ),
        (
            "idle-timeout",
            vec![
                r#"{"tiers":["throttle","suspend","hibernate","delete"]}"#,
                r#"{"throttleAfterSeconds":null,"cpuMillicores":4294967295}"#,
                r#"{"throttleAfterSeconds":18446744073709551615,"cpuMillicores":1}"#,
            ],
            vec![
                (r#"{"tiers":[]}"#, "/tiers: must have at least 1 item, has 0"),
                (
                    r#"{"tiers":["suspend","sleep"]}"#,
                    "/tiers/1: must be one of \"throttle\", \"suspend\", \"hibernate\", \"delete\"",
                ),
                (r#"{"throttleAfterSeconds":0}"#, "/throttleAfterSeconds: must be at least 1, is 0"),
                (r#"{"cpuMillicores":"100m"}"#, "/cpuMillicores: must be null or an integer, is a string"),
            ],
        ),
    ] {
        let (candidate, hook) = built_in(name);
        for settings in good.into_iter().chain(["{}"]) {
            assert_eq!(checked(&host, &candidate, hook, settings), "", "{settings}");
        }
        for (settings, message) in bad {
            assert_eq!(checked(&host, &candidate, hook, settings), message, "{settings}");
        }
    }
    for former in ["require-isolation", "runtime-class-by-label"] {
        let (candidate, hook) = built_in(former);
        assert_eq!((&*candidate.plugin().wit_version, candidate.settings_schema(hook)), ("0.1.0", None));
    }
}

#[test]
fn component_whose_schema_has_a_fault_is_refused_with_the_reason() {
    let host = host();
    for (schema, part) in [
        ("{}", ""),
        (r#"{"properties":{"a":{"type":"integer"}}}"#, ""),
        ("", "not JSON"),
        ("{\"type\": ", "not JSON"),
        (r#"{"type":"text"}"#, "/type"),
        (r#"{"$ref":"https://example.com/schema.json"}"#, "other documents are not loaded"),
        (r##"{"items":{"$ref":"#"}}"##, "contains itself"),
        (r#"{"properties":{"a":{"pattern":"(((a{1000}){1000}){1000})"}}}"#, "positions"),
        ("large", "must have at most 64 KiB"),
        ("huge", ""),
        ("spin", "units of fuel"),
        ("panic", "unreachable"),
    ] {
        let prepared = prepare(&host, &with_schema(schema).unwrap());
        if part.is_empty() && schema != "huge" {
            assert_eq!(prepared.unwrap().settings_schema(Hook::PoolSize).unwrap().to_string(), schema);
            continue;
        }
        let Err(LoadError::Schema { hook: "pool-size", reason }) = prepared else { panic!("{schema}: {prepared:?}") };
        assert!(reason.contains(part), "{schema}: {reason}");
    }
    assert_eq!(host.plugins(now()), [], "a refused component is not there");
}

#[test]
fn pattern_that_would_be_catastrophic_elsewhere_ends_soon() {
    let host = host();
    let component = with_schema(r#"{"properties":{"a":{"pattern":"^(a+)+$"}}}"#).unwrap();
    let candidate = prepare(&host, &component).unwrap();
    let started = Instant::now();
    let settings = json!({ "a": format!("{}!", "a".repeat(50_000)) }).to_string();
    let message = checked(&host, &candidate, Hook::PoolSize, &settings);
    assert!(message.starts_with("/a: must match the pattern ^(a+)+$"), "{message}");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}
