//! What the Sandbox half has to know about a request or connection that arrives.

use std::net::IpAddr;

use crate::only::Only;

/// One request or TCP connection for a Sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The address of the client. Shares are counted by it: see [`paddock_kube::peer::Peer`].
    pub client: IpAddr,
    /// Whether the request may wake the Sandbox and counts as activity.
    pub purpose: Purpose,
    /// The most bytes of the request that the gateway keeps in memory while it is held.
    pub held_bytes: usize,
    /// The Sandboxes of the name to which the client's credential admits.
    pub only: Only,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Somebody uses the Sandbox. The request wakes it, and counts as activity.
    Use,
    /// A probe, a crawler or a health check. It neither wakes the Sandbox nor keeps it awake.
    Probe,
}
