//! The questions for plugins and their answers, as plain data.
//!
//! The core writes questions and reads answers. `paddock-plugin-host` passes a question to a component and returns its
//! answer. A question contains everything that the plugin may know: the time, the history, the settings and the
//! plugin's own former state. A failure is an answer too ([`Failure`]). The core applies the failure policy of the
//! binding to it.
//!
//! As text, a question and an answer have the field names of the WIT ([`form`]).

pub mod form;
pub mod limits;

use std::collections::BTreeMap;

use jiff::Timestamp;
pub use paddock_api::Hook;
use paddock_api::PolicyMode as Mode;
use serde::{Deserialize, Serialize};

/// One question for one plugin.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PluginRequest {
    /// The name of the binding, which is unique. The name and the hook identify the reply.
    pub binding: String,
    /// The component to call.
    pub plugin: PluginRef,
    /// The mode of the binding. Only the answers of the mode `Enforce` decide.
    pub mode: Mode,
    /// The settings of the binding: a JSON document, or `{}` if the binding has none.
    pub settings: String,
    /// The question.
    pub question: Question,
}

/// The origin of a call. Calls of unverified callers share nothing with the others: no quarantine, no room and no log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Caller {
    /// The operator itself, or a client of the webhook with a verified certificate.
    Verified,
    /// A client of the webhook that showed no certificate. It may have made up its review.
    Unverified,
}

impl Caller {
    /// All callers.
    pub const ALL: [Caller; 2] = [Caller::Verified, Caller::Unverified];
}

/// The component that answers. The name is for people, and the digest identifies the component.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PluginRef {
    /// The name of the plugin: the name of a built-in, or the stem of the file name.
    pub name: String,
    /// The digest of the component's bytes: `sha256:` and 64 hex digits.
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

    /// The namespace of the object that the question is about. Calls, quarantines and log lines are counted for each
    /// namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        match self {
            Question::Admission(question) => &question.namespace,
            Question::RuntimeClass(question) => &question.namespace,
            Question::Idle(question) => &question.namespace,
            Question::PoolSize(question) => &question.namespace,
        }
    }
}

/// A RuntimeClass of the cluster, in the form in which plugins get it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RuntimeClassFact {
    /// The name of the object, which is the value of a pod's `runtimeClassName`.
    pub name: String,
    /// The name of the handler in the configuration of the node's container runtime.
    pub handler: String,
    /// Whether the handler keeps pods off the host's kernel (gVisor, Kata), according to
    /// [`Settings::isolates`](crate::settings::Settings::isolates).
    pub isolated: bool,
    /// The number of Ready, schedulable nodes that can run pods of this class.
    pub nodes: u32,
}

/// The operation of an admission request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// A create of a new object.
    Create,
    /// An update of an object.
    Update,
}

/// `admission`: is this object admitted, and in what form?
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AdmissionQuestion {
    /// The operation: create or update.
    pub operation: Operation,
    /// The API group of the object. It is empty for the core group.
    pub group: String,
    /// The API version of the object.
    pub version: String,
    /// The kind of the object.
    pub kind: String,
    /// The namespace of the object.
    pub namespace: String,
    /// The name of the object. It is empty if the API server has not generated a name from `generateName` yet.
    pub name: String,
    /// The object as JSON.
    #[serde(with = "form::json")]
    pub object: String,
    /// The object before the update, as JSON, or `None` for a create.
    #[serde(default, with = "form::optional_json")]
    pub old_object: Option<String>,
    /// The labels of the namespace.
    pub namespace_labels: BTreeMap<String, String>,
    /// The user of the request, as reported by the API server. It is empty if the operator asks about a pod in a
    /// reconcile.
    pub username: String,
    /// The groups of the user.
    pub groups: Vec<String>,
    /// Whether the workload is marked as running generated code, or its namespace requires isolation.
    pub generated_code: bool,
    /// The RuntimeClasses of the cluster.
    pub classes: Vec<RuntimeClassFact>,
    /// Whether the request is a dry run, so that nothing is stored.
    pub dry_run: bool,
    /// The time of the decision.
    #[serde(with = "form::time")]
    pub now: Timestamp,
}

/// The answer to an [`AdmissionQuestion`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AdmissionAnswer {
    /// Whether the object is allowed, or denied with a message for the user.
    pub verdict: Verdict,
    /// Warnings for the user, which kubectl shows: at most [`limits::MAX_WARNINGS`] warnings of at most
    /// [`limits::MAX_WARNING_CHARS`] characters.
    pub warnings: Vec<String>,
    /// A JSON Patch (RFC 6902) as text, or `None` for no change. It is used only if the object is allowed.
    #[serde(default, with = "form::optional_json")]
    pub patch: Option<String>,
}

/// The verdict of an admission plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The object is allowed. The next binding is asked.
    Allow,
    /// The object is denied. The message says what the user has to change.
    Deny(String),
}

/// `runtime-class`: which class does a new pod get?
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RuntimeClassQuestion {
    /// The namespace of the pod.
    pub namespace: String,
    /// The name of the Sandbox, or of a Pod without a Sandbox. It is empty if the API server has not generated a name
    /// from `generateName` yet.
    pub name: String,
    /// The labels that the pod will have.
    pub labels: BTreeMap<String, String>,
    /// The images of the pod's containers, init containers first.
    pub images: Vec<String>,
    /// The class that the user named, or `None` if the user named none.
    pub requested: Option<String>,
    /// Whether the workload is marked as running generated code, or its namespace requires isolation.
    pub generated_code: bool,
    /// The labels of the namespace.
    pub namespace_labels: BTreeMap<String, String>,
    /// The RuntimeClasses of the cluster.
    pub classes: Vec<RuntimeClassFact>,
    /// The time of the decision.
    #[serde(with = "form::time")]
    pub now: Timestamp,
}

/// The answer to a [`RuntimeClassQuestion`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RuntimeClassAnswer {
    /// The choice.
    pub choice: ClassChoice,
    /// The reason, for people: at most [`limits::MAX_REASON_CHARS`] characters.
    pub reason: String,
}

/// The choice of a runtime-class plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassChoice {
    /// The RuntimeClass of this name.
    Class(String),
    /// No RuntimeClass: the pod runs with the default runtime of the cluster.
    Default,
    /// No pod may be created at this time.
    Refuse,
}

/// The idle tiers: what can be done with an idle sandbox. The tier with the smallest effect comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdleTier {
    /// The pod gets fewer resources in place and keeps its memory.
    Throttle,
    /// The pod is deleted, and the volumes are kept.
    Suspend,
    /// The memory is written to disk, and then the pod is deleted.
    Hibernate,
    /// The Sandbox is deleted.
    Delete,
}

/// `idle`: is this sandbox idle, and what is done with it?
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct IdleQuestion {
    /// The namespace of the Sandbox.
    pub namespace: String,
    /// The name of the Sandbox.
    pub name: String,
    /// The labels of the Sandbox.
    pub labels: BTreeMap<String, String>,
    /// The `idleTimeout` of the Sandbox, in milliseconds.
    pub idle_timeout_ms: u64,
    /// The time at which the Sandbox was created.
    #[serde(with = "form::time")]
    pub created: Timestamp,
    /// The time at which a pod became Ready for the first time since the Sandbox was created or resumed. If no pod has been
    /// Ready yet, it is the creation of the pod. Later changes of readiness do not count.
    #[serde(default, with = "form::optional_time")]
    pub ready_since: Option<Timestamp>,
    /// The newest sign of activity (heartbeat, exec, attach, port-forward, gateway).
    #[serde(default, with = "form::optional_time")]
    pub last_activity: Option<Timestamp>,
    /// The time until which an exec, attach or port-forward counts as activity.
    #[serde(default, with = "form::optional_time")]
    pub held_until: Option<Timestamp>,
    /// The number of open connections through all gateways, or `None` if one of them did not say its own lately.
    pub connections: Option<u32>,
    /// The CPU use of all containers of the pod in thousandths of a core, or `None` without a sample of the last minutes.
    pub cpu_millicores: Option<u32>,
    /// The tiers that are possible for this Sandbox now.
    pub tiers: Vec<IdleTier>,
    /// The state that the plugin returned last: at most [`limits::MAX_STATE_BYTES`] bytes. It is empty if there is
    /// none.
    #[serde(with = "form::bytes")]
    pub state: Vec<u8>,
    /// The time of the decision.
    #[serde(with = "form::time")]
    pub now: Timestamp,
}

/// The answer to an [`IdleQuestion`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct IdleAnswer {
    /// The tier to apply. `None` leaves the sandbox as it is.
    pub action: Option<IdleTier>,
    /// The time at which to ask again. The core asks at the latest after
    /// [`Settings::idle_check_at_most`](crate::settings::Settings::idle_check_at_most).
    #[serde(default, with = "form::optional_time")]
    pub next_check: Option<Timestamp>,
    /// The reason, for people: at most [`limits::MAX_REASON_CHARS`] characters.
    pub reason: String,
    /// The state for the next question: at most [`limits::MAX_STATE_BYTES`] bytes. `None` keeps the former state.
    #[serde(default, with = "form::optional_bytes")]
    pub state: Option<Vec<u8>>,
}

/// `pool-size`: how many sandboxes does this pool keep warm?
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PoolSizeQuestion {
    /// The namespace of the pool.
    pub namespace: String,
    /// The name of the pool.
    pub name: String,
    /// The labels of the pool.
    pub labels: BTreeMap<String, String>,
    /// The minimum size in the pool's spec.
    pub min: u32,
    /// The maximum size in the pool's spec.
    pub max: u32,
    /// The number of warm sandboxes that are Ready and that no claim is taking.
    pub ready: u32,
    /// The number of warm sandboxes that are not Ready yet.
    pub creating: u32,
    /// The number of live sandboxes that claims took from this pool.
    pub claimed: u32,
    /// The length of one bucket of `arrivals`, in seconds.
    pub bucket_seconds: u32,
    /// The number of claims that arrived for this pool in each bucket, oldest first. The last bucket is still open.
    pub arrivals: Vec<u32>,
    /// The number of claims in the window of `arrivals` that found a Ready sandbox.
    pub hits: u32,
    /// The number of claims in that window that found none.
    pub misses: u32,
    /// The median time between the creation of a warm sandbox and its readiness, in milliseconds, or `None` if it is
    /// not known.
    pub refill_ms: Option<u64>,
    /// The state that the plugin returned last: at most [`limits::MAX_STATE_BYTES`] bytes. It is empty if there is
    /// none.
    #[serde(with = "form::bytes")]
    pub state: Vec<u8>,
    /// The time of the decision.
    #[serde(with = "form::time")]
    pub now: Timestamp,
}

/// The answer to a [`PoolSizeQuestion`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PoolSizeAnswer {
    /// The size that the pool should have. The core clamps it to the bounds of the pool and reports that it did.
    pub desired: u32,
    /// The time at which to ask again at the latest. With `None` the core asks again after
    /// [`Settings::pool_check_every`](crate::settings::Settings::pool_check_every).
    #[serde(default, with = "form::optional_time")]
    pub next_check: Option<Timestamp>,
    /// The reason, for people: at most [`limits::MAX_REASON_CHARS`] characters.
    pub reason: String,
    /// The state for the next question: at most [`limits::MAX_STATE_BYTES`] bytes. `None` keeps the former state.
    #[serde(default, with = "form::optional_bytes")]
    pub state: Option<Vec<u8>>,
}

/// The answer to one [`Question`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "hook", rename_all = "kebab-case")]
pub enum Answer {
    /// The answer to an admission question.
    Admission(AdmissionAnswer),
    /// The answer to a runtime-class question.
    RuntimeClass(RuntimeClassAnswer),
    /// The answer to an idle question.
    Idle(IdleAnswer),
    /// The answer to a pool-size question.
    PoolSize(PoolSizeAnswer),
}

/// A failure: the plugin gave no valid answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("plugin {}: {message}", .kind.as_str())]
pub struct Failure {
    /// The kind of the failure, which is also the label in metrics.
    pub kind: FailureKind,
    /// A message for people, from the engine or from the plugin: at most [`limits::MAX_MESSAGE_CHARS`] characters.
    pub message: String,
}

/// The kinds of failures of a plugin call.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum FailureKind {
    /// The call exceeded its deadline. A replay does not reproduce this failure.
    Deadline,
    /// The call used up its fuel. The same question fails again in the same way.
    Fuel,
    /// The call needed more memory than its limit.
    Memory,
    /// The component trapped.
    Trap,
    /// The plugin returned an error in place of an answer.
    Error,
    /// The answer is not valid: for example a bad patch, a state that is too large, or an answer to another hook.
    Invalid,
    /// The plugin is not loaded, or it does not have this hook.
    Missing,
    /// The plugin is in quarantine: it failed several times in a row and is not called for a while.
    Quarantined,
}

impl FailureKind {
    /// All kinds of failures.
    pub const ALL: &'static [FailureKind] = <FailureKind as strum::VariantArray>::VARIANTS;

    /// The name in metrics, status and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A plugin request with its result. Decisions, `/debug/seen` and replays use it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PluginReply {
    /// The request: the question and its plugin.
    pub request: PluginRequest,
    /// The answer, or the failure.
    pub result: Result<Answer, Failure>,
}
