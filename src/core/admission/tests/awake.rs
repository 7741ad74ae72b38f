//! Tests of the annotations about the idle policy: which values are denied, and which have no effect.

use super::kinds::{SANDBOX, create, sandbox, update};
use super::warnings::warnings;
use super::*;

const KEEP_AWAKE_UNTIL: &str = "policy.paddock.dev/keep-awake-until";
const IDLE_SINCE: &str = "policy.paddock.dev/idle-since";
const LAST_ACTIVITY: &str = "policy.paddock.dev/last-activity";

fn annotated(name: &str, value: &str) -> Value {
    let mut object = sandbox(json!({ "idleTimeout": "10m" }));
    object["metadata"]["annotations"] = json!({ name: value });
    object
}

#[test]
fn a_wish_that_is_not_allowed_is_denied_with_its_field() {
    for (name, value, wanted) in [
        (KEEP_AWAKE_UNTIL, "2026-11-24T12:30:00Z", Some("at most 24h after the present time")),
        (KEEP_AWAKE_UNTIL, "tomorrow", Some("must be a time in RFC 3339 format")),
        (IDLE_SINCE, "2026-11-23T12:30:00Z", Some("not later than the present time")),
        (IDLE_SINCE, "true", Some("must be a time in RFC 3339 format")),
        (LAST_ACTIVITY, "2026-11-24T12:05:01Z", Some("at most 24h after the present time")),
        (LAST_ACTIVITY, "yesterday", Some("must be a time in RFC 3339 format")),
        (LAST_ACTIVITY, "2026-11-24T12:04:59Z", None),
        (LAST_ACTIVITY, "2026-11-23T11:00:00Z", None),
        (KEEP_AWAKE_UNTIL, "2026-11-24T12:00:00Z", None),
        (IDLE_SINCE, "2026-11-23T12:00:00Z", None),
    ] {
        let new = annotated(name, value);
        let plain = sandbox(json!({ "idleTimeout": "10m" }));
        for review in [create(SANDBOX, new.clone()), update(SANDBOX, plain, new.clone())] {
            let (_, outcome) = decide(&Review { phase: Phase::Validate, ..review }, &context(), gvisor);
            let message = outcome.denial.map(|denial| denial.message);
            assert_eq!(message.is_some(), wanted.is_some(), "{value}: {message:?}");
            if let (Some(message), Some(wanted)) = (message, wanted) {
                let field = format!("metadata.annotations[{name}]");
                assert!(message.contains(&field) && message.contains(wanted), "{value}: {message}");
            }
        }
        // Somebody may have stored it while the webhook was away, and must still be able to change the object.
        let kept = warnings(update(SANDBOX, new.clone(), new));
        assert_eq!(kept.len(), usize::from(wanted.is_some()), "{value}: {kept:?}");
    }
}

#[test]
fn a_wish_without_an_idle_timeout_is_told() {
    for name in [KEEP_AWAKE_UNTIL, IDLE_SINCE] {
        let mut without = annotated(name, "2026-11-23T12:00:00Z");
        without["spec"]["idleTimeout"] = Value::Null;
        let warned = warnings(create(SANDBOX, without.clone()));
        assert!(warned.len() == 1 && warned[0].contains("never idle without spec.idleTimeout"), "{warned:?}");
        assert_eq!(warnings(update(SANDBOX, without.clone(), without)), [""; 0], "it was there before");
        assert_eq!(warnings(create(SANDBOX, annotated(name, "2026-11-23T12:00:00Z"))), [""; 0]);
    }
}
