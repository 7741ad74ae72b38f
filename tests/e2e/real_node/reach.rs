//! Pods that listen, and what they reach.

use paddock_cluster::{AGENT_IMAGE, Agent, eventually, eventually_some};
use serde_json::{Value, json};

use super::super::json::{ready, text};
use super::super::kinds::POD;
use super::super::manifests::object;
use super::super::namespace::TestNamespace;

/// The ports of a [`listener`] beside that of its agent.
pub(super) const PORTS: [u16; 4] = [8080, 8081, 9090, 9443];
/// The port of an agent.
pub(super) const AGENT: u16 = 8888;

/// Prints for each argument whether it answers. An argument is HOST:PORT, or HOST:name for a name that is looked up.
const PROBE: &str = r#"
import concurrent.futures, socket, sys

def ask(target):
    host, port = target.rsplit(":", 1)
    try:
        if port == "name":
            socket.getaddrinfo(host, None)
        else:
            socket.create_connection((host, int(port)), 4).close()
        return "open"
    except OSError:
        return "closed"

with concurrent.futures.ThreadPoolExecutor(64) as pool:
    print(" ".join(pool.map(ask, sys.argv[1:])))
"#;

/// A pod that asks others. Its agent is asked by this machine, which no NetworkPolicy limits.
pub(super) struct Peer {
    name: String,
    pub(super) address: String,
    agent: Agent,
}

/// A container with an agent that listens at [`PORTS`] too. The first of them has the name `web`.
pub(super) fn container() -> Value {
    let listen = format!(
        "for port in {}; do httpd -p $port -h /workspace; done; exec /usr/local/bin/python3 -u /agent.py",
        PORTS.map(|port| port.to_string()).join(" ")
    );
    json!({
        "name": "agent",
        "image": AGENT_IMAGE,
        "command": ["/bin/sh", "-c", listen],
        "ports": [{ "name": "web", "containerPort": PORTS[0] }],
        "readinessProbe": { "tcpSocket": { "port": AGENT }, "periodSeconds": 1 },
    })
}

/// A Ready pod with these labels under runc that listens and asks.
pub(super) async fn listener(ns: &TestNamespace, name: &str, labels: Value) -> Peer {
    let mut container = container();
    // The namespace of the operator admits nothing else.
    container["securityContext"] = json!({ "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } });
    let spec = json!({
        "runtimeClassName": "runc",
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": false,
        "securityContext": { "runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": { "type": "RuntimeDefault" } },
        "containers": [container],
    });
    let mut pod = object(POD, name, spec);
    pod["metadata"]["labels"] = labels;
    ns.create(pod).await;
    Peer::of(&ns.until(POD, name, "Ready", ready).await).await
}

impl Peer {
    /// The peer in a Ready pod with a [`container`].
    pub(super) async fn of(pod: &Value) -> Self {
        let address = text(pod, "/status/podIP").to_owned();
        let agent = Agent::new(&address);
        eventually("the agent answers", async || agent.is_active().await).await;
        agent.upload("probe.py", PROBE).await.expect("the file is written");
        let name = format!("{}/{}", text(pod, "/metadata/namespace"), text(pod, "/metadata/name"));
        Self { name, address, agent }
    }

    /// This peer as a target.
    pub(super) fn at(&self, port: u16) -> String {
        format!("{}:{port}", self.address)
    }

    /// The output of a command that succeeds.
    pub(super) async fn output(&self, command: &str) -> String {
        super::seed::output(&self.agent, command).await
    }

    /// Whether each target answers.
    pub(super) async fn reached(&self, targets: &[&str]) -> Result<Vec<bool>, String> {
        let command = format!("python3 /workspace/probe.py {}", targets.join(" "));
        let done = self.agent.execute(&command).await.map_err(|e| e.to_string())?;
        let reached: Vec<bool> = done.stdout.split_whitespace().map(|word| word == "open").collect();
        if reached.len() == targets.len() { Ok(reached) } else { Err(format!("{done:?}")) }
    }

    /// Waits until every target of `open` answers, and panics if one of `closed` ever does.
    pub(super) async fn reaches(&self, open: &[&str], closed: &[&str]) {
        let targets: Vec<&str> = open.iter().chain(closed).copied().collect();
        eventually_some("the targets answer", async || {
            let reached = self.reached(&targets).await?;
            let wrong: Vec<&&str> =
                closed.iter().zip(&reached[open.len()..]).filter(|(_, r)| **r).map(|(t, _)| t).collect();
            assert!(wrong.is_empty(), "{} reaches {wrong:?}", self.name);
            let missing: Vec<&&str> = open.iter().zip(&reached).filter(|(_, r)| !**r).map(|(t, _)| t).collect();
            if missing.is_empty() { Ok(()) } else { Err(format!("{} does not reach {missing:?}", self.name)) }
        })
        .await;
    }
}
