//! The connections that are open to the pods of Sandboxes, as all gateways together say.
//!
//! An idle policy may keep a Sandbox running because of its connections. A sum that lacks a gateway would let a Sandbox in use
//! look idle, so there is a sum of all gateways or none.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

/// The longest time that the operator needs to ask every gateway. If the last round of questions ended an interval and this
/// time ago, the operator does not know the connections.
pub const ASK_AT_MOST: Duration = Duration::from_secs(15);

/// The sum of the answers of all gateways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenConnections {
    /// The number of open connections to each pod that has any, by the UID of the pod.
    pub pods: BTreeMap<Arc<str>, u32>,
    /// The time at which the operator began to ask.
    pub asked: Timestamp,
}

/// The result of the last round of questions to all gateways.
#[derive(Debug, Default)]
pub(crate) struct LastRound {
    /// The sum of the answers. `None` if a gateway did not answer.
    pub(crate) sum: Option<OpenConnections>,
    /// The time at which the round ended.
    pub(crate) ended: Option<Timestamp>,
}

impl LastRound {
    /// The connections of a pod. A pod that no gateway names has none.
    pub(crate) fn of_pod(&self, uid: &str) -> Option<PodConnections> {
        let sum = self.sum.as_ref()?;
        Some(PodConnections { open: sum.pods.get(uid).copied().unwrap_or(0), asked: sum.asked })
    }
}

/// The open connections of one pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PodConnections {
    /// Their number.
    pub open: u32,
    /// The time at which the operator began to ask.
    pub asked: Timestamp,
}

/// What is known about the connections that are open to the pod of a Sandbox.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ConnectionFacts {
    /// The connections. `None` if a gateway did not answer in the last round of questions.
    pub known: Option<PodConnections>,
    /// The time at which the last round of questions ended, whether every gateway answered or not.
    pub ended: Option<Timestamp>,
}
