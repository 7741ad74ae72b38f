//! The `paddock` program, built by the same cargo and with the same profile as this program.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::Deserialize as _;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::{Error, Kubectl, Result};

/// The source tree of this program.
pub const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Whether the program was built before, even from other sources.
#[must_use]
pub fn operator_was_built() -> bool {
    std::env::current_exe().is_ok_and(|us| us.with_file_name("paddock").is_file())
}

/// Builds the program if necessary and returns its path. The names of the compiled crates are passed to `say`.
pub async fn build_operator(say: impl Fn(&str)) -> Result<PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(WORKSPACE)
        // The whole workspace is built, like this program. With another selection, crates would be compiled again with
        // other features.
        .args(["build", "--workspace", "--bin", "paddock", "--color", "never"])
        .args(["--message-format", "json-render-diagnostics", "--profile", &profile()?])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    for name in std::env::vars_os().map(|(name, _)| name).filter(|name| of_outer_cargo(&name.to_string_lossy())) {
        cargo.env_remove(name);
    }
    let mut child = cargo.spawn().map_err(Error::io("starting cargo to build the operator"))?;
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(Error::io("starting cargo")(std::io::Error::other("it has no output")));
    };
    let (program, output) = tokio::try_join!(artifact(stdout), follow(stderr, say))?;
    let built = child.wait().await.map_err(Error::io("waiting for cargo"))?.success();
    match program {
        Some(program) if built => Ok(program),
        Some(_) | None => Err(Error::Operator { output: output.join("\n") }),
    }
}

/// The kinds that define the identity of the operator and the limits of its credential.
const RIGHTS: [&str; 8] = [
    "Namespace",
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
];

/// The flags of `paddock manifests` for an operator beside the API server. Its rights are those of `deploy/`, except
/// that this operator creates its webhook configurations itself.
pub const BESIDE: [&str; 2] = ["--webhook=owned", "--webhook-host=127.0.0.1"];

/// The objects that define the identity and the rights of an operator beside the API server, in the order in which they
/// can be applied.
pub async fn operator_rights(program: &Path) -> Result<Vec<Value>> {
    rights_of(program, &BESIDE).await
}

/// Applies the objects that define the identity and the rights of an operator, for flags of `paddock manifests`.
pub async fn grant(kubectl: &Kubectl, program: &Path, flags: &[&str]) -> Result<()> {
    let items = rights_of(program, flags).await?;
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string();
    kubectl.run(&["apply", "--server-side", "-f", "-"], Some(&list)).await?;
    Ok(())
}

async fn rights_of(program: &Path, flags: &[&str]) -> Result<Vec<Value>> {
    let args = [&["manifests"], flags].concat();
    let output = Command::new(program).args(&args).stdin(Stdio::null()).output().await;
    let output = output.map_err(Error::io("starting `paddock manifests`"))?;
    if !output.status.success() {
        return Err(Error::Command {
            command: format!("paddock {}", args.join(" ")),
            stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        });
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let documents = serde_yaml_ng::Deserializer::from_str(&text).map(Value::deserialize);
    let documents: Vec<Value> = documents.collect::<std::result::Result<_, _>>().map_err(|error| Error::Format {
        what: "reading the output of `paddock manifests`".to_owned(),
        problem: error.to_string(),
    })?;
    Ok(documents.into_iter().filter(|d| RIGHTS.iter().any(|kind| d["kind"] == *kind)).collect())
}

/// The variables that `cargo run` sets for this program. Some build scripts (such as ring's) depend on them, so they
/// and all crates that depend on them would be built again each time.
fn of_outer_cargo(name: &str) -> bool {
    name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
}

/// This program is in `target/PROFILE/`, and the folder of the profile `dev` is `debug`.
fn profile() -> Result<String> {
    let us = std::env::current_exe().map_err(Error::io("finding this program"))?;
    let folder = us.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
    Ok(if folder == "debug" { "dev" } else { folder }.to_owned())
}

/// The path of the program in cargo's messages.
async fn artifact(messages: impl tokio::io::AsyncRead + Unpin) -> Result<Option<PathBuf>> {
    let mut lines = BufReader::new(messages).lines();
    let mut found = None;
    while let Some(line) = lines.next_line().await.map_err(Error::io("reading cargo's messages"))? {
        let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
        if message["target"]["name"] == "paddock"
            && let Some(path) = message["executable"].as_str()
        {
            found = Some(PathBuf::from(path));
        }
    }
    Ok(found)
}

/// Reports the compiled crates, and keeps the whole output for an error message.
async fn follow(progress: impl tokio::io::AsyncRead + Unpin, say: impl Fn(&str)) -> Result<Vec<String>> {
    let mut lines = BufReader::new(progress).lines();
    let (mut printed, mut crates) = (Vec::new(), 0);
    while let Some(line) = lines.next_line().await.map_err(Error::io("reading cargo's progress"))? {
        if line.trim_start().starts_with("Compiling") {
            crates += 1;
            say(&format!("{} (crate {crates})", line.trim()));
        }
        printed.push(line);
    }
    Ok(printed)
}
