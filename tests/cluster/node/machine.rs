//! Whether this machine can run a node, and the reasons why it cannot.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// The controllers of cgroups that the kubelet, runc and gVisor use.
const CONTROLLERS: [&str; 8] = ["cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids"];
/// The programs that a build or a start needs, and one argument with which each of them only prints something.
const PROGRAMS: [(&str, &str); 7] = [
    ("go", "version"),
    ("gcc", "--version"),
    ("apt-get", "--version"),
    ("dpkg-deb", "--version"),
    ("python3", "--version"),
    ("ldd", "--version"),
    ("strip", "--version"),
];
const NAMESPACES: [&str; 6] = ["cgroup", "ipc", "mnt", "net", "pid", "uts"];
/// The capabilities for namespaces and mounts, and for links and routes, by their numbers.
const CAPABILITIES: [(&str, u32); 2] = [("CAP_SYS_ADMIN", 21), ("CAP_NET_ADMIN", 12)];
/// The inotify instances that a user needs for two dozen clusters. A control plane has 17 and a node 10.
const INOTIFY_INSTANCES: u32 = 1024;

/// Everything that this machine lacks for a node, or `None`.
#[must_use]
pub fn node_is_missing() -> Option<String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let mut missing = Vec::new();
    if !cfg!(target_os = "linux") {
        missing.push("not Linux".to_owned());
    }
    if !std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0) {
        missing.push("not root".to_owned());
    }
    missing.extend(lacking_capabilities(&read("/proc/self/status")));
    missing.extend(lacking_controllers(&read("/proc/self/mountinfo")));
    for name in NAMESPACES.iter().filter(|name| !Path::new("/proc/self/ns").join(name).exists()) {
        missing.push(format!("no {name} namespaces"));
    }
    if !read("/proc/filesystems").contains("overlay") {
        missing.push("no overlay file system".to_owned());
    }
    missing.extend(unusable_folder(&read("/proc/self/mountinfo"), &std::env::temp_dir()));
    for (name, argument) in PROGRAMS {
        let mut command = Command::new(name);
        command.arg(argument).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if command.status().is_err() {
            missing.push(format!("no {name}"));
        }
    }
    (!missing.is_empty()).then(|| format!("a real node cannot run here: {}", missing.join(", ")))
}

/// Raises the number of inotify instances of a user, of which the kernel allows 128. Several clusters and a kubelet need
/// more, and a kubelet ends without them. A machine that allows no change may have enough.
pub(super) fn raise_inotify_limit() {
    let file = Path::new("/proc/sys/fs/inotify/max_user_instances");
    let allowed = std::fs::read_to_string(file).ok().and_then(|number| number.trim().parse::<u32>().ok());
    if allowed.is_some_and(|allowed| allowed < INOTIFY_INSTANCES) {
        let _ = std::fs::write(file, INOTIFY_INSTANCES.to_string());
    }
}

/// The capabilities that the status of a process lacks.
fn lacking_capabilities(status: &str) -> Vec<String> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let held = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    let lacking = CAPABILITIES.iter().filter(|(_, number)| held & (1 << number) == 0);
    lacking.map(|(name, _)| format!("no {name}")).collect()
}

/// The controllers that no mount of cgroups in version 1 has. The harness has no configuration for version 2.
fn lacking_controllers(mounts: &str) -> Option<String> {
    let options: Vec<&str> = mounts
        .lines()
        .filter_map(|line| line.split_once(" - "))
        .filter(|(_, rest)| rest.starts_with("cgroup "))
        .filter_map(|(_, rest)| rest.rsplit(' ').next())
        .collect();
    let there = |name: &&str| options.iter().any(|mount| mount.split(',').any(|option| option == *name));
    let lacking: Vec<&str> = CONTROLLERS.into_iter().filter(|name| !there(name)).collect();
    (!lacking.is_empty()).then(|| format!("no cgroups of version 1 for {}", lacking.join(", ")))
}

/// Containers need an overlay over the folder of the cluster, which is not possible if that is an overlay itself.
fn unusable_folder(mounts: &str, folder: &Path) -> Option<String> {
    let folder = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    // The fifth field is the place of a mount. Of several at one place, the last one counts.
    let mounts = mounts.lines().filter_map(|line| line.split_once(" - ")).filter_map(|(before, after)| {
        let place = Path::new(before.split(' ').nth(4)?);
        folder.starts_with(place).then(|| (place.components().count(), after.split(' ').next().unwrap_or_default()))
    });
    let (_, kind) = mounts.max_by_key(|(depth, _)| *depth)?;
    let problem = format!("{} is on overlayfs: set TMPDIR to a folder on another file system", folder.display());
    (kind == "overlay").then_some(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_rights_lacks_both_capabilities() {
        assert_eq!(
            lacking_capabilities("Name:\tx\nCapEff:\t00000000a80425fb\n"),
            ["no CAP_SYS_ADMIN", "no CAP_NET_ADMIN"]
        );
        assert_eq!(lacking_capabilities("CapEff:\t000001ffffffffff\n"), Vec::<String>::new());
        assert_eq!(lacking_capabilities("").len(), 2, "an unknown status grants nothing");
    }

    #[test]
    fn folder_on_an_overlay_is_named_with_the_remedy() {
        let root = "1 0 0:1 / / rw - overlay overlay rw\n";
        let inner = "2 1 0:2 / /nowhere rw - ext4 /dev/a rw\n";
        let problem = unusable_folder(&[root, inner].concat(), Path::new("/elsewhere/a")).unwrap();
        assert!(problem.starts_with("/elsewhere/a is on overlayfs: set TMPDIR"), "{problem}");
        assert_eq!(unusable_folder(&[root, inner].concat(), Path::new("/nowhere/a")), None);
        let above = "3 1 0:3 / / rw - ext4 /dev/a rw\n";
        assert_eq!(unusable_folder(&[root, above].concat(), Path::new("/elsewhere/a")), None, "the last one counts");
    }

    #[test]
    fn controllers_are_found_in_separate_and_in_joint_mounts() {
        let mount = |options: &str| format!("30 24 0:25 / /sys/fs/cgroup/x rw shared:9 - cgroup cgroup rw,{options}\n");
        let joint = ["cpu,cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids"].map(mount).concat();
        assert_eq!(lacking_controllers(&joint), None);
        let some = mount("cpu,cpuacct") + "31 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let lacking = "no cgroups of version 1 for cpuset, memory, devices, freezer, blkio, pids";
        assert_eq!(lacking_controllers(&some).as_deref(), Some(lacking));
    }
}
