//! Routing by host: `NAME--PORT.NAMESPACE.DOMAIN`, or `NAME.NAMESPACE.DOMAIN` for the default port.
//!
//! Each Sandbox has an origin of its own, so browsers keep the cookies and the storage of two Sandboxes apart. The part
//! behind the last `--` is a port only if it has digits alone. A name that ends in `--` and digits needs a port.

use std::fmt;
use std::str::FromStr;

use super::by_header::{valid_name, valid_namespace, valid_port};
use crate::refusal::{Reason, Refusal};
use crate::target::{DEFAULT_PORT, Target, is_dns_label};

/// The domain of `--host-routing-domain`, such as `sandbox.example.com`, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostDomain(String);

/// The text is not a domain.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a domain: expected a DNS name without a port, such as sandbox.example.com")]
pub struct InvalidHostDomain(String);

impl FromStr for HostDomain {
    type Err = InvalidHostDomain;

    fn from_str(text: &str) -> Result<Self, InvalidHostDomain> {
        let lower = text.to_ascii_lowercase();
        let labels = lower.len() <= 180 && lower.split('.').all(is_dns_label);
        if labels { Ok(Self(lower)) } else { Err(InvalidHostDomain(text.to_owned())) }
    }
}

impl fmt::Display for HostDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl HostDomain {
    /// The labels in front of the domain, in lower case. `None` for a host that is not under the domain.
    pub(super) fn labels(&self, host: &str) -> Option<String> {
        let lower = host.to_ascii_lowercase();
        let host = lower.strip_suffix('.').unwrap_or(&lower);
        let labels = host.strip_suffix(self.0.as_str())?.strip_suffix('.')?;
        Some(labels.to_owned())
    }
}

pub(super) fn target(labels: &str) -> Result<Target, Refusal> {
    let form = || {
        let detail = "Host-routed request must have a host of the form <id>--<port>.<namespace>.<domain>";
        Refusal::new(Reason::InvalidHost, detail)
    };
    let (first, namespace) = labels.split_once('.').ok_or_else(form)?;
    if namespace.contains('.') {
        return Err(form());
    }
    let digits = |port: &&str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let (name, port) = match first.rsplit_once("--") {
        Some((name, port)) if digits(&port) => (name, valid_port(port)?),
        Some(_) | None => (first, DEFAULT_PORT),
    };
    Ok(Target { namespace: valid_namespace(namespace)?.into(), name: valid_name(name)?.into(), port })
}
