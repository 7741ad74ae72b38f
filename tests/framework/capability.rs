//! Requirements that a machine may lack.

use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

/// A requirement of a test for its machine.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Capability {
    /// A program on the PATH that can be started.
    Program(&'static str),
    /// A python3 that can create virtual environments. Debian packages this part separately.
    PythonVenv,
    /// The rights of the superuser.
    Root,
    /// A real node beside the control plane: rights, namespaces, cgroups, and the programs that build it.
    RealNode,
}

/// The effect of a missing capability on a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// The test is ignored, with the reason.
    Ignores,
    /// The test fails, with `PADDOCK_REQUIRE=all`.
    Fails,
}

impl Lack {
    pub(crate) fn from_environment() -> Self {
        if std::env::var("PADDOCK_REQUIRE").is_ok_and(|v| v == "all") { Lack::Fails } else { Lack::Ignores }
    }
}

impl Capability {
    /// The reason for which the capability is missing, or `None` if it exists.
    pub(crate) fn missing(&self) -> Option<String> {
        match self {
            Capability::Program(name) => {
                // Programs have different flags for their version, but each program starts and ends.
                let mut command = Command::new(name);
                command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                command.status().err().map(|e| format!("{name} does not start: {e}"))
            }
            Capability::PythonVenv => {
                let mut command = Command::new("python3");
                command.args(["-c", "import venv, ensurepip"]).stdin(Stdio::null()).stdout(Stdio::null());
                let works = command.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
                (!works).then(|| "python3 cannot make virtual environments (Debian: python3-venv)".to_owned())
            }
            Capability::RealNode => paddock_cluster::node_is_missing(),
            Capability::Root => {
                // The owner of a process's directory is its effective user.
                let user = std::fs::metadata("/proc/self").map(|m| m.uid());
                match user {
                    Ok(0) => None,
                    Ok(user) => Some(format!("not root but user {user}")),
                    Err(e) => Some(format!("the user is not known: {e}")),
                }
            }
        }
    }
}
