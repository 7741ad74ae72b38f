//! Finds the fields of a pod that give it access to its host.
//!
//! The pod is read as JSON, so that a field is judged even if our types of it are older than the API server. A value of
//! an unexpected type counts as access.

use serde_json::Value;

use super::{HostAccess, HostAccessSet};
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

    /// The parts of the pod templates of an object of the Sandbox API, in both API shapes. An object without a pod
    /// template has none.
    #[must_use]
    pub fn of_own(object: &'a Value) -> Vec<Self> {
        let beside = object.pointer("/spec/runtimeClassName").and_then(Value::as_str).filter(|c| !c.is_empty());
        let templates = ["podTemplate", "template"].into_iter().filter(|field| object["spec"][field].is_object());
        let pods = templates.map(|field| {
            let mut pod = Self::of_template(&object["spec"][field], &format!("spec.{field}"));
            if beside.is_some() {
                (pod.class, pod.class_path) = (beside, "spec.runtimeClassName".to_owned());
            }
            pod
        });
        pods.collect()
    }
}

/// The lists of containers in a PodSpec.
pub(super) const CONTAINERS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];
/// The capabilities that the profile *baseline* lets a container add.
pub(super) const CAPABILITIES: [&str; 13] = [
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
/// The kernel parameters that the profile *baseline* lets a pod set, as of Kubernetes 1.37.
pub(super) const SYSCTLS: [&str; 14] = [
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
    "net.ipv4.tcp_slow_start_after_idle",
    "net.ipv4.tcp_notsent_lowat",
];
/// The SELinux types that the profile *baseline* allows, as of Kubernetes 1.31.
pub(super) const SELINUX_TYPES: [&str; 4] =
    ["container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
/// The types of a seccomp or AppArmor profile that confine a container.
pub(super) const PROFILES: [&str; 2] = ["RuntimeDefault", "Localhost"];
/// The prefix of the annotations that named AppArmor profiles before Kubernetes 1.30. API servers still read them.
pub(crate) const APPARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

/// A field of a pod that gives it access to its host. It gets a text only when somebody reads it: a pod can have hundreds
/// of thousands of such fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Finding<'a> {
    pub(super) access: HostAccess,
    /// The index of a list in [`CONTAINERS`] and the position in it, if the field is one of a container.
    container: Option<(usize, usize)>,
    /// The path of the field below the PodSpec or the container. `*` is the place of `item`.
    field: &'static str,
    /// The position in the list that the path contains.
    item: Option<usize>,
    /// The name that the message or the path contains.
    name: &'a str,
}

/// The path of annotations, which are not below the PodSpec.
const ANNOTATIONS: &str = "annotations";

impl Finding<'_> {
    /// The error of the field, with its path and the right value.
    pub(super) fn error(&self, pod: &PodFields<'_>) -> FieldError {
        let PodFields { spec_path, metadata_path, .. } = pod;
        let item = self.item.map_or_else(String::new, |item| format!("[{item}]"));
        let field = self.field.replacen('*', &item, 1);
        let path = match self.container {
            _ if self.field == ANNOTATIONS => format!("{metadata_path}.{field}[{}]", self.name),
            Some((list, at)) => format!("{spec_path}.{}[{at}].{field}", CONTAINERS[list]),
            None => format!("{spec_path}.{field}"),
        };
        FieldError::new(path, self.message())
    }

    fn message(&self) -> String {
        let left_out =
            |allowed: &[&str]| format!("{:?} must be left out; allowed are {}", self.name, allowed.join(", "));
        match self.access {
            HostAccess::HostNetwork
            | HostAccess::HostPid
            | HostAccess::HostIpc
            | HostAccess::Privileged
            | HostAccess::HostProcess => "must be false or absent".to_owned(),
            HostAccess::HostPath => {
                "must be absent; use another type of volume, such as emptyDir or persistentVolumeClaim".to_owned()
            }
            HostAccess::Sysctls => left_out(&SYSCTLS),
            HostAccess::Capabilities => left_out(&CAPABILITIES),
            HostAccess::AppArmorProfile if self.field == ANNOTATIONS => {
                "must be runtime/default or localhost/PROFILE, or absent".to_owned()
            }
            HostAccess::SeccompProfile | HostAccess::AppArmorProfile => {
                format!("must be {}, or absent", PROFILES.join(" or "))
            }
            HostAccess::SeLinuxOptions if self.field == SELINUX_TYPE => {
                format!("must be {}, or absent", SELINUX_TYPES.join(", "))
            }
            HostAccess::SeLinuxOptions => "must be absent".to_owned(),
            HostAccess::ProcMount => "must be Default, or absent".to_owned(),
            HostAccess::HostPort => "must be absent; use the address of the pod or a Service".to_owned(),
            HostAccess::VolumeDevices => "must be absent; mount the volume with volumeMounts".to_owned(),
            HostAccess::ProbeHost => "must be absent, so that the kubelet connects to the pod itself".to_owned(),
        }
    }
}

/// A reader of the fields that give a pod access to its host.
pub(super) trait Reader<'a> {
    /// Whether the reader needs to know about more fields that give this access. The others are not looked at.
    fn wants(&self, access: HostAccess) -> bool;

    /// Takes a field that gives an access which the reader wants.
    fn take(&mut self, finding: Finding<'a>);
}

/// The ways in which a pod can reach its host. The first field of each way is enough.
impl<'a> Reader<'a> for HostAccessSet {
    fn wants(&self, access: HostAccess) -> bool {
        !self.contains(access)
    }

    fn take(&mut self, finding: Finding<'a>) {
        self.insert(finding.access);
    }
}

/// All fields, in the order of the pod.
#[derive(Default)]
pub(super) struct AllFindings<'a>(pub(super) Vec<Finding<'a>>);

impl<'a> Reader<'a> for AllFindings<'a> {
    fn wants(&self, _: HostAccess) -> bool {
        true
    }

    fn take(&mut self, finding: Finding<'a>) {
        self.0.push(finding);
    }
}

/// Returns the ways in which a pod can reach its host. The time is that of its shortest proof: the first field of each way.
#[must_use]
pub fn host_access(pod: &PodFields<'_>) -> HostAccessSet {
    let mut found = HostAccessSet::default();
    read(pod, &mut found);
    found
}

/// Finds the fields of a pod that give it access to its host. The time is linear in the size of the pod.
pub(super) fn read<'a>(pod: &PodFields<'a>, reader: &mut impl Reader<'a>) {
    let spec = pod.spec;
    let mut found = Found { reader, container: None };
    for (access, field) in
        [(HostAccess::HostNetwork, "hostNetwork"), (HostAccess::HostPid, "hostPID"), (HostAccess::HostIpc, "hostIPC")]
    {
        found.add_if(is_set(&spec[field]), access, field);
    }
    found.add_each(&spec["volumes"], HostAccess::HostPath, "volumes*.hostPath", |volume| {
        (!volume["hostPath"].is_null()).then_some("")
    });
    security_context(&spec["securityContext"], &mut found);
    let sysctls = &spec["securityContext"]["sysctls"];
    found.add_each(sysctls, HostAccess::Sysctls, "securityContext.sysctls*.name", |sysctl| {
        let name = sysctl["name"].as_str().unwrap_or_default();
        (!SYSCTLS.contains(&name)).then_some(name)
    });
    for (kind, field) in CONTAINERS.into_iter().enumerate() {
        for (at, container) in list(&spec[field]) {
            found.container = Some((kind, at));
            // With the network of the host, every port is a port of the host, and the API server fills in `hostPort`.
            check_container(container, !is_set(&spec["hostNetwork"]), &mut found);
        }
    }
    found.container = None;
    let annotations = pod.metadata["annotations"].as_object();
    for (key, value) in annotations.into_iter().flatten().filter(|(key, _)| key.starts_with(APPARMOR_ANNOTATION)) {
        let profile = value.as_str().unwrap_or("?");
        if !(profile.is_empty() || profile == "runtime/default" || profile.starts_with("localhost/")) {
            found.add(HostAccess::AppArmorProfile, ANNOTATIONS, None, key);
        }
    }
}

/// The place in a pod at which fields are found, and their reader.
struct Found<'r, R> {
    reader: &'r mut R,
    container: Option<(usize, usize)>,
}

impl<R> Found<'_, R> {
    fn add<'a>(&mut self, access: HostAccess, field: &'static str, item: Option<usize>, name: &'a str)
    where
        R: Reader<'a>,
    {
        if self.reader.wants(access) {
            self.reader.take(Finding { access, container: self.container, field, item, name });
        }
    }

    fn add_if<'a>(&mut self, breaks: bool, access: HostAccess, field: &'static str)
    where
        R: Reader<'a>,
    {
        if breaks {
            self.add(access, field, None, "");
        }
    }

    /// Adds each item of a list for which there is a name.
    fn add_each<'a>(
        &mut self,
        items: &'a Value,
        access: HostAccess,
        field: &'static str,
        breaks: impl Fn(&'a Value) -> Option<&'a str>,
    ) where
        R: Reader<'a>,
    {
        for (at, item) in list(items) {
            if !self.reader.wants(access) {
                return;
            }
            if let Some(name) = breaks(item) {
                self.add(access, field, Some(at), name);
            }
        }
    }
}

const SELINUX_TYPE: &str = "securityContext.seLinuxOptions.type";

/// The fields that the security contexts of pods and containers share.
fn security_context<'a>(context: &'a Value, found: &mut Found<'_, impl Reader<'a>>) {
    for (access, field, path) in [
        (HostAccess::SeccompProfile, "seccompProfile", "securityContext.seccompProfile.type"),
        (HostAccess::AppArmorProfile, "appArmorProfile", "securityContext.appArmorProfile.type"),
    ] {
        let kind = &context[field]["type"];
        found.add_if(!kind.is_null() && !is_one_of(kind, &PROFILES), access, path);
    }
    let selinux = &context["seLinuxOptions"];
    let kind = &selinux["type"];
    found.add_if(is_text(kind) && !is_one_of(kind, &SELINUX_TYPES), HostAccess::SeLinuxOptions, SELINUX_TYPE);
    for (field, path) in
        [("user", "securityContext.seLinuxOptions.user"), ("role", "securityContext.seLinuxOptions.role")]
    {
        found.add_if(is_text(&selinux[field]), HostAccess::SeLinuxOptions, path);
    }
    let host_process = is_set(&context["windowsOptions"]["hostProcess"]);
    found.add_if(host_process, HostAccess::HostProcess, "securityContext.windowsOptions.hostProcess");
}

pub(super) type Handler = (&'static [&'static str], [(&'static str, &'static str); 2]);

/// The handlers of a container by which the kubelet connects to a host: the path of each, and that of its host for both
/// ways to connect.
pub(super) const HANDLERS: [Handler; 5] = [
    (&["livenessProbe"], [("httpGet", "livenessProbe.httpGet.host"), ("tcpSocket", "livenessProbe.tcpSocket.host")]),
    (&["readinessProbe"], [("httpGet", "readinessProbe.httpGet.host"), ("tcpSocket", "readinessProbe.tcpSocket.host")]),
    (&["startupProbe"], [("httpGet", "startupProbe.httpGet.host"), ("tcpSocket", "startupProbe.tcpSocket.host")]),
    (
        &["lifecycle", "postStart"],
        [("httpGet", "lifecycle.postStart.httpGet.host"), ("tcpSocket", "lifecycle.postStart.tcpSocket.host")],
    ),
    (
        &["lifecycle", "preStop"],
        [("httpGet", "lifecycle.preStop.httpGet.host"), ("tcpSocket", "lifecycle.preStop.tcpSocket.host")],
    ),
];

fn check_container<'a>(container: &'a Value, own_network: bool, found: &mut Found<'_, impl Reader<'a>>) {
    let context = &container["securityContext"];
    security_context(context, found);
    found.add_if(is_set(&context["privileged"]), HostAccess::Privileged, "securityContext.privileged");
    let added = &context["capabilities"]["add"];
    found.add_each(added, HostAccess::Capabilities, "securityContext.capabilities.add*", |capability| {
        let name = capability.as_str().unwrap_or_default();
        (!CAPABILITIES.contains(&name)).then_some(name)
    });
    let proc_mount = &context["procMount"];
    found.add_if(is_text(proc_mount) && proc_mount != "Default", HostAccess::ProcMount, "securityContext.procMount");
    found.add_each(&container["ports"], HostAccess::HostPort, "ports*.hostPort", |port| {
        let host = &port["hostPort"];
        (own_network && !host.is_null() && host.as_i64() != Some(0)).then_some("")
    });
    let devices = list(&container["volumeDevices"]).next().is_some();
    found.add_if(devices, HostAccess::VolumeDevices, "volumeDevices");
    for (path, actions) in HANDLERS {
        let handler = path.iter().fold(container, |at, field| &at[field]);
        for (action, host) in actions {
            found.add_if(is_text(&handler[action]["host"]), HostAccess::ProbeHost, host);
        }
    }
}

/// Whether a value is one of these texts.
fn is_one_of(value: &Value, texts: &[&str]) -> bool {
    value.as_str().is_some_and(|text| texts.contains(&text))
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
