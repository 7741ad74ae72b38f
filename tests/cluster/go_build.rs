//! Builds the control plane's one Go binary into the user's cache folder.

use std::path::Path;
use std::time::Instant;

use crate::cache::{Cached, clock, report};
use crate::go::{go_build, go_version, kubernetes_version_flags, module_version, run_reporting};
use crate::{Error, Program, Result};

/// The modules of the control plane and of the Kubernetes programs of a node.
pub(crate) const GO_MOD: &str = include_str!("control-plane/go.mod");
/// The checksums of these modules.
pub(crate) const GO_SUM: &str = include_str!("control-plane/go.sum");

/// The control plane.
pub(crate) const CONTROL_PLANE: Cached = Cached {
    folder: "control-plane",
    title: "the local control plane",
    sources: &[
        ("go.mod", GO_MOD),
        ("go.sum", GO_SUM),
        ("main.go", include_str!("control-plane/main.go")),
        ("kwok.go", include_str!("control-plane/kwok.go")),
        ("provision.go", include_str!("control-plane/provision.go")),
        ("supervise.go", include_str!("control-plane/supervise.go")),
        ("children_linux.go", include_str!("control-plane/children_linux.go")),
        ("children_other.go", include_str!("control-plane/children_other.go")),
    ],
    recipe: "1",
    tools: go_version,
    build: compile,
};

/// The number of packages in a full build.
const PACKAGES: usize = 2_830;

fn compile(source: &Path, new: &Path, go_version: &str) -> Result<()> {
    let began = Instant::now();
    let version = |module| module_version(GO_MOD, module);
    report(&format!(
        "building a local control plane: Kubernetes {}, etcd {}, kwok {}, with {go_version}. Once, about \
         6 minutes on two cores; it goes to {}",
        version("k8s.io/kubernetes"),
        version("go.etcd.io/etcd/server/v3"),
        version("sigs.k8s.io/kwok"),
        new.with_file_name("").display()
    ));
    let flags = format!(
        "{} -X sigs.k8s.io/kwok/pkg/consts.Version={}",
        kubernetes_version_flags(version("k8s.io/kubernetes")),
        version("sigs.k8s.io/kwok")
    );
    let mut command = go_build(source, &flags);
    command.arg("-o").arg(new.join("control-plane")).arg(".");
    run_reporting(command, CONTROL_PLANE.title, PACKAGES, began)?;
    for program in Program::ALL {
        std::os::unix::fs::symlink("control-plane", new.join(program.name()))
            .map_err(Error::io(format!("linking {}", program.name())))?;
    }
    report(&format!("the local control plane is built ({})", clock(began.elapsed())));
    Ok(())
}
