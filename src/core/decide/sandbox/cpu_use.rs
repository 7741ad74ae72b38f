//! The CPU that the pod of a Sandbox uses, as far as the idle policy may rely on it.

use std::time::Duration;

use jiff::Timestamp;

use crate::cpu_use::LIST_AT_MOST;
use crate::object::Object;
use crate::snapshot::SandboxSnapshot;
use crate::time::saturating_add;

/// The time after which a decision that waits for the first list is made again.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// The CPU that the pod uses, in thousandths of a core. `None` if there is no sample, or if it is too old by every clock.
pub(super) fn millicores(snapshot: &SandboxSnapshot, pod: &Object) -> Option<u32> {
    let common = &snapshot.common;
    let sample = snapshot.cpu.sample.as_ref().filter(|sample| sample.pod == pod.meta.uid)?;
    // The clock of the node may be ahead. A sample that it repeats must end nevertheless.
    let taken = sample.measured.min(sample.seen);
    common.wait_until(saturating_add(taken, common.settings.cpu_sample_at_most))?;
    Some(sample.millicores)
}

/// Whether the operator has not looked for the CPU use of the pod yet, as after its start.
pub(super) fn is_awaited(snapshot: &SandboxSnapshot, pod: &Object) -> bool {
    let common = &snapshot.common;
    let interval = common.settings.cpu_metrics_interval;
    let fresh = |at: Timestamp| common.wait_until(saturating_add(at, interval.saturating_add(LIST_AT_MOST)));
    !interval.is_zero() && millicores(snapshot, pod).is_none() && snapshot.cpu.listed.and_then(fresh).is_none()
}
