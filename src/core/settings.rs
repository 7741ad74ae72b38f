//! Every limit and interval of the core in one table, with its unit and where the number comes from.

use std::time::Duration;

use serde::Serialize;

/// What the operator was told at its start, and the core's limits.
#[derive(Clone, Debug, Serialize)]
pub struct Settings {
    /// Domain of the cluster's DNS; `--cluster-domain`.
    pub cluster_domain: String,
    /// Size of a volume that takes the place of an `emptyDir` without `sizeLimit`; `--workspace-size`.
    pub workspace_size: String,
    /// How long the start of an exec, attach or port-forward keeps a Sandbox awake; `--exec-hold`.
    /// The webhook sees only the start of a session, so its length is a guess: 1 h, longer than most.
    pub exec_hold: Duration,
    /// Domains whose labels a claim may add to its pod.
    pub label_domains: Vec<String>,
    /// Handlers that keep a pod off the host's kernel. A RuntimeClass counts as isolated by its handler,
    /// never by its name, which anybody may choose.
    pub isolated_handlers: Vec<String>,
    /// Makes the names of warm Sandboxes differ between two starts of the operator.
    pub seed: u64,
    /// Shortest time between two status writes of a pool: its counts move with every claim.
    pub pool_status_interval: Duration,
    /// How long a new Sandbox or claim may go without a status, so that one that becomes ready at once
    /// has one status write, not two. A second is what a person at a terminal does not notice.
    pub first_status_delay: Duration,
    /// The same of a warm Sandbox, until it is Ready for the first time. While a pool of thousands is filled that takes
    /// some ten seconds, and each state in between would cost half as many writes again.
    pub warm_status_delay: Duration,
    /// Time between taking a Sandbox out of its endpoints and deleting its pod, so that no connection is
    /// sent to a pod that is going; kube-proxy's default minimum sync period is 1 s.
    pub drain_delay: Duration,
    /// How long a Sandbox stays reserved for a claim after its admission. Zero disables reservations. An API server
    /// stores a claim within milliseconds of its admission; what is denied later blocks a Sandbox for this long.
    pub reserve_for: Duration,
    /// How long an operation without a reply counts as perhaps done. The API server ends a mutating
    /// request after 34 s (`requestTimeout` of a watch-less verb, with its slack), so by then it is done or never.
    pub unknown_for: Duration,
    /// Most Sandboxes that one plan for a pool creates or deletes; `--sandbox-warm-pool-max-batch-size`.
    pub pool_batch: usize,
    /// How long a warm Sandbox may be without being Ready while its pod has a node, before it is replaced: upstream's
    /// default. `--sandbox-warm-pool-readiness-grace-period`.
    pub pool_readiness_grace: Duration,
    /// Length of one bucket of a pool's claim arrivals, in seconds.
    pub arrival_bucket_seconds: u32,
    /// Number of buckets kept: with the length above, ten minutes.
    pub arrival_buckets: usize,
    /// Longest wait between two questions to an idle policy.
    pub idle_check_at_most: Duration,
    /// Longest wait between two questions to a pool-size policy that named no time of its own.
    pub pool_check_every: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cluster_domain: "cluster.local".to_owned(),
            workspace_size: "1Gi".to_owned(),
            exec_hold: Duration::from_secs(3600),
            label_domains: vec![crate::names::object::CLAIM_LABEL_DOMAIN.to_owned()],
            isolated_handlers: ["runsc", "gvisor", "kata"].map(str::to_owned).to_vec(),
            seed: 0,
            pool_status_interval: Duration::from_secs(1),
            first_status_delay: Duration::from_secs(1),
            warm_status_delay: Duration::from_secs(15),
            drain_delay: Duration::from_secs(1),
            reserve_for: Duration::from_secs(2),
            unknown_for: Duration::from_secs(40),
            pool_batch: 100,
            pool_readiness_grace: Duration::from_secs(300),
            arrival_bucket_seconds: 10,
            arrival_buckets: 60,
            idle_check_at_most: Duration::from_secs(3600),
            pool_check_every: Duration::from_secs(30),
        }
    }
}

impl Settings {
    /// Whether a handler keeps its pods off the host's kernel: one of the list, or a variant of one (`kata-qemu`).
    #[must_use]
    pub fn isolates(&self, handler: &str) -> bool {
        self.isolated_handlers
            .iter()
            .any(|h| handler.strip_prefix(h.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')))
    }
}
