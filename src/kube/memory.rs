//! The memory that the process may use, from which budgets are derived.

use std::path::Path;

/// The memory that the process may use, in bytes: the limit of its cgroup, or the machine's memory if no cgroup has a
/// limit. `None` if neither is known.
#[must_use]
pub fn limit() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    limit_of(Path::new("/sys/fs/cgroup"), &read("/proc/self/cgroup"), &read("/proc/meminfo"))
}

/// The smallest memory limit of the process's cgroups (`/proc/self/cgroup`) and of the machine (`/proc/meminfo`).
fn limit_of(root: &Path, cgroups: &str, meminfo: &str) -> Option<u64> {
    let of_cgroups = cgroups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        match controllers {
            "" => lowest(root, path, "memory.max"),
            _ if controllers.split(',').any(|controller| controller == "memory") => {
                lowest(&root.join("memory"), path, "memory.limit_in_bytes")
            }
            _ => None,
        }
    });
    let machine = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB"));
    let of_machine = machine.and_then(|kibibytes| kibibytes.trim().parse::<u64>().ok()?.checked_mul(1024));
    of_cgroups.chain(of_machine).min()
}

/// The lowest limit of a cgroup and the cgroups above it. A cgroup without a limit has the text `max` or a huge number.
fn lowest(root: &Path, cgroup: &str, file: &str) -> Option<u64> {
    let path = root.join(cgroup.trim_start_matches('/'));
    let cgroups = path.ancestors().take_while(|ancestor| ancestor.starts_with(root));
    cgroups.filter_map(|path| std::fs::read_to_string(path.join(file)).ok()?.trim().parse().ok()).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: &str = "MemTotal:       16384000 kB\nMemFree:  1 kB\n";

    #[test]
    fn limit_is_the_lowest_of_all_cgroups_and_the_machine() {
        let dir = tempfile::TempDir::new().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let machine = Some(16_384_000 * 1024);
        assert_eq!(limit_of(dir.path(), "0::/\n", MACHINE), machine, "no file");
        write("memory.max", "max\n");
        assert_eq!(limit_of(dir.path(), "0::/\n", MACHINE), machine, "no limit");
        write("memory.max", "2147483648\n");
        assert_eq!(limit_of(dir.path(), "0::/\n", MACHINE), Some(2 << 30), "in a container");
        write("pods/one/memory.max", "max\n");
        write("pods/memory.max", "1073741824\n");
        assert_eq!(limit_of(dir.path(), "0::/pods/one\n", MACHINE), Some(1 << 30), "of a parent");
        write("memory/docker/x/memory.limit_in_bytes", "536870912\n");
        let v1 = "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n";
        assert_eq!(limit_of(dir.path(), v1, MACHINE), Some(512 << 20), "version 1");
        assert_eq!(limit_of(dir.path(), "", ""), None);
    }
}
