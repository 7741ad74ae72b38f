//! Creates clients of the API server: their user agent, their timeouts, and whether they retry.

use http::{HeaderValue, header};
use kube::Client;

use crate::limits;

/// The user agent of every request of Paddock's processes.
pub const USER_AGENT: &str = concat!("paddock/", env!("CARGO_PKG_VERSION"));

/// Creates a client with Paddock's user agent and timeouts. `retry` lets the client repeat failed requests itself. The
/// clients of the reconcile must not retry, because the core plans each repetition.
///
/// # Errors
/// If the configuration cannot be used, for example because of an invalid URL or certificate.
pub fn client(kube: &kube::Config, retry: bool) -> kube::Result<Client> {
    let mut kube = kube.clone();
    kube.default_retry = retry;
    kube.connect_timeout = Some(limits::CONNECT_TIMEOUT);
    kube.read_timeout = Some(limits::READ_TIMEOUT);
    kube.headers.push((header::USER_AGENT, HeaderValue::from_static(USER_AGENT)));
    Client::try_from(kube)
}
