//! Clients of the API server: their name, their timeouts, and whether they retry.

use http::HeaderValue;
use http::header::USER_AGENT;
use kube::Client;

use crate::limits;

/// What this operator calls itself to the API server.
const NAME: &str = concat!("paddock/", env!("CARGO_PKG_VERSION"));

/// A client that calls itself by our name. Only requests that nobody plans on are retried inside it.
///
/// # Errors
/// When the configuration is of no use.
pub(crate) fn client(kube: &kube::Config, retry: bool) -> kube::Result<Client> {
    let mut kube = kube.clone();
    kube.default_retry = retry;
    kube.connect_timeout = Some(limits::CONNECT_TIMEOUT);
    kube.read_timeout = Some(limits::READ_TIMEOUT);
    kube.headers.push((USER_AGENT, HeaderValue::from_static(NAME)));
    Client::try_from(kube)
}
