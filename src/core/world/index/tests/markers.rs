//! A marker that a claim, a pool or a template gets late reconciles its Sandboxes.

use jiff::Timestamp;
use paddock_api::kind::{Key, Kind};
use serde_json::{Value, json};

use crate::object::Object;
use crate::settings::Settings;
use crate::world::{Observed, World};

fn object(kind: Kind, name: &str, version: u64, owner: Option<Kind>, mut document: Value) -> Object {
    let owner = owner.map(|kind| {
        json!({
            "apiVersion": kind.api_version(), "kind": kind.name(), "name": "o", "uid": format!("{kind:?}-o"),
            "controller": true,
        })
    });
    let metadata = json!({
        "name": name, "namespace": "ns", "uid": format!("{kind:?}-{name}"), "resourceVersion": version.to_string(),
        "creationTimestamp": "2030-01-01T00:00:00Z", "ownerReferences": owner.as_slice(),
        "annotations": { "agents.x-k8s.io/sandbox-template-ref": "o" },
    });
    json_patch::merge(&mut document, &json!({ "metadata": metadata }));
    Object::from_json(kind, document).expect("an object")
}

#[test]
fn late_marker_reconciles_the_sandboxes_that_it_is_about() {
    let now: Timestamp = "2030-01-01T00:01:00Z".parse().expect("a time");
    let pod = json!({ "spec": { "containers": [{ "name": "c", "image": "i" }] } });
    let sandbox = json!({ "spec": { "podTemplate": pod } });
    let specs = [
        (Kind::Template, json!({ "podTemplate": pod })),
        (Kind::Pool, json!({ "sandboxTemplateRef": { "name": "o" }, "replicas": 1 })),
        (Kind::Claim, json!({ "warmPoolRef": { "name": "o" } })),
    ];
    for (kind, spec) in specs {
        let mut world = World::new(Settings::default());
        let bound = json!({ "sandbox": { "name": "s" } });
        let document = |labels: Value| json!({ "metadata": { "labels": labels }, "spec": spec, "status": bound });
        let mut show = |kind: Kind, name: &str, version: u64, owner: Option<Kind>, document: Value| {
            let keys = world.observe(Observed::Applied(object(kind, name, version, owner, document)), now);
            keys.into_iter().filter(|key| key.kind == Kind::Sandbox).collect::<Vec<Key>>()
        };
        let owner = if kind == Kind::Claim { Kind::Claim } else { Kind::Pool };
        show(kind, "o", 1, None, document(json!({})));
        show(Kind::Sandbox, "s", 2, Some(owner), sandbox.clone());
        show(Kind::Sandbox, "alone", 3, None, sandbox.clone());
        let marker = |value: &str| json!({ "policy.paddock.dev/generated-code": value });
        for (what, version, labels, reconciled) in [
            ("another label", 4, json!({ "team": "red" }), false),
            ("a marker that says no", 5, marker("false"), false),
            ("the marker", 6, marker("true"), true),
            ("the same marker", 7, marker("true"), false),
            ("no marker", 8, json!({}), true),
            ("a marker with another value", 9, marker("yes"), true),
        ] {
            let expected: Vec<Key> = reconciled.then(|| Key::new(Kind::Sandbox, "ns", "s")).into_iter().collect();
            assert_eq!(show(kind, "o", version, None, document(labels)), expected, "{kind:?}: {what}");
        }
    }
}
