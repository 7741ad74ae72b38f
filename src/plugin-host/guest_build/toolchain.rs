//! What builds of plugins have in common: the target, and the compiler flags that make their digests repeatable.
//!
//! The build scripts and `paddock plugin build` include this file.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The target that plugins are compiled for.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// Whether the toolchain of a folder has the standard library of the target.
pub(crate) fn target_is_installed(folder: &Path) -> bool {
    let arguments = ["--print", "target-libdir", "--target", TARGET];
    rustc(folder, &arguments).is_some_and(|dir| PathBuf::from(dir).is_dir())
}

/// The folder of the toolchain.
pub(crate) fn sysroot(folder: &Path) -> Option<PathBuf> {
    rustc(folder, &["--print", "sysroot"]).map(PathBuf::from)
}

fn rustc(folder: &Path, arguments: &[&str]) -> Option<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).args(arguments).current_dir(folder).output().ok()?;
    String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Compiler flags that remap the paths of this machine, in the form of CARGO_ENCODED_RUSTFLAGS. Panic messages contain
/// file names, so without the flags the digest of a component would depend on the folder in which it was built.
pub(crate) fn remapped_paths(plugins: &Path) -> OsString {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo = home.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    let mut flags = OsString::new();
    for (from, to) in [(Some(plugins.to_owned()), "/plugins"), (cargo, "/cargo"), (sysroot(plugins), "/rust")] {
        let Some(from) = from else { continue };
        if !flags.is_empty() {
            flags.push("\u{1f}");
        }
        flags.push("--remap-path-prefix=");
        flags.push(from);
        flags.push("=");
        flags.push(to);
    }
    flags
}
