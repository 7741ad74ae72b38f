//! The connections that are open to the pod of a Sandbox, as far as the idle policy may rely on them.

use std::time::Duration;

use jiff::Timestamp;

use crate::object::Object;
use crate::open_connections::ASK_AT_MOST;
use crate::snapshot::SandboxSnapshot;
use crate::time::saturating_add;

/// The unit of the time at which a pod was created: its time of creation has no fractions of a second.
const SECOND: Duration = Duration::from_secs(1);

/// The number of open connections. `None` if nobody knows them, or if that is too long ago, or from before the pod was
/// created.
pub(super) fn open(snapshot: &SandboxSnapshot, pod: &Object) -> Option<u32> {
    let known = snapshot.connections.known?;
    fresh(snapshot, known.asked)?;
    (saturating_add(pod.meta.created, SECOND) <= known.asked).then_some(known.open)
}

/// Whether the operator has not asked the gateways yet, as after its start.
pub(super) fn is_awaited(snapshot: &SandboxSnapshot) -> bool {
    let asks = !snapshot.common.settings.connections_interval.is_zero();
    asks && snapshot.connections.ended.and_then(|at| fresh(snapshot, at)).is_none()
}

/// The time until which a result from this time counts. `None` if the next round should have ended.
fn fresh(snapshot: &SandboxSnapshot, at: Timestamp) -> Option<Timestamp> {
    let common = &snapshot.common;
    common.wait_until(saturating_add(at, common.settings.connections_interval.saturating_add(ASK_AT_MOST)))
}
