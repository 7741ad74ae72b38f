//! Builds the programs of a node into the user's cache folder: the kubelet, kube-proxy, containerd, runc, the CNI
//! plugins, gVisor and CoreDNS from Go modules, and what is no Go module from packages of Debian.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use super::debian;
use crate::cache::{Cached, clock, report};
use crate::go::{go, go_build, go_version, kubernetes_version_flags, module_version, run_reporting};
use crate::go_build::{GO_MOD, GO_SUM};
use crate::{Error, Result};

macro_rules! module {
    ($($name:literal),+) => {
        &[
            ("kubernetes/go.mod", GO_MOD),
            ("kubernetes/go.sum", GO_SUM),
            ("kubernetes/node/main.go", include_str!("../control-plane/node/main.go")),
            ("kubernetes/node/config.go", include_str!("../control-plane/node/config.go")),
            ("kubernetes/node/outside.go", include_str!("../control-plane/node/outside.go")),
            ("kubernetes/node/inside.go", include_str!("../control-plane/node/inside.go")),
            ("kubernetes/node/root.go", include_str!("../control-plane/node/root.go")),
            ("kubernetes/node/cgroups.go", include_str!("../control-plane/node/cgroups.go")),
            ("kubernetes/node/policies.go", include_str!("../control-plane/node/policies.go")),
            ("kubernetes/node/rules.go", include_str!("../control-plane/node/rules.go")),
            ("coredns/main.go", include_str!("modules/coredns/main.go")),
            $(
                (concat!($name, "/go.mod"), include_str!(concat!("modules/", $name, "/go.mod"))),
                (concat!($name, "/go.sum"), include_str!(concat!("modules/", $name, "/go.sum"))),
            )+
        ]
    };
}

/// The programs of a node.
pub(super) const PROGRAMS: Cached = Cached {
    folder: "node",
    title: "the programs of a node",
    sources: module!("containerd", "runc", "cni", "gvisor", "coredns"),
    recipe: "1",
    tools,
    build,
};

/// The folder of the unpacked packages of Debian in the folder with the programs.
pub(super) const DEBIAN: &str = "debian";

/// `nft` with its libraries for kube-proxy, busybox for images, and libseccomp for runc.
const PACKAGES: [&str; 12] = [
    "nftables",
    "libnftables1",
    "libnftnl11",
    "libmnl0",
    "libjansson4",
    "libxtables12",
    "libedit2",
    "libbsd0",
    "libmd0",
    "libgmp10",
    "libseccomp-dev",
    "busybox-static",
];

const GVISOR: &str = "gvisor.dev/gvisor";
/// The checksum of gVisor's module. Its sources are changed before the build, so Go does not check it.
const GVISOR_SUM: &str = "h1:AU5+CtCvnBnxdZRNcZt1NfSLqgkXZVT3N/u6u1aXg44=";
/// The one condition that is changed: not every machine lets root raise the score of a process for the out-of-memory
/// killer, and without this change the shim ends there.
const GVISOR_CHANGE: (&str, &str, &str) = (
    "pkg/shim/v1/manager.go",
    "if err := sys.SetOOMScore(cmd.Process.Pid, oomScoreMax); err != nil {",
    "if err := sys.SetOOMScore(cmd.Process.Pid, oomScoreMax); err != nil && !os.IsPermission(err) {",
);

/// The result depends on the packages of the distribution too.
fn tools(source: &Path) -> Result<String> {
    Ok(format!("{} {}", go_version(source)?, debian::release()))
}

fn version_of(module: &'static str, name: &str) -> &'static str {
    let file = format!("{module}/go.mod");
    let text = PROGRAMS.sources.iter().find(|(path, _)| *path == file).map_or("", |(_, text)| *text);
    module_version(text, name)
}

fn build(source: &Path, new: &Path, tools: &str) -> Result<()> {
    let began = Instant::now();
    let containerd = "github.com/containerd/containerd/v2";
    report(&format!(
        "building the programs of a node: kubelet {}, containerd {}, runc {}, gVisor {}, with {tools}. Once, about \
         5 minutes on two cores after the control plane; it goes to {}",
        version_of("kubernetes", "k8s.io/kubernetes"),
        version_of("containerd", containerd),
        version_of("runc", "github.com/opencontainers/runc"),
        version_of("gvisor", GVISOR),
        new.with_file_name("").display()
    ));
    let debian = new.join(DEBIAN);
    debian::unpack(&PACKAGES, &debian)?;
    write_nft(new)?;

    let mut command =
        go_build(&source.join("kubernetes"), &kubernetes_version_flags(version_of("kubernetes", "k8s.io/kubernetes")));
    command.arg("-o").arg(new.join("node")).arg("./node");
    run_reporting(command, "kubelet and kube-proxy", 1_900, began)?;
    for name in ["kubelet", "kube-proxy", "network-policies", "masked-sysctls"] {
        std::os::unix::fs::symlink("node", new.join(name)).map_err(Error::io(format!("linking {name}")))?;
    }

    let version = format!("-X {containerd}/version.Version={}", version_of("containerd", containerd));
    let mut command = go_build(&source.join("containerd"), &version);
    command.args(["-tags", "no_btrfs no_devmapper no_zfs", "-o"]).arg(folder_of(new));
    command.args(["containerd", "containerd-shim-runc-v2", "ctr"].map(|name| format!("{containerd}/cmd/{name}")));
    run_reporting(command, "containerd", 900, began)?;

    run_reporting(runc(&source.join("runc"), new, &debian), "runc", 250, began)?;

    let mut command = go_build(&source.join("cni"), "");
    command.arg("-o").arg(folder_of(&new.join("cni")));
    let plugins = ["main/bridge", "main/loopback", "ipam/host-local"];
    command.args(plugins.map(|name| format!("github.com/containernetworking/plugins/plugins/{name}")));
    run_reporting(command, "the CNI plugins", 250, began)?;

    change_gvisor(source)?;
    let mut command = go_build(&source.join("gvisor"), "");
    command.arg("-o").arg(folder_of(new)).args(["runsc", "shim"].map(|name| format!("{GVISOR}/{name}")));
    run_reporting(command, "gVisor", 700, began)?;
    std::fs::rename(new.join("shim"), new.join("containerd-shim-runsc-v1")).map_err(Error::io("naming the shim"))?;

    let mut command = go_build(&source.join("coredns"), "");
    command.arg("-o").arg(new.join("coredns")).arg(".");
    run_reporting(command, "CoreDNS", 900, began)?;
    report(&format!("the programs of a node are built ({})", clock(began.elapsed())));
    Ok(())
}

/// A path that Go takes for a folder, even if it does not exist.
fn folder_of(path: &Path) -> String {
    format!("{}/", path.display())
}

/// runc enters namespaces in C before Go starts, and it filters system calls with libseccomp. It is linked statically,
/// so that the node does not need the library.
fn runc(source: &Path, new: &Path, debian: &Path) -> Command {
    let mut command = go_build(source, "-linkmode external -extldflags -static");
    let libraries = debian.join("usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
    command
        .env("CGO_ENABLED", "1")
        .env("CGO_CFLAGS", format!("-I{}", debian.join("usr/include").display()))
        .env("CGO_LDFLAGS", format!("-L{}", libraries.display()))
        .env("PKG_CONFIG_PATH", libraries.join("pkgconfig"))
        .args(["-tags", "seccomp urfave_cli_no_docs netgo osusergo", "-o"])
        .arg(new.join("runc"))
        .arg("github.com/opencontainers/runc");
    command
}

/// Copies the sources of gVisor's module, checks them, and makes the one change.
fn change_gvisor(source: &Path) -> Result<()> {
    let wrong = |problem: String| Error::Format { what: "changing the sources of gVisor".to_owned(), problem };
    let version = version_of("gvisor", GVISOR);
    // This folder has no go.mod, whose `replace` would name the changed sources.
    let output = go(source).args(["mod", "download", "-json", &format!("{GVISOR}@{version}")]).output();
    let output = output.map_err(Error::io("downloading gVisor"))?;
    let module: Value = serde_json::from_slice(&output.stdout).map_err(Error::format("downloading gVisor"))?;
    if module["Sum"] != GVISOR_SUM {
        let problem = module["Error"].as_str().unwrap_or("the checksum is another one").to_owned();
        return Err(wrong(format!("{GVISOR}@{version}: {problem}: {}", module["Sum"])));
    }
    let copy = source.join("gvisor/source");
    let _ = std::fs::remove_dir_all(&copy);
    let mut copying = Command::new("cp");
    // Files of the module cache are read-only.
    copying.args(["-r", "--no-preserve=mode"]).arg(module["Dir"].as_str().unwrap_or_default()).arg(&copy);
    super::run(copying)?;
    let (file, before, after) = GVISOR_CHANGE;
    let file = copy.join(file);
    let text = std::fs::read_to_string(&file).map_err(Error::io(format!("reading {}", file.display())))?;
    if text.matches(before).count() != 1 {
        return Err(wrong(format!("{} does not contain {before:?} once", file.display())));
    }
    std::fs::write(&file, text.replace(before, after)).map_err(Error::io(format!("writing {}", file.display())))
}

/// A script that starts Debian's `nft` with its libraries, which are not installed. kube-proxy finds it in its PATH.
fn write_nft(new: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let library = format!("{}-linux-gnu", std::env::consts::ARCH);
    let script = format!(
        "#!/bin/sh\nhere=${{0%/*}}/{DEBIAN}\nLD_LIBRARY_PATH=$here/usr/lib/{library}:$here/lib/{library} exec \
         $here/usr/sbin/nft \"$@\"\n"
    );
    let file = new.join("nft");
    std::fs::write(&file, script).map_err(Error::io("writing nft"))?;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).map_err(Error::io("writing nft"))
}
