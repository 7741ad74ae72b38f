//! The facts that the status of a Sandbox reports.

use jiff::Timestamp;
use paddock_api::names::reason;
use paddock_api::sandbox::IdleStatus;
use paddock_api::{DecidingPlugin, PolicyState, ThrottleStatus};

use super::super::situation::Situation;
use crate::object::{Object, Pod};
use crate::snapshot::SandboxSnapshot;

/// Facts from the decision that the status reports in addition to the situation.
#[derive(Debug, Default)]
pub(in crate::decide::sandbox) struct Notes {
    /// The error that keeps the Sandbox from being Ready.
    pub(in crate::decide::sandbox) error: Option<Problem>,
    /// The reason why the running pod is not isolated although it should be.
    pub(in crate::decide::sandbox) exposed: Option<String>,
    /// The object for which a missing pod waits.
    pub(in crate::decide::sandbox) waits_for: Option<String>,
    /// The fields of the spec that a plugin keeps off the running pod.
    pub(in crate::decide::sandbox) withheld: Vec<String>,
    /// The plugins that decided about a missing pod, if they were asked.
    pub(in crate::decide::sandbox) decided_by: Option<Vec<DecidingPlugin>>,
    /// The record of the CPU that the pod had before it was throttled.
    pub(in crate::decide::sandbox) throttle: Option<Box<ThrottleStatus>>,
    /// The reason why a drain does not suspend the Sandbox although it should.
    pub(in crate::decide::sandbox) drain_problem: Option<String>,
    /// The next time at which the schedule resumes the Sandbox.
    pub(in crate::decide::sandbox) next_wake: Option<Timestamp>,
    /// The idle status, the plugin that decided it, and the plugin state, if the pod is running.
    pub(in crate::decide::sandbox) idle: Option<(Option<IdleStatus>, Option<DecidingPlugin>, Option<PolicyState>)>,
}

/// An error that keeps a Sandbox from being Ready.
#[derive(Debug)]
pub(in crate::decide::sandbox) struct Problem {
    pub(in crate::decide::sandbox) reason: &'static str,
    /// The message of the condition Ready.
    pub(in crate::decide::sandbox) message: String,
}

impl Problem {
    /// The operator cannot do its work.
    pub(in crate::decide::sandbox) fn error(message: String) -> Self {
        Self { reason: reason::RECONCILER_ERROR, message }
    }

    /// The Sandbox is not valid. Clients do not wait for one with a name that its Service cannot have.
    pub(in crate::decide::sandbox) fn invalid(sandbox: &Object, message: String) -> Self {
        let errors = sandbox.sandbox().and_then(|parsed| parsed.spec.as_ref().err());
        let misnamed = errors.is_some_and(|errors| errors.as_slice().iter().any(|e| e.path == "metadata.name"));
        Self { reason: if misnamed { reason::INVALID_CONFIGURATION } else { reason::RECONCILER_ERROR }, message }
    }

    /// A policy refuses the pod.
    pub(in crate::decide::sandbox) fn denied(message: String) -> Self {
        Self { reason: reason::POLICY_DENIED, message }
    }
}

/// The state of the Service of a Sandbox.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ServiceState {
    /// The Service exists and belongs to the Sandbox.
    There,
    /// The Service is wanted and does not exist.
    Missing,
    /// A Service is wanted, and the one of that name does not belong to the Sandbox.
    Foreign,
    /// No Service is wanted.
    None,
}

/// The pod whose state the status reports.
pub(super) fn pod_of<'a>(
    snapshot: &'a SandboxSnapshot,
    situation: &Situation<'a>,
) -> (Option<&'a Object>, Option<&'a Pod>) {
    let object = match situation {
        Situation::Terminating => None,
        // The pod of an invalid Sandbox keeps running, and its state is still reported.
        Situation::Invalid(_) => snapshot.pods.first().filter(|_| snapshot.pods.len() == 1).map(|p| &**p),
        Situation::Known { state, .. } => state.pod(),
    };
    (object, object.and_then(Object::pod))
}
