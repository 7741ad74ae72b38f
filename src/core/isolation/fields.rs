//! Finds the fields of a pod that give it access to its host.
//!
//! The pod is read as JSON, so that a field is judged even if our types of it are older than the API server. A value of
//! an unexpected type counts as access.

use serde_json::Value;

use super::host_access::HostAccess;
use crate::model::FieldError;

/// The parts of an object that describe a pod, and the paths of these parts in the object.
#[derive(Clone, Debug)]
pub struct PodFields<'a> {
    /// The PodSpec.
    pub spec: &'a Value,
    /// The path of the PodSpec, such as `spec.podTemplate.spec`.
    pub spec_path: String,
    /// The metadata of the pod.
    pub metadata: &'a Value,
    /// The path of the metadata, such as `spec.podTemplate.metadata`.
    pub metadata_path: String,
    /// The RuntimeClass. A Sandbox may name it beside the PodSpec.
    pub class: Option<&'a str>,
    /// The path of the field that names the RuntimeClass.
    pub class_path: String,
}

impl<'a> PodFields<'a> {
    /// The parts of a Pod.
    #[must_use]
    pub fn of_pod(pod: &'a Value) -> Self {
        Self::of_template(pod, "")
    }

    /// The parts of a pod template, which is the field `path` of an object.
    #[must_use]
    pub fn of_template(template: &'a Value, path: &str) -> Self {
        let at = |field: &str| if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") };
        let spec = &template["spec"];
        Self {
            spec,
            spec_path: at("spec"),
            metadata: &template["metadata"],
            metadata_path: at("metadata"),
            class: spec["runtimeClassName"].as_str(),
            class_path: at("spec.runtimeClassName"),
        }
    }
}

/// The lists of containers in a PodSpec.
const CONTAINERS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];
/// The capabilities that the profile *baseline* lets a container add.
const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// The kernel parameters that the profile *baseline* lets a pod set, as of Kubernetes 1.32.
const SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];
/// The SELinux types that the profile *baseline* allows, as of Kubernetes 1.31.
const SELINUX_TYPES: [&str; 4] = ["container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
/// The types of a seccomp or AppArmor profile that confine a container.
const PROFILES: [&str; 2] = ["RuntimeDefault", "Localhost"];
/// The prefix of the annotations that named AppArmor profiles before Kubernetes 1.30. API servers still read them.
pub(crate) const APPARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

/// Returns every field of a pod that gives it access to its host.
#[must_use]
pub fn host_access(pod: &PodFields<'_>) -> Vec<(HostAccess, FieldError)> {
    let mut found = Found(Vec::new());
    let (spec, path) = (pod.spec, pod.spec_path.as_str());
    for (access, field) in
        [(HostAccess::HostNetwork, "hostNetwork"), (HostAccess::HostPid, "hostPID"), (HostAccess::HostIpc, "hostIPC")]
    {
        if is_set(&spec[field]) {
            found.add(access, format!("{path}.{field}"), "must be false or absent");
        }
    }
    for (i, volume) in list(&spec["volumes"]) {
        if !volume["hostPath"].is_null() {
            let message = "must be absent; use another type of volume, such as emptyDir or persistentVolumeClaim";
            found.add(HostAccess::HostPath, format!("{path}.volumes[{i}].hostPath"), message);
        }
    }
    let of_pod = format!("{path}.securityContext");
    security_context(&spec["securityContext"], &of_pod, &mut found);
    for (i, sysctl) in list(&spec["securityContext"]["sysctls"]) {
        let name = sysctl["name"].as_str().unwrap_or_default();
        if !SYSCTLS.contains(&name) {
            let message = format!("{name:?} must be left out; allowed are {}", SYSCTLS.join(", "));
            found.add(HostAccess::Sysctls, format!("{of_pod}.sysctls[{i}].name"), message);
        }
    }
    for kind in CONTAINERS {
        for (i, container) in list(&spec[kind]) {
            // With the network of the host, every port is a port of the host, and the API server fills in `hostPort`.
            check_container(container, &format!("{path}.{kind}[{i}]"), !is_set(&spec["hostNetwork"]), &mut found);
        }
    }
    let annotations = pod.metadata["annotations"].as_object();
    for (key, value) in annotations.into_iter().flatten().filter(|(key, _)| key.starts_with(APPARMOR_ANNOTATION)) {
        let profile = value.as_str().unwrap_or("?");
        if !(profile.is_empty() || profile == "runtime/default" || profile.starts_with("localhost/")) {
            let path = format!("{}.annotations[{key}]", pod.metadata_path);
            found.add(HostAccess::AppArmorProfile, path, "must be runtime/default or localhost/PROFILE, or absent");
        }
    }
    found.0
}

struct Found(Vec<(HostAccess, FieldError)>);

impl Found {
    fn add(&mut self, access: HostAccess, path: String, message: impl Into<String>) {
        self.0.push((access, FieldError::new(path, message)));
    }
}

/// The fields that the security contexts of pods and containers share.
fn security_context(context: &Value, path: &str, found: &mut Found) {
    for (access, field) in
        [(HostAccess::SeccompProfile, "seccompProfile"), (HostAccess::AppArmorProfile, "appArmorProfile")]
    {
        let kind = &context[field]["type"];
        if !kind.is_null() && !kind.as_str().is_some_and(|kind| PROFILES.contains(&kind)) {
            let message = format!("must be {}, or absent", PROFILES.join(" or "));
            found.add(access, format!("{path}.{field}.type"), message);
        }
    }
    let selinux = &context["seLinuxOptions"];
    let types = &selinux["type"];
    if is_text(types) && !types.as_str().is_some_and(|name| SELINUX_TYPES.contains(&name)) {
        let message = format!("must be {}, or absent", SELINUX_TYPES.join(", "));
        found.add(HostAccess::SeLinuxOptions, format!("{path}.seLinuxOptions.type"), message);
    }
    for field in ["user", "role"] {
        if is_text(&selinux[field]) {
            found.add(HostAccess::SeLinuxOptions, format!("{path}.seLinuxOptions.{field}"), "must be absent");
        }
    }
    if is_set(&context["windowsOptions"]["hostProcess"]) {
        let path = format!("{path}.windowsOptions.hostProcess");
        found.add(HostAccess::HostProcess, path, "must be false or absent");
    }
}

fn check_container(container: &Value, path: &str, own_network: bool, found: &mut Found) {
    let context = &container["securityContext"];
    let of_context = format!("{path}.securityContext");
    security_context(context, &of_context, found);
    if is_set(&context["privileged"]) {
        found.add(HostAccess::Privileged, format!("{of_context}.privileged"), "must be false or absent");
    }
    for (i, capability) in list(&context["capabilities"]["add"]) {
        let name = capability.as_str().unwrap_or_default();
        if !CAPABILITIES.contains(&name) {
            let message = format!("{name:?} must be left out; allowed are {}", CAPABILITIES.join(", "));
            found.add(HostAccess::Capabilities, format!("{of_context}.capabilities.add[{i}]"), message);
        }
    }
    let proc_mount = &context["procMount"];
    if is_text(proc_mount) && proc_mount != "Default" {
        found.add(HostAccess::ProcMount, format!("{of_context}.procMount"), "must be Default, or absent");
    }
    for (i, port) in list(&container["ports"]) {
        let host = &port["hostPort"];
        if own_network && !host.is_null() && host.as_i64() != Some(0) {
            let message = "must be absent; use the address of the pod or a Service";
            found.add(HostAccess::HostPort, format!("{path}.ports[{i}].hostPort"), message);
        }
    }
    if list(&container["volumeDevices"]).next().is_some() {
        let message = "must be absent; mount the volume with volumeMounts";
        found.add(HostAccess::VolumeDevices, format!("{path}.volumeDevices"), message);
    }
    let hooks = &container["lifecycle"];
    let handlers = [
        ("livenessProbe", &container["livenessProbe"]),
        ("readinessProbe", &container["readinessProbe"]),
        ("startupProbe", &container["startupProbe"]),
        ("lifecycle.postStart", &hooks["postStart"]),
        ("lifecycle.preStop", &hooks["preStop"]),
    ];
    for (field, handler) in handlers {
        for action in ["httpGet", "tcpSocket"] {
            if is_text(&handler[action]["host"]) {
                let message = "must be absent, so that the kubelet connects to the pod itself";
                found.add(HostAccess::ProbeHost, format!("{path}.{field}.{action}.host"), message);
            }
        }
    }
}

/// Whether a flag is set: neither absent nor `false`.
fn is_set(flag: &Value) -> bool {
    !matches!(flag, Value::Null | Value::Bool(false))
}

/// Whether a text is given: neither absent nor empty.
fn is_text(text: &Value) -> bool {
    !text.is_null() && text.as_str() != Some("")
}

/// The items of a list, with their positions. Anything but a list counts as one item, so that it is judged.
fn list(value: &Value) -> impl Iterator<Item = (usize, &Value)> {
    let single = Some(value).filter(|value| !value.is_null() && !value.is_array());
    value.as_array().into_iter().flatten().chain(single).enumerate()
}
