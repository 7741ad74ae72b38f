//! The tolerations of a RuntimeClass that arrives after the pods of a pool.

use jiff::Timestamp;
use paddock_api::kind::{Key, Kind};
use serde_json::{Value, json};

use crate::object::Object;
use crate::settings::Settings;
use crate::world::{Observed, World};

fn read(kind: Kind, document: Value) -> Object {
    Object::from_json(kind, document).expect("an object")
}

/// After a start, the lists of pods and classes arrive in any order.
#[test]
fn class_that_arrives_late_explains_its_tolerations() {
    let now: Timestamp = "2030-01-01T00:00:00Z".parse().expect("a time");
    let toleration = |key: &str| json!({ "key": key, "operator": "Exists", "effect": "NoSchedule" });
    let class = json!({
        "metadata": { "name": "gvisor", "uid": "g", "resourceVersion": "1" }, "handler": "runsc",
        "scheduling": { "tolerations": [toleration("example.com/sandboxes")] },
    });
    let pool = json!({
        "apiVersion": "extensions.agents.x-k8s.io/v1beta1", "kind": "SandboxWarmPool", "name": "p", "uid": "p-1",
        "controller": true,
    });
    let metadata = json!({
        "name": "a", "namespace": "ns", "uid": "s", "resourceVersion": "1", "generation": 1, "ownerReferences": [pool],
    });
    let containers = json!([{ "name": "c", "image": "i" }]);
    let sandbox = json!({ "metadata": metadata, "spec": { "podTemplate": { "spec": { "containers": containers } } } });
    let sandbox = read(Kind::Sandbox, sandbox);
    let plan = crate::manifest::PodPlan {
        name: "a",
        runtime_class: Some("gvisor"),
        class_reason: None,
        class_plugin: None,
        kept_dirs: &[],
        now,
        init_image: None,
        isolate: false,
    };
    let model = sandbox.sandbox().and_then(|s| s.spec.clone().ok()).expect("a valid Sandbox");
    let mut pod = crate::manifest::pod(&sandbox, &model, &plan);
    // Somebody changed the spec and changed it back.
    json_patch::merge(
        &mut pod,
        &json!({
            "metadata": { "uid": "pod", "resourceVersion": "1", "generation": 2 },
            "spec": { "tolerations": [toleration("example.com/sandboxes")] },
        }),
    );
    let mut world = World::new(Settings::default());
    world.observe(Observed::Applied(sandbox.clone()), now);
    world.observe(Observed::Applied(read(Kind::Pod, pod)), now);
    let key = Key::new(Kind::Sandbox, "ns", "a");
    assert_eq!(world.touched.get(&key), None, "the toleration may have been added late");
    world.observe(Observed::Applied(read(Kind::RuntimeClass, class)), now);
    assert_eq!(world.touched.get(&key).map(|touch| &*touch.what), Some("the spec of its Pod was changed"));
}
