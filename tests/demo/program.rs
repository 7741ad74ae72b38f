//! The `paddock` program: built by the cargo that built us, in the same profile.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::screen::Screen;

/// The workspace that this demo was compiled from.
pub(crate) const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Builds the program if need be and gives its path.
pub(crate) async fn build(screen: &Screen) -> Result<PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(WORKSPACE)
        // Of the whole workspace, as we are: so what was built for us is not built again with other features.
        .args(["build", "--workspace", "--bin", "paddock", "--color", "never"])
        .args(["--message-format", "json-render-diagnostics", "--profile", &profile()?])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    for name in std::env::vars_os().map(|(name, _)| name).filter(|name| of_outer_cargo(&name.to_string_lossy())) {
        cargo.env_remove(name);
    }
    let mut child = cargo.spawn().context("starting cargo to build the operator")?;
    let stdout = child.stdout.take().context("cargo's standard output")?;
    let stderr = child.stderr.take().context("cargo's standard error")?;
    let (program, said) = tokio::try_join!(artifact(stdout), follow(stderr, screen))?;
    if !child.wait().await.context("waiting for cargo")?.success() {
        bail!("the operator does not build; cargo said:\n{}", said.join("\n"));
    }
    program.context("cargo built the operator and did not say where")
}

/// What `cargo run` says of us. Build scripts look at some of it (ring's does), so that with it they, and all that
/// depends on them, would be built again each time.
fn of_outer_cargo(name: &str) -> bool {
    name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
}

/// We lie in `target/PROFILE/`, where the profile `dev` has the folder `debug`.
fn profile() -> Result<String> {
    let us = std::env::current_exe().context("finding this program")?;
    let folder = us.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    let folder = folder.with_context(|| format!("{} lies in no folder of cargo's", us.display()))?;
    Ok(if folder == "debug" { "dev" } else { folder }.to_owned())
}

/// The path of the program in cargo's messages.
async fn artifact(messages: impl tokio::io::AsyncRead + Unpin) -> Result<Option<PathBuf>> {
    let mut lines = BufReader::new(messages).lines();
    let mut found = None;
    while let Some(line) = lines.next_line().await.context("reading cargo's messages")? {
        let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
        if message["target"]["name"] == "paddock"
            && let Some(path) = message["executable"].as_str()
        {
            found = Some(PathBuf::from(path));
        }
    }
    Ok(found)
}

/// Shows what is compiled, and keeps everything for when it fails.
async fn follow(progress: impl tokio::io::AsyncRead + Unpin, screen: &Screen) -> Result<Vec<String>> {
    let mut lines = BufReader::new(progress).lines();
    let mut said = Vec::new();
    while let Some(line) = lines.next_line().await.context("reading cargo's progress")? {
        if line.trim_start().starts_with("Compiling") {
            screen.say(&format!("{} ({} so far)", line.trim(), said.len()));
        }
        said.push(line);
    }
    Ok(said)
}
