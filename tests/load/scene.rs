//! A Sandbox that is an [`Upstream`] of this process, and gateways that know it.
//!
//! No operator and no kubelet runs: the Sandbox and its pod are stored as they would have left them, and the gateway needs
//! no more.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use paddock_cluster::{BESIDE, Cluster, PATIENCE, Spawn, WORKSPACE, grant};
use serde_json::{Value, json};

use crate::gateway::Gateway;
use crate::upstream::Upstream;

/// The namespace of the Sandbox.
pub const NAMESPACE: &str = "load";
/// The name of the Sandbox.
pub const SANDBOX: &str = "box";
/// The ServiceAccount that may use the Sandbox.
const CLIENT: &str = "client";
/// The namespace and the name of the gateway's ServiceAccount in `deploy/`.
const ACCOUNT: (&str, &str) = ("agent-sandbox-system", "sandbox-router");
/// The address of the pod. It is not the one from which this machine connects, because a gateway without authorization
/// refuses the pods of Sandboxes.
const POD: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 77));

/// The Sandbox and the rights to run gateways.
#[derive(Debug)]
pub struct Scene {
    /// The application of the Sandbox.
    pub upstream: Upstream,
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Scene {
    /// Makes the Sandbox on a cluster that has no object of ours. `program` is a `paddock`.
    ///
    /// # Errors
    /// If an object cannot be stored.
    pub async fn open(cluster: &Cluster, program: &Path) -> Result<Self> {
        let upstream = Upstream::start(POD).await?;
        let kubectl = cluster.kubectl();
        let run = async |args: &[&str], input: Option<&Value>| {
            let input = input.map(Value::to_string);
            kubectl.run(args, input.as_deref()).await.with_context(|| format!("kubectl {}", args.join(" ")))
        };
        let (crds, timeout) = (format!("{WORKSPACE}/crds"), format!("--timeout={}s", PATIENCE.as_secs()));
        run(&["apply", "--server-side", "-f", &crds], None).await?;
        run(&["wait", "--for=condition=Established", &timeout, "-f", &crds], None).await?;
        grant(&kubectl, program, &BESIDE).await.context("granting the rights of the gateway")?;
        run(&["create", "namespace", NAMESPACE], None).await?;
        let account = ["wait", "--for=create", &timeout, "--namespace", NAMESPACE, "serviceaccount/default"];
        run(&account, None).await?;
        run(&["create", "-f", "-"], Some(&sandbox())).await?;
        let uid =
            ["get", "sandboxes.agents.x-k8s.io", SANDBOX, "--namespace", NAMESPACE, "-o", "jsonpath={.metadata.uid}"];
        let uid = run(&uid, None).await?;
        run(&["create", "-f", "-"], Some(&pod(&uid))).await?;
        let status = json!({ "status": { "phase": "Running", "podIP": POD, "podIPs": [{ "ip": POD }] } }).to_string();
        let patch = ["patch", "pod", SANDBOX, "--namespace", NAMESPACE, "--subresource=status", "--type=merge", "-p"];
        run(&[&patch[..], &[&status]].concat(), None).await?;
        for object in rights() {
            run(&["create", "-f", "-"], Some(&object)).await?;
        }
        let kubeconfig = cluster.kubeconfig_for_service_account(ACCOUNT.0, ACCOUNT.1).await?;
        Ok(Self { upstream, program: program.to_owned(), kubeconfig })
    }

    /// Starts a gateway with these flags beside those that the scene needs.
    ///
    /// # Errors
    /// If the gateway does not start.
    pub async fn gateway(&self, cluster: &Cluster, name: &str, flags: &[&str]) -> Result<Gateway> {
        let flags = [&["--allow-loopback-pod-ip"], flags].concat();
        Gateway::start(cluster, Spawn::new(name, &self.program), &self.kubeconfig, &flags).await
    }

    /// A token of a user who may use the Sandbox, for two hours.
    ///
    /// # Errors
    /// If the API server makes none.
    pub async fn token(&self, cluster: &Cluster) -> Result<String> {
        let args = ["create", "token", CLIENT, "--namespace", NAMESPACE, "--duration=2h"];
        Ok(cluster.kubectl().run(&args, None).await.context("making a token")?.trim().to_owned())
    }

    /// The headers that name the Sandbox.
    #[must_use]
    pub fn headers(&self) -> [(&'static str, String); 3] {
        [
            ("x-sandbox-id", SANDBOX.to_owned()),
            ("x-sandbox-namespace", NAMESPACE.to_owned()),
            ("x-sandbox-port", self.upstream.address.port().to_string()),
        ]
    }
}

fn sandbox() -> Value {
    json!({
        "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox",
        "metadata": { "name": SANDBOX, "namespace": NAMESPACE },
        "spec": {
            "podTemplate": { "spec": { "containers": [{ "name": "agent", "image": "agent:1" }] } },
            "operatingMode": "Running", "replicas": 1,
        },
    })
}

/// A pod that no scheduler knows, so that no node changes its status.
fn pod(uid: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": SANDBOX, "namespace": NAMESPACE,
            // The gateway watches the pods that have this label.
            "labels": { "agents.x-k8s.io/sandbox-name-hash": "00000000" },
            "ownerReferences": [{
                "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "name": SANDBOX, "uid": uid,
                "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": { "schedulerName": "none", "containers": [{ "name": "agent", "image": "agent:1" }] },
    })
}

fn rights() -> [Value; 3] {
    let metadata = json!({ "name": CLIENT, "namespace": NAMESPACE });
    let group = "rbac.authorization.k8s.io";
    [
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata }),
        json!({
            "apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": metadata,
            "rules": [{
                "apiGroups": ["agents.x-k8s.io"], "resources": ["sandboxes/proxy"], "resourceNames": [SANDBOX],
                "verbs": ["create"],
            }],
        }),
        json!({
            "apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": metadata,
            "roleRef": { "apiGroup": group, "kind": "Role", "name": CLIENT },
            "subjects": [{ "kind": "ServiceAccount", "name": CLIENT, "namespace": NAMESPACE }],
        }),
    ]
}
