//! `paddock plugin build`: compiles the crate of a plugin to a component.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use clap::Args;
use paddock_operator::plugins::check_name;
use paddock_plugin_host::componentize;
use serde_json::Value;

use super::component;
use super::inspect::Inspection;
use crate::output::{print, read};
use crate::usage::{OrBadUsage as _, bad_usage};

#[path = "../../../plugin-host/guest_build/toolchain.rs"]
mod toolchain;

use toolchain::{Std, TARGET};

/// The package of the SDK. The folder above it is the workspace of the repository's plugins.
const SDK: &str = "paddock-plugin-sdk";

#[derive(Debug, Args)]
#[command(after_help = "\
The command runs cargo with the release profile for wasm32-unknown-unknown, and wraps the module into a component. It
respects CARGO, CARGO_TARGET_DIR and RUSTFLAGS. If the toolchain lacks the target but has the component rust-src, cargo
builds the standard library too.

The command adds flags that remap the paths of this machine to those of [target.wasm32-unknown-unknown] in the
configuration of cargo. Flags of [build] in that configuration have no effect, and RUSTFLAGS replaces all of these.

Examples:
  paddock plugin build
  paddock plugin build my-plugin --output plugins/my-plugin.wasm")]
pub(crate) struct BuildArgs {
    /// The folder of the crate.
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// The file of the component. Without the flag, it is NAME.wasm in the folder of the crate.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Builds the component, writes it, and prints what it is.
pub(crate) fn run(BuildArgs { dir, output }: &BuildArgs) -> anyhow::Result<()> {
    let manifest = dir.join("Cargo.toml");
    if !manifest.is_file() {
        return Err(bad_usage(format!("{}: must be the folder of a crate, with a Cargo.toml", dir.display())));
    }
    let dir = &dir.canonicalize().with_context(|| dir.display().to_string())?;
    let package = Package::of(dir)?;
    let std = Std::of(dir)
        .with_context(|| format!("the toolchain lacks the target {TARGET}: {}", toolchain::how_to_install()))?;
    let module = compile(dir, &package, std)?;
    let bytes = componentize(&read(&module)?).with_context(|| module.display().to_string())?;
    let output = output.clone().unwrap_or_else(|| dir.join(format!("{}.wasm", package.name)));
    let host = component::host()?;
    let inspection = Inspection::new(&host, &component::name(&output), &bytes)?;
    std::fs::write(&output, &bytes).with_context(|| format!("writing {}", output.display())).or_bad_usage()?;
    print(&format!("{}\n{}", output.display(), inspection.table()))?;
    inspection.accepted()
}

/// The crate of a plugin.
struct Package {
    /// The name of the plugin: the name of the package, with dashes.
    name: String,
    id: String,
    /// Compiler flags for a digest that does not depend on this machine.
    flags: Vec<String>,
}

impl Package {
    fn of(dir: &Path) -> anyhow::Result<Self> {
        let output = cargo(dir).args(["metadata", "--format-version", "1"]).stderr(Stdio::inherit()).output();
        let output = output.context("cargo cannot be run")?;
        ensure!(output.status.success(), "cargo metadata ended with {}", output.status);
        let metadata: Value = serde_json::from_slice(&output.stdout).context("the output of cargo metadata")?;
        let packages = || metadata["packages"].as_array().into_iter().flatten();
        let folder = |package: &Value| {
            let manifest = package["manifest_path"].as_str().map(PathBuf::from)?;
            manifest.parent()?.canonicalize().ok()
        };
        let package = packages().find(|package| folder(package).as_deref() == Some(dir));
        let package = package.with_context(|| format!("{}: contains no package", dir.display()))?;
        let text = |field: &str| package[field].as_str().unwrap_or_default();
        let name = text("name").replace('_', "-");
        check_name(&name).map_err(|rule| bad_usage(format!("the package {name}: {rule}")))?;
        let kinds = package["targets"].as_array().into_iter().flatten().filter_map(|target| target["kind"].as_array());
        if !kinds.flatten().any(|kind| kind == "cdylib") {
            return Err(bad_usage(format!(
                "{}: [lib] crate-type must contain \"cdylib\"",
                dir.join("Cargo.toml").display()
            )));
        }
        let sdk = packages().find(|package| package["name"] == SDK).and_then(folder);
        let plugins = sdk.as_deref().and_then(Path::parent).unwrap_or(dir);
        let flags = toolchain::remapped_paths(plugins).into_iter().map(|flag| {
            let text = flag.into_string().ok();
            text.context("the paths of the crate, of cargo and of the toolchain must be UTF-8")
        });
        let flags = flags.collect::<anyhow::Result<_>>()?;
        Ok(Self { name, id: text("id").to_owned(), flags })
    }
}

fn cargo(dir: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(dir).stdin(Stdio::null());
    cargo
}

/// Compiles the crate. Returns the path of the module.
fn compile(dir: &Path, package: &Package, std: Std) -> anyhow::Result<PathBuf> {
    let mut cargo = cargo(dir);
    cargo.args(["build", "--release", "--lib", "--target", TARGET]);
    cargo.args(["--message-format", "json-render-diagnostics"]).stderr(Stdio::inherit());
    // cargo adds this list to that of its configuration files. A list of texts is the same in TOML and in JSON.
    cargo.args(["--config", &format!("target.{TARGET}.rustflags={}", serde_json::to_string(&package.flags)?)]);
    std.prepare(&mut cargo);
    let output = cargo.output().context("cargo cannot be run")?;
    ensure!(output.status.success(), "the crate does not build: cargo ended with {}", output.status);
    let artifacts = String::from_utf8_lossy(&output.stdout);
    let mut modules = artifacts.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let own = message["reason"] == "compiler-artifact" && message["package_id"] == package.id.as_str();
        let files = message["filenames"].as_array().filter(|_| own)?;
        files.iter().filter_map(Value::as_str).find(|file| file.ends_with(".wasm")).map(PathBuf::from)
    });
    modules.next_back().context("cargo names no module of the crate")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::BadUsage;

    #[test]
    fn folder_without_a_plugin_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let build = || run(&BuildArgs { dir: dir.path().to_owned(), output: None }).unwrap_err();
        let error = build();
        assert!(error.is::<BadUsage>() && error.to_string().contains("with a Cargo.toml"), "{error:#}");
        std::fs::create_dir(dir.path().join("src")).unwrap();
        std::fs::write(dir.path().join("src/lib.rs"), "").unwrap();
        let manifest = |name: &str| format!("[package]\nname = \"{name}\"\nedition = \"2024\"\n[workspace]\n");
        for (name, part) in [("no-cdylib", "must contain \"cdylib\""), ("idle-timeout", "built-in plugin")] {
            std::fs::write(dir.path().join("Cargo.toml"), manifest(name)).unwrap();
            let error = build();
            assert!(error.is::<BadUsage>() && error.to_string().contains(part), "{error:#}");
        }
    }
}
