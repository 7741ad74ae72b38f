//! The scheduler and the kubelets of the simulation: they move pods through their phases, and some pods fail.

use serde_json::{Value, json};

use super::api::{Api, Id, Part, Resource};

/// The faults of nodes, each in thousandths of the nodes' steps.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NodeFaults {
    /// The pod is evicted.
    pub(crate) evict: u32,
    /// The pod's process exits.
    pub(crate) end: u32,
    /// The pod is not Ready for a while.
    pub(crate) unready: u32,
}

/// Whether a pod still has a next step.
pub(crate) fn pending(api: &Api) -> bool {
    let schedulable = nodes(api).next().is_some();
    api.list(Resource::POD).any(|(_, pod)| next(api, pod, schedulable).is_some())
}

enum Next {
    Bind,
    Start,
    BecomeReady,
    Remove,
}

fn next(api: &Api, pod: &Value, schedulable: bool) -> Option<Next> {
    let node = pod["spec"]["nodeName"].as_str().and_then(|node| api.get(&Id::new(Resource::NODE, "", node)));
    if node.is_some_and(|node| !answers(node)) {
        return None;
    }
    if pod["metadata"]["deletionTimestamp"].is_string() {
        // A pod without a remaining grace period waits for a finalizer, and not for its node.
        return (pod["metadata"]["deletionGracePeriodSeconds"] != 0).then_some(Next::Remove);
    }
    let bound = pod["spec"]["nodeName"].is_string();
    match pod["status"]["phase"].as_str() {
        Some("Pending") if !bound => schedulable.then_some(Next::Bind),
        Some("Pending") => Some(Next::Start),
        Some("Running") if !is_ready(pod) => Some(Next::BecomeReady),
        Some(_) | None => None,
    }
}

/// Moves one pod one step forward, or lets a fault happen to one pod.
pub(crate) fn step(api: &mut Api, rng: &mut fastrand::Rng, faults: NodeFaults) {
    let schedulable: Vec<String> = nodes(api).collect();
    let any = !schedulable.is_empty();
    let waiting: Vec<Id> =
        api.list(Resource::POD).filter(|(_, p)| next(api, p, any).is_some()).map(|(id, _)| id.clone()).collect();
    let dice = rng.u32(..1000);
    if dice < faults.evict + faults.end + faults.unready {
        let running: Vec<Id> = api.list(Resource::POD).filter(|(_, p)| is_ready(p)).map(|(id, _)| id.clone()).collect();
        if let Some(id) = pick(rng, &running) {
            let patch = if dice < faults.evict {
                json!({ "status": { "phase": "Failed", "reason": "Evicted", "conditions": conditions(api, false) } })
            } else if dice < faults.evict + faults.end {
                let Some(pod) = api.get(id) else { return };
                if pod["spec"]["restartPolicy"].as_str().unwrap_or("Always") == "Always" {
                    return;
                }
                let phase = if rng.bool() { "Succeeded" } else { "Failed" };
                json!({ "status": { "phase": phase, "conditions": conditions(api, false) } })
            } else {
                json!({ "status": { "conditions": conditions(api, false) } })
            };
            let _ = api.patch(id, Part::Whole, &patch);
        }
        return;
    }
    let Some(id) = pick(rng, &waiting) else { return };
    let Some(what) = api.get(id).and_then(|p| next(api, p, any)) else { return };
    let patch = match what {
        Next::Remove => {
            api.finish_deletion(id);
            return;
        }
        Next::Bind => {
            let node = &schedulable[rng.usize(..schedulable.len())];
            json!({ "spec": { "nodeName": node } })
        }
        Next::Start => {
            let ip = format!("10.{}.{}.{}", rng.u8(..), rng.u8(..), rng.u8(1..));
            json!({ "status": { "phase": "Running", "podIPs": [{ "ip": ip }], "conditions": conditions(api, false) } })
        }
        Next::BecomeReady => json!({ "status": { "conditions": conditions(api, true) } }),
    };
    let _ = api.patch(id, Part::Whole, &patch);
}

/// Creates a node, or makes an existing node schedulable again.
pub(crate) fn put_node(api: &mut Api, name: &str) {
    let id = Id::new(Resource::NODE, "", name);
    let ready = json!([{ "type": "Ready", "status": "True" }]);
    if api.get(&id).is_some() {
        let healthy = json!({ "spec": { "unschedulable": null }, "status": { "conditions": ready } });
        let _ = api.patch(&id, Part::Whole, &healthy);
    } else {
        let _ = api.create(json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": name },
            "spec": {},
            "status": { "conditions": ready },
        }));
    }
}

/// Makes the node unresponsive, as when its kubelet hangs or the network fails: its pods stop being Ready and stay
/// bound to the node.
pub(crate) fn silence(api: &mut Api, name: &str) {
    let unknown = json!({ "status": { "conditions": [{ "type": "Ready", "status": "Unknown" }] } });
    let _ = api.patch(&Id::new(Resource::NODE, "", name), Part::Whole, &unknown);
    let there = |pod: &Value| pod["spec"]["nodeName"] == name && is_ready(pod);
    let pods: Vec<Id> = api.list(Resource::POD).filter(|(_, p)| there(p)).map(|(id, _)| id.clone()).collect();
    for id in pods {
        let _ = api.patch(&id, Part::Whole, &json!({ "status": { "conditions": conditions(api, false) } }));
    }
}

/// Whether the node's kubelet responds.
fn answers(node: &Value) -> bool {
    node.pointer("/status/conditions/0/status") == Some(&"True".into())
}

/// The names of the nodes on which pods can be scheduled.
fn nodes(api: &Api) -> impl Iterator<Item = String> {
    let fit = |node: &Value| node["spec"]["unschedulable"] != true && answers(node);
    api.list(Resource::NODE).filter(move |(_, n)| fit(n)).map(|(id, _)| id.name.to_string())
}

/// Whether the pod's status reports Ready.
pub(crate) fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    pod["status"]["phase"] == "Running"
        && conditions.is_some_and(|c| c.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

fn conditions(api: &Api, ready: bool) -> Value {
    let now = api.seconds_from_now(0);
    json!([
        { "type": "PodScheduled", "status": "True", "lastTransitionTime": now },
        { "type": "Ready", "status": if ready { "True" } else { "False" }, "lastTransitionTime": now },
    ])
}

/// Picks one element at random.
pub(crate) fn pick<'a, T>(rng: &mut fastrand::Rng, from: &'a [T]) -> Option<&'a T> {
    if from.is_empty() { None } else { from.get(rng.usize(..from.len())) }
}
