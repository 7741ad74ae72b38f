//! Addresses to listen on, in the form of Go programs: `:8080`, `127.0.0.1:8080`, `[::1]:8080`, and `0` for none.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use tokio::net::TcpListener;

/// The address of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// There is no listener.
    Off,
    /// The first of these addresses that is available.
    At(Vec<SocketAddr>),
}

/// The text is not an address to listen on.
#[derive(Debug, thiserror::Error)]
#[error("{value:?} is not a listen address; it must be HOST:PORT, :PORT for all addresses, or 0 for none")]
pub struct InvalidListenAddress {
    value: String,
}

impl FromStr for ListenAddress {
    type Err = InvalidListenAddress;

    fn from_str(value: &str) -> Result<Self, InvalidListenAddress> {
        if matches!(value, "" | "0") {
            return Ok(ListenAddress::Off);
        }
        let bad = || InvalidListenAddress { value: value.to_owned() };
        if let Some(port) = value.strip_prefix(':') {
            let port: u16 = port.parse().map_err(|_| bad())?;
            // The first address accepts IPv4 too. The second is for machines without IPv6.
            return Ok(ListenAddress::At(vec![
                (Ipv6Addr::UNSPECIFIED, port).into(),
                (Ipv4Addr::UNSPECIFIED, port).into(),
            ]));
        }
        let addresses: Vec<SocketAddr> = value.to_socket_addrs().map_err(|_| bad())?.collect();
        if addresses.is_empty() { Err(bad()) } else { Ok(ListenAddress::At(addresses)) }
    }
}

impl ListenAddress {
    /// A free port on the loopback address.
    #[must_use]
    pub fn loopback() -> Self {
        ListenAddress::At(vec![(Ipv4Addr::LOCALHOST, 0).into()])
    }

    /// The same hosts with another port. `None` if the listener is off.
    #[must_use]
    pub fn on_port(&self, port: u16) -> Option<Self> {
        match self {
            ListenAddress::Off => None,
            ListenAddress::At(addresses) => {
                Some(ListenAddress::At(addresses.iter().map(|at| SocketAddr::new(at.ip(), port)).collect()))
            }
        }
    }

    /// The ports. Empty if the listener is off.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        let addresses = match self {
            ListenAddress::Off => &[][..],
            ListenAddress::At(addresses) => addresses,
        };
        addresses.iter().map(SocketAddr::port)
    }

    /// Starts to listen. `None` if the listener is off.
    ///
    /// # Errors
    /// If none of the addresses is available.
    pub async fn listen(&self) -> std::io::Result<Option<TcpListener>> {
        match self {
            ListenAddress::Off => Ok(None),
            ListenAddress::At(addresses) => TcpListener::bind(addresses.as_slice()).await.map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(value: &str) -> Vec<String> {
        match value.parse() {
            Ok(ListenAddress::At(addresses)) => addresses.iter().map(ToString::to_string).collect(),
            other => panic!("{value}: {other:?}"),
        }
    }

    #[test]
    fn go_style_addresses() {
        assert_eq!(at(":8080"), ["[::]:8080", "0.0.0.0:8080"]);
        assert_eq!(at("127.0.0.1:0"), ["127.0.0.1:0"]);
        assert_eq!(at("[::1]:9"), ["[::1]:9"]);
        for off in ["", "0"] {
            assert_eq!(off.parse::<ListenAddress>().unwrap(), ListenAddress::Off);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_would_be() {
        for bad in ["8080", ":port", "127.0.0.1", ":70000"] {
            let error = bad.parse::<ListenAddress>().unwrap_err().to_string();
            assert!(error.contains(bad) && error.contains(":PORT"), "{error}");
        }
    }
}
