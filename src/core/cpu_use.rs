//! The CPU that pods use, as the resource metrics API of the cluster reports it.
//!
//! An idle policy may keep a Sandbox running because its pod uses CPU. A sample has the name of its pod and no UID, so it
//! counts only for a pod that existed during the whole time of the measurement.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use paddock_api::duration::parse_go_duration;
use paddock_api::kind::{Key, Kind};
use paddock_api::pod_metrics::PodMetrics;
use serde::Serialize;

use crate::model::Quantity;

/// The longest time that the operator needs for one list of CPU use. If the last list ended an interval and this time ago,
/// the operator has not looked for the CPU use of a Sandbox.
pub const LIST_AT_MOST: Duration = Duration::from_secs(30);

/// The CPU that a pod used, as a list of the resource metrics API says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodCpuUse {
    /// The pod.
    pub pod: Key,
    /// The use of all its containers, in thousandths of a core.
    pub millicores: u32,
    /// The end of the time over which it was measured.
    pub measured: Timestamp,
    /// The length of that time.
    pub window: Duration,
}

impl PodCpuUse {
    /// Reads the CPU use of a pod. `None` if there is no container, or if the use of one of them cannot be read, because
    /// a part of the use would let a busy Sandbox look idle.
    #[must_use]
    pub fn read(metrics: &PodMetrics) -> Option<Self> {
        if metrics.containers.is_empty() {
            return None;
        }
        let used = metrics
            .containers
            .iter()
            .try_fold(Quantity::ZERO, |used, container| Some(used.plus(Quantity::parse(&container.usage.cpu)?)))?;
        let window = parse_go_duration(&metrics.window).ok().and_then(|nanos| u64::try_from(nanos).ok())?;
        Some(Self {
            pod: Key::new(Kind::Pod, metrics.metadata.namespace.as_str(), metrics.metadata.name.as_str()),
            millicores: used.millicores()?,
            measured: metrics.timestamp,
            window: Duration::from_nanos(window),
        })
    }
}

/// A sample of the CPU that a pod uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CpuSample {
    /// The UID of the pod.
    pub pod: Arc<str>,
    /// The use of all its containers, in thousandths of a core.
    pub millicores: u32,
    /// The end of the time over which it was measured, by the clock of the node.
    pub measured: Timestamp,
    /// The length of that time.
    pub window: Duration,
    /// The time at which the operator saw the sample first.
    pub seen: Timestamp,
}

/// What is known about the CPU that the pod of a Sandbox uses.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CpuFacts {
    /// The last sample.
    pub sample: Option<CpuSample>,
    /// The time at which the last list ended, whether it succeeded or not.
    pub listed: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(change: &Value) -> Option<PodCpuUse> {
        let mut metrics = json!({
            "metadata": { "namespace": "ns", "name": "a", "creationTimestamp": "2030-01-01T12:00:01Z" },
            "timestamp": "2030-01-01T12:00:00Z", "window": "15.5s",
            "containers": [{ "name": "c", "usage": { "cpu": "250m", "memory": "1Mi" } }],
        });
        json_patch::merge(&mut metrics, change);
        PodCpuUse::read(&serde_json::from_value::<PodMetrics>(metrics).ok()?)
    }

    #[test]
    fn use_of_all_containers_is_added_and_rounded_up_once() {
        for (containers, millicores) in [
            (&["12345678n"][..], Some(13)),
            (&["250m"], Some(250)),
            (&["1"], Some(1000)),
            (&["0"], Some(0)),
            (&["1n"], Some(1)),
            (&["1500u"], Some(2)),
            (&["1.5"], Some(1500)),
            (&["400000n", "600000n"], Some(1)),
            (&["250m", "1", "12345678n"], Some(1263)),
            // A use that cannot be read is no use of zero.
            (&["250m", ""], None),
            (&["much"], None),
            (&["-1"], None),
            (&["5000000000"], None),
            (&[], None),
        ] {
            let list: Vec<Value> = containers.iter().map(|cpu| json!({ "usage": { "cpu": cpu } })).collect();
            let used = read(&json!({ "containers": list }));
            assert_eq!(used.map(|used| used.millicores), millicores, "{containers:?}");
        }
    }

    #[test]
    fn sample_needs_its_time_and_its_window() {
        let used = read(&json!({})).unwrap();
        assert_eq!(used.pod, Key::new(Kind::Pod, "ns", "a"));
        assert_eq!(
            (used.measured, used.window),
            ("2030-01-01T12:00:00Z".parse().unwrap(), Duration::from_millis(15_500))
        );
        for change in [
            json!({ "timestamp": null }),
            json!({ "timestamp": "yesterday" }),
            json!({ "window": null }),
            json!({ "window": "15" }),
            json!({ "window": "-15s" }),
            json!({ "containers": null }),
            json!({ "containers": [{ "usage": {} }] }),
            json!({ "metadata": null }),
        ] {
            assert_eq!(read(&change), None, "{change}");
        }
    }
}
