//! The outcome and the load signal of each kind of response.

use paddock_api::kind::Kind;
use paddock_core::plan::Reason;
use paddock_core::text::MESSAGE_BYTES;
use serde_json::json;

use super::*;

fn create() -> Op {
    op(Action::Create { body: json!({}) })
}

fn patch() -> Op {
    op(Action::Patch { uid: "u".into(), resource_version: None, status: false, body: json!({}) })
}

fn delete() -> Op {
    op(Action::Delete { uid: "u".into(), resource_version: None, foreground: false })
}

fn delete_version() -> Op {
    op(Action::Delete { uid: "u".into(), resource_version: Some("11".into()), foreground: false })
}

fn op(action: Action) -> Op {
    Op { key: Key::new(Kind::Pod, "ns", "p"), reason: Reason::PodMissing, action }
}

/// A refusal in the API server's own form.
fn refusal(code: u16, reason: &str) -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": "m" })
}

fn read(op: &Op, code: u16, body: &Value) -> String {
    read_with(op, code, body.to_string().as_bytes(), None)
}

fn read_with(op: &Op, code: u16, body: &[u8], retry_after: Option<&str>) -> String {
    let mut headers = HeaderMap::new();
    if let Some(value) = retry_after {
        headers.insert(http::header::RETRY_AFTER, value.parse().unwrap());
    }
    let reply = Reply::read(op, StatusCode::from_u16(code).unwrap(), &headers, body, |_| None);
    let outcome = match reply.outcome {
        Outcome::Stored(object) => format!("stored {}@{}", object.key.name, object.meta.version),
        Outcome::Rejected { status, .. } => format!("rejected {status}"),
        other @ (Outcome::Gone | Outcome::Conflict | Outcome::Exists | Outcome::Busy | Outcome::Unknown) => {
            format!("{other:?}").to_lowercase()
        }
    };
    match reply.signal {
        Signal::Served => outcome,
        Signal::Busy(None) => format!("{outcome}; busy"),
        Signal::Busy(Some(wait)) => format!("{outcome}; busy for {}s", wait.as_secs()),
        Signal::Lost => format!("{outcome}; lost"),
    }
}

#[test]
fn what_was_stored_is_read() {
    let pod = json!({ "metadata": { "name": "p", "namespace": "ns", "uid": "u", "resourceVersion": "12" } });
    assert_eq!(read(&create(), 201, &pod), "stored p@12");
    assert_eq!(read(&patch(), 200, &pod), "stored p@12");
    assert_eq!(read_with(&patch(), 200, b"<html>", None), "unknown");
}

#[test]
fn a_deleted_object_is_gone_unless_it_lingers() {
    let with = |metadata: Value| {
        let mut pod = json!({ "metadata": { "name": "p", "namespace": "ns", "uid": "u", "resourceVersion": "12" } });
        pod["metadata"].as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
        read(&delete(), 200, &pod)
    };
    let stamp = "2026-01-01T00:00:00Z";
    assert_eq!(with(json!({ "deletionTimestamp": stamp, "deletionGracePeriodSeconds": 30 })), "stored p@12");
    assert_eq!(with(json!({ "deletionTimestamp": stamp, "finalizers": ["f"] })), "stored p@12");
    assert_eq!(with(json!({ "deletionTimestamp": stamp, "deletionGracePeriodSeconds": 0 })), "gone");
    assert_eq!(with(json!({})), "gone");
    let status = json!({ "kind": "Status", "status": "Success", "details": { "name": "p", "uid": "u" } });
    assert_eq!(read(&delete(), 200, &status), "gone");
}

#[test]
fn what_is_not_there_is_gone_but_for_a_create() {
    let mut missing = refusal(404, "NotFound");
    // The API server does not know the kind, so the reply says nothing about the object.
    assert_eq!(read(&patch(), 404, &missing), "busy");
    assert_eq!(read(&delete(), 404, &missing), "busy");
    assert_eq!(read(&create(), 404, &missing), "rejected 404");
    missing["details"] = json!({ "name": "p", "kind": "pods" });
    assert_eq!(read(&patch(), 404, &missing), "gone");
    assert_eq!(read(&delete(), 404, &missing), "gone");
}

#[test]
fn a_409_is_told_apart_by_verb_and_reason() {
    assert_eq!(read(&create(), 409, &refusal(409, "AlreadyExists")), "exists");
    assert_eq!(read(&create(), 409, &refusal(409, "Conflict")), "conflict");
    assert_eq!(read(&patch(), 409, &refusal(409, "Conflict")), "conflict");
    assert_eq!(read(&delete(), 409, &refusal(409, "Conflict")), "gone");
    assert_eq!(read(&delete_version(), 409, &refusal(409, "Conflict")), "conflict");
}

#[test]
fn refusals_for_good_and_for_now() {
    for (code, reason) in [(400, "BadRequest"), (401, "Unauthorized"), (403, "Forbidden"), (422, "Invalid")] {
        assert_eq!(read(&create(), code, &refusal(code, reason)), format!("rejected {code}"));
    }
    let busy = refusal(429, "TooManyRequests").to_string();
    assert_eq!(read_with(&create(), 429, busy.as_bytes(), Some("5")), "busy; busy for 5s");
    assert_eq!(read_with(&create(), 429, b"Too many requests, please try again later.\n", None), "busy; busy");
    assert_eq!(read(&create(), 503, &refusal(503, "ServiceUnavailable")), "busy; busy");
}

#[test]
fn message_of_a_refusal_is_short() {
    for code in [404, 422] {
        let mut body = refusal(code, "Invalid");
        body["message"] = "x".repeat(60_000).into();
        let body = body.to_string();
        let reply =
            Reply::read(&create(), StatusCode::from_u16(code).unwrap(), &HeaderMap::new(), body.as_bytes(), |_| None);
        let Outcome::Rejected { message, .. } = reply.outcome else { panic!("{code}: {:?}", reply.outcome) };
        assert!(message.len() <= MESSAGE_BYTES, "{code}: {} bytes", message.len());
    }
}

/// Each refusal has the form in which the API server writes it.
#[test]
fn refusals_by_policies_are_told_from_the_api_servers_own() {
    let of_pod = |causes: Value| json!({ "name": "p", "kind": "pods", "causes": causes });
    let none = json!([]);
    for (what, code, reason, details, expected) in [
        ("missing right", 403, "Forbidden", of_pod(none.clone()), false),
        ("quota", 403, "Forbidden", of_pod(none.clone()), false),
        (
            "terminating",
            403,
            "Forbidden",
            of_pod(json!([{ "reason": "NamespaceTerminating", "field": "metadata.namespace" }])),
            false,
        ),
        ("invalid field", 422, "Invalid", of_pod(json!([{ "reason": "FieldValueInvalid", "field": "spec" }])), false),
        ("bad request", 400, "BadRequest", Value::Null, false),
        ("webhook", 403, "Forbidden", Value::Null, true),
        ("webhook", 403, "Forbidden", json!({}), true),
        ("webhook without a code", 400, "", Value::Null, true),
        (
            "our webhook",
            403,
            "Forbidden",
            json!({ "causes": [{ "message": "no", "field": "spec.hostNetwork" }] }),
            true,
        ),
        ("PodSecurity", 403, "Forbidden", of_pod(json!([{ "reason": "FieldValueForbidden", "field": "spec" }])), true),
        ("ValidatingAdmissionPolicy", 422, "Invalid", of_pod(json!([{ "message": "no" }])), true),
        ("ValidatingAdmissionPolicy", 413, "RequestEntityTooLarge", of_pod(json!([{ "message": "no" }])), true),
        ("ValidatingAdmissionPolicy", 403, "Forbidden", of_pod(json!([{ "message": "no" }])), true),
    ] {
        let mut body = refusal(code, reason);
        body["details"] = details;
        let body = body.to_string();
        let reply =
            Reply::read(&create(), StatusCode::from_u16(code).unwrap(), &HeaderMap::new(), body.as_bytes(), |_| None);
        let Outcome::Rejected { by_policy, .. } = reply.outcome else { panic!("{what}: {:?}", reply.outcome) };
        assert_eq!(by_policy, expected, "{what}: {body}");
    }
}

#[test]
fn what_may_have_been_stored_is_unknown() {
    assert_eq!(read(&create(), 500, &refusal(500, "InternalError")), "unknown");
    assert_eq!(read(&create(), 504, &refusal(504, "Timeout")), "unknown");
    assert_eq!(read(&create(), 408, &refusal(408, "Timeout")), "unknown");
    for code in [302, 404, 409, 500, 502, 503, 504] {
        assert_eq!(read_with(&create(), code, b"<html>proxy</html>", None), "unknown; lost", "{code}");
        assert_eq!(read_with(&create(), code, b"{}", None), "unknown; lost", "{code}");
    }
}
