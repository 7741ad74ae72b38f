//! A pool is reconciled when a pod of its Sandboxes is no longer Ready, or Ready again, while the status of the Sandbox
//! says Ready.

use jiff::Timestamp;
use paddock_api::kind::{Key, Kind};
use serde_json::{Value, json};

use crate::object::Object;
use crate::settings::Settings;
use crate::world::{Observed, World};

const NOW: &str = "2030-01-01T00:01:00Z";

fn object(kind: Kind, name: &str, version: u64, owner: Option<(Kind, &str)>, mut document: Value) -> Object {
    document["metadata"] = json!({
        "name": name, "namespace": "ns", "uid": format!("{kind:?}-{name}"), "resourceVersion": version.to_string(),
        "creationTimestamp": NOW,
    });
    if let Some((owner, name)) = owner {
        document["metadata"]["ownerReferences"] = json!([{
            "apiVersion": owner.api_version(), "kind": owner.name(), "name": name, "uid": format!("{owner:?}-{name}"),
            "controller": true,
        }]);
    }
    Object::from_json(kind, document).expect("an object")
}

fn conditions(ready: bool) -> Value {
    let status = if ready { "True" } else { "False" };
    json!([{ "type": "Ready", "status": status, "reason": "r", "message": "", "lastTransitionTime": NOW }])
}

#[test]
fn pool_sees_that_a_pod_of_a_ready_sandbox_is_not_ready_or_ready_again() {
    let now: Timestamp = NOW.parse().expect("a time");
    let pod = json!({ "spec": { "containers": [{ "name": "c", "image": "i" }] } });
    let pool = Key::new(Kind::Pool, "ns", "p");
    for (sandbox_is_ready, owner, sees) in
        [(true, Kind::Pool, true), (false, Kind::Pool, false), (true, Kind::Claim, false)]
    {
        let mut world = World::new(Settings::default());
        let mut show = |kind, name: &str, version, owner, document| {
            let object = object(kind, name, version, owner, document);
            world.observe(Observed::Applied(object), now).contains(&pool)
        };
        show(Kind::Pool, "p", 1, None, json!({ "spec": { "sandboxTemplateRef": { "name": "t" }, "replicas": 1 } }));
        let sandbox =
            json!({ "spec": { "podTemplate": pod }, "status": { "conditions": conditions(sandbox_is_ready) } });
        show(Kind::Sandbox, "s", 2, Some((owner, "p")), sandbox);
        let running = |ready| {
            let mut pod = pod.clone();
            pod["status"] = json!({ "phase": "Running", "conditions": conditions(ready) });
            pod
        };
        let of_sandbox = Some((Kind::Sandbox, "s"));
        show(Kind::Pod, "s", 3, of_sandbox, running(true));
        for (what, version, ready, changes) in
            [("as before", 4, true, false), ("not Ready", 5, false, true), ("Ready again", 6, true, true)]
        {
            assert_eq!(
                show(Kind::Pod, "s", version, of_sandbox, running(ready)),
                sees && changes,
                "{what}, owner {owner:?}, the Sandbox is Ready: {sandbox_is_ready}"
            );
        }
    }
}
