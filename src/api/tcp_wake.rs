//! The resume of Sandboxes by TCP connections: the record in the status of a Sandbox, and the range of the gateway's
//! ports.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether a TCP connection to the Service of a Sandbox resumes the Sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TcpWakeStatus {
    /// The ports of the gateway that stand for the ports of the Service. While the Sandbox is suspended, the Service leads
    /// to them. Empty if a TCP connection does not resume the Sandbox.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub ports: Vec<TcpWakePort>,
    /// The reason why a TCP connection does not resume the Sandbox, as a sentence. Absent if it does. Requests through
    /// the gateway resume the Sandbox in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A port of the gateway that stands for a port of a Sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TcpWakePort {
    /// The port of the Service and of the pod.
    #[schemars(with = "i32", range(min = 1, max = 65535))]
    pub port: u16,
    /// The port on which every gateway accepts connections for it.
    #[schemars(with = "i32", range(min = 1, max = 65535))]
    pub gateway_port: u16,
}

/// A range of ports, with both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// The text is not a range of ports.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a range of ports; it must be FIRST-LAST with 1024 <= FIRST <= LAST <= 65535, such as 10000-29999"
)]
pub struct InvalidPortRange(String);

impl PortRange {
    /// The ports of a gateway, unless a flag sets them. Linux chooses the ports of outgoing connections from 32768 up, and
    /// the ports of nodes begin at 30000.
    pub const DEFAULT: PortRange = PortRange { first: 10_000, last: 29_999 };

    /// Parses `FIRST-LAST`.
    ///
    /// # Errors
    /// If the text has another form, or the ports are not in order or too low.
    pub fn parse(text: &str) -> Result<Self, InvalidPortRange> {
        let range = text.split_once('-').and_then(|(first, last)| {
            let port = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
            let (first, last) = (port(first)?, port(last)?);
            (1024 <= first && first <= last).then_some(Self { first, last })
        });
        range.ok_or_else(|| InvalidPortRange(text.to_owned()))
    }

    /// The first port.
    #[must_use]
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The last port.
    #[must_use]
    pub const fn last(self) -> u16 {
        self.last
    }

    /// Whether the range has this port.
    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// The number of ports, at least one.
    #[must_use]
    pub const fn size(self) -> u16 {
        self.last - self.first + 1
    }

    /// All ports, each once: first the port with this number, counted modulo the size, and then the ones that follow it.
    pub fn from_number(self, number: u64) -> impl Iterator<Item = u16> {
        let size = u64::from(self.size());
        let start = number % size;
        (0..size).filter_map(move |step| Some(self.first + u16::try_from((start + step) % size).ok()?))
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_two_ends_in_their_order() {
        let range = PortRange::parse("2000-2003").unwrap();
        assert_eq!((range.size(), range.to_string()), (4, "2000-2003".to_owned()));
        assert_eq!(range.from_number(6).collect::<Vec<_>>(), [2002, 2003, 2000, 2001]);
        assert!(range.contains(2000) && range.contains(2003) && !range.contains(1999) && !range.contains(2004));
        assert_eq!(PortRange::parse("65535-65535").unwrap().from_number(7).collect::<Vec<_>>(), [65535]);
        for bad in ["", "2000", "2000-", "-2000", "2001-2000", "80-2000", "2000-65536", "2000-+2001", "2000 - 2001"] {
            assert_eq!(PortRange::parse(bad), Err(InvalidPortRange(bad.to_owned())));
        }
    }
}
