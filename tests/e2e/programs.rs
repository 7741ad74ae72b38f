//! The `paddock` binary, built from this workspace with the profile of the test that asks for it.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;
use tokio::sync::OnceCell;

/// The program's path. Builds it if it is not there or out of date, unless `PADDOCK_BINARY` names one to test.
pub(crate) async fn paddock() -> PathBuf {
    // What went wrong is remembered, so that not every test builds again.
    static PATH: OnceCell<Result<PathBuf, String>> = OnceCell::const_new();
    let built = PATH.get_or_init(|| async {
        match std::env::var_os("PADDOCK_BINARY") {
            Some(path) => Ok(path.into()),
            None => build().await,
        }
    });
    built.await.clone().unwrap_or_else(|e| panic!("{e}"))
}

async fn build() -> Result<PathBuf, String> {
    let mut cargo = Command::new(env!("CARGO"));
    // Of the whole workspace, as the tests and the demo are: another choice would compile every crate again.
    cargo.args(["build", "--workspace", "--bin", "paddock", "--message-format", "json-render-diagnostics"]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    // What cargo told this test of its own package would look like a change to build scripts (ring's is one).
    let own = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(own)) {
        cargo.env_remove(name);
    }
    let cargo = cargo.current_dir(root!("")).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = cargo.output().await.map_err(|e| format!("cargo does not start: {e}"))?;
    if !output.status.success() {
        return Err("cargo build --bin paddock failed".to_owned());
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut executables = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        Some(message["executable"].as_str()?.into())
    });
    executables.next_back().ok_or_else(|| "cargo names no executable".to_owned())
}
