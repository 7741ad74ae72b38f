//! A node leaves nothing behind: no process, no link, no cgroup, no file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use paddock_cluster::{Cluster, Options, eventually, eventually_some};

use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![nothing_is_left_after_the_cluster, node_ends_with_its_first_process, node_ends_when_its_supervisor_is_killed,]
}

/// The traces of one node on this machine.
struct Traces {
    link: PathBuf,
    /// The number of the link. Another node may get a link of the same name.
    link_number: String,
    cgroups: Vec<PathBuf>,
    /// The folder of the cluster, which every process of the node has among its mounts.
    folder: PathBuf,
}

fn parent(pid: u32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("a parent");
    parent.trim().parse().expect("a number")
}

/// The process that starts the node, and the first process of the node.
fn processes(cluster: &Cluster) -> (u32, u32) {
    let outside = cluster.process("node").expect("a node");
    (outside.pid(), *outside.children().first().expect("the first process of the node"))
}

fn traces(cluster: &Cluster) -> Traces {
    let (outside, _) = processes(cluster);
    let config = std::fs::read_to_string(cluster.dir().join("node/config.json")).expect("a configuration");
    let config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
    let link = config["network"]["link"].as_str().expect("a link");
    let name = format!("paddock-node-{outside}");
    let roots = std::fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten();
    let own: BTreeSet<String> = std::fs::read_to_string("/proc/self/cgroup")
        .expect("cgroups")
        .lines()
        .filter_map(|line| line.splitn(3, ':').nth(2).map(str::to_owned))
        .collect();
    let cgroups = roots.flat_map(|root| {
        own.iter().map(|path| root.path().join(path.trim_start_matches('/')).join(&name)).collect::<Vec<_>>()
    });
    let link = Path::new("/sys/class/net").join(link).join("ifindex");
    let traces = Traces {
        link_number: std::fs::read_to_string(&link).expect("the node is connected"),
        link,
        cgroups: cgroups.filter(|path| path.exists()).collect(),
        folder: cluster.dir().to_owned(),
    };
    assert!(!traces.cgroups.is_empty(), "the node is in cgroups of its own");
    assert!(traces.members() > 4, "the node's programs run in it");
    traces
}

impl Traces {
    /// The number of processes in the node.
    fn members(&self) -> usize {
        let folder = self.folder.to_str().expect("UTF-8");
        let processes = std::fs::read_dir("/proc").expect("processes").flatten();
        let mounts = processes.filter_map(|p| std::fs::read_to_string(p.path().join("mountinfo")).ok());
        mounts.filter(|mounts| mounts.contains(folder)).count()
    }

    fn cgroups_left(&self) -> Vec<&PathBuf> {
        self.cgroups.iter().filter(|path| path.exists()).collect()
    }

    /// What is left of the node beside its cgroups.
    fn left(&self) -> String {
        let link = std::fs::read_to_string(&self.link).is_ok_and(|number| number == self.link_number);
        format!("{} processes, link: {link}", self.members())
    }

    async fn gone(&self) {
        eventually_some("nothing is left of the node", async || {
            let left = self.left();
            if left == NOTHING { Ok(()) } else { Err(left) }
        })
        .await;
    }
}

/// What is left of a node that is gone.
const NOTHING: &str = "0 processes, link: false";

async fn node() -> Cluster {
    Cluster::start(Options::default().with_node()).await.expect("a cluster with a node")
}

fn kill(pid: u32) {
    assert!(Command::new("kill").args(["-s", "KILL", &pid.to_string()]).status().expect("kill").success());
}

async fn nothing_is_left_after_the_cluster() {
    let cluster = node().await;
    let traces = traces(&cluster);
    cluster.stop();
    // The cluster's end waits for all of it, except for the link: the kernel removes it a moment after the last process.
    assert_eq!((traces.members(), traces.cgroups_left()), (0, Vec::new()));
    assert!(!traces.folder.exists());
    traces.gone().await;
}

async fn node_ends_with_its_first_process() {
    let cluster = node().await;
    let traces = traces(&cluster);
    let process = cluster.process("node").expect("a node");
    kill(processes(&cluster).1);
    assert_eq!(process.wait().await.expect("an exit").code, 1);
    traces.gone().await;
    eventually("the cgroups are gone", async || traces.cgroups_left().is_empty()).await;
}

async fn node_ends_when_its_supervisor_is_killed() {
    let cluster = node().await;
    let traces = traces(&cluster);
    // A kill of the supervisor is the worst case: nobody is left that could remove anything.
    kill(parent(processes(&cluster).0));
    traces.gone().await;
    drop(cluster);
    // The next node removes the empty cgroups, if that of another test has not done so already.
    let next = node().await;
    assert_eq!(traces.cgroups_left(), Vec::<&PathBuf>::new());
    next.stop();
    let _ = std::fs::remove_dir_all(&traces.folder);
}
