//! The resume of Sandboxes by TCP connections: whether a Sandbox has it, and which gateways its Service leads to.
//!
//! While a Sandbox with a stable address has no pod that is Ready, the EndpointSlice of its Service has the addresses of
//! gateways, with a port of the gateway for each port of the Service.

use std::sync::Arc;

use paddock_api::TcpWakePort;
use serde::Serialize;

use crate::object::hash::fnv64;
use crate::settings::TcpWakeSettings;

/// The gateways in the EndpointSlice of one Sandbox: two, so that one can end. With more of them, each change of a gateway
/// would be a write for every suspended Sandbox.
const GATEWAYS: usize = 2;

/// The most TCP ports of a Sandbox. Each takes one port of every gateway.
pub(crate) const PORTS_MAX: usize = 16;

/// A gateway, as the EndpointSlices of its Service show it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Gateway {
    /// The address of the pod.
    pub address: Arc<str>,
    /// Whether the pod is Ready and not terminating.
    pub ready: bool,
}

/// Whether a TCP connection resumes a Sandbox.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum TcpWake {
    /// The operator or the Sandbox does not have this at all, so the status does not mention it.
    Off,
    /// The Sandbox gets its ports when its pod is Ready.
    Undecided,
    /// It does not, for this reason.
    Unavailable(String),
    /// It does, by these ports of these gateways. There may be no gateway at this time.
    Available {
        /// The ports of the Sandbox, in order, with those of the gateway.
        ports: Arc<[TcpWakePort]>,
        /// All gateways.
        gateways: Arc<[Gateway]>,
    },
}

/// The addresses of the gateways for the EndpointSlice of one Sandbox. Those that are `listed` in it stay for as long as
/// they are Ready. If no gateway is Ready, those that exist are better than an empty list, which refuses connections.
#[must_use]
pub fn choose<'a>(gateways: &'a [Gateway], ipv6: bool, uid: &str, listed: &[String]) -> Vec<&'a str> {
    let family = || gateways.iter().filter(|gateway| gateway.address.contains(':') == ipv6);
    let some_ready = family().any(|gateway| gateway.ready);
    let mut usable: Vec<&str> =
        family().filter(|gateway| gateway.ready || !some_ready).map(|gateway| &*gateway.address).collect();
    // Each Sandbox has its own order, so that the gateways share the Sandboxes.
    usable.sort_by_cached_key(|address| {
        (!listed.iter().any(|listed| listed == address), spread(&[uid, address]), (*address).to_owned())
    });
    usable.dedup();
    usable.truncate(GATEWAYS);
    usable.sort_unstable();
    usable
}

/// The reason of a Sandbox without a gateway.
pub(crate) fn no_gateway(settings: &TcpWakeSettings) -> String {
    format!("Service {}/{} has no gateway", settings.namespace, settings.service)
}

/// A number that is spread evenly over different texts: FNV-1a of 64 bits, with the last step of MurmurHash3, because the
/// high bits of FNV depend little on the last bytes.
pub(crate) fn spread(texts: &[&str]) -> u64 {
    let hash = fnv64(texts.iter().flat_map(|text| [text.as_bytes(), &[0]]));
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateways(list: &[(&str, bool)]) -> Vec<Gateway> {
        list.iter().map(|(address, ready)| Gateway { address: (*address).into(), ready: *ready }).collect()
    }

    #[test]
    fn gateways_that_are_listed_and_ready_stay() {
        let three = gateways(&[("10.0.0.1", true), ("10.0.0.2", true), ("10.0.0.3", true)]);
        for uid in ["a", "b", "c", "d"] {
            let chosen = choose(&three, false, uid, &[]);
            assert_eq!(chosen.len(), 2);
            let listed = ["10.0.0.1".to_owned(), "10.0.0.3".to_owned()];
            assert_eq!(choose(&three, false, uid, &listed), ["10.0.0.1", "10.0.0.3"]);
            // One of them is gone, and the other one stays.
            let two = gateways(&[("10.0.0.2", true), ("10.0.0.3", true)]);
            assert_eq!(choose(&two, false, uid, &listed), ["10.0.0.2", "10.0.0.3"]);
            let draining = gateways(&[("10.0.0.1", false), ("10.0.0.2", true), ("10.0.0.3", true)]);
            assert_eq!(choose(&draining, false, uid, &listed), ["10.0.0.2", "10.0.0.3"]);
        }
    }

    #[test]
    fn gateways_of_the_family_of_the_slice_count() {
        let both = gateways(&[("10.0.0.1", true), ("fd00::1", true), ("fd00::1", true)]);
        assert_eq!(choose(&both, false, "a", &[]), ["10.0.0.1"]);
        assert_eq!(choose(&both, true, "a", &[]), ["fd00::1"]);
        assert!(choose(&gateways(&[("10.0.0.1", true)]), true, "a", &[]).is_empty());
    }

    #[test]
    fn gateways_that_are_not_ready_are_better_than_none() {
        let none = gateways(&[("10.0.0.1", false), ("10.0.0.2", false)]);
        assert_eq!(choose(&none, false, "a", &[]), ["10.0.0.1", "10.0.0.2"]);
        let one = gateways(&[("10.0.0.1", false), ("10.0.0.2", true)]);
        assert_eq!(choose(&one, false, "a", &["10.0.0.1".to_owned()]), ["10.0.0.2"]);
    }

    #[test]
    fn gateways_share_the_sandboxes() {
        let ten: Vec<Gateway> =
            (0..10).map(|n| Gateway { address: format!("10.0.0.{n}").into(), ready: true }).collect();
        let mut uses = std::collections::BTreeMap::<&str, usize>::new();
        for sandbox in 0..1000 {
            for address in choose(&ten, false, &format!("uid-{sandbox}"), &[]) {
                *uses.entry(address).or_default() += 1;
            }
        }
        assert!(uses.len() == 10 && uses.values().all(|n| (120..=280).contains(n)), "{uses:?}");
    }
}
