//! The situation of a Sandbox: its spec, and the state of its pod.

use paddock_api::OperatingMode;
use paddock_api::names::{condition, reason};

use crate::conditions::find_condition;
use crate::manifest;
use crate::model::{self, ModeDecision};
use crate::object::{Object, Pod};
use crate::snapshot::SandboxSnapshot;

/// The starting point of a decision about a Sandbox.
pub(super) enum Situation<'a> {
    /// The Sandbox is being deleted, and its children with it.
    Terminating,
    /// The spec does not parse, with the reason.
    Invalid(String),
    /// The spec is valid.
    Known {
        /// The validated spec.
        model: &'a model::Sandbox,
        /// The state of the pod.
        state: PodState<'a>,
    },
}

/// The state of a Sandbox's pod, compared with the state that the spec asks for.
pub(super) enum PodState<'a> {
    /// The shutdown time of the Sandbox has passed by every clock.
    Expired,
    /// The Sandbox has more than one pod, or a pod of another name. The operator changes nothing.
    MultiplePods,
    /// The Sandbox is to have no pod. The pod that it still has is here.
    Suspended(Option<&'a Object>),
    /// A pod of the Sandbox's name does not belong to the Sandbox.
    Blocked(&'a Object),
    /// The pod is terminating, and another one follows.
    Terminating(&'a Object),
    /// The pod finished and is not replaced.
    Finished(&'a Object),
    /// The node or the control plane ended the pod.
    Disrupted(&'a Object),
    /// The Sandbox is to have a pod and has none.
    Missing,
    /// The Sandbox has its pod.
    Running(&'a Object, &'a Pod),
}

impl<'a> Situation<'a> {
    pub(super) fn of(snapshot: &'a SandboxSnapshot) -> Self {
        let sandbox = &snapshot.sandbox;
        let model = match sandbox.sandbox().map(|s| &s.spec) {
            _ if sandbox.meta.deletion_timestamp.is_some() => return Situation::Terminating,
            None => return Situation::Invalid("not a Sandbox".to_owned()),
            Some(Err(problem)) => return Situation::Invalid(problem.to_string()),
            Some(Ok(model)) => &**model,
        };
        Situation::Known { model, state: PodState::of(snapshot, model) }
    }

    /// The spec, if it is valid.
    pub(super) fn model(&self) -> Option<&'a model::Sandbox> {
        match self {
            Situation::Terminating | Situation::Invalid(_) => None,
            Situation::Known { model, .. } => Some(model),
        }
    }

    /// The state of the pod, if the spec is valid.
    pub(super) fn state(&self) -> Option<&PodState<'a>> {
        match self {
            Situation::Terminating | Situation::Invalid(_) => None,
            Situation::Known { state, .. } => Some(state),
        }
    }
}

impl<'a> PodState<'a> {
    fn of(snapshot: &'a SandboxSnapshot, model: &model::Sandbox) -> Self {
        let ready = snapshot.sandbox.sandbox().and_then(|s| find_condition(&s.status.conditions, condition::READY));
        let ended = ready.is_some_and(|ready| ready.reason == reason::SANDBOX_EXPIRED);
        if model.shutdown.at.is_some_and(|at| snapshot.common.ends(at, ended).is_none()) {
            return PodState::Expired;
        }
        let pod = match snapshot.pods.as_slice() {
            [] => None,
            [pod] if manifest::is_pod_name(&snapshot.sandbox, &pod.key.name) => Some(&**pod),
            // The operator never makes a pod of another name.
            [_, ..] => return PodState::MultiplePods,
        };
        match (mode(snapshot, model).mode, pod, &snapshot.other_pod) {
            (OperatingMode::Suspended, pod, _) => PodState::Suspended(pod),
            (OperatingMode::Running, None, Some(other)) => PodState::Blocked(other),
            (OperatingMode::Running, None, None) => PodState::Missing,
            (OperatingMode::Running, Some(object), _) => match object.pod() {
                _ if object.meta.deletion_timestamp.is_some() => PodState::Terminating(object),
                Some(pod) if pod.disrupted() => PodState::Disrupted(object),
                Some(pod) if pod.ended() => PodState::Finished(object),
                Some(pod) => PodState::Running(object, pod),
                None => PodState::Terminating(object),
            },
        }
    }

    /// The pod that the status reports.
    pub(super) fn pod(&self) -> Option<&'a Object> {
        match self {
            PodState::Suspended(pod) => *pod,
            PodState::Terminating(pod)
            | PodState::Finished(pod)
            | PodState::Disrupted(pod)
            | PodState::Running(pod, _) => Some(pod),
            PodState::Expired | PodState::MultiplePods | PodState::Blocked(_) | PodState::Missing => None,
        }
    }

    /// The pod to which a stable Service forwards connections, and its address.
    pub(super) fn endpoint(&self) -> Option<(&'a Object, &'a str)> {
        match self {
            PodState::Running(object, pod) if pod.ready() && object.meta.deletion_timestamp.is_none() => {
                pod.ips.first().map(|address| (*object, &**address))
            }
            PodState::Running(..)
            | PodState::Expired
            | PodState::MultiplePods
            | PodState::Suspended(_)
            | PodState::Blocked(_)
            | PodState::Terminating(_)
            | PodState::Finished(_)
            | PodState::Disrupted(_)
            | PodState::Missing => None,
        }
    }
}

/// The operating mode that the spec asks for, and the writes that make both of its fields agree.
pub(super) fn mode(snapshot: &SandboxSnapshot, model: &model::Sandbox) -> ModeDecision {
    let last = snapshot.sandbox.sandbox().and_then(|s| s.status.mode);
    model::desired_mode(model.operating_mode, model.replicas, last)
}
