//! Presets: common objects with named values, so that a scenario's file shows only what matters for the scenario.
//!
//! A document with `preset: NAME` expands to one or two objects. Its other fields are named values. `with` is a JSON
//! merge patch of the object, and `podWith` is a JSON merge patch of the Sandbox's Pod. Every omitted value has the
//! default below.

use std::collections::BTreeMap;

use paddock_core::network_policy::selection_labels;
use serde::Deserialize;
use serde_json::{Value, json};

/// The hash of the template of [`Preset::Template`], as the operator computes it.
const CURRENT_HASH: &str = "731e4c73f9891298";
/// A hash that belongs to no template.
const OLD_HASH: &str = "0000000000000000";
/// The time at which Pods became Ready or stopped being Ready, and the default creation time.
const EARLIER: &str = "2030-01-01T11:00:00Z";

const CORE: &str = "agents.x-k8s.io/v1beta1";
const EXTENSIONS: &str = "extensions.agents.x-k8s.io/v1beta1";

/// A preset and its named values.
#[derive(Deserialize)]
#[serde(tag = "preset", rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
enum Preset {
    /// A SandboxTemplate with one container.
    Template {
        #[serde(default = "t")]
        name: String,
    },
    /// A SandboxWarmPool of a fixed size.
    Pool {
        #[serde(default = "p")]
        name: String,
        #[serde(default = "t")]
        template: String,
        #[serde(default = "one")]
        replicas: u32,
    },
    /// A SandboxClaim of a pool.
    Claim {
        #[serde(default = "c")]
        name: String,
        #[serde(default = "p")]
        pool: String,
        #[serde(default = "noon")]
        created: String,
    },
    /// A Sandbox that a pool owns, and its Pod.
    WarmSandbox(Sandbox),
    /// A Sandbox that a claim took from a pool, and its Pod.
    ClaimedSandbox(Sandbox),
    /// A Node that is Ready.
    Node {
        #[serde(default = "n1")]
        name: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Sandbox {
    name: String,
    #[serde(default = "t")]
    template: String,
    /// The owner of a claimed Sandbox.
    #[serde(default = "c")]
    claim: String,
    #[serde(default = "p")]
    pool: String,
    #[serde(default)]
    hash: Hash,
    #[serde(default = "earlier")]
    created: String,
    #[serde(default = "ip")]
    ip: String,
    #[serde(default = "n1")]
    node: String,
    #[serde(default = "image")]
    image: String,
    #[serde(default)]
    state: State,
}

/// The version of the template from which a Sandbox was created.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Hash {
    #[default]
    Current,
    Old,
}

/// The state of a Sandbox's Pod, which the Sandbox's condition reports.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    #[default]
    Ready,
    /// Running, and not Ready.
    NotReady,
    Pending,
}

fn t() -> String {
    "t".to_owned()
}

fn p() -> String {
    "p".to_owned()
}

fn c() -> String {
    "c".to_owned()
}

fn n1() -> String {
    "n1".to_owned()
}

fn one() -> u32 {
    1
}

fn noon() -> String {
    "2030-01-01T12:00:00Z".to_owned()
}

fn earlier() -> String {
    EARLIER.to_owned()
}

fn ip() -> String {
    "10.0.0.7".to_owned()
}

fn image() -> String {
    "agent:1".to_owned()
}

/// The objects of a document: the document itself, if it names no preset.
pub(super) fn expand(mut document: Value) -> Result<Vec<Value>, String> {
    if document.get("preset").is_none() {
        return Ok(vec![document]);
    }
    let fields = document.as_object_mut().ok_or("a document is no object")?;
    let patches = [fields.remove("with"), fields.remove("podWith")];
    let preset: Preset = serde_json::from_value(document.clone()).map_err(|e| format!("{e} in {document}"))?;
    let mut objects = preset.objects();
    for (at, patch) in patches.into_iter().enumerate() {
        if let Some(patch) = patch {
            let object = objects.get_mut(at).ok_or_else(|| format!("there is no Pod in {document}"))?;
            json_patch::merge(object, &patch);
        }
    }
    Ok(objects)
}

impl Preset {
    fn objects(self) -> Vec<Value> {
        match self {
            Self::Template { name } => vec![json!({
                "apiVersion": EXTENSIONS, "kind": "SandboxTemplate",
                "metadata": { "name": name },
                "spec": { "podTemplate": { "spec": { "containers": containers("agent:1") } } },
            })],
            Self::Pool { name, template, replicas } => vec![json!({
                "apiVersion": EXTENSIONS, "kind": "SandboxWarmPool",
                "metadata": { "name": name },
                "spec": { "sandboxTemplateRef": { "name": template }, "replicas": replicas },
            })],
            Self::Claim { name, pool, created } => vec![json!({
                "apiVersion": EXTENSIONS, "kind": "SandboxClaim",
                "metadata": { "name": name, "creationTimestamp": created },
                "spec": { "warmPoolRef": { "name": pool } },
            })],
            Self::WarmSandbox(sandbox) => {
                let label = ("agents.x-k8s.io/warm-pool-sandbox", name_hash(&sandbox.pool));
                let mut objects = sandbox.objects("SandboxWarmPool", &sandbox.pool, label.clone());
                let labels = &mut objects[1]["metadata"]["labels"];
                labels[label.0] = label.1.into();
                labels["agents.x-k8s.io/sandbox-name-hash"] = name_hash(&sandbox.name).into();
                labels["policy.paddock.dev/sandbox-uid"] = format!("uid-of-{}", sandbox.name).into();
                objects[1]["metadata"]["annotations"] =
                    json!({ "cluster-autoscaler.kubernetes.io/safe-to-evict": "true" });
                objects
            }
            Self::ClaimedSandbox(sandbox) => {
                let label = ("agents.x-k8s.io/claim-uid", format!("uid-of-{}", sandbox.claim));
                sandbox.objects("SandboxClaim", &sandbox.claim, label)
            }
            Self::Node { name } => vec![json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": { "name": name },
                "status": { "conditions": [{ "type": "Ready", "status": "True" }] },
            })],
        }
    }
}

impl Sandbox {
    /// The Sandbox with this owner, and its Pod.
    fn objects(&self, owner_kind: &str, owner: &str, (label, value): (&str, String)) -> Vec<Value> {
        let Self { name, template, pool, created, ip, node, image, .. } = self;
        let hash = match self.hash {
            Hash::Current => CURRENT_HASH,
            Hash::Old => OLD_HASH,
        };
        let not_ready = ("False", "DependenciesNotReady", EARLIER);
        let ((status, reason, since), message, phase) = match self.state {
            State::Ready => (("True", "DependenciesReady", created.as_str()), "Pod is Ready", "Running"),
            State::NotReady => (not_ready, "Pod exists with phase: Running", "Running"),
            State::Pending => (not_ready, "Pod exists with phase: Pending", "Pending"),
        };
        let sandbox = json!({
            "apiVersion": CORE, "kind": "Sandbox",
            "metadata": {
                "name": name,
                "creationTimestamp": created,
                "labels": {
                    "agents.x-k8s.io/sandbox-template-hash": hash,
                    "agents.x-k8s.io/sandbox-template-ref-hash": name_hash(template),
                    "agents.x-k8s.io/launch-type": "warm",
                    label: value,
                },
                "annotations": {
                    "agents.x-k8s.io/sandbox-template-ref": template,
                    "policy.paddock.dev/warm-pool": pool,
                },
                "ownerReferences": [{
                    "apiVersion": EXTENSIONS, "kind": owner_kind, "name": owner,
                    "uid": format!("uid-of-{owner}"), "controller": true,
                }],
            },
            "spec": {
                "operatingMode": "Running", "replicas": 1,
                "podTemplate": { "spec": { "containers": containers(image) } },
            },
            "status": {
                "mode": "Running",
                "podIPs": [ip],
                "template": {
                    "group": "extensions.agents.x-k8s.io", "name": template, "networkPolicyManagement": "Managed",
                },
                "conditions": [{
                    "type": "Ready", "status": status, "reason": reason, "message": message,
                    "observedGeneration": 1, "lastTransitionTime": created,
                }],
            },
        });
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name,
                "uid": format!("uid-of-pod-of-{name}"),
                "labels": BTreeMap::from(selection_labels(template)),
                "ownerReferences": [{
                    "apiVersion": CORE, "kind": "Sandbox", "name": name,
                    "uid": format!("uid-of-{name}"), "controller": true,
                }],
            },
            "spec": { "nodeName": node, "containers": containers(image) },
            "status": {
                "phase": phase,
                "podIPs": [{ "ip": ip }],
                "conditions": [{ "type": "Ready", "status": status, "lastTransitionTime": since }],
            },
        });
        vec![sandbox, pod]
    }
}

fn containers(image: &str) -> Value {
    json!([{ "name": "agent", "image": image }])
}

/// The hash with which a label names a pool: FNV-1a of the pool's name.
fn name_hash(name: &str) -> String {
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{hash:08x}")
}
