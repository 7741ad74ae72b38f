//! Which Sandboxes a TCP connection resumes: the gateways, the NetworkPolicies that select pods, and the ports.
//!
//! A gateway connects to a pod in the place of a client, so a NetworkPolicy on the pod would not see the client. A Sandbox
//! whose pod is selected by a policy for ingress therefore never has ports.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use paddock_api::kind::{ChildKind, Class, Key, Kind, OwnKind};

use super::ports::{Exhausted, Leads, Rules};
use super::state::World;
use super::tcp_facts::IngressPolicy;
use crate::manifest;
use crate::model::{self, ServiceIntent};
use crate::object::{Body, JsonText, Object};
use crate::settings::TcpWakeSettings;
use crate::tcp_wake::{Gateway, PORTS_MAX, TcpWake, no_gateway};

/// What the facts say about a Sandbox, without its ports.
enum Eligible {
    /// The operator or the Sandbox does not have it at all.
    Off,
    No(String),
    /// The TCP ports of the Service, in order.
    Yes(Vec<u16>),
}

impl World {
    /// Gives the ports of the gateway to a Sandbox whose pod is Ready, if it should have some and has none. A process
    /// calls this only while it may write, because another process may give away the same ports.
    pub fn take_ports(&mut self, key: &Key, now: Timestamp) {
        if let Some((sandbox, service, rules)) = self.without_ports(key) {
            self.tcp.ports.take(key, &sandbox.meta.uid, &service, rules, now);
        }
    }

    /// Whether [`World::take_ports`] would give ports to a Sandbox, unless there are no more.
    #[must_use]
    pub fn lacks_ports(&self, key: &Key) -> bool {
        self.without_ports(key).is_some()
    }

    fn without_ports(&self, key: &Key) -> Option<(Arc<Object>, Vec<u16>, Rules)> {
        let rules = self.port_rules()?;
        let sandbox = self.objects.get(key).filter(|object| object.key.kind == Kind::Sandbox)?;
        let Eligible::Yes(service) = self.eligible(sandbox) else { return None };
        let lacks = self.tcp.ports.of(key, &sandbox.meta.uid, &service).is_none() && self.has_ready_pod(sandbox);
        lacks.then(|| (sandbox.clone(), service, rules))
    }

    /// Whether a TCP connection resumes the Sandbox, for its snapshot.
    pub(super) fn tcp_wake(&self, sandbox: &Object, now: Timestamp) -> TcpWake {
        let Some(rules) = self.port_rules() else { return TcpWake::Off };
        let service = match self.eligible(sandbox) {
            Eligible::Off => return TcpWake::Off,
            Eligible::No(why) => return TcpWake::Unavailable(why),
            Eligible::Yes(service) => service,
        };
        let (key, uid) = (&sandbox.key, &*sandbox.meta.uid);
        if let Some(ports) = self.tcp.ports.of(key, uid, &service) {
            return TcpWake::Available { ports, gateways: self.tcp.gateways.clone() };
        }
        match self.tcp.ports.find(key, uid, &service, rules, now) {
            Err(Exhausted::Namespace) => TcpWake::Unavailable(format!(
                "The namespace has its share of the gateway's ports {}: a quarter of them",
                rules.range
            )),
            Err(Exhausted::All) => TcpWake::Unavailable(format!(
                "Every port of the gateway ({}) is in use: widen the range of operator and gateway (--tcp-wake-ports)",
                rules.range
            )),
            // A policy may select the pod by labels that only a pod shows, because a webhook added them.
            Ok(_) if !sandbox.runs() => TcpWake::Unavailable(
                "This is decided when the pod of the Sandbox is Ready the next time, because its labels and ports count"
                    .to_owned(),
            ),
            Ok(_) => TcpWake::Undecided,
        }
    }

    fn eligible(&self, sandbox: &Object) -> Eligible {
        let Some(settings) = &self.settings.tcp_wake else { return Eligible::Off };
        let Some(Ok(model)) = sandbox.sandbox().map(|s| &s.spec) else { return Eligible::Off };
        if model.service != ServiceIntent::Stable || sandbox.meta.in_pool() {
            return Eligible::Off;
        }
        if let Some(policy) = self.ingress_policy_of(sandbox, model) {
            return Eligible::No(format!(
                "NetworkPolicy {policy} restricts the clients of the pod, and a gateway would hide them from it"
            ));
        }
        let service = manifest::tcp_ports(model);
        match service.len() {
            0 => Eligible::No("The Sandbox declares no TCP port".to_owned()),
            // A Sandbox that has ports keeps them while the gateways are away.
            1..=PORTS_MAX if !self.tcp.gateways.is_empty() => Eligible::Yes(service),
            1..=PORTS_MAX => match self.tcp.ports.of(&sandbox.key, &sandbox.meta.uid, &service) {
                Some(_) => Eligible::Yes(service),
                None => Eligible::No(no_gateway(settings)),
            },
            many => {
                Eligible::No(format!("The Sandbox declares {many} TCP ports, and at most {PORTS_MAX} are possible"))
            }
        }
    }

    /// The first NetworkPolicy that selects the pod of a Sandbox for ingress: the pod that exists, or the next one.
    fn ingress_policy_of(&self, sandbox: &Object, model: &model::Sandbox) -> Option<&str> {
        let policies = self.tcp.policies.get(&sandbox.key.namespace)?;
        let next = manifest::pod_labels(sandbox, model);
        let pods: Vec<Arc<Object>> = self.pods_of(sandbox).collect();
        // A policy may have thousands of requirements, and a pod thousands of labels.
        let pods: Vec<BTreeMap<&str, &str>> = pods.iter().map(|pod| pod.meta.labels.index()).collect();
        let selected =
            policies.iter().find(|(_, policy)| policy.selects(&next) || pods.iter().any(|pod| policy.selects(pod)));
        selected.map(|(name, _)| &**name)
    }

    fn has_ready_pod(&self, sandbox: &Object) -> bool {
        self.pod_of(sandbox).is_some_and(|pod| {
            pod.meta.deletion_timestamp.is_none() && pod.pod().is_some_and(|pod| pod.ready() && !pod.ended())
        })
    }

    fn port_rules(&self) -> Option<Rules> {
        let settings = self.settings.tcp_wake.as_ref()?;
        Some(Rules { range: settings.ports, rest: self.settings.port_rest })
    }

    /// Drops the addresses of an EndpointSlice of another Service than the gateway's.
    pub(super) fn keep_gateways(&self, object: &mut Object) {
        if let Body::ServiceEndpoints(endpoints) = &object.body {
            let is_ours =
                |of: &TcpWakeSettings| *of.namespace == *object.key.namespace && *of.service == *endpoints.service;
            if !self.settings.tcp_wake.as_ref().is_some_and(is_ours) {
                object.body = Body::EndpointSlice(JsonText::of(&serde_json::Value::Null));
            }
        }
    }

    /// Updates the facts after a change of an object, and adds the keys of the Sandboxes that it concerns.
    pub(super) fn tcp_changed(
        &mut self,
        before: Option<&Object>,
        after: Option<&Object>,
        now: Timestamp,
        to_reconcile: &mut BTreeSet<Key>,
    ) {
        let Some(rules) = self.port_rules() else { return };
        let Some(key) = after.or(before).map(|object| &object.key) else { return };
        match key.kind.class() {
            Class::Own(OwnKind::Sandbox) => match after {
                Some(sandbox) => {
                    let recorded = sandbox.sandbox().and_then(|s| s.status.tcp_wake.as_ref());
                    let recorded = recorded.map_or(&[][..], |status| &status.ports);
                    self.tcp.ports.observed(key, &sandbox.meta.uid, recorded, rules, now);
                }
                None => self.tcp.ports.give_back(key, rules, now),
            },
            Class::Child(ChildKind::EndpointSlice) => {
                let (old, new) = (before.and_then(Leads::of), after.and_then(Leads::of));
                if old != new {
                    self.tcp.ports.slice_changed(key, old.as_ref(), new.as_ref(), rules, now);
                }
                let of_gateways = |object: Option<&Object>| {
                    object.is_some_and(|object| matches!(object.body, Body::ServiceEndpoints(_)))
                };
                if of_gateways(before) || of_gateways(after) {
                    let gateways = self.gateways();
                    if *gateways != *self.tcp.gateways {
                        self.tcp.gateways = gateways.into();
                        to_reconcile.extend(self.with_stable_address(self.of_kind(Kind::Sandbox)));
                    }
                }
            }
            Class::Child(ChildKind::NetworkPolicy) => {
                let spec = after.map(|object| &object.body);
                let policy =
                    if let Some(Body::NetworkPolicy(spec)) = spec { IngressPolicy::of(&spec.text) } else { None };
                let of_namespace = self.tcp.policies.entry(key.namespace.clone()).or_default();
                let changed = of_namespace.get(&key.name) != policy.as_ref();
                match policy {
                    Some(policy) => drop(of_namespace.insert(key.name.clone(), policy)),
                    None => drop(of_namespace.remove(&key.name)),
                }
                if of_namespace.is_empty() {
                    self.tcp.policies.remove(&key.namespace);
                }
                if changed {
                    let there = self.of_namespace(Kind::Sandbox, &key.namespace);
                    to_reconcile.extend(self.with_stable_address(there));
                }
            }
            Class::Own(OwnKind::Template(_) | OwnKind::Pool(_) | OwnKind::Claim(_))
            | Class::Child(ChildKind::Pod | ChildKind::Service | ChildKind::VolumeClaim)
            | Class::Cluster(_) => {}
        }
    }

    fn with_stable_address<'a>(&self, sandboxes: impl Iterator<Item = &'a Arc<Object>>) -> Vec<Key> {
        let stable = |object: &&Arc<Object>| {
            object.sandbox().is_some_and(|s| s.spec.as_ref().is_ok_and(|m| m.service == ServiceIntent::Stable))
        };
        sandboxes.filter(stable).map(|object| object.key.clone()).collect()
    }

    /// The gateways in all EndpointSlices of their Service.
    fn gateways(&self) -> Vec<Gateway> {
        let Some(settings) = &self.settings.tcp_wake else { return Vec::new() };
        let slices = self.of_namespace(Kind::EndpointSlice, &settings.namespace);
        let mut gateways: Vec<Gateway> = slices
            .filter(|slice| slice.meta.deletion_timestamp.is_none())
            .filter_map(
                |object| {
                    if let Body::ServiceEndpoints(endpoints) = &object.body { Some(endpoints) } else { None }
                },
            )
            .flat_map(|endpoints| endpoints.endpoints.iter().cloned())
            .collect();
        gateways.sort_unstable();
        gateways.dedup();
        gateways
    }
}
