//! A cordon of a node reconciles the Sandboxes on it whose drainPolicy needs that, and so does its end.

use jiff::Timestamp;
use paddock_api::kind::{Key, Kind};
use serde_json::{Value, json};

use crate::object::Object;
use crate::settings::Settings;
use crate::world::{Observed, World};

fn object(kind: Kind, name: &str, mut document: Value, version: u64) -> Object {
    let metadata = json!({
        "name": name, "uid": format!("{kind:?}-{name}"), "resourceVersion": version.to_string(),
        "creationTimestamp": "2030-01-01T00:00:00Z",
    });
    document["metadata"] = metadata;
    if kind != Kind::Node {
        document["metadata"]["namespace"] = "ns".into();
    }
    if kind == Kind::Pod {
        let owner = json!({ "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "name": name, "uid": format!("Sandbox-{name}"), "controller": true });
        document["metadata"]["ownerReferences"] = json!([owner]);
    }
    Object::from_json(kind, document).unwrap()
}

#[test]
fn a_cordon_and_its_end_reconcile_the_sandboxes_that_a_drain_suspends() {
    let now: Timestamp = "2030-01-01T00:01:00Z".parse().unwrap();
    let mut world = World::new(Settings::default());
    for (name, policy, node) in [("here", "Suspend", "n1"), ("evicted", "Evict", "n1"), ("elsewhere", "Suspend", "n2")]
    {
        let spec = json!({
            "resumePolicy": "OnDemand", "drainPolicy": policy,
            "podTemplate": { "spec": { "containers": [{ "name": "c", "image": "i" }] } },
        });
        let _ = world.observe(Observed::Applied(object(Kind::Sandbox, name, json!({ "spec": spec }), 1)), now);
        let pod = json!({ "spec": { "nodeName": node }, "status": { "phase": "Running" } });
        let _ = world.observe(Observed::Applied(object(Kind::Pod, name, pod, 2)), now);
    }
    let node = |ready: &str, cordoned: bool, version: u64| {
        let status = json!({ "conditions": [{ "type": "Ready", "status": ready }] });
        object(Kind::Node, "n1", json!({ "spec": { "unschedulable": cordoned }, "status": status }), version)
    };
    for (what, change, reconciled) in [
        ("a node that is fit", Observed::Applied(node("True", false, 3)), false),
        ("a cordon", Observed::Applied(node("True", true, 4)), true),
        ("the same cordon", Observed::Applied(node("True", true, 5)), false),
        ("a cordoned node that is not Ready", Observed::Applied(node("False", true, 6)), false),
        ("the end of the cordon", Observed::Applied(node("True", false, 7)), true),
        ("a node that is not Ready", Observed::Applied(node("False", false, 8)), false),
        ("a cordon of that node", Observed::Applied(node("False", true, 9)), true),
        ("the end of the node", Observed::Deleted(node("False", true, 10)), true),
    ] {
        let keys = world.observe(change, now);
        let sandboxes: Vec<&Key> = keys.iter().filter(|key| key.kind == Kind::Sandbox).collect();
        let expected = [Key::new(Kind::Sandbox, "ns", "here")];
        let expected: Vec<&Key> = expected.iter().filter(|_| reconciled).collect();
        assert_eq!(sandboxes, expected, "{what}");
    }
}
