//! The `paddock` binary, built from this workspace with the profile of the running test.

use std::path::PathBuf;
use std::process::{Output, Stdio};

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::sync::OnceCell;

/// The path of the program. The program is built if it does not exist or is outdated, unless `PADDOCK_BINARY` names one
/// to test.
pub(crate) async fn paddock() -> PathBuf {
    // A failure is stored, so that not every test builds again.
    static PATH: OnceCell<Result<PathBuf, String>> = OnceCell::const_new();
    let built = PATH.get_or_init(|| async {
        match std::env::var_os("PADDOCK_BINARY") {
            Some(path) => Ok(path.into()),
            None => build().await,
        }
    });
    built.await.clone().unwrap_or_else(|e| panic!("{e}"))
}

/// The program that holds containers, linked statically as in the image of `deploy/Dockerfile`. It is small, and has a
/// folder of its own, so that its flags cause no other crate to be compiled again.
pub(crate) async fn paddock_init() -> PathBuf {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let folder = root!("target/init");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--package", "paddock-init", "--target", &target, "--target-dir", folder]);
    cargo.env("RUSTFLAGS", "-C target-feature=+crt-static").env_remove("CARGO_TARGET_DIR");
    let status = cargo.current_dir(root!("")).stdin(Stdio::null()).status().await.expect("cargo starts");
    assert!(status.success(), "cargo build --package paddock-init failed");
    PathBuf::from(format!("{folder}/{target}/release/paddock-init"))
}

/// Runs a command with this text as its standard input.
pub(crate) async fn run_with_input(command: &mut Command, input: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("its standard input");
    // The program may end before it reads.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    child.wait_with_output().await.expect("the program ends")
}

/// Everything that a command printed: its standard output, and then its standard error.
pub(crate) fn shown(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

async fn build() -> Result<PathBuf, String> {
    let mut cargo = Command::new(env!("CARGO"));
    // The whole workspace is built, as for the tests and the demo. Another selection would compile every crate again.
    cargo.args(["build", "--workspace", "--bin", "paddock", "--message-format", "json-render-diagnostics"]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    // Cargo's variables about this test's own package would look like a change to build scripts, such as that of ring.
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
