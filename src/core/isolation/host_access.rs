//! The ways in which a pod can have access to its host, each named by the field that gives it.

use std::fmt;

use serde::{Serialize, Serializer};

/// A way in which a pod can have access to its host: a control of the PodSecurity profile *baseline*, or raw block
/// devices. The name is the field of the Pod, and it is the value of the flag `--isolation-allow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "camelCase")]
pub enum HostAccess {
    /// A volume of the type `hostPath`.
    HostPath,
    /// The network namespace of the node, which no NetworkPolicy restricts.
    HostNetwork,
    /// The process namespace of the node.
    #[strum(serialize = "hostPID")]
    HostPid,
    /// The IPC namespace of the node.
    #[strum(serialize = "hostIPC")]
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
    /// All ways.
    pub const ALL: &'static [HostAccess] = <HostAccess as strum::VariantArray>::VARIANTS;

    /// The name of the field.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
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

/// A set of [`HostAccess`]. It has two bytes, because every observed Pod has one.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct HostAccessSet(u16);

impl HostAccessSet {
    fn bit(access: HostAccess) -> u16 {
        1 << (access as u16)
    }

    /// Adds a way to the set.
    pub(super) fn insert(&mut self, access: HostAccess) {
        self.0 |= Self::bit(access);
    }

    /// Whether the set contains a way.
    #[must_use]
    pub fn contains(self, access: HostAccess) -> bool {
        self.0 & Self::bit(access) != 0
    }

    /// The ways that are in this set and not in the other.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The ways in the set, in the order of [`HostAccess::ALL`].
    pub fn iter(self) -> impl Iterator<Item = HostAccess> {
        HostAccess::ALL.iter().copied().filter(move |access| self.contains(*access))
    }
}

impl FromIterator<HostAccess> for HostAccessSet {
    fn from_iter<I: IntoIterator<Item = HostAccess>>(all: I) -> Self {
        Self(all.into_iter().fold(0, |bits, access| bits | Self::bit(access)))
    }
}

/// The names of the set, in `/debug/seen` and in `Debug`.
impl fmt::Debug for HostAccessSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(HostAccess::as_str).collect();
        write!(f, "{{{}}}", names.join(", "))
    }
}

impl Serialize for HostAccessSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(HostAccess::as_str))
    }
}
