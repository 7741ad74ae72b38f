//! The limits and intervals of the core in one table, with their units and the source of each number.

use std::time::Duration;

use paddock_api::PortRange;
use serde::{Deserialize, Serialize};

use crate::isolation::HostAccessSet;
use crate::model::names::{domain_of, is_within};

/// The settings of the operator and the limits of the core. The defaults are in [`Settings::default`].
#[derive(Clone, Debug, Serialize)]
pub struct Settings {
    /// The domain of the cluster's DNS. The flag `--cluster-domain` sets it.
    pub cluster_domain: String,
    /// The size of a volume that replaces an `emptyDir` without `sizeLimit`, as a Kubernetes quantity. The flag
    /// `--workspace-size` sets it.
    pub workspace_size: String,
    /// The time for which an exec, attach or port-forward counts as activity after its start. The flag `--exec-hold`
    /// sets it. The webhook gets only the start of a session, so its length is a guess: one hour, which is longer than
    /// most sessions.
    pub exec_hold: Duration,
    /// The longest time for which the annotation `keep-awake-until` may keep a Sandbox running, from the present time on.
    /// The flag `--keep-awake-at-most` sets it. One day is longer than most jobs, and a longer job can renew the
    /// annotation, so a Sandbox whose job has crashed is suspended after a day.
    pub keep_awake_at_most: Duration,
    /// The domains whose labels a claim may add to its pod.
    pub label_domains: Vec<String>,
    /// The domains whose annotations a claim may add to its pod. [`ANY_DOMAIN`] allows all of them, except those that
    /// others read. The flag `--claim-annotation-domain` adds to the default.
    pub annotation_domains: Vec<String>,
    /// The isolating handlers: they keep a pod off the host's kernel. Whether a RuntimeClass isolates depends on its
    /// handler and never on its name, because any user may choose the name.
    pub isolated_handlers: Vec<String>,
    /// The access to the host that generated code may have in every namespace. It is empty unless the platform team sets the
    /// flag `--isolation-allow`. SandboxPolicies allow more in some namespaces.
    pub isolation_allow: HostAccessSet,
    /// The namespace in which the operator runs. It never requires isolation, because the webhook that has to admit the
    /// Pods of the operator could then never start. `None` outside a cluster.
    pub own_namespace: Option<String>,
    /// A number that makes the names of warm Sandboxes differ between two starts of the operator.
    pub seed: u64,
    /// Whether the write by which a claim takes a warm Sandbox ends the record of field managers;
    /// `--managed-fields-at-claim`.
    pub managed_fields_at_claim: ManagedFieldsAtClaim,
    /// The shortest time between two status writes of a pool, because its counts change with every claim.
    pub pool_status_interval: Duration,
    /// The time for which a new Sandbox or claim may be without a status. An object that becomes Ready at once then
    /// needs one status write and not two. A person at a terminal does not notice one second.
    pub first_status_delay: Duration,
    /// The same time for a warm Sandbox, until it is Ready for the first time. While a pool of thousands of Sandboxes
    /// is filled, each of them takes about ten seconds. A write for each state in between would add half as many writes
    /// again.
    pub warm_status_delay: Duration,
    /// The time between the removal of a Sandbox from its endpoints and the deletion of its pod. The delay keeps
    /// connections from being sent to a terminating pod. The default minimum sync period of kube-proxy is 1 s.
    pub drain_delay: Duration,
    /// The same time, if gateways take the place of the pod in the endpoints. Requests and connections may come in again
    /// and again, and kube-proxy may have changed its rules a moment before: it needs up to a second then, and more on a
    /// node with much to do.
    pub gateway_drain_delay: Duration,
    /// The resume of Sandboxes by TCP connections. `None` turns it off.
    pub tcp_wake: Option<TcpWakeSettings>,
    /// The time for which gateways stay in the endpoints of a resumed Sandbox after its pod became Ready. A gateway holds
    /// a connection for as long as the port may still open; a pod without a readiness probe is Ready before. It is the
    /// time for which a gateway dials a closed port after the start of a container.
    pub gateway_stays: Duration,
    /// The time for which a port of the gateway that a Sandbox gave back is not given to another one. A gateway that has
    /// lost its watch notices this after five minutes at most, and refuses connections then.
    pub port_rest: Duration,
    /// The time for which a Sandbox is reserved for a claim after the admission of the claim. Zero disables
    /// reservations. An API server stores a claim within milliseconds of its admission. A claim that is denied later
    /// blocks a Sandbox for this time.
    pub reserve_for: Duration,
    /// The time for which an operation without a reply counts as possibly stored. The API server ends a mutating
    /// request after 34 s (the `requestTimeout` of verbs other than watch, with its slack). After that the operation
    /// has either been stored or will never be.
    pub unknown_timeout: Duration,
    /// The maximum number of Sandboxes that one plan for a pool creates or deletes. The flag
    /// `--sandbox-warm-pool-max-batch-size` sets it.
    pub pool_batch: usize,
    /// The largest number of Sandboxes in a pool, whatever its spec says. The flag `--max-pool-size` sets it. Ten
    /// thousand Sandboxes with their pods need about 200 MB in the operator and 100 MB in etcd.
    pub max_pool_size: u32,
    /// The domains of the labels that anybody may add to a warm Sandbox or its Pod. The flag
    /// `--pool-ignore-label-domain` adds to the default. The API server adds the topology of the node to a Pod, and Kueue
    /// adds labels to the Pods that it queues.
    pub pool_ignored_label_domains: Vec<String>,
    /// The time for which a warm Sandbox may be not Ready while its pod has a node. After that the pool replaces it.
    /// The default is upstream's. The flag `--sandbox-warm-pool-readiness-grace-period` sets it.
    pub pool_readiness_grace: Duration,
    /// The length of one bucket of a pool's claim arrivals, in seconds.
    pub arrival_bucket_seconds: u32,
    /// The number of buckets that are kept. With the default length they cover ten minutes.
    pub arrival_buckets: usize,
    /// The CPU limit of a container in a throttled pod, in thousandths of a core. The flag `--throttle-cpu` sets it.
    /// `None` turns the idle tier `throttle` off.
    pub throttle_cpu: Option<u32>,
    /// The time in which a node has to apply the resize that throttles a pod. After it, the resize is taken back. Nodes
    /// needed 0.1 s, and up to 1 s for a pod that changed just before (`docs/adr/0087-throttle-by-resize.md`).
    pub throttle_apply: Duration,
    /// The longest time for which the delete of a throttled pod waits until it has its CPU back. A restore takes about
    /// 0.1 s.
    pub throttle_restore: Duration,
    /// The time for which a pod is not throttled again after an attempt failed.
    pub throttle_retry: Duration,
    /// The interval at which the operator reads the CPU that pods use. The flag `--cpu-metrics-interval` sets it. Zero turns
    /// it off: idle policies then get no CPU use.
    pub cpu_metrics_interval: Duration,
    /// The age from which a sample of CPU use counts as none. It is the longest time that passes between two samples if
    /// metrics-server measures once a minute, as some distributions do, and one list fails.
    pub cpu_sample_at_most: Duration,
    /// The interval at which the operator asks the gateways for their open connections. The flag `--connections-interval`
    /// sets it. Zero, without `--connections-service`, turns it off: idle policies then get no number of connections.
    pub connections_interval: Duration,
    /// The longest time between two questions to an idle policy.
    pub idle_check_at_most: Duration,
    /// The longest time between two questions to a pool-size policy that did not name a time.
    pub pool_check_every: Duration,
    /// The image with the program that holds containers until the data of their claim is there. The flag `--init-image`
    /// sets it. Without it, no Sandbox of such a template is made.
    pub init_image: Option<String>,
    /// The time after the delivery of the data of a claim at which its pod is written once more. The kubelet looks at a
    /// changed pod at once, or up to 1 s later if it looked at it just before. In the measurements of
    /// `docs/claim-data.md`, the Secret was never later than the pod.
    pub claim_data_repeat: Duration,
    /// The rules of the NetworkPolicy of a template that gives none.
    pub network: NetworkSettings,
}

/// The resume of Sandboxes by TCP connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TcpWakeSettings {
    /// The namespace of the gateway's Service; `--gateway-service`.
    pub namespace: String,
    /// The name of the gateway's Service.
    pub service: String,
    /// The ports of the gateway that stand for ports of Sandboxes; `--tcp-wake-ports`.
    pub ports: PortRange,
}

/// The rules of the NetworkPolicy of a template that gives none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NetworkSettings {
    /// The namespaces whose router pods may connect to sandboxes; `--router-namespace`.
    pub router_namespaces: Vec<String>,
    /// CIDR blocks that sandboxes may not connect to, in addition to all addresses that are not public;
    /// `--egress-except`.
    pub egress_except: Vec<String>,
    /// CIDR blocks that sandboxes may connect to although they are not public; `--egress-allow`.
    pub egress_allow: Vec<String>,
}

impl Default for NetworkSettings {
    fn default() -> Self {
        let router_namespaces = vec![paddock_api::names::object::OPERATOR_NAMESPACE.to_owned()];
        Self { router_namespaces, egress_except: Vec::new(), egress_allow: Vec::new() }
    }
}

/// The entry of [`Settings::annotation_domains`] that allows the annotations of any domain, except those that Kubernetes,
/// an operator, a runtime, a network plugin, a service mesh or the identity of a cloud reads.
pub const ANY_DOMAIN: &str = "*";

/// A namespace that has wasted reservations lately reserves at most one of so many warm Sandboxes of a pool, so reviews
/// do not hold back more than half of a pool for long. A claim without a reservation chooses a Sandbox when it is
/// reconciled, which costs one more write.
pub const RESERVATION_SHARE: usize = 2;

/// The number of reservations that may be wasted, at once and then in each second. A reservation is wasted if it
/// expires and its claim was not stored. Until its claim is stored, a reservation counts as if it were wasted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReservationRate {
    /// The number at once.
    pub burst: f64,
    /// The number that is added in each second.
    pub per_second: f64,
}

impl ReservationRate {
    /// The rate of one namespace. The burst is the number of requests that an API server handles at the same time by
    /// default (`--max-requests-inflight` and `--max-mutating-requests-inflight` together, which API Priority and
    /// Fairness shares out), so an honest burst gets its reservations. A client that wastes reservations holds back four
    /// Sandboxes after that.
    pub const NAMESPACE: Self = Self { burst: 600.0, per_second: 2.0 };
    /// The rate of all namespaces together: that of four namespaces.
    pub const PROCESS: Self = Self { burst: 4.0 * Self::NAMESPACE.burst, per_second: 4.0 * Self::NAMESPACE.per_second };
}

/// What happens to a Sandbox's `metadata.managedFields` when a claim takes it, where Paddock is its only manager. The record
/// of any other manager, and of any server-side apply, is always kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ManagedFieldsAtClaim {
    /// The list is emptied. The API server records no later update until somebody uses server-side apply.
    Clear,
    /// The list is kept.
    Keep,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cluster_domain: "cluster.local".to_owned(),
            workspace_size: "1Gi".to_owned(),
            exec_hold: Duration::from_secs(3600),
            keep_awake_at_most: Duration::from_secs(24 * 3600),
            label_domains: vec![paddock_api::names::object::CLAIM_LABEL_DOMAIN.to_owned()],
            annotation_domains: paddock_api::names::object::CLAIM_ANNOTATION_DOMAINS.map(str::to_owned).to_vec(),
            isolated_handlers: ["runsc", "gvisor", "kata"].map(str::to_owned).to_vec(),
            isolation_allow: HostAccessSet::default(),
            own_namespace: None,
            seed: 0,
            managed_fields_at_claim: ManagedFieldsAtClaim::Clear,
            pool_status_interval: Duration::from_secs(1),
            first_status_delay: Duration::from_secs(1),
            warm_status_delay: Duration::from_secs(15),
            drain_delay: Duration::from_secs(1),
            gateway_drain_delay: Duration::from_secs(3),
            tcp_wake: None,
            gateway_stays: Duration::from_secs(30),
            port_rest: Duration::from_secs(600),
            reserve_for: Duration::from_secs(2),
            unknown_timeout: Duration::from_secs(40),
            throttle_cpu: None,
            throttle_apply: Duration::from_secs(30),
            throttle_restore: Duration::from_secs(3),
            throttle_retry: Duration::from_secs(3600),
            cpu_metrics_interval: Duration::ZERO,
            cpu_sample_at_most: Duration::from_secs(180),
            connections_interval: Duration::ZERO,
            pool_batch: 100,
            max_pool_size: 10_000,
            pool_ignored_label_domains: paddock_api::names::object::POOL_IGNORED_LABEL_DOMAINS
                .map(str::to_owned)
                .to_vec(),
            pool_readiness_grace: Duration::from_secs(300),
            arrival_bucket_seconds: 10,
            arrival_buckets: 60,
            idle_check_at_most: Duration::from_secs(3600),
            pool_check_every: Duration::from_secs(30),
            init_image: None,
            claim_data_repeat: Duration::from_secs(2),
            network: NetworkSettings::default(),
        }
    }
}

impl Settings {
    /// The reason why this operator makes no Sandboxes whose containers wait for the data of a claim.
    #[must_use]
    pub fn lacks_for_held(&self) -> Option<&'static str> {
        self.init_image.is_none().then_some(
            "spec.claimData.start is AfterDelivery, and the operator has no image for that: it needs the flag --init-image",
        )
    }

    /// Whether a label may be added to a warm Sandbox or its Pod, because its domain is one of those to ignore.
    #[must_use]
    pub fn ignores_label(&self, key: &str) -> bool {
        domain_of(key).is_some_and(|domain| self.pool_ignored_label_domains.iter().any(|of| is_within(&domain, of)))
    }

    /// Whether a handler keeps its pods off the host's kernel: it is in the list, or it is a variant of a handler in
    /// the list, such as `kata-qemu`.
    #[must_use]
    pub fn isolates(&self, handler: &str) -> bool {
        self.isolated_handlers
            .iter()
            .any(|h| handler.strip_prefix(h.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')))
    }
}
