//! The fields of a Pod that give it access to its host.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A field of a Pod that gives it access to its host.
// The fields are the controls of the PodSecurity profile *baseline*, and raw block devices. Their names are also the values
// of the flag `--isolation-allow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum HostAccess {
    /// A volume of the type `hostPath`.
    HostPath,
    /// The network namespace of the node, which no NetworkPolicy restricts.
    HostNetwork,
    /// The process namespace of the node.
    #[serde(rename = "hostPID")]
    HostPid,
    /// The IPC namespace of the node.
    #[serde(rename = "hostIPC")]
    HostIpc,
    /// A port of the node.
    HostPort,
    /// A container with all rights and devices of the node.
    Privileged,
    /// Capabilities beyond those of the profile.
    Capabilities,
    /// An unmasked `/proc`.
    ProcMount,
    /// Kernel parameters that are not safe.
    Sysctls,
    /// A container without a seccomp profile.
    SeccompProfile,
    /// A container without an AppArmor profile.
    AppArmorProfile,
    /// Another SELinux user, role or type than those of containers.
    SeLinuxOptions,
    /// A Windows container on the host.
    HostProcess,
    /// A raw block device.
    VolumeDevices,
    /// A probe or lifecycle hook that makes the kubelet connect to another host than the pod.
    ProbeHost,
}

impl HostAccess {
    /// All ways, in the order of the documentation.
    pub const ALL: &'static [HostAccess] = &[
        HostAccess::HostPath,
        HostAccess::HostNetwork,
        HostAccess::HostPid,
        HostAccess::HostIpc,
        HostAccess::HostPort,
        HostAccess::Privileged,
        HostAccess::Capabilities,
        HostAccess::ProcMount,
        HostAccess::Sysctls,
        HostAccess::SeccompProfile,
        HostAccess::AppArmorProfile,
        HostAccess::SeLinuxOptions,
        HostAccess::HostProcess,
        HostAccess::VolumeDevices,
        HostAccess::ProbeHost,
    ];

    /// The name of the field.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            HostAccess::HostPath => "hostPath",
            HostAccess::HostNetwork => "hostNetwork",
            HostAccess::HostPid => "hostPID",
            HostAccess::HostIpc => "hostIPC",
            HostAccess::HostPort => "hostPort",
            HostAccess::Privileged => "privileged",
            HostAccess::Capabilities => "capabilities",
            HostAccess::ProcMount => "procMount",
            HostAccess::Sysctls => "sysctls",
            HostAccess::SeccompProfile => "seccompProfile",
            HostAccess::AppArmorProfile => "appArmorProfile",
            HostAccess::SeLinuxOptions => "seLinuxOptions",
            HostAccess::HostProcess => "hostProcess",
            HostAccess::VolumeDevices => "volumeDevices",
            HostAccess::ProbeHost => "probeHost",
        }
    }

    /// The way with this name.
    ///
    /// # Errors
    /// If there is none. The error lists the names.
    pub fn named(name: &str) -> Result<Self, UnknownHostAccess> {
        let found = HostAccess::ALL.iter().copied().find(|access| access.as_str() == name);
        found.ok_or_else(|| UnknownHostAccess { name: name.to_owned() })
    }
}

/// A name that is not the name of a [`HostAccess`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` must be one of {}", names())]
pub struct UnknownHostAccess {
    name: String,
}

fn names() -> String {
    HostAccess::ALL.iter().map(|access| access.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::HostAccess;

    #[test]
    fn name_of_a_field_is_the_same_in_flags_and_objects() {
        let schema = schemars::schema_for!(HostAccess).as_value().clone();
        let choices = schema["oneOf"].as_array().unwrap();
        let in_schema: Vec<&str> = choices.iter().filter_map(|choice| choice["const"].as_str()).collect();
        let names: Vec<&str> = HostAccess::ALL.iter().map(|access| access.as_str()).collect();
        assert_eq!(in_schema, names, "every field is listed");
        for access in HostAccess::ALL {
            assert_eq!(serde_json::to_value(access).unwrap(), access.as_str());
        }
    }
}
