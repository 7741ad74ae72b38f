//! The explanation that the debug endpoint of the operator serves.

use std::time::Duration;

use anyhow::Context as _;
use http::{Request, Uri};
use kube::{Client, Config};
use paddock_core::explanation::Explanation;

use super::object::Object;

/// The time for a connection to the endpoint, which is on this machine or behind a forwarded port.
const CONNECT: Duration = Duration::from_secs(2);
/// The time for its answer.
const READ: Duration = Duration::from_secs(10);

/// The explanation of an object.
pub(super) async fn explanation(url: &Uri, object: &Object) -> anyhow::Result<Explanation> {
    let mut config = Config::new(url.clone());
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(READ);
    let client = Client::try_from(config).context("making a client")?;
    let path = format!("/debug/explain/{}/{}/{}", object.kind.name(), object.namespace, object.name);
    let request = Request::get(path).body(Vec::new()).context("making a request")?;
    let answer = client.request_text(request).await?;
    serde_json::from_str(&answer).context("its answer is not an explanation: the operator may have another version")
}
