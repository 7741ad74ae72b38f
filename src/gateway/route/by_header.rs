//! Routing by the headers `X-Sandbox-ID`, `X-Sandbox-Namespace` and `X-Sandbox-Port`.
//!
//! `X-Sandbox-Pod-IP` and `X-Sandbox-UID` have no effect. The gateway knows the address of every Sandbox, and a client
//! keeps an address that it once read. A wrong one must not be an error of the client: SDKs drop a cached address only
//! after a 5xx answer.

use http::HeaderMap;

use crate::refusal::{Reason, Refusal};
use crate::target::{DEFAULT_NAMESPACE, DEFAULT_PORT, Target, is_dns_label, parse_port};

const ID: &str = "x-sandbox-id";
const NAMESPACE: &str = "x-sandbox-namespace";
const PORT: &str = "x-sandbox-port";

pub(super) fn target(headers: &HeaderMap) -> Result<Target, Refusal> {
    let id = single(headers, ID)?;
    let Some(id) = id.filter(|id| !id.is_empty()) else {
        return Err(Refusal::new(Reason::SandboxIdRequired, "X-Sandbox-ID header is required."));
    };
    let name = valid_name(id)?;
    let namespace = match single(headers, NAMESPACE)? {
        None | Some("") => DEFAULT_NAMESPACE,
        Some(namespace) => valid_namespace(namespace)?,
    };
    let port = match single(headers, PORT)? {
        None | Some("") => DEFAULT_PORT,
        Some(port) => valid_port(port)?,
    };
    Ok(Target { namespace: namespace.into(), name: name.into(), port })
}

/// The only value of a header. Two values would be two answers to the question which Sandbox is meant.
fn single<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.any(|other| other != value) {
        let detail = format!("The header {name} has several values.");
        return Err(Refusal::new(Reason::AmbiguousRequest, detail));
    }
    // A value that is not text is not a valid name either. The check of the name says so.
    Ok(Some(value.to_str().unwrap_or("\u{fffd}")))
}

pub(super) fn valid_name(name: &str) -> Result<&str, Refusal> {
    let invalid = || Refusal::new(Reason::InvalidSandboxId, "Invalid sandbox ID format.");
    is_dns_label(name).then_some(name).ok_or_else(invalid)
}

pub(super) fn valid_namespace(namespace: &str) -> Result<&str, Refusal> {
    let invalid = || Refusal::new(Reason::InvalidNamespace, "Invalid namespace format.");
    is_dns_label(namespace).then_some(namespace).ok_or_else(invalid)
}

pub(super) fn valid_port(port: &str) -> Result<u16, Refusal> {
    parse_port(port).ok_or_else(|| Refusal::new(Reason::InvalidPort, "Invalid port format."))
}
