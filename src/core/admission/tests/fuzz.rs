//! A fuzzer of admission: arbitrary objects, whose values may have any type. No review panics, and nothing that any
//! source marks as generated code is admitted without isolation.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{TestCaseError, TestRunner};

use super::*;
use crate::isolation::{ClassRule, HostAccessSet, PodFields, host_access};
use crate::marker::{Marker, marker_of_object};
use crate::object::json::string_map;

const MARKER: &str = "policy.paddock.dev/generated-code";
/// The names of the fields that reviews read, so that random objects contain them often.
const FIELDS: [&str; 40] = [
    "metadata",
    "spec",
    "labels",
    "annotations",
    "podTemplate",
    "template",
    "containers",
    "initContainers",
    "volumes",
    "ephemeralContainers",
    "securityContext",
    "hostNetwork",
    "hostPID",
    "hostPath",
    "privileged",
    "capabilities",
    "add",
    "ports",
    "hostPort",
    "runtimeClassName",
    "image",
    "name",
    "ownerReferences",
    "kind",
    "uid",
    "controller",
    "replicas",
    "operatingMode",
    "resumePolicy",
    "idleTimeout",
    "volumeClaimTemplates",
    "warmPoolRef",
    "templateRef",
    "status",
    "deletionTimestamp",
    "finalizers",
    "seccompProfile",
    "type",
    "emptyDir",
    MARKER,
];

/// Arbitrary JSON with the names of real fields.
fn json_value() -> impl Strategy<Value = Value> {
    let text = select(&["", "true", "false", "yes", "gvisor", "runc", "kata", "Running", "SandboxClaim", "a"][..]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2_i64..3).prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(select(&FIELDS[..]), inner, 0..5).prop_map(|fields| fields
                .into_iter()
                .map(|(k, v)| (k.to_owned(), v))
                .collect::<serde_json::Map<_, _>>()
                .into()),
        ]
    })
}

fn marker() -> impl Strategy<Value = Option<&'static str>> {
    select(&[None, None, Some("true"), Some("false"), Some("yes")][..])
}

/// An object that is near to a valid one: one of its parts is arbitrary.
fn object() -> impl Strategy<Value = Value> {
    let class = select(&[None, Some("gvisor"), Some("runc"), Some("kata"), Some("")][..]);
    let place = select(&["/spec", "/metadata", "/spec/podTemplate", "/spec/containers/0", "/spec/hostPID", ""][..]);
    (marker(), marker(), class, place, json_value(), any::<bool>()).prop_map(
        |(own, of_pod, class, place, value, odd)| {
            let spec = json!({ "containers": [{ "name": "c", "image": "i" }], "runtimeClassName": class });
            let labels = |marker: Option<&str>| marker.map(|marker| json!({ MARKER: marker }));
            let template = json!({ "metadata": { "labels": labels(of_pod) }, "spec": spec });
            let mut object = json!({
                "kind": "Any",
                "metadata": { "name": "a", "labels": labels(own) },
                "spec": spec,
            });
            object["spec"]["podTemplate"] = template.clone();
            object["spec"]["template"] = if odd { template } else { Value::Null };
            if odd && let Some(part) = object.pointer_mut(place) {
                *part = value;
            }
            object
        },
    )
}

fn any_review() -> impl Strategy<Value = Review> {
    let resources = [
        ("", "pods"),
        ("", "namespaces"),
        ("agents.x-k8s.io", "sandboxes"),
        ("agents.x-k8s.io", "sandboxclaims"),
        ("agents.x-k8s.io", "sandboxtemplates"),
        ("extensions.agents.x-k8s.io", "sandboxclaims"),
        ("extensions.agents.x-k8s.io", "sandboxtemplates"),
        ("extensions.agents.x-k8s.io", "sandboxwarmpools"),
    ];
    let subresource =
        select(vec![None, None, Some("status"), Some("resize"), Some("ephemeralcontainers"), Some("exec")]);
    let request = (
        select(Entry::ALL.to_vec()),
        select(vec![Verb::Create, Verb::Update, Verb::Delete, Verb::Connect]),
        select(resources.to_vec()),
        subresource,
        select(vec![Phase::Mutate, Phase::Validate]),
        select(vec!["ada", OPERATOR]),
    );
    (request, object(), prop_oneof![object(), Just(Value::Null)]).prop_map(|(request, object, old_object)| {
        let (entry, verb, resource, subresource, phase, user) = request;
        Review {
            phase,
            old_object,
            subresource: subresource.map(str::to_owned),
            username: user.to_owned(),
            ..review(entry, verb, resource, object)
        }
    })
}

#[test]
fn no_object_makes_a_review_panic_or_escapes_isolation() {
    let config = ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() };
    let checked = TestRunner::new(config)
        .run(&(any_review(), any::<bool>()), |(review, required)| check_isolation(&review, required));
    if let Err(error) = checked {
        panic!("{error}");
    }
}

fn check_isolation(review: &Review, required: bool) -> Result<(), TestCaseError> {
    let label = ("policy.paddock.dev/isolation".to_owned(), "required".to_owned());
    let asks = binding("asks", Hook::Admission, 0, FailurePolicy::Ignore);
    let class = binding("by-label", Hook::RuntimeClass, Binding::BUILT_IN_ORDER, FailurePolicy::Fail);
    let context = Context {
        namespace_labels: required.then_some(label).into_iter().collect(),
        bindings: Arc::new(Bindings::new(vec![asks, class])),
        ..context()
    };
    let is_pod = (review.group.as_str(), review.resource.as_str()) == ("", "pods");
    let own = Marker::of(&string_map(&review.object, "/metadata/labels"));
    let marker = if is_pod { own } else { marker_of_object(&review.object) };
    let required = required || review.entry == Entry::IsolatedNamespaces;
    let marked = marker.is_generated_code() || required;
    for request in questions(review, &context, &[]) {
        let generated_code = match &request.question {
            Question::Admission(question) => question.generated_code,
            Question::RuntimeClass(question) => question.generated_code,
            Question::Idle(_) | Question::PoolSize(_) => false,
        };
        prop_assert!(generated_code || !marked, "a plugin was told that it is not generated code: {review:?}");
    }
    let plugin: Plugin = |request| match request.question {
        Question::RuntimeClass(_) => choose("gvisor"),
        Question::Admission(_) | Question::Idle(_) | Question::PoolSize(_) => allow(None),
    };
    let (_, verdict) = decide(review, &context, plugin);
    let judged = verdict.allowed() && marked && review.phase == Phase::Validate && review.subresource.is_none();
    if judged && review.operation == Verb::Create && is_pod {
        let problems = context.isolation().judge(&PodFields::of_pod(&review.object), ClassRule::Required, "");
        prop_assert!(problems.is_empty(), "{problems:?}: {review:?}");
    }
    // The entry for owned Sandboxes judges owners only, and the operator's own kinds are judged in the reconcile.
    let of_user = review.username != OPERATOR && review.entry != Entry::OwnedSandboxes;
    let has_pod = ["sandboxes", "sandboxtemplates"].contains(&review.resource.as_str());
    if judged && review.operation == Verb::Create && has_pod && of_user {
        for field in ["podTemplate", "template"] {
            let problems = host_access(&PodFields::of_template(&review.object["spec"][field], ""));
            prop_assert_eq!(problems, HostAccessSet::default(), "{:?}", review);
        }
    }
    Ok(())
}
