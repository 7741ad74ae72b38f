//! The users of the cluster: they create, change and delete objects in a random order.

use fastrand::Rng;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::api::{Api, Deletion, Id, Part, Resource};
use super::nodes::pick;

const NAMESPACES: [&str; 2] = ["red", "blue"];
const TEMPLATES: [&str; 3] = ["t0", "t1", "t2"];
const POOLS: [&str; 3] = ["p0", "p1", "p2"];
/// The nodes of the simulated cluster.
pub(crate) const NODES: [&str; 3] = ["n0", "n1", "n2"];
/// The number of names for claims and Sandboxes. It is small, so that names are reused.
const NAMES: usize = 12;

/// Performs the next action of a user. A claim is only returned, because admission runs before it is stored.
pub(crate) fn act(api: &mut Api, rng: &mut Rng) -> Option<Value> {
    let namespace = NAMESPACES[rng.usize(..NAMESPACES.len())];
    let seed = rng.u8(..4) == 0;
    match rng.u32(..100) {
        0..26 => return Some(claim(rng, namespace, seed, api.now)),
        26..36 => delete_some(api, rng, &[Resource::CLAIM, Resource::SEED_CLAIM]),
        36..46 => create(api, sandbox(rng, namespace, api.now)),
        46..50 => delete_some(api, rng, &[Resource::SANDBOX]),
        50..60 => change_mode(api, rng),
        60..66 => create(api, template(rng, namespace, seed)),
        66..71 => change_template(api, rng),
        71..77 => create(api, pool(rng, namespace, seed)),
        77..85 => scale_pool(api, rng),
        85..87 => delete_some(api, rng, &[Resource::POOL, Resource::SEED_POOL]),
        87..88 => delete_some(api, rng, &[Resource::TEMPLATE, Resource::SEED_TEMPLATE]),
        88..92 => delete_some(api, rng, &[Resource::POD]),
        92..94 => delete_some(api, rng, &[Resource::SERVICE]),
        94..96 => cordon(api, rng),
        96..97 => super::nodes::silence(api, NODES[rng.usize(..NODES.len())]),
        97..98 if rng.bool() => tamper(api, rng),
        97..98 if rng.bool() => change_schedule(api, rng),
        97..98 => use_sandbox(api, rng),
        98..99 => touch_claim(api, rng),
        _ => change_service(api, rng),
    }
    None
}

/// A claim from a user who looked first for a pool with a Ready Sandbox.
pub(crate) fn claim_of_warm(api: &Api, rng: &mut Rng) -> Option<Value> {
    let owner = |sandbox: &Value| sandbox["metadata"]["ownerReferences"][0].clone();
    let ready = |sandbox: &Value| {
        let mut conditions = sandbox["status"]["conditions"].as_array().into_iter().flatten();
        conditions.any(|c| c["type"] == "Ready" && c["status"] == "True")
    };
    let all = api.list(Resource::SANDBOX);
    let warm: Vec<_> = all.filter(|(_, s)| owner(s)["kind"] == "SandboxWarmPool" && ready(s)).collect();
    let (id, sandbox) = pick(rng, &warm)?;
    let pool = owner(sandbox);
    let mut claim = claim(rng, &id.namespace, pool["apiVersion"] == versions(true).0, api.now);
    claim["spec"] = json!({ "warmPoolRef": { "name": pool["name"] } });
    Some(claim)
}

/// A copy of the claim under another name.
pub(crate) fn another(rng: &mut Rng, claim: &Value) -> Value {
    let mut another = claim.clone();
    another["metadata"]["name"] = format!("c{}", rng.usize(..NAMES)).into();
    another
}

/// Creates the objects that exist before the first step.
pub(crate) fn create_fixtures(api: &mut Api) {
    for namespace in NAMESPACES {
        create(api, json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } }));
    }
    for node in NODES {
        super::nodes::put_node(api, node);
    }
    create(
        api,
        json!({
            "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": { "name": "gvisor" }, "handler": "runsc",
        }),
    );
    create(
        api,
        json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
            "metadata": { "name": "standard", "annotations": { "storageclass.kubernetes.io/is-default-class": "true" } },
        }),
    );
    for (i, namespace) in NAMESPACES.into_iter().enumerate() {
        let mut rng = Rng::with_seed(i as u64);
        create(api, template(&mut rng, namespace, false));
        create(api, template(&mut rng, namespace, true));
        create(api, pool(&mut rng, namespace, false));
        create(api, pool(&mut rng, namespace, true));
    }
}

fn create(api: &mut Api, document: Value) {
    let _ = api.create(document);
}

fn versions(seed: bool) -> (&'static str, &'static str) {
    if seed {
        ("agents.x-k8s.io/v1alpha1", "templateRef")
    } else {
        ("extensions.agents.x-k8s.io/v1beta1", "sandboxTemplateRef")
    }
}

fn pod_spec(rng: &mut Rng) -> Value {
    let mut spec = json!({ "containers": [{ "name": "agent", "image": format!("agent:{}", rng.u8(..9)) }] });
    if rng.u8(..5) == 0 {
        spec["restartPolicy"] = "Never".into();
    }
    if rng.u8(..3) == 0 {
        spec["volumes"] = json!([{ "name": "work", "emptyDir": {} }]);
    }
    spec
}

fn template(rng: &mut Rng, namespace: &str, seed: bool) -> Value {
    let (api_version, _) = versions(seed);
    let field = if seed { "template" } else { "podTemplate" };
    let mut spec = json!({ field: { "spec": pod_spec(rng) } });
    if rng.u8(..3) == 0 {
        spec["envVarsInjectionPolicy"] = "Allowed".into();
    }
    if rng.u8(..3) == 0 {
        spec["idleTimeout"] = "5m".into();
    }
    if rng.u8(..4) == 0 {
        spec["networkPolicyManagement"] = "Unmanaged".into();
    }
    if !seed && rng.bool() {
        spec["service"] = rng.bool().into();
    }
    json!({
        "apiVersion": api_version, "kind": "SandboxTemplate",
        "metadata": { "name": TEMPLATES[rng.usize(..3)], "namespace": namespace }, "spec": spec,
    })
}

fn pool(rng: &mut Rng, namespace: &str, seed: bool) -> Value {
    let (api_version, reference) = versions(seed);
    let mut spec = json!({ reference: { "name": TEMPLATES[rng.usize(..3)] } });
    size(rng, &mut spec);
    if rng.bool() {
        spec["updateStrategy"] = json!({ "type": if rng.bool() { "Recreate" } else { "OnReplenish" } });
    }
    json!({
        "apiVersion": api_version, "kind": "SandboxWarmPool",
        "metadata": { "name": POOLS[rng.usize(..3)], "namespace": namespace }, "spec": spec,
    })
}

fn size(rng: &mut Rng, spec: &mut Value) {
    if rng.bool() {
        spec["replicas"] = rng.u8(..5).into();
        spec["minReady"] = Value::Null;
        spec["maxReady"] = Value::Null;
    } else {
        let min = rng.u8(..3);
        spec["minReady"] = min.into();
        spec["maxReady"] = (min + rng.u8(..4)).into();
    }
    for field in ["replicas", "minReady", "maxReady"] {
        if spec[field].is_null()
            && let Some(fields) = spec.as_object_mut()
        {
            fields.remove(field);
        }
    }
}

fn claim(rng: &mut Rng, namespace: &str, seed: bool, now: jiff::Timestamp) -> Value {
    let (api_version, reference) = versions(seed);
    let mut spec = if rng.bool() {
        json!({ "warmPoolRef": { "name": POOLS[rng.usize(..3)] } })
    } else {
        json!({ reference: { "name": TEMPLATES[rng.usize(..3)] } })
    };
    if !seed && spec.get(reference).is_some() && rng.bool() {
        spec["warmpool"] = ["default", "none", POOLS[0]][rng.usize(..3)].into();
    }
    if rng.u8(..8) == 0 {
        spec["env"] = json!([{ "name": "TASK", "value": "x" }]);
    }
    if rng.u8(..5) == 0 {
        spec["additionalPodMetadata"] = json!({ "labels": { "sandbox.users.io/task": "a" } });
    }
    if rng.u8(..4) == 0 {
        let mut lifecycle = json!({ "ttlSecondsAfterFinished": rng.u32(..60) });
        if rng.bool() {
            lifecycle["shutdownTime"] = (now + SignedDuration::from_secs(rng.i64(1..600))).to_string().into();
        }
        lifecycle["shutdownPolicy"] = ["Delete", "DeleteForeground", "Retain"][rng.usize(..3)].into();
        spec["lifecycle"] = lifecycle;
    }
    json!({
        "apiVersion": api_version, "kind": "SandboxClaim",
        "metadata": { "name": format!("c{}", rng.usize(..NAMES)), "namespace": namespace }, "spec": spec,
    })
}

fn sandbox(rng: &mut Rng, namespace: &str, now: jiff::Timestamp) -> Value {
    let seed = rng.u8(..3) == 0;
    let field = if seed { "template" } else { "podTemplate" };
    let mut spec = json!({ field: { "spec": pod_spec(rng) } });
    if rng.u8(..3) == 0 {
        spec["operatingMode"] = if rng.bool() { "Running" } else { "Suspended" }.into();
    }
    if rng.u8(..3) == 0 {
        spec["replicas"] = u8::from(rng.bool()).into();
    }
    if rng.u8(..3) == 0 {
        spec["idleTimeout"] = "5m".into();
    }
    if rng.u8(..4) == 0 {
        spec["resumePolicy"] = "OnDemand".into();
        spec["drainPolicy"] = if rng.bool() { "Suspend" } else { "Evict" }.into();
    }
    if rng.u8(..6) == 0 {
        spec["wakeSchedule"] = schedule(rng);
    }
    if !seed && rng.bool() {
        spec["service"] = rng.bool().into();
    }
    if rng.u8(..6) == 0 {
        spec["shutdownTime"] = (now + SignedDuration::from_secs(rng.i64(1..600))).to_string().into();
        spec["shutdownPolicy"] = if rng.bool() { "Delete" } else { "Retain" }.into();
    }
    if rng.u8(..4) == 0 {
        let storage = json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } });
        spec["volumeClaimTemplates"] = json!([{ "metadata": { "name": "data" }, "spec": storage }]);
    }
    let mut metadata = json!({ "name": format!("x{}", rng.usize(..NAMES)), "namespace": namespace });
    if rng.u8(..6) == 0 {
        metadata["labels"] = json!({ "policy.paddock.dev/generated-code": "true" });
    }
    if rng.u8(..20) == 0 {
        spec["idleTimeout"] = "soon".into();
    }
    if rng.u8(..12) == 0 {
        // The name that a claim would give to its own Sandbox.
        metadata["name"] = format!("c{}", rng.usize(..NAMES)).into();
    }
    json!({ "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "metadata": metadata, "spec": spec })
}

/// A schedule once an hour, or one that is not valid.
fn schedule(rng: &mut Rng) -> Value {
    let cron = match rng.u8(..8) {
        0 => "0 25 * * *".to_owned(),
        1..4 => format!("{} * * * *", rng.u8(1..60)),
        _ => "0 * * * *".to_owned(),
    };
    json!({ "cron": cron })
}

fn change_schedule(api: &mut Api, rng: &mut Rng) {
    let Some(id) = some(api, rng, &[Resource::SANDBOX]) else { return };
    let schedule = if rng.u8(..3) == 0 { Value::Null } else { schedule(rng) };
    patch(api, &id, &json!({ "spec": { "wakeSchedule": schedule } }));
}

fn some(api: &Api, rng: &mut Rng, of: &[Resource]) -> Option<Id> {
    let resource = *pick(rng, of)?;
    let ids: Vec<Id> = api.list(resource).map(|(id, _)| id.clone()).collect();
    pick(rng, &ids).cloned()
}

fn delete_some(api: &mut Api, rng: &mut Rng, of: &[Resource]) {
    if let Some(id) = some(api, rng, of) {
        let _ = api.delete(&id, Deletion { foreground: rng.u8(..5) == 0, ..Deletion::default() });
    }
}

fn patch(api: &mut Api, id: &Id, patch: &Value) {
    let _ = api.patch(id, Part::Main, patch);
}

/// Changes the operating mode like `kubectl scale`, like a client that knows only one of the two fields, or like a
/// client that drops unknown fields.
fn change_mode(api: &mut Api, rng: &mut Rng) {
    let Some(id) = some(api, rng, &[Resource::SANDBOX]) else { return };
    let mode = if rng.bool() { "Running" } else { "Suspended" };
    let replicas = u8::from(rng.bool());
    let spec = match rng.u8(..4) {
        0 => json!({ "operatingMode": mode }),
        1 => json!({ "replicas": replicas }),
        2 => json!({ "operatingMode": mode, "replicas": null }),
        _ => json!({ "operatingMode": mode, "replicas": u8::from(mode == "Running") }),
    };
    patch(api, &id, &json!({ "spec": spec }));
}

fn change_template(api: &mut Api, rng: &mut Rng) {
    let Some(id) = some(api, rng, &[Resource::TEMPLATE, Resource::SEED_TEMPLATE]) else { return };
    let field = if id.resource == Resource::SEED_TEMPLATE { "template" } else { "podTemplate" };
    let containers = json!([{ "name": "agent", "image": format!("agent:{}", rng.u8(..9)) }]);
    patch(api, &id, &json!({ "spec": { field: { "spec": { "containers": containers } } } }));
}

fn scale_pool(api: &mut Api, rng: &mut Rng) {
    let Some(id) = some(api, rng, &[Resource::POOL, Resource::SEED_POOL]) else { return };
    let mut spec = json!({});
    size(rng, &mut spec);
    for field in ["replicas", "minReady", "maxReady"] {
        if spec.get(field).is_none() {
            spec[field] = Value::Null;
        }
    }
    patch(api, &id, &json!({ "spec": spec }));
}

fn cordon(api: &mut Api, rng: &mut Rng) {
    let node = NODES[rng.usize(..NODES.len())];
    if rng.bool() {
        super::nodes::put_node(api, node);
    } else {
        patch(api, &Id::new(Resource::NODE, "", node), &json!({ "spec": { "unschedulable": true } }));
    }
}

fn use_sandbox(api: &mut Api, rng: &mut Rng) {
    let Some(id) = some(api, rng, &[Resource::SANDBOX]) else { return };
    let at = api.now.to_string();
    patch(api, &id, &json!({ "metadata": { "annotations": { "policy.paddock.dev/last-activity": at } } }));
}

/// Another client changes what brings a pod behind the NetworkPolicy of its template.
fn tamper(api: &mut Api, rng: &mut Rng) {
    let label =
        if rng.bool() { "agents.x-k8s.io/sandbox-template-ref-hash" } else { "policy.paddock.dev/template-digest" };
    let value = if rng.bool() { Value::Null } else { "0".into() };
    let (resource, change) = match rng.u8(..3) {
        0 => (Resource::NETWORK_POLICY, json!({ "spec": { "podSelector": { "matchLabels": { label: value } } } })),
        1 => (Resource::POD, json!({ "metadata": { "labels": { label: value } } })),
        _ => (Resource::SANDBOX, json!({ "metadata": { "labels": { label: value } } })),
    };
    let Some(id) = some(api, rng, &[resource]) else { return };
    patch(api, &id, &change);
}

/// Another client writes to a claim, or the user changes the claim's expiry.
fn touch_claim(api: &mut Api, rng: &mut Rng) {
    let Some(id) = some(api, rng, &[Resource::CLAIM, Resource::SEED_CLAIM]) else { return };
    let at = (api.now + SignedDuration::from_secs(rng.i64(0..300))).to_string();
    let change = if rng.bool() {
        json!({ "metadata": { "annotations": { "example.com/note": at } } })
    } else {
        json!({ "spec": { "lifecycle": { "shutdownTime": at, "shutdownPolicy": "Retain" } } })
    };
    patch(api, &id, &change);
}

fn change_service(api: &mut Api, rng: &mut Rng) {
    let Some(id) = some(api, rng, &[Resource::SANDBOX]) else { return };
    let service = [Value::Null, true.into(), false.into()][rng.usize(..3)].clone();
    patch(api, &id, &json!({ "spec": { "service": service } }));
}
