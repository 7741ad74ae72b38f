//! The parts of Sandboxes and Pods that the gateway keeps in memory: less than a kilobyte for each Sandbox.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use paddock_api::document::Document;
use paddock_api::kind::{Kind, OwnKind};
use paddock_api::mode::desired_mode;
use paddock_api::names::{annotation, condition, reason};
use paddock_api::{OperatingMode, ResumePolicy, SuspendedBy, TcpWakePort, TcpWakeStatus, ThrottleStatus, activity};
use serde::Deserialize;
use tokio::time::Instant;

use crate::target::Target;

/// The most characters that are kept of the message of a condition. It becomes part of an answer.
const MESSAGE_CHARS: usize = 200;

/// The name of an object and of its namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
}

impl Name {
    /// The name of the Sandbox that a request is for.
    pub(crate) fn of(target: &Target) -> Self {
        Self { namespace: target.namespace.clone(), name: target.name.clone() }
    }
}

/// A Sandbox, as far as the gateway uses it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sandbox {
    pub(crate) uid: Arc<str>,
    /// The UID of the claim that has the Sandbox.
    pub(crate) claim: Option<Arc<str>>,
    pub(crate) resource_version: Arc<str>,
    /// `resourceVersion` as a number. Two numbers of one resource can be compared.
    pub(crate) version: u64,
    pub(crate) stage: Stage,
    /// The mode that the spec asks for.
    pub(crate) mode: OperatingMode,
    /// Whether the operator may still be carrying out an earlier suspend, so that it may delete the pod.
    pub(crate) resuming: bool,
    pub(crate) resume_policy: ResumePolicy,
    /// Who suspended the Sandbox, if it is suspended.
    pub(crate) suspended_by: SuspendedBy,
    /// The name of the pod, if it is not the Sandbox's.
    pub(crate) pod_name: Option<Arc<str>>,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) last_activity: Option<Timestamp>,
    /// The time since which the Sandbox may be suspended, if somebody said so.
    pub(crate) idle_since: Option<Timestamp>,
    /// The time since which the Sandbox is throttled, if it is.
    pub(crate) throttled: Option<Timestamp>,
    /// The ports of the gateway that stand for its ports.
    pub(crate) tcp: Box<[TcpWakePort]>,
    /// The message of the condition Ready, while the Sandbox is to run and is not Ready.
    pub(crate) not_ready: Option<Arc<str>>,
}

/// The stage in the life of a Sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// A client may use the Sandbox.
    InUse,
    /// The Sandbox belongs to a pool. A request would be a change of a warm Sandbox.
    Warm,
    /// The Sandbox is being deleted.
    Terminating,
    /// The Sandbox has expired. The operator makes no pod for it, whatever its mode.
    Expired,
    /// The workload of the Sandbox has finished. A later resume starts it again.
    Finished,
}

/// Whether a request wakes a suspended Sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wakes {
    /// The operator suspended the Sandbox, and its resumePolicy is OnDemand.
    OnDemand,
    /// Its resumePolicy is Manual.
    ManualPolicy,
    /// Somebody suspended it.
    SuspendedByUser,
}

/// A pod of a Sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) uid: Arc<str>,
    /// The Sandbox that controls the pod.
    pub(crate) owner: Owner,
    /// Whether connections may be opened to the pod: it has an address, is not terminating and has not ended.
    pub(crate) address: Option<IpAddr>,
    /// The addresses from which its containers may connect to the gateway. Those of its node do not count.
    pub(crate) sources: Box<[IpAddr]>,
    /// The start of its containers, as far as this process knows. A port may be closed for a while after it.
    pub(crate) started: Instant,
    /// The state of the containers, from which a restart is recognized.
    pub(crate) start: Start,
}

/// The controller of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) name: Arc<str>,
    pub(crate) uid: Arc<str>,
}

/// The containers of a pod: the last start of one of them, and whether each of them runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) last: Option<Timestamp>,
    pub(crate) all_run: bool,
}

#[derive(Deserialize)]
struct SandboxParts {
    #[serde(default)]
    spec: SandboxSpec,
    #[serde(default)]
    status: SandboxStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SandboxSpec {
    operating_mode: Option<OperatingMode>,
    replicas: Option<i64>,
    resume_policy: Option<ResumePolicy>,
    idle_timeout: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SandboxStatus {
    mode: Option<OperatingMode>,
    conditions: Vec<Condition>,
    tcp_wake: TcpWakeStatus,
    throttle: Option<ThrottleStatus>,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
}

impl Sandbox {
    /// Reads a Sandbox.
    ///
    /// # Errors
    /// If a field that the gateway uses does not have its type.
    pub(crate) fn read(document: &Document) -> Result<Self, serde_json::Error> {
        let SandboxParts { spec, status } = serde_json::from_str(document.text.get())?;
        let meta = &document.metadata;
        let resource_version: Arc<str> = meta.resource_version.clone().unwrap_or_default().into();
        let note = |name: &str| meta.annotations.as_ref().and_then(|all| all.get(name)).map(String::as_str);
        let replicas = spec.replicas.map(|n| if n == 0 { OperatingMode::Suspended } else { OperatingMode::Running });
        let mode = desired_mode(spec.operating_mode, replicas, status.mode).mode;
        let ready = status.conditions.iter().find(|c| c.kind == condition::READY);
        let not_ready = ready.filter(|c| c.status != "True" && mode == OperatingMode::Running);
        Ok(Self {
            uid: meta.uid.clone().unwrap_or_default().into(),
            claim: claim_of(meta),
            version: resource_version.parse().unwrap_or_default(),
            resource_version,
            stage: Stage::of(meta, ready),
            mode,
            resuming: mode == OperatingMode::Running && status.mode == Some(OperatingMode::Suspended),
            resume_policy: spec.resume_policy.unwrap_or_default(),
            suspended_by: SuspendedBy::of_annotation(note(annotation::SUSPENDED_BY)),
            pod_name: note(annotation::POD_NAME).filter(|name| !name.is_empty()).map(Arc::from),
            idle_timeout: spec.idle_timeout.as_deref().and_then(activity::idle_timeout),
            last_activity: note(annotation::LAST_ACTIVITY).and_then(|at| at.parse().ok()),
            idle_since: note(annotation::IDLE_SINCE).and_then(|at| at.parse().ok()),
            throttled: status.throttle.and_then(|throttle| throttle.throttled_since()),
            tcp: status.tcp_wake.ports.into(),
            not_ready: not_ready.map(|c| c.message.chars().take(MESSAGE_CHARS).collect::<String>().into()),
        })
    }

    /// Whether a request wakes the Sandbox if it is suspended.
    pub(crate) fn wakes(&self) -> Wakes {
        match (self.resume_policy, self.suspended_by) {
            (ResumePolicy::Manual, _) => Wakes::ManualPolicy,
            (ResumePolicy::OnDemand, SuspendedBy::User) => Wakes::SuspendedByUser,
            (ResumePolicy::OnDemand, SuspendedBy::Idle | SuspendedBy::Drain) => Wakes::OnDemand,
        }
    }
}

/// The UID of the claim that controls a Sandbox.
fn claim_of(meta: &ObjectMeta) -> Option<Arc<str>> {
    let controller = meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))?;
    let kind = Kind::of_reference(&controller.api_version, &controller.kind).and_then(Kind::own);
    matches!(kind, Some(OwnKind::Claim(_))).then(|| controller.uid.as_str().into())
}

impl Stage {
    fn of(meta: &ObjectMeta, ready: Option<&Condition>) -> Self {
        let is_pool = |o: &OwnerReference| {
            let kind = Kind::of_reference(&o.api_version, &o.kind).and_then(Kind::own);
            o.controller == Some(true) && matches!(kind, Some(OwnKind::Pool(_)))
        };
        let has = |reasons: &[&str]| ready.is_some_and(|ready| reasons.contains(&ready.reason.as_str()));
        if meta.deletion_timestamp.is_some() {
            Stage::Terminating
        } else if meta.owner_references.iter().flatten().any(is_pool) {
            Stage::Warm
        } else if has(&[reason::SANDBOX_EXPIRED]) {
            Stage::Expired
        } else if has(&[reason::POD_SUCCEEDED, reason::POD_FAILED]) {
            Stage::Finished
        } else {
            Stage::InUse
        }
    }
}

#[derive(Deserialize)]
struct PodParts {
    #[serde(default)]
    status: PodStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    phase: String,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<PodIp>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "hostIP")]
    host_ip: Option<String>,
    #[serde(rename = "hostIPs")]
    host_ips: Vec<PodIp>,
    container_statuses: Vec<ContainerStatus>,
}

#[derive(Deserialize)]
struct PodIp {
    ip: String,
}

#[derive(Deserialize)]
struct ContainerStatus {
    #[serde(default)]
    state: ContainerState,
}

#[derive(Default, Deserialize)]
struct ContainerState {
    running: Option<ContainerRunning>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerRunning {
    started_at: Option<Timestamp>,
}

impl Pod {
    /// Reads a pod. `None` if no Sandbox controls it. `age` is the time since a timestamp of the cluster, and `now` the
    /// time of this process.
    ///
    /// # Errors
    /// If a field that the gateway uses does not have its type.
    pub(crate) fn read(
        document: &Document,
        allow_loopback: bool,
        now: Instant,
        age: impl Fn(Timestamp) -> Duration,
    ) -> Result<Option<Self>, serde_json::Error> {
        let meta = &document.metadata;
        let Some(owner) = Owner::of(meta) else { return Ok(None) };
        let PodParts { status } = serde_json::from_str(document.text.get())?;
        let ended = matches!(status.phase.as_str(), "Succeeded" | "Failed");
        let live = meta.deletion_timestamp.is_none() && !ended;
        let sources = if ended { [].into() } else { status.sources() };
        let address = address_of(status.addresses(), allow_loopback).filter(|_| live);
        let starts = status.container_statuses.iter().map(|c| c.state.running.as_ref());
        let all_run = !status.container_statuses.is_empty() && starts.clone().all(|running| running.is_some());
        let last = starts.flatten().filter_map(|running| running.started_at).max();
        let started = last.filter(|_| all_run).and_then(|at| now.checked_sub(age(at))).unwrap_or(now);
        let uid = meta.uid.clone().unwrap_or_default().into();
        Ok(Some(Self { uid, owner, address, sources, started, start: Start { last, all_run } }))
    }

    /// Whether this is the same pod with the same address, and none of its containers was started again.
    pub(crate) fn is_as(&self, other: &Self) -> bool {
        (&self.uid, self.address, self.start) == (&other.uid, other.address, other.start)
    }
}

impl PodStatus {
    fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        parsed(&self.pod_ips, self.pod_ip.as_deref())
    }

    /// The addresses that are the pod's own. A pod in the network of its node has none.
    fn sources(&self) -> Box<[IpAddr]> {
        let of_node: Vec<IpAddr> = parsed(&self.host_ips, self.host_ip.as_deref()).collect();
        let is_own = |ip: &IpAddr| !of_node.contains(ip) && is_of_a_pod(*ip, false);
        let mut own: Vec<IpAddr> = self.addresses().filter(is_own).collect();
        own.sort_unstable();
        own.dedup();
        own.into()
    }
}

/// The addresses of a list, and the one of the older field beside it.
fn parsed<'a>(many: &'a [PodIp], one: Option<&'a str>) -> impl Iterator<Item = IpAddr> + 'a {
    let texts = many.iter().map(|ip| ip.ip.as_str()).chain(one);
    texts.filter_map(|text| text.parse::<IpAddr>().ok()).map(|ip| ip.to_canonical())
}

impl Owner {
    /// The Sandbox that controls an object. The group is compared too, because a client may name an owner of another kind
    /// with the same name.
    fn of(meta: &ObjectMeta) -> Option<Self> {
        let owner = meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))?;
        (Kind::of_reference(&owner.api_version, &owner.kind) == Some(Kind::Sandbox))
            .then(|| Self { name: owner.name.as_str().into(), uid: owner.uid.as_str().into() })
    }
}

/// The address that is dialled: the first IPv4 address, as upstream's clients choose it, or else the first IPv6 address.
/// An address that leads to the gateway's own machine or to no single pod is none.
fn address_of(addresses: impl Iterator<Item = IpAddr>, allow_loopback: bool) -> Option<IpAddr> {
    let mut usable = addresses.filter(|ip| is_of_a_pod(*ip, allow_loopback));
    let first = usable.next()?;
    Some(if first.is_ipv4() { first } else { usable.find(IpAddr::is_ipv4).unwrap_or(first) })
}

fn is_of_a_pod(ip: IpAddr, allow_loopback: bool) -> bool {
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => is_link_local(v6),
    };
    !link_local && !ip.is_unspecified() && !ip.is_multicast() && (allow_loopback || !ip.is_loopback())
}

/// Whether an address is in fe80::/10.
fn is_link_local(v6: Ipv6Addr) -> bool {
    v6.segments()[0] & 0xffc0 == 0xfe80
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn document(value: &Value) -> Document {
        Document::parse(&value.to_string()).unwrap()
    }

    fn sandbox(meta: Value, spec: Value, status: Value) -> Sandbox {
        let mut object = json!({ "metadata": { "name": "a", "namespace": "ns", "uid": "u", "resourceVersion": "7" } });
        for (key, value) in meta.as_object().unwrap() {
            object["metadata"][key] = value.clone();
        }
        (object["spec"], object["status"]) = (spec, status);
        Sandbox::read(&document(&object)).unwrap()
    }

    #[test]
    fn the_mode_is_what_both_fields_and_the_operator_say() {
        for (spec, acted, mode, resuming) in [
            (json!({}), json!(null), OperatingMode::Running, false),
            (json!({ "operatingMode": "Suspended", "replicas": 0 }), json!("Running"), OperatingMode::Suspended, false),
            (json!({ "operatingMode": "Running", "replicas": 0 }), json!("Running"), OperatingMode::Suspended, false),
            (json!({ "operatingMode": "Running", "replicas": 0 }), json!("Suspended"), OperatingMode::Running, true),
            (json!({ "operatingMode": "Running", "replicas": 1 }), json!("Suspended"), OperatingMode::Running, true),
            (json!({ "replicas": 1 }), json!("Running"), OperatingMode::Running, false),
        ] {
            let read = sandbox(json!({}), spec.clone(), json!({ "mode": acted }));
            assert_eq!((read.mode, read.resuming), (mode, resuming), "{spec} {acted}");
        }
    }

    #[test]
    fn a_request_wakes_what_the_operator_suspended_on_demand_alone() {
        for (policy, by, wakes) in [
            ("OnDemand", json!("Idle"), Wakes::OnDemand),
            ("OnDemand", json!("Drain"), Wakes::OnDemand),
            ("OnDemand", json!("User"), Wakes::SuspendedByUser),
            ("OnDemand", json!("idle"), Wakes::SuspendedByUser),
            ("OnDemand", json!(null), Wakes::SuspendedByUser),
            ("Manual", json!("Idle"), Wakes::ManualPolicy),
        ] {
            let mut meta = json!({ "annotations": {} });
            if by.is_string() {
                meta["annotations"]["policy.paddock.dev/suspended-by"] = by.clone();
            }
            let spec = json!({ "operatingMode": "Suspended", "replicas": 0, "resumePolicy": policy });
            assert_eq!(sandbox(meta, spec, json!({})).wakes(), wakes, "{policy} {by}");
        }
    }

    #[test]
    fn a_sandbox_of_a_pool_and_one_that_ended_are_recognized() {
        let owner = |api: &str, kind: &str, controller: bool| json!({ "ownerReferences": [{ "apiVersion": api, "kind": kind, "name": "p", "uid": "p", "controller": controller }] });
        let ready = |reason: &str| json!({ "conditions": [{ "type": "Ready", "status": "False", "reason": reason, "message": "m" }] });
        for (meta, status, stage) in [
            (json!({}), json!({}), Stage::InUse),
            (owner("extensions.agents.x-k8s.io/v1beta1", "SandboxWarmPool", true), json!({}), Stage::Warm),
            (owner("agents.x-k8s.io/v1alpha1", "SandboxWarmPool", true), json!({}), Stage::Warm),
            (owner("agents.x-k8s.io/v1alpha1", "SandboxWarmPool", false), json!({}), Stage::InUse),
            (owner("other/v1", "SandboxWarmPool", true), json!({}), Stage::InUse),
            (owner("extensions.agents.x-k8s.io/v1beta1", "SandboxClaim", true), json!({}), Stage::InUse),
            (json!({ "deletionTimestamp": "2026-01-01T00:00:00Z" }), json!({}), Stage::Terminating),
            (json!({}), ready("SandboxExpired"), Stage::Expired),
            (json!({}), ready("PodFailed"), Stage::Finished),
            (json!({}), ready("PodSucceeded"), Stage::Finished),
            (json!({}), ready("DependenciesNotReady"), Stage::InUse),
        ] {
            assert_eq!(sandbox(meta.clone(), json!({}), status.clone()).stage, stage, "{meta} {status}");
        }
        assert_eq!(sandbox(json!({}), json!({}), ready("PolicyDenied")).not_ready.as_deref(), Some("m"));
    }

    fn pod(meta: Value, status: Value) -> Option<Pod> {
        let mut object = json!({ "metadata": { "name": "a", "namespace": "ns", "uid": "p", "ownerReferences": [
            { "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "name": "a", "uid": "u", "controller": true },
        ] } });
        for (key, value) in meta.as_object().unwrap() {
            object["metadata"][key] = value.clone();
        }
        object["status"] = status;
        Pod::read(&document(&object), false, Instant::now(), |_| Duration::from_secs(60)).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_counts_if_its_sandbox_controls_it_and_it_has_an_address() {
        tokio::time::advance(Duration::from_secs(3600)).await;
        let running = json!({ "phase": "Running", "podIPs": [{ "ip": "10.0.0.1" }] });
        let address = |pod: Option<Pod>| pod.and_then(|pod| pod.address).map(|ip| ip.to_string());
        assert_eq!(address(pod(json!({}), running.clone())).as_deref(), Some("10.0.0.1"));
        for owner in [
            json!([]),
            json!([{ "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "name": "a", "uid": "u" }]),
            json!([{ "apiVersion": "apps/v1", "kind": "Sandbox", "name": "a", "uid": "u", "controller": true }]),
            json!([{ "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Other", "name": "a", "uid": "u", "controller": true }]),
        ] {
            assert_eq!(pod(json!({ "ownerReferences": owner }), running.clone()), None, "{owner}");
        }
        let terminating = json!({ "deletionTimestamp": "2026-01-01T00:00:00Z" });
        assert_eq!(address(pod(terminating, running.clone())), None);
        for (status, expected) in [
            (json!({ "phase": "Failed", "podIPs": [{ "ip": "10.0.0.1" }] }), None),
            (json!({ "phase": "Pending" }), None),
            (json!({ "podIP": "10.0.0.2" }), Some("10.0.0.2")),
            (json!({ "podIPs": [{ "ip": "fd00::1" }, { "ip": "10.0.0.3" }] }), Some("10.0.0.3")),
            (json!({ "podIPs": [{ "ip": "fd00::1" }] }), Some("fd00::1")),
            (json!({ "podIPs": [{ "ip": "::ffff:169.254.169.254" }] }), None),
            (json!({ "podIPs": [{ "ip": "::ffff:10.0.0.4" }] }), Some("10.0.0.4")),
            (json!({ "podIPs": [{ "ip": "127.0.0.1" }, { "ip": "169.254.1.1" }, { "ip": "fe80::1" }] }), None),
            (
                json!({ "podIPs": [{ "ip": "0.0.0.0" }, { "ip": "224.0.0.1" }, { "ip": "ff02::1" }, { "ip": "x" }] }),
                None,
            ),
        ] {
            assert_eq!(address(pod(json!({}), status.clone())).as_deref(), expected, "{status}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_restart_of_a_container_is_a_new_start() {
        tokio::time::advance(Duration::from_secs(3600)).await;
        let of = |containers: Value| {
            pod(json!({}), json!({ "podIPs": [{ "ip": "10.0.0.1" }], "containerStatuses": containers })).unwrap()
        };
        let running = |at: &str| json!({ "state": { "running": { "startedAt": at } } });
        let first = of(json!([running("2026-01-01T00:00:00Z"), running("2026-01-01T00:00:05Z")]));
        assert_eq!(first.started, Instant::now() - Duration::from_secs(60));
        let crashed = of(json!([running("2026-01-01T00:00:00Z"), { "state": { "waiting": {} } }]));
        assert_eq!((crashed.started, crashed.is_as(&first)), (Instant::now(), false));
        assert!(!of(json!([running("2026-01-01T00:00:00Z"), running("2026-01-01T00:09:00Z")])).is_as(&first));
        assert!(of(json!([running("2026-01-01T00:00:00Z"), running("2026-01-01T00:00:05Z")])).is_as(&first));
    }
}
