//! Shared functions of the tests of the local control plane.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use k8s_openapi::api::core::v1::{PersistentVolume, Pod};
use kube::Client;

pub(crate) fn ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

pub(crate) fn is_bound(volume: &&PersistentVolume) -> bool {
    volume.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound")
}

pub(crate) async fn client(kubeconfig: &Path) -> Client {
    let file = kube::config::Kubeconfig::read_from(kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(file, &Default::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// Waits for the line with the kubeconfig, and returns its folder.
pub(crate) fn folder_of(owner: &mut Child) -> PathBuf {
    let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let line = lines.find_map(|line| Some(line.unwrap().strip_prefix("export KUBECONFIG=")?.to_owned())).unwrap();
    // The rest of the output must be read too.
    std::thread::spawn(move || lines.for_each(drop));
    Path::new(&line).parent().unwrap().to_owned()
}

/// The processes whose command line contains the cluster's folder, as that of each of our processes does.
pub(crate) fn processes_of(dir: &Path) -> Vec<u32> {
    let dir = dir.to_str().unwrap();
    let pids = std::fs::read_dir("/proc").unwrap().filter_map(|e| e.unwrap().file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| command_line(*pid).contains(dir)).collect()
}

/// The loopback ports on which those processes listen, from `/proc`.
pub(crate) fn ports_of(dir: &Path) -> Vec<u16> {
    let sockets: Vec<String> = processes_of(dir)
        .into_iter()
        .flat_map(|pid| std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten())
        .filter_map(|fd| Some(std::fs::read_link(fd.path()).ok()?.to_str()?.strip_prefix("socket:[")?.replace(']', "")))
        .collect();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let listening = table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // The local address, the state (0A is LISTEN) and the inode.
        let (address, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let ours = *state == "0A" && sockets.iter().any(|socket| socket == inode);
        ours.then(|| u16::from_str_radix(address.rsplit_once(':')?.1, 16).ok())?
    });
    listening.collect()
}

pub(crate) fn supervisor_of(dir: &Path) -> u32 {
    processes_of(dir).into_iter().find(|pid| command_line(*pid).contains("--scratch")).unwrap()
}

pub(crate) fn command_line(pid: u32) -> String {
    String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).into_owned()
}

pub(crate) fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap().success());
}
