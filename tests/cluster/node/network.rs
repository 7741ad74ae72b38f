//! The addresses of a cluster with a real node.
//!
//! Each such cluster has its own ranges, because this machine has one table of routes: it reaches pods and Services
//! through the link to the node. The ranges are parts of those that kubeadm's documentation uses, so that defaults fit.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::Path;

use crate::cache::cache_folder;
use crate::{Error, Result};

/// The number of clusters with a real node that can run at once.
const NETWORKS: u8 = 64;

/// The ranges of one cluster, reserved while this value lives.
#[derive(Debug)]
pub(crate) struct Network {
    number: u8,
    _lock: File,
}

impl Network {
    /// Reserves ranges that no other cluster of this machine uses.
    pub(crate) fn reserve() -> Result<Self> {
        let folder = cache_folder()?.join("networks");
        std::fs::create_dir_all(&folder).map_err(Error::io(format!("making {}", folder.display())))?;
        for number in 0..NETWORKS {
            let path = folder.join(number.to_string());
            let lock = File::create(&path).map_err(Error::io(format!("making {}", path.display())))?;
            let network = Self { number, _lock: lock };
            // A cluster that was left running, or one of another user, has a link but no lock of ours.
            if network._lock.try_lock().is_ok() && !Path::new("/sys/class/net").join(network.link()).exists() {
                return Ok(network);
            }
        }
        Err(Error::NoNetwork(NETWORKS))
    }

    /// The name of this machine's end of the link.
    pub(crate) fn link(&self) -> String {
        format!("paddock{}", self.number)
    }

    /// The address of this machine on the link. This range is reserved for tests between machines (RFC 2544).
    pub(crate) fn machine(&self) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.number, 1)
    }

    /// The address of the node.
    pub(crate) fn node(&self) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.number, 2)
    }

    /// The range of the pods.
    pub(crate) fn pods(&self) -> String {
        format!("10.244.{}.0/24", self.number)
    }

    /// The range of the Services.
    pub(crate) fn services(&self) -> String {
        format!("10.96.{}.0/24", self.number)
    }

    /// The address of the Service `kubernetes.default`, the first one of its range.
    pub(crate) fn kubernetes_service(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 96, self.number, 1)
    }

    /// The address of the Service of the DNS server.
    pub(crate) fn dns_service(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 96, self.number, 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_networks_have_no_address_in_common() {
        let (one, two) = (Network::reserve().unwrap(), Network::reserve().unwrap());
        assert_ne!(one.link(), two.link());
        assert_ne!(one.pods(), two.pods());
        assert_ne!(one.services(), two.services());
        assert_ne!((one.machine(), one.node()), (two.machine(), two.node()));
    }
}
