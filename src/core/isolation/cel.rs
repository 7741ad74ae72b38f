//! The rules of `fields.rs` as expressions of the Common Expression Language (CEL), for ValidatingAdmissionPolicies.
//!
//! The API server evaluates such a policy itself, so the rules hold while no replica of the webhook answers. The lists of
//! what the profile *baseline* allows are those of `fields.rs`. A test against a real API server compares both for each
//! [`HostAccess`] and each kind.
//!
//! The expressions judge the variable `specs` of a policy, a list of PodSpecs, and the variable `annotations`, a list of the
//! annotations of these pods. [`variables`] derives two more. The values are of the type `dyn`, so a value of an unexpected
//! type makes an expression false or an error, and both deny the request.

use super::HostAccess;
use super::fields::{APPARMOR_ANNOTATION, CAPABILITIES, CONTAINERS, HANDLERS, PROFILES, SELINUX_TYPES, SYSCTLS};

/// An expression that is true if no pod has an access to its host, and the message if it is false.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The expression.
    pub expression: String,
    /// The fields that the rule is about, and what they must be.
    pub message: String,
}

/// The variables that the rules use beside `specs` and `annotations`, each with its expression.
#[must_use]
pub fn variables() -> [(&'static str, String); 2] {
    [
        // One list of containers for each PodSpec.
        ("containers", format!("variables.specs.map(s, {})", containers_of("s"))),
        // PodSpecs and containers alike have a security context.
        ("contexts", "variables.containers + [variables.specs]".to_owned()),
    ]
}

/// The rule about one way in which a pod can have access to its host.
#[must_use]
pub fn rule(access: HostAccess) -> Rule {
    let (expression, wanted) = match access {
        HostAccess::HostNetwork => (unset_in_specs("hostNetwork"), "must be false or absent".to_owned()),
        HostAccess::HostPid => (unset_in_specs("hostPID"), "must be false or absent".to_owned()),
        HostAccess::HostIpc => (unset_in_specs("hostIPC"), "must be false or absent".to_owned()),
        HostAccess::HostPath => (
            "variables.specs.all(s, s.?volumes.orValue([]).all(v, v.?hostPath.orValue(null) == null))".to_owned(),
            "must be absent in each volume; use another type of volume, such as emptyDir or persistentVolumeClaim"
                .to_owned(),
        ),
        HostAccess::HostPort => (host_port(), "must be absent; use the address of the pod or a Service".to_owned()),
        HostAccess::Privileged => (
            in_containers("c.?securityContext.?privileged.orValue(false) == false"),
            "must be false or absent in each container".to_owned(),
        ),
        HostAccess::Capabilities => (
            in_containers(&format!("c.?securityContext.?capabilities.?add.orValue([]).all(a, a in {CAPABILITIES:?})")),
            format!("allowed to add are {}", CAPABILITIES.join(", ")),
        ),
        HostAccess::ProcMount => (
            in_containers("c.?securityContext.?procMount.orValue(\"\") in [\"\", \"Default\"]"),
            "must be Default, or absent".to_owned(),
        ),
        HostAccess::Sysctls => (
            format!(
                "variables.specs.all(s, s.?securityContext.?sysctls.orValue([]).all(y, \
                 y.?name.orValue(\"\") in {SYSCTLS:?}))"
            ),
            format!("allowed are {}", SYSCTLS.join(", ")),
        ),
        HostAccess::SeccompProfile => {
            (in_contexts(&profile("seccompProfile")), format!("must be {}, or absent", PROFILES.join(" or ")))
        }
        HostAccess::AppArmorProfile => (
            format!("{} && {}", in_contexts(&profile("appArmorProfile")), apparmor_annotations()),
            format!(
                "must be {}, or absent; an annotation must be runtime/default or localhost/PROFILE, or absent",
                PROFILES.join(" or ")
            ),
        ),
        HostAccess::SeLinuxOptions => (
            in_contexts(&selinux_options()),
            format!("user and role must be absent, and type must be {}, or absent", SELINUX_TYPES.join(", ")),
        ),
        HostAccess::HostProcess => (
            in_contexts("c.?securityContext.?windowsOptions.?hostProcess.orValue(false) == false"),
            "must be false or absent".to_owned(),
        ),
        HostAccess::VolumeDevices => (
            in_containers("c.?volumeDevices.orValue([]).size() == 0"),
            "must be absent in each container; mount the volume with volumeMounts".to_owned(),
        ),
        HostAccess::ProbeHost => (
            in_containers(&probe_hosts()),
            "the host of a probe or a lifecycle hook must be absent, so that the kubelet connects to the pod itself"
                .to_owned(),
        ),
    };
    Rule { expression, message: format!("{}: {wanted}", access.as_str()) }
}

fn containers_of(spec: &str) -> String {
    CONTAINERS.map(|list| format!("{spec}.?{list}.orValue([])")).join(" + ")
}

fn unset_in_specs(field: &str) -> String {
    format!("variables.specs.all(s, s.?{field}.orValue(false) == false)")
}

/// A condition on each container `c`.
fn in_containers(condition: &str) -> String {
    format!("variables.containers.all(l, l.all(c, {condition}))")
}

/// A condition on each PodSpec and each container `c`.
fn in_contexts(condition: &str) -> String {
    format!("variables.contexts.all(l, l.all(c, {condition}))")
}

fn profile(field: &str) -> String {
    let [first, ..] = PROFILES;
    format!("c.?securityContext.?{field}.?type.orValue({first:?}) in {PROFILES:?}")
}

fn apparmor_annotations() -> String {
    format!(
        "variables.annotations.all(m, m.all(k, !k.startsWith({APPARMOR_ANNOTATION:?}) || \
         m[k] in [\"\", \"runtime/default\"] || m[k].startsWith(\"localhost/\")))"
    )
}

fn selinux_options() -> String {
    let option = |field: &str| format!("c.?securityContext.?seLinuxOptions.?{field}.orValue(\"\")");
    format!(
        "{} == \"\" && {} == \"\" && ({of_type} == \"\" || {of_type} in {SELINUX_TYPES:?})",
        option("user"),
        option("role"),
        of_type = option("type"),
    )
}

/// With the network of the host, every port is a port of the host, and the API server fills in `hostPort`.
fn host_port() -> String {
    format!(
        "variables.specs.all(s, s.?hostNetwork.orValue(false) != false || \
         ({}).all(c, c.?ports.orValue([]).all(p, p.?hostPort.orValue(0) == 0)))",
        containers_of("s")
    )
}

fn probe_hosts() -> String {
    let hosts = HANDLERS.iter().flat_map(|(_, actions)| actions);
    let absent = hosts.map(|(_, path)| format!("c.?{}.orValue(\"\") == \"\"", path.replace('.', ".?")));
    absent.collect::<Vec<_>>().join(" && ")
}
