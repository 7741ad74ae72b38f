//! The list of open connections that each gateway serves for the operator.
//!
//! A gateway knows only its own connections. The operator asks every gateway and adds the numbers, so that idle plugins
//! get the connections of a Sandbox.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The path of the list, on the listener of the gateway's metrics.
pub const PATH: &str = "/connections";

/// The audience of the tokens with which the list is read. The API server and the proxy of the gateway accept no such token,
/// so a stranger who receives one can read the lists, and nothing else.
pub const AUDIENCE: &str = "paddock.dev/connections";

/// The name of the port of the list in the Service of the gateways.
pub const PORT: &str = "metrics";

/// The largest list, in bytes. A gateway with the most memory that it uses forwards 26,214 requests at once, each perhaps to
/// a Sandbox of its own, and an entry has at most 410 bytes.
pub const BYTES_MAX: usize = 16 * 1024 * 1024;

/// The connections that are open through one gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenConnections {
    /// The time of the list, by the clock of the API server.
    pub at: Timestamp,
    /// The Sandboxes with an open connection.
    pub sandboxes: Vec<SandboxConnections>,
}

/// The connections that are open to one pod of a Sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SandboxConnections {
    /// The namespace of the Sandbox.
    pub namespace: String,
    /// The name of the Sandbox.
    pub name: String,
    /// The UID of the pod. A connection to an earlier pod of the Sandbox does not use the present one.
    pub pod_uid: String,
    /// The number of requests, streams and TCP connections that have not ended.
    pub open: u32,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Gateways and operators of different versions read the form during an update.
    #[test]
    fn list_has_its_form_and_may_have_more_fields() {
        let form = json!({
            "at": "2030-01-01T12:00:00Z",
            "sandboxes": [{ "namespace": "ns", "name": "a", "podUid": "uid-of-a", "open": 2 }],
        });
        let list: OpenConnections = serde_json::from_value(form.clone()).unwrap();
        assert_eq!(serde_json::to_value(&list).unwrap(), form);
        let mut later = form.clone();
        later["more"] = true.into();
        assert_eq!(serde_json::from_value::<OpenConnections>(later).unwrap(), list);
        for field in ["at", "sandboxes"] {
            let mut other = form.clone();
            other.as_object_mut().unwrap().remove(field);
            assert!(serde_json::from_value::<OpenConnections>(other).is_err(), "{field}");
        }
    }
}
