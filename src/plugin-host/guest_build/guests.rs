//! Builds plugins of the `plugins/` workspace as components, with a nested cargo and `wit-component`.
//!
//! The build scripts of this crate and of `tests/guests` include this file. The nested builds share one target folder.
//! They must not inherit the environment that the outer cargo sets for its own compiler.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::componentize::componentize;
use super::toolchain::{self, Std, TARGET};

/// Builds the plugins at these paths under `plugins/`, and writes `<out>/<package>.wasm` for each.
pub fn build(plugins: &Path, guests: &[&str], out: &Path) -> Result<(), String> {
    for watched in ["Cargo.toml", "Cargo.lock", "sdk", "pool-sizing", "../wit"].iter().chain(guests) {
        println!("cargo::rerun-if-changed={}", plugins.join(watched).display());
    }
    // The remapped paths are those that the compiler sees.
    let plugins = &plugins.canonicalize().map_err(|error| format!("{}: {error}", plugins.display()))?;
    let std = standard_library(plugins)?;
    let target = target_dir(out);
    let packages: Vec<&str> = guests.iter().map(|guest| guest.rsplit('/').next().unwrap_or(guest)).collect();
    compile(plugins, &packages, &target, std)?;
    for package in packages {
        let module = target.join(TARGET).join("release").join(format!("{}.wasm", package.replace('-', "_")));
        let bytes = std::fs::read(&module).map_err(|error| format!("{}: {error}", module.display()))?;
        let component = componentize(&bytes).map_err(|error| format!("{package}: {error}"))?;
        let file = out.join(format!("{package}.wasm"));
        std::fs::write(&file, component).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(())
}

fn standard_library(plugins: &Path) -> Result<Std, String> {
    if let Some(Std::Installed) = Std::of(plugins) {
        return Ok(Std::Installed);
    }
    println!("cargo::warning=the plugins need the target {TARGET}: running `rustup target add {TARGET}`");
    let added = Command::new("rustup").args(["target", "add", TARGET]).output();
    match Std::of(plugins) {
        Some(Std::Installed) => return Ok(Std::Installed),
        Some(Std::FromSource) => {
            println!("cargo::warning=the target could not be added: building the standard library from rust-src");
            return Ok(Std::FromSource);
        }
        None => {}
    }
    let why = match added {
        Ok(output) => String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned(),
        Err(error) => error.to_string(),
    };
    let install = toolchain::how_to_install();
    Err(format!("the plugins need the target {TARGET} and it could not be added ({why}): {install}"))
}

/// `target/plugins` of the outer build, whose `OUT_DIR` is `target/<profile>/build/<package>/out`. Clippy, tests and
/// every profile share this folder, so the plugins are built once. Cargo's lock keeps concurrent builds apart.
fn target_dir(out: &Path) -> PathBuf {
    out.ancestors().nth(4).unwrap_or(out).join("plugins")
}

fn compile(plugins: &Path, packages: &[&str], target: &Path, std: Std) -> Result<(), String> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    std::env::vars_os().map(|(name, _)| name).filter(belongs_to_outer_build).for_each(|name| {
        cargo.env_remove(name);
    });
    cargo
        .current_dir(plugins)
        .args(["build", "--release", "--locked", "--quiet", "--target", TARGET, "--target-dir"])
        .arg(target)
        .env("CARGO_ENCODED_RUSTFLAGS", toolchain::remapped_paths(plugins).join(OsStr::new("\u{1f}")));
    if let Some(rustc) = std::env::var_os("RUSTC") {
        cargo.env("RUSTC", rustc);
    }
    packages.iter().for_each(|package| {
        cargo.args(["--package", package]);
    });
    std.prepare(&mut cargo);
    let output = cargo.output().map_err(|error| format!("cargo cannot be run for the plugins: {error}"))?;
    let messages = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        messages.lines().for_each(|line| println!("cargo::warning={line}"));
        return Ok(());
    }
    // A compiler that was killed prints nothing. The status then names the signal.
    Err(format!("the plugins do not build: cargo ended with {}\n{messages}", output.status))
}

/// Whether the outer cargo, clippy or a coverage tool set this variable for its own compilers and build scripts.
fn belongs_to_outer_build(name: &OsString) -> bool {
    let name = name.to_string_lossy();
    let ours = ["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR", "CARGO_SOURCE_"];
    if ours.iter().any(|prefix| name.starts_with(prefix)) {
        return false;
    }
    let theirs =
        ["CARGO", "RUSTC", "RUSTDOC", "RUSTFLAGS", "CLIPPY_", "DEP_", "MAKEFLAGS", "MFLAGS", "LLVM_PROFILE_FILE"];
    let exact = ["OUT_DIR", "TARGET", "HOST", "NUM_JOBS", "OPT_LEVEL", "PROFILE", "DEBUG"];
    theirs.iter().any(|prefix| name.starts_with(prefix)) || exact.contains(&name.as_ref())
}
