//! The spec of a pod in the form in which it is kept.
//!
//! A parsed PodSpec takes 1.5 kB, and 2.3 to 3.3 kB more for each container and volume, whatever is in them. A spec is
//! parsed when a pod or a Sandbox is made, which is rare, and kept for the life of its Sandbox. So its JSON text is kept,
//! with the few facts that frequent decisions use.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, ContainerPort, PodSpec};
use paddock_api::claim_data::{INIT, INIT_IMAGE, SECRET, VOLUME};

use crate::object::JsonText;

/// A PodSpec as its JSON text. The members of a pool share one copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSpec {
    text: JsonText,
    names_class: bool,
    host_network: bool,
    takes_claim_data: bool,
    held: bool,
    disk_dirs: Box<[DiskDir]>,
    ports: Box<[Port]>,
}

/// An `emptyDir` volume on the disk of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskDir {
    /// The name of the volume.
    pub name: Box<str>,
    /// The limit of its size, a Kubernetes quantity.
    pub size_limit: Option<Box<str>>,
}

/// A port that a container declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The name. It is unique among the ports of a spec.
    pub name: Box<str>,
    /// The number.
    pub number: i32,
    /// The protocol, such as `TCP`.
    pub protocol: Box<str>,
}

impl StoredSpec {
    /// Stores a spec.
    #[must_use]
    pub fn of(spec: &PodSpec) -> Self {
        Self {
            text: JsonText::of(spec),
            names_class: spec.runtime_class_name.is_some(),
            host_network: spec.host_network == Some(true),
            takes_claim_data: has_claim_data_volume(spec),
            held: has_claim_data_volume(spec) && spec.init_containers.iter().flatten().any(is_init),
            disk_dirs: disk_dirs(spec),
            ports: ports(spec),
        }
    }

    /// Parses the spec.
    #[must_use]
    pub fn parse(&self) -> PodSpec {
        self.text.parse()
    }

    /// The JSON text.
    #[must_use]
    pub fn text(&self) -> &JsonText {
        &self.text
    }

    /// Whether `runtimeClassName` is set.
    #[must_use]
    pub fn names_class(&self) -> bool {
        self.names_class
    }

    /// Whether `hostNetwork` is true.
    #[must_use]
    pub fn host_network(&self) -> bool {
        self.host_network
    }

    /// Whether the containers can get the data of a claim while they run.
    #[must_use]
    pub fn takes_claim_data(&self) -> bool {
        self.takes_claim_data
    }

    /// Whether the containers start only when the data of a claim is there. The operator then puts the image of the program
    /// that holds them into the pod.
    #[must_use]
    pub fn held(&self) -> bool {
        self.held
    }

    /// The `emptyDir` volumes on the disk of the node.
    #[must_use]
    pub fn disk_dirs(&self) -> &[DiskDir] {
        &self.disk_dirs
    }

    /// The different ports that the containers declare. An init container that restarts always is a sidecar, and runs as
    /// long as the pod.
    #[must_use]
    pub fn ports(&self) -> &[Port] {
        &self.ports
    }
}

impl Default for StoredSpec {
    fn default() -> Self {
        Self::of(&PodSpec::default())
    }
}

/// The medium of an `emptyDir` on disk is empty. The other media are memory and huge pages, which no volume claim can
/// replace.
fn disk_dirs(spec: &PodSpec) -> Box<[DiskDir]> {
    let on_disk = spec.volumes.iter().flatten().filter_map(|v| {
        let dir = v.empty_dir.as_ref().filter(|dir| dir.medium.as_deref().unwrap_or_default().is_empty())?;
        Some(DiskDir { name: v.name.as_str().into(), size_limit: dir.size_limit.as_ref().map(|q| q.0.as_str().into()) })
    });
    on_disk.collect()
}

/// Whether a pod spec has the volume of the data of a claim, as the operator writes it into the spec of a Sandbox.
fn has_claim_data_volume(spec: &PodSpec) -> bool {
    spec.volumes.iter().flatten().filter(|volume| volume.name == VOLUME).any(|volume| {
        let first = volume.projected.as_ref().and_then(|projected| projected.sources.as_ref()?.first());
        first.and_then(|source| source.secret.as_ref()).is_some_and(|secret| secret.name == SECRET)
    })
}

/// Whether a container of the spec of a Sandbox is the init container that the operator added, to hold the others.
pub(crate) fn is_init(container: &Container) -> bool {
    container.name == INIT && container.image.as_deref() == Some(INIT_IMAGE)
}

/// The ports of the containers that run as long as the pod, by number and protocol. The names are upstream's: the first
/// one that a container gives the port and no other port has, or a generated one.
fn ports(spec: &PodSpec) -> Box<[Port]> {
    let mut found: BTreeMap<(i32, &str), Option<&str>> = BTreeMap::new();
    let mut names = BTreeSet::<String>::new();
    let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let declared = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    for ContainerPort { container_port, name, protocol, .. } in declared.filter(|port| port.container_port != 0) {
        let of_port = found.entry((*container_port, protocol.as_deref().unwrap_or("TCP"))).or_default();
        let name = name.as_deref().filter(|name| !name.is_empty() && of_port.is_none());
        if let Some(name) = name.filter(|name| names.insert((*name).to_owned())) {
            *of_port = Some(name);
        }
    }
    let port = |((number, protocol), name): ((i32, &str), Option<&str>)| {
        let name = name.map_or_else(|| generated_name(number, protocol, &mut names), str::to_owned);
        Port { name: name.into(), number, protocol: protocol.into() }
    };
    found.into_iter().map(port).collect()
}

/// A name that no other port of the spec has.
fn generated_name(number: i32, protocol: &str, names: &mut BTreeSet<String>) -> String {
    let base = format!("p-{number}-{}", protocol.to_lowercase());
    let mut name = base.clone();
    let mut suffix = 2;
    while !names.insert(name.clone()) {
        name = format!("{base}-{suffix}");
        suffix += 1;
    }
    name
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ports_have_the_order_and_the_names_of_upstream() {
        let spec = json!({
            "initContainers": [
                { "name": "once", "ports": [{ "containerPort": 1 }] },
                { "name": "sidecar", "restartPolicy": "Always", "ports": [
                    { "name": "http", "containerPort": 4180 }, { "name": "p-53-udp", "containerPort": 7 },
                ] },
            ],
            "containers": [
                { "name": "a", "ports": [
                    { "containerPort": 8888 }, { "name": "", "containerPort": 53, "protocol": "UDP" }, { "containerPort": 53 },
                ] },
                { "name": "b", "ports": [
                    { "name": "http", "containerPort": 8888 }, { "name": "again", "containerPort": 8888 },
                    { "name": "none", "containerPort": 0 },
                ] },
            ],
        });
        let found = ports(&serde_json::from_value(spec).unwrap());
        let found: Vec<_> = found.iter().map(|port| (port.number, &*port.protocol, &*port.name)).collect();
        let expected = [
            (7, "TCP", "p-53-udp"),
            (53, "TCP", "p-53-tcp"),
            (53, "UDP", "p-53-udp-2"),
            (4180, "TCP", "p-4180-tcp"),
            (8888, "TCP", "http"),
        ];
        assert_eq!(found, expected);
    }
}
