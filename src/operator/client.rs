//! Creates clients of the API server: their user agent, their timeouts, and whether they retry.

use http::HeaderValue;
use http::header::USER_AGENT;
use kube::Client;

use crate::limits;

/// The user agent of the operator's requests.
const NAME: &str = concat!("paddock/", env!("CARGO_PKG_VERSION"));

/// Creates a client with the operator's user agent. `retry` lets the client repeat failed requests itself. The clients
/// of the reconcile must not retry, because the core plans each repetition.
///
/// # Errors
/// If the configuration cannot be used, for example because of an invalid URL or certificate.
pub(crate) fn client(kube: &kube::Config, retry: bool) -> kube::Result<Client> {
    let mut kube = kube.clone();
    kube.default_retry = retry;
    kube.connect_timeout = Some(limits::CONNECT_TIMEOUT);
    kube.read_timeout = Some(limits::READ_TIMEOUT);
    kube.headers.push((USER_AGENT, HeaderValue::from_static(NAME)));
    Client::try_from(kube)
}
