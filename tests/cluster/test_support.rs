//! What the tests of the local control plane have in common.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{PersistentVolume, Pod};
use kube::Client;

/// Generous: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

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

pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits for the line with the kubeconfig, and gives the folder that it is in.
pub(crate) fn folder_of(owner: &mut Child) -> PathBuf {
    let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let line = lines.find_map(|line| Some(line.unwrap().strip_prefix("export KUBECONFIG=")?.to_owned())).unwrap();
    // The rest of its output must find a reader.
    std::thread::spawn(move || lines.for_each(drop));
    Path::new(&line).parent().unwrap().to_owned()
}

/// The processes whose command line has the cluster's folder, as all of ours have.
pub(crate) fn processes_of(dir: &Path) -> Vec<u32> {
    let dir = dir.to_str().unwrap();
    let pids = std::fs::read_dir("/proc").unwrap().filter_map(|e| e.unwrap().file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| command_line(*pid).contains(dir)).collect()
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
