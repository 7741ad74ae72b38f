//! Random operations without the values that a server chooses: UIDs and versions are placeholders, which each side
//! translates.

use fastrand::Rng;
use serde_json::{Value, json};

use super::placeholders::{Placeholders, uid_placeholder, version_placeholder};
use crate::e2e::json::{text, uid};
use crate::e2e::kinds::{
    CLAIM, ENDPOINT_SLICE, Kind, NETWORK_POLICY, POD, POOL, SANDBOX, SEED_CLAIM, SEED_POOL, SEED_TEMPLATE, SERVICE,
    TEMPLATE, VOLUME_CLAIM,
};

/// The kinds that both sides know.
pub(super) const KINDS: [Kind; 12] = [
    SANDBOX,
    TEMPLATE,
    SEED_TEMPLATE,
    POOL,
    SEED_POOL,
    CLAIM,
    SEED_CLAIM,
    POD,
    SERVICE,
    VOLUME_CLAIM,
    NETWORK_POLICY,
    ENDPOINT_SLICE,
];
/// There are only a few names, so that names are reused.
const NAMES: [&str; 3] = ["a", "b", "c"];

/// One object, by kind and name.
pub(super) type Target = (Kind, String);

#[derive(Clone, Debug)]
pub(super) enum Operation {
    Create(Value),
    /// A merge patch of the object or of its status.
    Patch {
        target: Target,
        status: bool,
        patch: Value,
    },
    Delete {
        target: Target,
        preconditions: Value,
        foreground: bool,
    },
    /// A scheduler binds a pod to a node.
    Bind(Target),
    /// A kubelet finishes the deletion of a pod.
    Finish(Target),
}

impl Operation {
    pub(super) fn target(&self) -> Target {
        match self {
            Operation::Create(document) => (Kind::of(document), text(document, "/metadata/name").to_owned()),
            Operation::Patch { target, .. }
            | Operation::Delete { target, .. }
            | Operation::Bind(target)
            | Operation::Finish(target) => target.clone(),
        }
    }
}

/// Chooses operations from the objects on the model's side.
pub(super) struct Chooser<'a> {
    pub(super) rng: &'a mut Rng,
    pub(super) there: &'a [(Target, Value)],
    pub(super) placeholders: &'a Placeholders,
}

impl Chooser<'_> {
    pub(super) fn operation(&mut self) -> Operation {
        let kind = self.kind();
        match self.rng.u8(..100) {
            0..30 => Operation::Create(self.document(kind)),
            30..68 => self.patch(),
            68..88 => {
                let target = self.target();
                let preconditions = self.preconditions(&target);
                Operation::Delete { target, preconditions, foreground: self.rng.u8(..3) == 0 }
            }
            88..94 => Operation::Bind(self.pod(|pod| text(pod, "/spec/nodeName").is_empty())),
            _ => Operation::Finish(self.pod(|pod| !text(pod, "/metadata/deletionTimestamp").is_empty())),
        }
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.rng.usize(..from.len())].clone()
    }

    fn kind(&mut self) -> Kind {
        // Half of the operations use the two kinds that matter most.
        if self.rng.bool() { self.pick(&[SANDBOX, POD]) } else { self.pick(&KINDS) }
    }

    /// An object that exists in most cases.
    fn target(&mut self) -> Target {
        if self.there.is_empty() || self.rng.u8(..8) == 0 {
            return (self.kind(), self.pick(&NAMES).to_owned());
        }
        self.there[self.rng.usize(..self.there.len())].0.clone()
    }

    /// A pod that fulfils the predicate, if there is one.
    fn pod(&mut self, wanted: impl Fn(&Value) -> bool) -> Target {
        let pods: Vec<Target> =
            self.there.iter().filter(|((k, _), pod)| *k == POD && wanted(pod)).map(|(t, _)| t.clone()).collect();
        if pods.is_empty() { (POD, self.pick(&NAMES).to_owned()) } else { self.pick(&pods) }
    }

    fn object(&self, target: &Target) -> Option<&Value> {
        self.there.iter().find(|(t, _)| t == target).map(|(_, o)| o)
    }

    /// The UID or the version of the object, those of an earlier object, or none.
    fn preconditions(&mut self, target: &Target) -> Value {
        let mut preconditions = json!({});
        let held = self.object(target).cloned().unwrap_or_default();
        match self.rng.u8(..10) {
            0..4 => preconditions["uid"] = self.placeholders.uid(uid(&held)).into(),
            4..5 => preconditions["uid"] = uid_placeholder(self.rng.usize(..=self.placeholders.uids())).into(),
            _ => {}
        }
        match self.rng.u8(..10) {
            0..3 => {
                let version = self.placeholders.version(text(&held, "/metadata/resourceVersion"));
                preconditions["resourceVersion"] = version.into();
            }
            3..5 if self.placeholders.versions() > 0 => {
                let version = self.rng.usize(..self.placeholders.versions());
                preconditions["resourceVersion"] = version_placeholder(version).into();
            }
            _ => {}
        }
        preconditions
    }

    fn patch(&mut self) -> Operation {
        let target = self.target();
        let kind = target.0;
        let status = has_status(kind) && self.rng.u8(..3) == 0;
        let mut patch = match self.rng.u8(..12) {
            _ if status => json!({ "status": self.status(kind) }),
            0 => json!({}),
            1..3 => json!({ "metadata": { "labels": self.entry() } }),
            3 => json!({ "metadata": { "annotations": self.entry() } }),
            4..6 => json!({ "metadata": { "finalizers": self.finalizers() } }),
            6..9 => json!({ "metadata": { "ownerReferences": self.owners() } }),
            _ => self.change(kind),
        };
        if self.rng.u8(..6) == 0 && has_status(kind) {
            // A change of the part that this endpoint does not write.
            let other = if status { self.change(kind) } else { json!({ "status": self.status(kind) }) };
            crate::sim::api::merge(&mut patch, &other);
        }
        let preconditions = self.preconditions(&target);
        if preconditions != json!({}) {
            crate::sim::api::merge(&mut patch, &json!({ "metadata": preconditions }));
        }
        Operation::Patch { target, status, patch }
    }

    fn entry(&mut self) -> Value {
        let value = if self.rng.u8(..3) == 0 { Value::Null } else { format!("v{}", self.rng.u8(..3)).into() };
        json!({ "tests.paddock.dev/k": value })
    }

    fn finalizers(&mut self) -> Value {
        match self.rng.u8(..4) {
            0 => json!(["tests.paddock.dev/a"]),
            1 => json!(["tests.paddock.dev/a", "tests.paddock.dev/b"]),
            2 => json!([]),
            _ => Value::Null,
        }
    }

    fn owners(&mut self) -> Value {
        let count = self.rng.usize(..3);
        let mut owners: Vec<Value> = Vec::new();
        for _ in 0..count {
            let Some(((kind, name), owner)) = self.there.get(self.rng.usize(..self.there.len().max(1))).cloned() else {
                break;
            };
            // Sometimes the UID of an earlier object with this name, or a UID that no object has.
            let symbol = match self.rng.u8(..4) {
                0 => uid_placeholder(self.rng.usize(..=self.placeholders.uids())),
                _ => self.placeholders.uid(uid(&owner)),
            };
            if owners.iter().any(|o| o["uid"] == symbol.as_str()) {
                continue;
            }
            owners.push(json!({
                "apiVersion": kind.0, "kind": kind.1, "name": name, "uid": symbol,
                "controller": self.rng.bool(), "blockOwnerDeletion": self.rng.bool(),
            }));
        }
        if owners.is_empty() { Value::Null } else { owners.into() }
    }

    fn document(&mut self, kind: Kind) -> Value {
        let mut document = json!({ "apiVersion": kind.0, "kind": kind.1, "metadata": { "name": self.pick(&NAMES) } });
        if self.rng.u8(..3) == 0 {
            document["metadata"]["ownerReferences"] = self.owners();
        }
        if self.rng.u8(..4) == 0 {
            document["metadata"]["finalizers"] = json!(["tests.paddock.dev/a"]);
        }
        if self.rng.u8(..4) == 0 {
            document["metadata"]["labels"] = json!({ "tests.paddock.dev/k": "v0" });
        }
        if self.rng.u8(..6) == 0 && has_status(kind) {
            document["status"] = self.status(kind);
        }
        for field in ["ownerReferences", "finalizers"] {
            if document["metadata"][field].is_null()
                && let Some(metadata) = document["metadata"].as_object_mut()
            {
                metadata.remove(field);
            }
        }
        let body = self.body(kind);
        crate::sim::api::merge(&mut document, &body);
        document
    }

    fn pod_spec(&mut self) -> Value {
        json!({ "containers": [{ "name": "agent", "image": format!("agent:{}", self.rng.u8(..3)) }] })
    }

    /// Everything except the metadata. Sometimes the content is invalid.
    fn body(&mut self, kind: Kind) -> Value {
        let odd = self.rng.u8(..12) == 0;
        let mut spec = match kind {
            SANDBOX => {
                let field = if self.rng.bool() { "podTemplate" } else { "template" };
                let mut spec = json!({ "operatingMode": "Running", "replicas": self.rng.u8(..2) });
                spec[field] = json!({ "spec": self.pod_spec() });
                if odd {
                    spec["podTemplate"] = json!({ "spec": self.pod_spec() });
                }
                if self.rng.u8(..3) == 0 {
                    spec["resumePolicy"] = "OnDemand".into();
                }
                if self.rng.u8(..4) == 0 {
                    spec["volumeClaimTemplates"] = json!([{ "metadata": { "name": "data" }, "spec": storage() }]);
                }
                spec
            }
            TEMPLATE => json!({ "podTemplate": { "spec": self.pod_spec() } }),
            SEED_TEMPLATE => json!({ "template": { "spec": self.pod_spec() } }),
            POOL | SEED_POOL => {
                let field = if kind == POOL { "sandboxTemplateRef" } else { "templateRef" };
                let mut spec = json!({ field: { "name": "a" } });
                if self.rng.bool() {
                    spec["replicas"] = self.rng.u8(..3).into();
                } else {
                    spec["minReady"] = if odd { 9 } else { 1 }.into();
                    spec["maxReady"] = self.rng.u8(1..3).into();
                }
                if self.rng.u8(..3) == 0 {
                    spec["updateStrategy"] = json!({});
                }
                spec
            }
            CLAIM | SEED_CLAIM => {
                let field = if kind == CLAIM { "sandboxTemplateRef" } else { "templateRef" };
                let mut spec = json!({ field: { "name": "a" } });
                if odd {
                    spec["warmPoolRef"] = json!({ "name": "a" });
                }
                if self.rng.u8(..3) == 0 {
                    spec["lifecycle"] = json!({ "ttlSecondsAfterFinished": 5 });
                }
                spec
            }
            POD => {
                let mut spec = self.pod_spec();
                // Only the test schedules this pod. Volumes that the model does not know are not mounted.
                spec["schedulerName"] = "nobody".into();
                spec["automountServiceAccountToken"] = false.into();
                if self.rng.u8(..3) == 0 {
                    let claim = json!({ "claimName": self.pick(&NAMES) });
                    spec["volumes"] = json!([{ "name": "work", "persistentVolumeClaim": claim }]);
                }
                if self.rng.u8(..4) == 0 {
                    spec["terminationGracePeriodSeconds"] = self.pick(&[0, 45]).into();
                }
                spec
            }
            SERVICE => {
                let mut spec = json!({ "ports": [{ "port": self.rng.u8(80..83) }] });
                if self.rng.bool() {
                    spec["clusterIP"] = "None".into();
                }
                spec
            }
            VOLUME_CLAIM => storage(),
            NETWORK_POLICY => json!({ "podSelector": {}, "policyTypes": ["Ingress"] }),
            ENDPOINT_SLICE => {
                return json!({ "addressType": "IPv4", "endpoints": [self.endpoint()], "ports": [{ "port": 80 }] });
            }
            other => panic!("{other:?} is not one of them"),
        };
        if kind == VOLUME_CLAIM {
            // No StorageClass, so that no controller provisions a volume for it.
            spec["storageClassName"] = "".into();
        }
        json!({ "spec": spec })
    }

    fn endpoint(&mut self) -> Value {
        json!({ "addresses": [format!("10.0.0.{}", self.rng.u8(1..4))] })
    }

    /// A change of the desired state.
    fn change(&mut self, kind: Kind) -> Value {
        match kind {
            SANDBOX => match self.rng.u8(..5) {
                0 => json!({ "spec": { "resumePolicy": self.pick(&["Manual", "OnDemand"]) } }),
                1 => json!({ "spec": { "volumeClaimTemplates": null } }),
                2 => json!({ "spec": { "operatingMode": "Suspended", "replicas": null } }),
                _ => json!({ "spec": { "replicas": self.rng.u8(..2), "shutdownPolicy": null } }),
            },
            TEMPLATE => json!({ "spec": { "podTemplate": { "spec": self.pod_spec() } } }),
            SEED_TEMPLATE => json!({ "spec": { "template": { "spec": self.pod_spec() } } }),
            POOL | SEED_POOL => json!({ "spec": { "replicas": self.rng.u8(..3), "minReady": null } }),
            CLAIM | SEED_CLAIM => json!({ "spec": { "lifecycle": { "ttlSecondsAfterFinished": self.rng.u8(..3) } } }),
            POD => {
                if self.rng.u8(..3) == 0 {
                    json!({ "spec": { "containers": [{ "name": "other", "image": "agent:1" }] } })
                } else {
                    json!({ "spec": self.pod_spec() })
                }
            }
            SERVICE => json!({ "spec": { "ports": [{ "port": self.rng.u8(80..83) }] } }),
            NETWORK_POLICY => json!({ "spec": { "podSelector": { "matchLabels": { "a": "b" } } } }),
            ENDPOINT_SLICE => json!({ "endpoints": [self.endpoint()] }),
            _ => json!({ "metadata": { "labels": self.entry() } }),
        }
    }

    fn status(&mut self, kind: Kind) -> Value {
        let number = self.rng.u8(..3);
        match kind {
            SANDBOX => json!({ "nodeName": format!("n{number}") }),
            POOL | SEED_POOL => json!({ "replicas": number }),
            CLAIM | SEED_CLAIM => json!({ "sandbox": { "name": format!("s{number}") } }),
            _ => {
                let phase = ["Running", "Succeeded", "Failed"][usize::from(number)];
                json!({ "phase": phase })
            }
        }
    }
}

fn has_status(kind: Kind) -> bool {
    [SANDBOX, POOL, SEED_POOL, CLAIM, SEED_CLAIM, POD].contains(&kind)
}

fn storage() -> Value {
    json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } })
}
