//! Objects within their budget and beyond it.

use paddock_api::kind::Kind;
use serde_json::{Value, json};

use super::*;
use crate::object::Object;

fn sandbox(pod: Value) -> Value {
    json!({
        "metadata": { "name": "s", "namespace": "n", "uid": "u", "resourceVersion": "1" },
        "spec": { "podTemplate": { "spec": pod } },
    })
}

fn errors(kind: Kind, document: Value) -> Vec<String> {
    let object = Object::from_json(kind, document).unwrap();
    let of_sandbox = object.sandbox().and_then(|body| body.spec.as_ref().err());
    let of_template = object.template().and_then(|body| body.spec.as_ref().err());
    let of_claim = object.claim().and_then(|body| body.spec.as_ref().err());
    let spec = of_sandbox.or(of_template).or(of_claim);
    spec.into_iter().flat_map(|errors| errors.as_slice()).map(ToString::to_string).collect()
}

/// A kind, its spec with a map of so many entries, and the path of the map.
type Case<'a> = (Kind, &'a dyn Fn(usize) -> Value, String);

fn many(count: usize, item: impl Fn(usize) -> Value) -> Value {
    (0..count).map(item).collect()
}

#[test]
fn a_list_of_too_many_objects_is_an_error_at_its_path() {
    let long = || many(LIST_ITEMS_MAX + 1, |n| json!({ "name": format!("v{n}") }));
    let at = "spec.podTemplate.spec";
    for (pod, path) in [
        (json!({ "containers": [{ "name": "c" }], "volumes": long() }), format!("{at}.volumes")),
        (json!({ "containers": long() }), format!("{at}.containers")),
        (json!({ "containers": [{ "name": "c" }, { "name": "d", "env": long() }] }), format!("{at}.containers[1].env")),
        (json!({ "containers": [{ "name": "c" }], "tolerations": long() }), format!("{at}.tolerations")),
        (
            json!({ "volumes": [{ "name": "v", "projected": { "sources": long() } }] }),
            format!("{at}.volumes[0].projected.sources"),
        ),
    ] {
        assert_eq!(
            errors(Kind::Sandbox, sandbox(pod)),
            [format!("{path}: too large: the list has more than the 1000 items that are allowed")]
        );
    }
    let claim = json!({ "warmPoolRef": { "name": "p" }, "env": long() });
    assert!(
        errors(Kind::Claim, json!({ "metadata": { "name": "c" }, "spec": claim }))[0]
            .starts_with("spec.env: too large")
    );
}

/// A map of so many entries in each place of an object that has one.
#[test]
fn a_map_of_too_many_entries_is_an_error_at_its_path() {
    let map = |count: usize| -> Value {
        (0..count).map(|n| (format!("k{n}"), json!("1"))).collect::<serde_json::Map<_, _>>().into()
    };
    let volume_claim = |metadata: Value| {
        json!({
            "metadata": metadata,
            "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
        })
    };
    let pod = |metadata: Value, spec: Value| json!({ "metadata": metadata, "spec": spec });
    let container = || json!([{ "name": "c", "image": "i" }]);
    for field in ["labels", "annotations"] {
        let spec =
            |count| json!({ "podTemplate": pod(json!({ field: map(count) }), json!({ "containers": container() })) });
        let claims = |count| {
            json!({
                "podTemplate": pod(json!({}), json!({ "containers": container() })),
                "volumeClaimTemplates": [volume_claim(json!({ "name": "v", field: map(count) }))],
            })
        };
        let of_claim =
            |count| json!({ "warmPoolRef": { "name": "p" }, "additionalPodMetadata": { field: map(count) } });
        let cases: [Case<'_>; 6] = [
            (Kind::Sandbox, &spec, format!("spec.podTemplate.metadata.{field}")),
            (Kind::Template, &spec, format!("spec.podTemplate.metadata.{field}")),
            (Kind::Sandbox, &claims, format!("spec.volumeClaimTemplates[0].metadata.{field}")),
            (Kind::Template, &claims, format!("spec.volumeClaimTemplates[0].metadata.{field}")),
            (Kind::Claim, &of_claim, format!("spec.additionalPodMetadata.{field}")),
            (
                Kind::Sandbox,
                &|count| json!({ "podTemplate": pod(json!({}), json!({ "containers": container(), "nodeSelector": map(count) })) }),
                "spec.podTemplate.spec.nodeSelector".to_owned(),
            ),
        ];
        for (kind, spec, path) in cases {
            let errors = |count: usize| {
                errors(kind, json!({ "metadata": { "name": "a", "namespace": "n" }, "spec": spec(count) }))
            };
            assert_eq!(errors(MAP_ENTRIES_MAX), [""; 0], "{kind:?}: {path}");
            let expected = format!("{path}: too large: the map has more than the 1000 entries that are allowed");
            assert_eq!(errors(MAP_ENTRIES_MAX + 1), [expected], "{kind:?}");
        }
    }
}

#[test]
fn few_errors_of_an_object_are_kept() {
    let containers = many(1000, |_| json!({ "name": "", "volumeMounts": [{ "name": "", "mountPath": "" }] }));
    let errors = errors(Kind::Sandbox, sandbox(json!({ "containers": containers })));
    assert_eq!(errors.len(), 33);
    assert_eq!(errors[32], "spec: 1968 more fields are invalid");
}

#[test]
fn the_budget_counts_what_users_write() {
    let of = |value: usize, status: usize, managed: usize| {
        let mut document = sandbox(json!({ "containers": [{
            "name": "c", "image": "i", "env": [{ "name": "E", "value": "x".repeat(value) }],
        }] }));
        document["status"] = json!({ "selector": "x".repeat(status) });
        let fields = json!({ "f:spec": { "x".repeat(managed): {} } });
        document["metadata"]["managedFields"] = json!([{ "manager": "m", "operation": "Update", "fieldsV1": fields }]);
        document
    };
    let fixed = Object::from_json(Kind::Sandbox, of(0, 0, 0))
        .map(|_| paddock_api::document::Document::parse(&of(0, 0, 0).to_string()).unwrap().bytes);
    let room = OBJECT_BYTES_MAX - fixed.unwrap();
    assert_eq!(errors(Kind::Sandbox, of(room, 400_000, 1_400_000)), [""; 0]);
    assert_eq!(
        errors(Kind::Sandbox, of(room + 1, 0, 0)),
        [
            "spec: too large: the object has 1025 KiB of JSON without status and managed fields, and at most 1024 KiB are allowed"
        ]
    );
    let object = Object::from_json(Kind::Sandbox, of(room + 1, 5, 0)).unwrap();
    assert_eq!(object.sandbox().unwrap().status.selector.as_deref(), Some("xxxxx"), "the status is read");
}

#[test]
fn a_pod_of_two_hundred_containers_is_within_the_budget() {
    let containers = many(200, |n| {
        json!({
            "name": format!("container-{n}"), "image": format!("registry.example.com/team/image-{n}:1.2.3"),
            "command": ["/bin/sh", "-c", "exec /usr/bin/server --port $PORT"],
            "env": many(50, |n| json!({ "name": format!("VARIABLE_{n}"), "value": "a value of some length" })),
            "ports": many(10, |p| json!({ "name": format!("p{n}-{p}"), "containerPort": 1 + n * 10 + p })),
            "volumeMounts": many(5, |v| json!({ "name": format!("volume-{}", n * 5 + v), "mountPath": format!("/mnt/{v}") })),
            "resources": { "requests": { "cpu": "10m", "memory": "16Mi" }, "limits": { "memory": "32Mi" } },
            "readinessProbe": { "httpGet": { "path": "/healthz", "port": 1 + n * 10 }, "periodSeconds": 5 },
        })
    });
    let volumes = many(1000, |n| json!({ "name": format!("volume-{n}"), "emptyDir": {} }));
    assert_eq!(errors(Kind::Sandbox, sandbox(json!({ "containers": containers, "volumes": volumes }))), [""; 0]);
}

#[test]
fn lists_of_texts_have_no_limit_of_their_own() {
    let args = many(100_000, |_| "x".into());
    let pod = json!({ "containers": [{ "name": "c", "image": "i", "args": args }] });
    assert_eq!(errors(Kind::Sandbox, sandbox(pod.clone())), [""; 0]);
    let template = json!({ "metadata": { "name": "t" }, "spec": { "podTemplate": { "spec": pod } } });
    assert_eq!(errors(Kind::Template, template), [""; 0]);
}

#[test]
fn json_is_large_by_any_of_its_parts() {
    let part = LARGE_BYTES / 8;
    for (shape, most) in [
        (json!("x".repeat(LARGE_BYTES)), json!("x".repeat(LARGE_BYTES - 2))),
        (json!(vec!["12345"; part]), json!(vec!["12345"; part - 1])),
        (json!({ "a": { "b": ["x".repeat(LARGE_BYTES)] } }), json!({ "a": { "b": ["x".repeat(LARGE_BYTES - 100)] } })),
        (json!({ "x".repeat(LARGE_BYTES): 1 }), json!({ "x".repeat(LARGE_BYTES - 100): 1 })),
    ] {
        assert!(is_large(&shape) && !is_large(&most), "{} and {}", shape.to_string().len(), most.to_string().len());
    }
}
