//! A real node beside the control plane: a kubelet with containerd, runc and gVisor, kube-proxy and a DNS server.
//!
//! The node runs in namespaces of its own, with a file system of its own, in cgroups below ours. One process starts it,
//! and everything ends with that process. A link connects the node with this machine. Therefore the node reaches the
//! API server, and this machine reaches pods and Services at their addresses.

mod archive;
mod build;
mod config;
pub(crate) mod debian;
mod images;
mod machine;
mod network;
mod objects;
mod program_image;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, Client};

pub use images::{AGENT_IMAGE, BUSYBOX_IMAGE};
pub use machine::node_is_missing;
pub(crate) use network::Network;
pub(crate) use objects::create_node_objects;

use crate::layout::Layout;
use crate::pki::Authority;
use crate::process::Spawn;
use crate::{Error, Result};

/// The name of the real node.
pub const REAL_NODE: &str = "real-node";

/// The interval at which the start of the node is checked.
const POLL: std::time::Duration = std::time::Duration::from_millis(50);

/// The folders of what a node runs.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    programs: PathBuf,
    images: PathBuf,
}

impl Programs {
    /// Finds the programs and the images, and builds them if this machine has not done so yet.
    pub(crate) async fn ready() -> Result<Self> {
        if let Some(reason) = node_is_missing() {
            return Err(Error::Refused(reason));
        }
        let build = || Ok(Self { programs: build::PROGRAMS.ready()?, images: images::IMAGES.ready()? });
        tokio::task::spawn_blocking(build).await.map_err(Error::format("building the programs of a node"))?
    }
}

/// Builds the programs and the images of a real node if this machine has not done so yet, and returns the folder of the
/// programs. A build takes minutes, and is reported on standard error.
///
/// # Errors
/// Returns an error if the build fails, or if this machine cannot run a node.
pub async fn build_node() -> Result<PathBuf> {
    Ok(Programs::ready().await?.programs)
}

/// The values from which a node's files and command line are made.
pub(crate) struct RealNode<'a> {
    pub(crate) programs: &'a Programs,
    pub(crate) layout: &'a Layout,
    pub(crate) network: &'a Network,
    pub(crate) authority: &'a Authority,
    /// The port of the API server on this machine's loopback address.
    pub(crate) api_server: u16,
}

impl RealNode<'_> {
    /// Writes the node's files, and returns the process that starts the node.
    pub(crate) fn prepare(&self) -> Result<Spawn> {
        machine::raise_inotify_limit();
        let config = self.write_files()?;
        // Its PATH and its other variables are in the configuration.
        Ok(Spawn::new("node", self.programs.programs.join("node")).args([config]).tidies())
    }

    /// Waits until the images are there, until the node reports that it is ready, and until the DNS server is.
    pub(crate) async fn ready(&self, client: &Client) -> Result<()> {
        while !self.started().exists() {
            tokio::time::sleep(POLL).await;
        }
        let dns = self.start_dns()?;
        let nodes: Api<Node> = Api::all(client.clone());
        let pods: Api<Pod> = Api::namespaced(client.clone(), "kube-system");
        loop {
            let node = nodes.get_opt(REAL_NODE).await.map_err(Error::kube("looking for the node"))?;
            let dns = pods.get_opt(&dns).await.map_err(Error::kube("looking for the DNS server"))?;
            if node.is_some_and(|node| crate::bootstrap::usable(&node)) && dns.is_some_and(|dns| pod_is_ready(&dns)) {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn started(&self) -> PathBuf {
        self.layout.file("node-started")
    }
}

fn pod_is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Runs a command that must succeed, and returns its standard output.
fn run(mut command: Command) -> Result<String> {
    let line = format!("{} {}", command.get_program().display(), args(&command));
    let output = command.stdin(Stdio::null()).output().map_err(Error::io(format!("running {line}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::Command { command: line, stderr: String::from_utf8_lossy(&output.stderr).into_owned() })
}

fn args(command: &Command) -> String {
    command.get_args().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
