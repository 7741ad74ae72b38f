//! The samples of CPU use that the World keeps.

use std::collections::BTreeMap;

use jiff::Timestamp;
use paddock_api::kind::Key;

use crate::cpu_use::CpuSample;

/// The samples of the World.
#[derive(Debug, Default)]
pub(super) struct CpuSamples {
    /// The last sample of each pod. It is removed with the pod.
    pub(super) samples: BTreeMap<Key, CpuSample>,
    /// The time at which the last list ended.
    pub(super) listed: Option<Timestamp>,
}

impl CpuSamples {
    /// Removes the sample of a pod.
    pub(super) fn forget(&mut self, pod: &Key) {
        self.samples.remove(pod);
    }
}
