//! Upstream's clients of the Sandbox API at pinned versions: the Python SDK from PyPI, and a program with the Go client
//! from its Go module. Both are kept in the user's cache folder.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cache::Cached;
use crate::go::{build_program, go_version};
use crate::{Error, Result};

/// The name of the file that pip installs from.
pub(crate) const REQUIREMENTS: &str = "python.txt";

/// A virtual environment with the Python SDK, in the newest version on PyPI at the time of writing.
const PYTHON: Cached =
    python_environment("sdk-python", "upstream's Python SDK", &[(REQUIREMENTS, include_str!("sdk/python.txt"))]);

/// The program that uses the Go client. It is the newest version that the module proxy serves.
const GO: Cached = Cached {
    folder: "sdk-go",
    title: "upstream's Go client",
    sources: &[
        ("go.mod", include_str!("sdk/go/go.mod")),
        ("go.sum", include_str!("sdk/go/go.sum")),
        ("main.go", include_str!("sdk/go/main.go")),
    ],
    recipe: "1",
    tools: go_version,
    build: |source, new, _| build_program(source, &new.join("sdk"), "upstream's Go client", 900),
};

/// The Python interpreter of a virtual environment with upstream's Python SDK, which is installed if necessary.
///
/// # Errors
/// Returns an error if Python cannot make the environment, or if pip cannot install the SDK.
pub async fn python_sdk() -> Result<PathBuf> {
    Ok(PYTHON.ready_async().await?.join("bin/python"))
}

/// The program of `tests/cluster/sdk/go`, which uses upstream's Go client. It is built if necessary.
///
/// # Errors
/// Returns an error if Go is missing or cannot build it.
pub async fn go_sdk_client() -> Result<PathBuf> {
    Ok(GO.ready_async().await?.join("sdk"))
}

/// A virtual environment with the packages that the file [`REQUIREMENTS`] of the sources names.
pub(crate) const fn python_environment(
    folder: &'static str,
    title: &'static str,
    sources: &'static [(&'static str, &'static str)],
) -> Cached {
    Cached { folder, title, sources, recipe: "1", tools: python_version, build: install_python }
}

fn python_version(folder: &Path) -> Result<String> {
    run(Command::new("python3").arg("--version").current_dir(folder))
}

/// Makes a virtual environment, and installs the requirements in it. Programs in it contain its first path, which is
/// another one later, but the interpreter does not need it.
fn install_python(source: &Path, new: &Path, _: &str) -> Result<()> {
    run(Command::new("python3").args(["-m", "venv"]).arg(new))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
    run(Command::new(new.join("bin/python")).args(pip).arg(source.join(REQUIREMENTS)))?;
    Ok(())
}

/// Runs a program, and returns what it printed.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().display().to_string();
    let output = command.stdin(Stdio::null()).output().map_err(Error::io(format!("running {name}")))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(Error::Command { command: format!("{command:?}"), stderr: errors.trim().to_owned() });
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
