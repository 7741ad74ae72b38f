//! What a machine may lack.

use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

/// Something that a test needs of the machine it runs on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Capability {
    /// A program on the PATH that starts.
    Program(&'static str),
    /// A python3 that can make virtual environments: Debian ships that part apart.
    PythonVenv,
    /// The superuser's rights.
    Root,
}

/// What a missing capability does to a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// The test is ignored, with the reason.
    Ignores,
    /// The test fails: `PADDOCK_REQUIRE=all`.
    Fails,
}

impl Lack {
    pub(crate) fn from_environment() -> Self {
        if std::env::var("PADDOCK_REQUIRE").is_ok_and(|v| v == "all") { Lack::Fails } else { Lack::Ignores }
    }
}

impl Capability {
    /// Why it is not there; `None` if it is.
    pub(crate) fn missing(&self) -> Option<String> {
        match self {
            Capability::Program(name) => {
                // Programs disagree on how to ask for their version, but each starts and ends.
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
