//! The tools that make components of the example plugins in Python and JavaScript, at the versions that the examples pin.
//! They are kept in the user's cache folder.

use std::path::Path;
use std::process::Command;

use crate::Result;
use crate::cache::Cached;
use crate::sdk::{REQUIREMENTS, python_environment, run};

/// A virtual environment with componentize-py. The requirements have the hashes of its wheels.
const PYTHON: Cached = python_environment(
    "plugin-python",
    "componentize-py",
    &[(REQUIREMENTS, include_str!("../../plugins/examples/python/requirements.txt"))],
);

/// The packages of npm with componentize-qjs. The lock file has their hashes.
const JAVASCRIPT: Cached = Cached {
    folder: "plugin-javascript",
    title: "componentize-qjs",
    sources: &[
        ("package.json", include_str!("../../plugins/examples/javascript/package.json")),
        ("package-lock.json", include_str!("../../plugins/examples/javascript/package-lock.json")),
    ],
    recipe: "1",
    tools: |folder| run(Command::new("node").arg("--version").current_dir(folder)),
    build: install_javascript,
};

/// The start of a command for componentize-py, which is installed if necessary. Blocks.
///
/// # Errors
/// Returns an error if Python cannot make the environment, or if pip cannot install the tool.
pub fn componentize_py() -> Result<Command> {
    let mut command = Command::new(PYTHON.ready()?.join("bin/python"));
    // The program of the tool names the folder in which pip installed it, and that folder was renamed.
    command.args(["-c", "import sys, componentize_py; sys.exit(componentize_py.script())"]).env_remove("VIRTUAL_ENV");
    Ok(command)
}

/// The start of a command for componentize-qjs, which is installed if necessary. Blocks.
///
/// # Errors
/// Returns an error if npm cannot install the tool.
pub fn componentize_qjs() -> Result<Command> {
    let program = JAVASCRIPT.ready()?.join("node_modules/componentize-qjs/bin/componentize-qjs");
    let mut command = Command::new("node");
    command.arg(program);
    Ok(command)
}

fn install_javascript(source: &Path, new: &Path, _: &str) -> Result<()> {
    for file in ["package.json", "package-lock.json"] {
        let copied = std::fs::copy(source.join(file), new.join(file));
        copied.map_err(crate::Error::io(format!("copying {file}")))?;
    }
    run(Command::new("npm").args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(new))?;
    Ok(())
}
