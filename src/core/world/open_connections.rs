//! The open connections that the World keeps, and those of one Sandbox.

use jiff::Timestamp;

use super::state::World;
use crate::object::Object;
use crate::open_connections::{ConnectionFacts, LastRound, OpenConnections};

impl World {
    /// Notes the end of a round of questions to all gateways.
    pub(super) fn gateways_asked(&mut self, sum: Option<OpenConnections>, now: Timestamp) {
        self.connections = LastRound { sum, ended: Some(now) };
    }

    /// The facts about the pod of a Sandbox.
    pub(super) fn connection_facts(&self, sandbox: &Object) -> ConnectionFacts {
        let known = self.pod_of(sandbox).and_then(|pod| self.connections.of_pod(&pod.meta.uid));
        ConnectionFacts { known, ended: self.connections.ended }
    }
}

#[cfg(test)]
mod tests;
