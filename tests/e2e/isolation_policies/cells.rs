//! The fields that give access to the host, and the kinds in which they occur. The API server accepts every object of this
//! table: it validates an object before it asks the policies.

use serde_json::{Value, json};

use crate::e2e::kinds::{
    CLAIM, Kind, POD, POOL, SANDBOX, SANDBOX_V1ALPHA1, SEED_CLAIM, SEED_POOL, SEED_TEMPLATE, TEMPLATE,
    TEMPLATE_V1ALPHA1,
};
use crate::e2e::manifests::{merge, object};

pub(super) const MARKER: &str = "policy.paddock.dev/generated-code";

/// The place of a pod in an object of a kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) kind: Kind,
    /// The JSON pointer of the pod template. Empty if the object is the pod.
    template: &'static str,
}

impl Place {
    const fn new(kind: Kind, template: &'static str) -> Self {
        Self { kind, template }
    }

    /// Whether the object is of a kind that Paddock serves.
    pub(super) fn is_own(self) -> bool {
        self.kind.0.contains("agents.x-k8s.io")
    }

    /// An object with this pod: its metadata and its spec.
    pub(super) fn object(self, name: &str, pod: &Value) -> Value {
        let mut pod = pod.clone();
        merge(&mut pod, &json!({ "metadata": { "labels": { "app": "a" } } }));
        let Kind(_, kind, _) = self.kind;
        let selector = json!({ "matchLabels": { "app": "a" } });
        let mut spec = match kind {
            "Pod" => {
                let mut made = object(self.kind, name, pod["spec"].clone());
                merge(&mut made, &json!({ "metadata": pod["metadata"] }));
                return made;
            }
            "ReplicationController" => json!({ "selector": { "app": "a" } }),
            "StatefulSet" => json!({ "selector": selector, "serviceName": "a" }),
            "Deployment" | "DaemonSet" | "ReplicaSet" => json!({ "selector": selector }),
            "CronJob" => json!({ "schedule": "0 0 * * *" }),
            "SandboxWarmPool" | "SandboxClaim" => unreachable!("{kind} describes no pod"),
            _ => json!({}),
        };
        if matches!(kind, "Job" | "CronJob") {
            pod["spec"]["restartPolicy"] = "Never".into();
        }
        let below = self.template.strip_prefix("/spec/").expect("a field of the spec");
        let nested = below.rsplit('/').fold(pod, |inner, field| json!({ field: inner }));
        merge(&mut spec, &nested);
        object(self.kind, name, spec)
    }
}

/// The places of pods in all kinds and versions that have one.
pub(super) const PLACES: [Place; 15] = [
    Place::new(POD, ""),
    Place::new(Kind("v1", "ReplicationController", "replicationcontrollers"), "/spec/template"),
    Place::new(DEPLOYMENT, "/spec/template"),
    Place::new(Kind("apps/v1", "StatefulSet", "statefulsets"), "/spec/template"),
    Place::new(Kind("apps/v1", "DaemonSet", "daemonsets"), "/spec/template"),
    Place::new(Kind("apps/v1", "ReplicaSet", "replicasets"), "/spec/template"),
    Place::new(Kind("batch/v1", "Job", "jobs"), "/spec/template"),
    Place::new(Kind("batch/v1", "CronJob", "cronjobs"), "/spec/jobTemplate/spec/template"),
    Place::new(SANDBOX, "/spec/podTemplate"),
    Place::new(SANDBOX, "/spec/template"),
    Place::new(SANDBOX_V1ALPHA1, "/spec/podTemplate"),
    Place::new(SANDBOX_V1ALPHA1, "/spec/template"),
    Place::new(SEED_TEMPLATE, "/spec/template"),
    Place::new(TEMPLATE, "/spec/podTemplate"),
    Place::new(TEMPLATE_V1ALPHA1, "/spec/podTemplate"),
];

pub(super) const DEPLOYMENT: Kind = Kind("apps/v1", "Deployment", "deployments");

/// The kinds that refer to a template and describe no pod themselves.
pub(super) fn references(name: &str) -> [Value; 4] {
    let template = json!({ "name": "t" });
    [
        object(SEED_POOL, name, json!({ "templateRef": template, "replicas": 1 })),
        object(SEED_CLAIM, name, json!({ "templateRef": template })),
        object(POOL, name, json!({ "sandboxTemplateRef": template, "replicas": 1 })),
        object(CLAIM, name, json!({ "warmPoolRef": { "name": "p" } })),
    ]
}

/// A pod that is isolated, with changes of it.
pub(super) fn pod(with: &Value) -> Value {
    let mut pod = json!({
        "metadata": {},
        "spec": { "runtimeClassName": "gvisor", "containers": [{ "name": "agent", "image": "agent:1" }] },
    });
    merge(&mut pod, with);
    pod
}

/// A change of a pod: the field, a value that breaks its isolation, and one that does not.
type Change = (&'static str, Value, Value);

/// The changes of one container.
fn of_container() -> Vec<Change> {
    let context = |field: &str, value: Value| json!({ "securityContext": { field: value } });
    let capabilities = |names: &[&str]| context("capabilities", json!({ "add": names }));
    let port = |host: Value| json!({ "ports": [{ "containerPort": 80 }, { "containerPort": 81, "hostPort": host }] });
    let mut changes = vec![
        ("hostPort", port(json!(81)), port(json!(0))),
        ("privileged", context("privileged", json!(true)), context("privileged", json!(false))),
        ("capabilities", capabilities(&["CHOWN", "SYS_ADMIN"]), capabilities(&["CHOWN", "NET_BIND_SERVICE"])),
        ("capabilities", capabilities(&["ALL"]), context("capabilities", json!({ "drop": ["ALL"] }))),
        ("procMount", context("procMount", json!("Unmasked")), context("procMount", json!("Default"))),
        ("volumeDevices", json!({ "volumeDevices": [{ "name": "v", "devicePath": "/dev/v" }] }), json!({})),
    ];
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        for action in ["httpGet", "tcpSocket"] {
            let with = |host: Value| json!({ probe: { action: { "port": 1, "host": host } } });
            changes.push(("probeHost", with(json!("10.0.0.1")), with(json!(""))));
        }
    }
    for hook in ["postStart", "preStop"] {
        let with = |host: Value| json!({ "lifecycle": { hook: { "httpGet": { "port": 1, "host": host } } } });
        changes.push(("probeHost", with(json!("10.0.0.1")), with(json!(""))));
    }
    changes
}

/// The changes of a security context, which pods and containers have.
fn of_context() -> Vec<Change> {
    let context = |field: &str, value: Value| json!({ "securityContext": { field: value } });
    let profile = |field: &str, kind: &str| context(field, json!({ "type": kind }));
    let selinux = |field: &str, value: &str| context("seLinuxOptions", json!({ field: value }));
    vec![
        ("seccompProfile", profile("seccompProfile", "Unconfined"), profile("seccompProfile", "RuntimeDefault")),
        ("appArmorProfile", profile("appArmorProfile", "Unconfined"), profile("appArmorProfile", "RuntimeDefault")),
        ("seLinuxOptions", selinux("type", "spc_t"), selinux("type", "container_kvm_t")),
        ("seLinuxOptions", selinux("user", "system_u"), selinux("level", "s0:c1,c2")),
        ("seLinuxOptions", selinux("role", "sysadm_r"), json!({})),
    ]
}

/// The changes of a whole pod.
fn of_pod() -> Vec<Change> {
    let spec = |spec: Value| json!({ "spec": spec });
    let sysctl = |name: &str| spec(json!({ "securityContext": { "sysctls": [{ "name": name, "value": "1" }] } }));
    let apparmor = |profile: &str| json!({ "metadata": { "annotations": { "container.apparmor.security.beta.kubernetes.io/agent": profile } } });
    let volume = |source: Value| {
        let mut volume = json!({ "name": "v" });
        merge(&mut volume, &source);
        spec(json!({ "volumes": [{ "name": "u", "emptyDir": {} }, volume] }))
    };
    let windows = |value: bool| {
        spec(json!({ "hostNetwork": value, "securityContext": { "windowsOptions": { "hostProcess": value } } }))
    };
    vec![
        ("hostNetwork", spec(json!({ "hostNetwork": true })), spec(json!({ "hostNetwork": false }))),
        ("hostPID", spec(json!({ "hostPID": true })), spec(json!({ "hostPID": false }))),
        ("hostIPC", spec(json!({ "hostIPC": true })), spec(json!({ "hostIPC": false }))),
        ("hostPath", volume(json!({ "hostPath": { "path": "/" } })), volume(json!({ "emptyDir": {} }))),
        ("sysctls", sysctl("kernel.msgmax"), sysctl("net.ipv4.tcp_syncookies")),
        ("appArmorProfile", apparmor("unconfined"), apparmor("runtime/default")),
        ("hostProcess", windows(true), windows(false)),
    ]
}

/// One pod of the table.
pub(super) struct Cell {
    /// The field of the profile *baseline*.
    pub(super) field: &'static str,
    pub(super) pod: Value,
    /// Whether the pod breaks its isolation.
    pub(super) breaks: bool,
}

/// A pod with one more container in a list. Only containers that run beside the others may have probes and hooks.
fn with_container(list: &str, change: &Value) -> Value {
    let mut container = json!({ "name": "changed", "image": "agent:1" });
    if list == "initContainers" {
        container["restartPolicy"] = "Always".into();
    }
    merge(&mut container, change);
    // A device needs a volume, and an unmasked /proc needs a user namespace.
    let volume = json!({ "name": "v", "persistentVolumeClaim": { "claimName": "v" } });
    let mut pod = pod(&json!({ "spec": { "volumes": [volume] } }));
    if change.pointer("/securityContext/procMount").is_some() {
        pod["spec"]["hostUsers"] = false.into();
    }
    match pod["spec"][list].as_array_mut() {
        Some(containers) => containers.push(container),
        None => pod["spec"][list] = json!([container]),
    }
    pod
}

/// All pods for a place.
pub(super) fn cells(place: Place) -> Vec<Cell> {
    let mut cells = Vec::new();
    let mut add = |field: &'static str, bad: Value, good: Value| {
        cells.push(Cell { field, pod: bad, breaks: true });
        cells.push(Cell { field, pod: good, breaks: false });
    };
    let mut contexts = of_context();
    if place.is_own() {
        // Other kinds must be on the network of the host for that, which `of_pod` contains.
        let windows = |value: bool| json!({ "securityContext": { "windowsOptions": { "hostProcess": value } } });
        contexts.push(("hostProcess", windows(true), windows(false)));
    }
    for list in ["containers", "initContainers"] {
        for (field, bad, good) in of_container().iter().chain(&contexts) {
            add(field, with_container(list, bad), with_container(list, good));
        }
    }
    for (field, bad, good) in contexts {
        add(field, pod(&json!({ "spec": bad })), pod(&json!({ "spec": good })));
    }
    for (field, bad, good) in of_pod() {
        add(field, pod(&bad), pod(&good));
    }
    cells
}

/// Pods with an ephemeral container, which the API server adds to a Pod that runs, and which has fewer fields than others.
/// Each comes with the container.
pub(super) fn ephemeral() -> Vec<(Cell, Value)> {
    let fields = ["privileged", "capabilities", "procMount"];
    let changes = of_container().into_iter().filter(|(field, ..)| fields.contains(field)).chain(of_context());
    let both = changes.flat_map(|(field, bad, good)| [(field, bad, true), (field, good, false)]);
    both.map(|(field, change, breaks)| {
        let mut container = json!({ "name": "debug", "image": "busybox" });
        merge(&mut container, &change);
        let pod = pod(&json!({ "spec": { "hostUsers": false, "ephemeralContainers": [container] } }));
        (Cell { field, pod, breaks }, container)
    })
    .collect()
}
