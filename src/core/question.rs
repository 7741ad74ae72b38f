//! What plugins are asked and what they answer, as plain data.
//!
//! The core writes questions and reads answers; `paddock-plugin-host` carries them to a component and back.
//! Everything a plugin may know is in the question: time, history, settings and its own former state.
//! A failure is an answer too ([`Failure`]): what follows from it is decided in the core, per policy.

pub mod limits;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The four judgements that a plugin can take over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// Who is admitted.
    Admission,
    /// Which RuntimeClass a new pod gets.
    RuntimeClass,
    /// When a sandbox is idle, and what follows.
    Idle,
    /// How many sandboxes a pool keeps warm.
    PoolSize,
}

impl Hook {
    /// Every hook, in the order of the documentation.
    pub const ALL: [Hook; 4] = [Hook::Admission, Hook::RuntimeClass, Hook::Idle, Hook::PoolSize];

    /// The name on the wire and in metrics, the same as the WIT interface's.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Hook::Admission => "admission",
            Hook::RuntimeClass => "runtime-class",
            Hook::Idle => "idle",
            Hook::PoolSize => "pool-size",
        }
    }
}

/// One question for one plugin.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PluginRequest {
    /// The binding's name (unique): answers are found by it and by the hook.
    pub binding: String,
    /// The component to call.
    pub plugin: PluginRef,
    /// The binding's settings: a JSON document, `{}` where none were given.
    pub settings: String,
    /// What is asked.
    pub question: Question,
}

/// Which component answers: its name for people, its digest for certainty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PluginRef {
    /// The plugin's name: a built-in's, or the file's stem.
    pub name: String,
    /// `sha256:` and 64 hex digits of the component's bytes.
    pub digest: String,
}

/// The question of one hook.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "hook", rename_all = "kebab-case")]
pub enum Question {
    /// See [`AdmissionQuestion`].
    Admission(Box<AdmissionQuestion>),
    /// See [`RuntimeClassQuestion`].
    RuntimeClass(Box<RuntimeClassQuestion>),
    /// See [`IdleQuestion`].
    Idle(Box<IdleQuestion>),
    /// See [`PoolSizeQuestion`].
    PoolSize(Box<PoolSizeQuestion>),
}

impl Question {
    /// The hook that the question belongs to.
    #[must_use]
    pub fn hook(&self) -> Hook {
        match self {
            Question::Admission(_) => Hook::Admission,
            Question::RuntimeClass(_) => Hook::RuntimeClass,
            Question::Idle(_) => Hook::Idle,
            Question::PoolSize(_) => Hook::PoolSize,
        }
    }
}

/// A RuntimeClass of the cluster, as a plugin sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeClassFact {
    /// The object's name, what a pod's `runtimeClassName` says.
    pub name: String,
    /// The handler that the node's container runtime knows.
    pub handler: String,
    /// Whether its pods are kept off the host's kernel (gVisor, Kata), by the operator's own rule.
    pub isolated: bool,
    /// Ready, schedulable nodes that can run it.
    pub nodes: u32,
}

/// What is being done to an object under admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// A new object.
    Create,
    /// A changed object.
    Update,
}

/// `admission`: may this object be, and in what form?
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AdmissionQuestion {
    /// Create or update.
    pub operation: Operation,
    /// API group, empty for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Kind.
    pub kind: String,
    /// Namespace of the object.
    pub namespace: String,
    /// Name; empty where `generateName` has yet to make one.
    pub name: String,
    /// The object as JSON.
    pub object: String,
    /// The object before an update, as JSON.
    pub old_object: Option<String>,
    /// Labels of the namespace.
    pub namespace_labels: BTreeMap<String, String>,
    /// User that asks, as the API server says; empty when the operator itself asks again.
    pub username: String,
    /// Groups of the user.
    pub groups: Vec<String>,
    /// Whether the workload is marked as running code that a model wrote, or its namespace requires isolation.
    pub generated_code: bool,
    /// The RuntimeClasses there are.
    pub classes: Vec<RuntimeClassFact>,
    /// A dry run: nothing will be stored.
    pub dry_run: bool,
    /// The time of asking.
    pub now: Timestamp,
}

/// Answer to [`AdmissionQuestion`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdmissionAnswer {
    /// Allowed, or denied with what to tell the user.
    pub verdict: Verdict,
    /// Shown by kubectl, each at most 256 characters.
    pub warnings: Vec<String>,
    /// A JSON Patch (RFC 6902) as text; only when allowed.
    pub patch: Option<String>,
}

/// The word of an admission plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Go on.
    Allow,
    /// Stop, with a message that says what to change.
    Deny(String),
}

/// `runtime-class`: which class does a new pod get?
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RuntimeClassQuestion {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the Sandbox (or Pod; empty while `generateName` has yet to make one).
    pub name: String,
    /// Labels of the pod-to-be.
    pub labels: BTreeMap<String, String>,
    /// Images of its containers, init containers first.
    pub images: Vec<String>,
    /// The class that the user named.
    pub requested: Option<String>,
    /// Whether the workload is marked as running generated code, or its namespace requires isolation.
    pub generated_code: bool,
    /// Labels of the namespace.
    pub namespace_labels: BTreeMap<String, String>,
    /// The RuntimeClasses there are.
    pub classes: Vec<RuntimeClassFact>,
    /// The time of asking.
    pub now: Timestamp,
}

/// Answer to [`RuntimeClassQuestion`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeClassAnswer {
    /// What was chosen.
    pub choice: ClassChoice,
    /// Why, for people.
    pub reason: String,
}

/// The word of a runtime-class plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassChoice {
    /// This class.
    Class(String),
    /// No class: the cluster's default runtime.
    Default,
    /// No pod may be made now.
    Refuse,
}

/// What can be done with an idle sandbox, gentlest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdleTier {
    /// Fewer resources in place: memory kept.
    Throttle,
    /// The pod goes, volumes stay.
    Suspend,
    /// Memory is written to disk, then the pod goes.
    Hibernate,
    /// The Sandbox itself goes.
    Delete,
}

/// `idle`: is this sandbox idle, and what follows?
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IdleQuestion {
    /// Namespace of the Sandbox.
    pub namespace: String,
    /// Name of the Sandbox.
    pub name: String,
    /// Labels of the Sandbox.
    pub labels: BTreeMap<String, String>,
    /// `idleTimeout`, in milliseconds.
    pub idle_timeout_ms: u64,
    /// When the Sandbox was created.
    pub created: Timestamp,
    /// When its pod last became Ready.
    pub ready_since: Option<Timestamp>,
    /// The newest sign of activity (heartbeat, exec, attach, port-forward, gateway).
    pub last_activity: Option<Timestamp>,
    /// An exec, attach or port-forward holds it awake until then.
    pub held_until: Option<Timestamp>,
    /// Open connections, where a gateway counts them.
    pub connections: Option<u32>,
    /// Processor use in thousandths of a core, where metrics are served.
    pub cpu_millicores: Option<u32>,
    /// The tiers that are possible for this Sandbox now.
    pub tiers: Vec<IdleTier>,
    /// The plugin's own state, as it left it.
    pub state: Vec<u8>,
    /// The time of asking.
    pub now: Timestamp,
}

/// Answer to [`IdleQuestion`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdleAnswer {
    /// `None`: stay as it is.
    pub action: Option<IdleTier>,
    /// When to ask again; the host asks at least once a `idleTimeout`.
    pub next_check: Option<Timestamp>,
    /// Why, for people.
    pub reason: String,
    /// State to be given back next time, at most 16 KiB; `None` leaves it as it is.
    pub state: Option<Vec<u8>>,
}

/// `pool-size`: how many sandboxes does this pool keep warm?
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PoolSizeQuestion {
    /// Namespace of the pool.
    pub namespace: String,
    /// Name of the pool.
    pub name: String,
    /// Labels of the pool.
    pub labels: BTreeMap<String, String>,
    /// The least that the pool's spec allows.
    pub min: u32,
    /// The most that the pool's spec allows.
    pub max: u32,
    /// Warm sandboxes that are Ready and free.
    pub ready: u32,
    /// Warm sandboxes that are not Ready yet.
    pub creating: u32,
    /// Live sandboxes that claims took from this pool.
    pub claimed: u32,
    /// Length of one bucket of `arrivals`, in seconds.
    pub bucket_seconds: u32,
    /// Claims that arrived for this pool per bucket, oldest first; the last bucket is still open.
    pub arrivals: Vec<u32>,
    /// Claims in the window that found a Ready sandbox.
    pub hits: u32,
    /// Claims in the window that found none.
    pub misses: u32,
    /// Median time from creating a warm sandbox to its Ready, in milliseconds.
    pub refill_ms: Option<u64>,
    /// The plugin's own state, as it left it.
    pub state: Vec<u8>,
    /// The time of asking.
    pub now: Timestamp,
}

/// Answer to [`PoolSizeQuestion`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolSizeAnswer {
    /// How many; the core clamps it to the pool's bounds and says so.
    pub desired: u32,
    /// When to ask again, at the latest; `None`: when something changes.
    pub next_check: Option<Timestamp>,
    /// Why, for people.
    pub reason: String,
    /// State to be given back next time, at most 16 KiB; `None` leaves it as it is.
    pub state: Option<Vec<u8>>,
}

/// What came back for one [`Ask`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "hook", rename_all = "kebab-case")]
pub enum Answer {
    /// To an admission question.
    Admission(AdmissionAnswer),
    /// To a runtime-class question.
    RuntimeClass(RuntimeClassAnswer),
    /// To an idle question.
    Idle(IdleAnswer),
    /// To a pool-size question.
    PoolSize(PoolSizeAnswer),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("plugin {}: {message}", .kind.as_str())]
pub struct Failure {
    /// What went wrong: the label of metrics.
    pub kind: FailureKind,
    /// For people, from the engine or the plugin itself.
    pub message: String,
}

/// The ways in which asking a plugin fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// Stopped by the wall clock; not replayed.
    Deadline,
    /// Stopped by its fuel: the same question stops it again.
    Fuel,
    /// Wanted more memory than its limit.
    Memory,
    /// Trapped.
    Trap,
    /// Answered that it cannot answer.
    Error,
    /// Its answer makes no sense (bad patch, state too large, wrong hook).
    Invalid,
    /// Not loaded, or without this hook.
    Missing,
    /// Failed too often lately and is not called for a while.
    Quarantined,
}

impl FailureKind {
    /// Every way.
    pub const ALL: [FailureKind; 8] = [
        FailureKind::Deadline,
        FailureKind::Fuel,
        FailureKind::Memory,
        FailureKind::Trap,
        FailureKind::Error,
        FailureKind::Invalid,
        FailureKind::Missing,
        FailureKind::Quarantined,
    ];

    /// The name in metrics, status and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            FailureKind::Deadline => "deadline",
            FailureKind::Fuel => "fuel",
            FailureKind::Memory => "memory",
            FailureKind::Trap => "trap",
            FailureKind::Error => "error",
            FailureKind::Invalid => "invalid",
            FailureKind::Missing => "missing",
            FailureKind::Quarantined => "quarantined",
        }
    }
}

/// An answered question: kept whole for decisions, `/debug/seen` and replay.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PluginReply {
    /// What was asked, of whom.
    pub ask: PluginRequest,
    /// What came back.
    pub result: Result<Answer, Failure>,
}
