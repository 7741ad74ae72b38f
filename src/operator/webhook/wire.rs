//! The wire format of reviews: `AdmissionReview` of `admission.k8s.io/v1`, as a request and as a response.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use paddock_core::admission::{Denial, Entry, Phase, Review, ReviewVerdict, Verb, Write};
use paddock_core::text::{MESSAGE_BYTES, elide};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// The longest message of a denial, in bytes. It has a line for each invalid field, of which there are 33 at most.
const DENIAL_BYTES: usize = 32 * MESSAGE_BYTES;

/// The reason why a body is not a review.
#[derive(Debug, thiserror::Error)]
pub(super) enum Malformed {
    #[error("the body is not an AdmissionReview: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the body is a {kind} of {api_version}, but must be an {KIND} of {API_VERSION}")]
    Kind { kind: String, api_version: String },
    #[error("the AdmissionReview has no request")]
    NoRequest,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Incoming {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    request: Option<Request>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    uid: String,
    kind: GroupVersionKind,
    resource: GroupVersionResource,
    #[serde(default)]
    sub_resource: Option<String>,
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
    operation: Operation,
    #[serde(default)]
    user_info: UserInfo,
    #[serde(default)]
    object: Value,
    #[serde(default)]
    old_object: Value,
    #[serde(default)]
    dry_run: Option<bool>,
    #[serde(default)]
    options: Option<Options>,
}

/// The options of the request. Their kind says whether it is a PATCH or a PUT.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Options {
    kind: String,
    field_manager: String,
}

#[derive(Deserialize)]
struct GroupVersionKind {
    #[serde(default)]
    group: String,
    version: String,
    kind: String,
}

#[derive(Deserialize)]
struct GroupVersionResource {
    #[serde(default)]
    group: String,
    resource: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct UserInfo {
    username: String,
    groups: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// The UID of a request, which the response repeats, and the review.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) uid: String,
    pub(super) review: Review,
}

/// Parses the body of a request.
pub(super) fn read(body: &[u8], phase: Phase, entry: Entry, now: Timestamp) -> Result<Asked, Malformed> {
    let Incoming { api_version, kind, request } = serde_json::from_slice(body)?;
    if kind != KIND || api_version != API_VERSION {
        return Err(Malformed::Kind { kind, api_version });
    }
    let request = request.ok_or(Malformed::NoRequest)?;
    let options = request.options.unwrap_or_default();
    let review = Review {
        phase,
        entry,
        operation: match request.operation {
            Operation::Create => Verb::Create,
            Operation::Update => Verb::Update,
            Operation::Delete => Verb::Delete,
            Operation::Connect => Verb::Connect,
        },
        group: request.resource.group,
        version: request.kind.version,
        kind: request.kind.kind,
        resource: request.resource.resource,
        subresource: request.sub_resource.filter(|s| !s.is_empty()),
        namespace: request.namespace,
        name: request.name,
        object: request.object,
        old_object: request.old_object,
        write: Write {
            is_patch: options.kind == "PatchOptions",
            manager: Some(options.field_manager).filter(|manager| !manager.is_empty()),
        },
        dry_run: request.dry_run.unwrap_or(false),
        username: request.user_info.username,
        groups: request.user_info.groups.unwrap_or_default(),
        now,
    };
    // `kind.group` is the group of the object. For subresources of a Pod it is the group of the options.
    debug_assert!(request.kind.group == review.group || review.subresource.is_some());
    Ok(Asked { uid: request.uid, review })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer {
    api_version: &'static str,
    kind: &'static str,
    response: Response,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    uid: String,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    audit_annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// The response to a review.
pub(super) fn answer(asked: &Asked, verdict: ReviewVerdict) -> Result<Answer, serde_json::Error> {
    let Asked { uid, review } = asked;
    let patch =
        if verdict.patch.is_empty() { None } else { Some(STANDARD.encode(serde_json::to_vec(&verdict.patch)?)) };
    let response = Response {
        uid: uid.clone(),
        allowed: verdict.denial.is_none(),
        status: verdict.denial.map(|denial| status(review, denial)),
        patch_type: patch.as_ref().map(|_| "JSONPatch"),
        patch,
        audit_annotations: verdict.audit,
        warnings: verdict.warnings,
    };
    Ok(Answer { api_version: API_VERSION, kind: KIND, response })
}

/// The response that admits a request which needs no review.
pub(super) fn admission_without_review(uid: String) -> Answer {
    Answer { api_version: API_VERSION, kind: KIND, response: Response { uid, allowed: true, ..Response::default() } }
}

/// The response that denies a request whose review failed.
pub(super) fn denial_without_review(uid: String, (code, reason): (u16, &str), message: &str) -> Answer {
    let response = Response {
        uid,
        allowed: false,
        status: Some(json!({
            "status": "Failure", "code": code, "reason": reason, "message": elide(message, MESSAGE_BYTES),
        })),
        ..Response::default()
    };
    Answer { api_version: API_VERSION, kind: KIND, response }
}

/// The UID of a request from the first bytes of its body. An API server writes it before every other field of the request,
/// so it is known even if the rest of the body is not read. A response needs it.
pub(super) fn uid(head: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(head);
    let (_, request) = text.split_once("\"request\"")?;
    let mut rest = request;
    for token in [":", "{", "\"uid\"", ":", "\""] {
        rest = rest.trim_start().strip_prefix(token)?;
    }
    let (uid, _) = rest.split_once('"')?;
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
    (!uid.is_empty() && uid.chars().all(fits)).then(|| uid.to_owned())
}

fn status(review: &Review, denial: Denial) -> Value {
    let code = denial.why.code();
    let reason = match code {
        422 => "Invalid",
        503 => "ServiceUnavailable",
        _ => "Forbidden",
    };
    let causes: Vec<Value> = denial
        .causes
        .into_iter()
        .map(|cause| {
            let [field, message] = [cause.field, cause.message].map(|text| elide(text, MESSAGE_BYTES));
            json!({ "reason": "FieldValueInvalid", "field": field, "message": message })
        })
        .collect();
    json!({
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": elide(denial.message, DENIAL_BYTES),
        "details": { "name": review.name, "group": review.group, "kind": review.kind, "causes": causes },
    })
}

/// A `Status` for a call that got no review.
pub(super) fn failure(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {},
        "status": "Failure", "code": code, "reason": reason, "message": elide(message, MESSAGE_BYTES),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use paddock_core::admission::{Cause, Why};

    fn body() -> Value {
        json!({
            "apiVersion": API_VERSION, "kind": KIND,
            "request": {
                "uid": "u-1",
                "kind": { "group": "", "version": "v1", "kind": "PodExecOptions" },
                "resource": { "group": "", "version": "v1", "resource": "pods" },
                "subResource": "exec", "name": "a", "namespace": "agents", "operation": "CONNECT",
                "userInfo": { "username": "ada" },
                "object": { "kind": "PodExecOptions" }, "oldObject": null, "dryRun": false, "options": null,
            },
        })
    }

    fn now() -> Timestamp {
        "2026-11-23T12:00:00Z".parse().expect("a time")
    }

    #[test]
    fn a_review_is_read_as_it_comes() {
        let asked = read(body().to_string().as_bytes(), Phase::Validate, Entry::Connect, now()).expect("a review");
        assert_eq!(asked.uid, "u-1");
        let review = asked.review;
        assert_eq!((review.operation, review.subresource.as_deref()), (Verb::Connect, Some("exec")));
        assert_eq!((review.namespace.as_str(), review.name.as_str(), review.username.as_str()), ("agents", "a", "ada"));
        assert!(!review.dry_run && review.old_object.is_null());
    }

    #[test]
    fn uid_is_known_from_the_first_bytes() {
        let whole = r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"a-1","kind":{"#;
        assert_eq!(uid(whole.as_bytes()).as_deref(), Some("a-1"));
        assert_eq!(uid(b"{ \"request\" : { \"uid\" : \"b\" }").as_deref(), Some("b"));
        for head in
            ["", "{", r#"{"request":{"kind":{"uid":"a"}"#, r#"{"request":{"uid":"a"#, r#"{"request":{"uid":"<"}"#]
        {
            assert_eq!(uid(head.as_bytes()), None, "{head}");
        }
    }

    #[test]
    fn what_is_no_review_is_refused_with_what_would_be() {
        let mut old = body();
        old["apiVersion"] = "admission.k8s.io/v1beta1".into();
        let mut empty = body();
        empty["request"] = Value::Null;
        let mut odd = body();
        odd["request"]["operation"] = "PROXY".into();
        for (body, part) in [
            ("".to_owned(), "not an AdmissionReview"),
            ("[]".to_owned(), "not an AdmissionReview"),
            (old.to_string(), "must be an AdmissionReview of admission.k8s.io/v1"),
            (empty.to_string(), "no request"),
            (odd.to_string(), "PROXY"),
        ] {
            let error = read(body.as_bytes(), Phase::Mutate, Entry::OwnKinds, now()).expect_err("refused").to_string();
            assert!(error.contains(part), "{body}: {error}");
        }
    }

    #[test]
    fn a_denial_names_its_fields() {
        let asked = read(body().to_string().as_bytes(), Phase::Validate, Entry::Connect, now()).expect("a review");
        let causes = vec![Cause { field: "spec.replicas".to_owned(), message: "must be 0 or 1".to_owned() }];
        let denial = Denial { why: Why::Invalid, message: "spec.replicas: must be 0 or 1".to_owned(), causes };
        let verdict = ReviewVerdict { denial: Some(denial), ..ReviewVerdict::default() };
        let answer = serde_json::to_value(answer(&asked, verdict).expect("JSON")).expect("JSON");
        assert_eq!(answer["response"]["uid"], "u-1");
        assert_eq!(answer["response"]["allowed"], false);
        assert_eq!(answer["response"]["status"]["code"], 422);
        assert_eq!(answer["response"]["status"]["details"]["causes"][0]["field"], "spec.replicas");
        assert_eq!(answer["response"].get("patch"), None);
    }

    #[test]
    fn denial_about_a_long_value_is_short() {
        let asked = read(body().to_string().as_bytes(), Phase::Validate, Entry::Connect, now()).expect("a review");
        let message = "x".repeat(1024 * 1024);
        let causes = vec![Cause { field: message.clone(), message: message.clone() }];
        let denial = Denial { why: Why::Invalid, message: message.clone(), causes };
        let verdict = ReviewVerdict { denial: Some(denial), ..ReviewVerdict::default() };
        let denied = serde_json::to_string(&answer(&asked, verdict).expect("JSON")).expect("JSON");
        let failed = denial_without_review("u".to_owned(), (400, "BadRequest"), &message);
        let failed = serde_json::to_string(&failed).expect("JSON");
        let refused = failure(400, "BadRequest", &message).to_string();
        for (text, most) in [(denied, DENIAL_BYTES + 4096), (failed, 2048), (refused, 2048)] {
            assert!(text.len() < most, "{} bytes", text.len());
        }
    }
}
