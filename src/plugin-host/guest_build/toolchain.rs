//! What builds of plugins have in common: the target, its standard library, and the compiler flags that make their
//! digests repeatable.
//!
//! The build scripts and `paddock plugin build` include this file.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The target that plugins are compiled for.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// The origin of the target's standard library.
#[derive(Clone, Copy)]
pub(crate) enum Std {
    /// rustup installed it with the toolchain.
    Installed,
    /// cargo builds it from the sources of the toolchain (the component rust-src).
    FromSource,
}

impl Std {
    /// The standard library that the toolchain of a folder can use. `None` if it has neither the library nor its sources.
    pub(crate) fn of(folder: &Path) -> Option<Self> {
        let library = rustc(folder, &["--print", "target-libdir", "--target", TARGET]);
        if library.is_some_and(|library| Path::new(&library).is_dir()) {
            return Some(Self::Installed);
        }
        let sources = sysroot(folder)?.join("lib/rustlib/src/rust/library");
        sources.is_dir().then_some(Self::FromSource)
    }

    /// Lets a `cargo build` for the target use this standard library.
    pub(crate) fn prepare(self, cargo: &mut Command) {
        match self {
            Self::Installed => {}
            Self::FromSource => {
                // A stable compiler accepts -Z flags only with this variable. Only this build gets it.
                cargo.env("RUSTC_BOOTSTRAP", "1").arg("-Zbuild-std=std,panic_abort");
            }
        }
    }
}

/// What to do if there is no standard library.
pub(crate) fn how_to_install() -> String {
    format!(
        "install it with `rustup target add {TARGET}`, or the sources of the standard library with `rustup component add \
         rust-src`"
    )
}

/// The folder of the toolchain.
fn sysroot(folder: &Path) -> Option<PathBuf> {
    rustc(folder, &["--print", "sysroot"]).map(PathBuf::from)
}

fn rustc(folder: &Path, arguments: &[&str]) -> Option<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).args(arguments).current_dir(folder).output().ok()?;
    String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Compiler flags that remap the paths of this machine. Panic messages contain file names, so without the flags the
/// digest of a component would depend on the folder in which it was built.
pub(crate) fn remapped_paths(plugins: &Path) -> Vec<OsString> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo = home.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    let paths = [(Some(plugins.to_owned()), "/plugins"), (cargo, "/cargo"), (sysroot(plugins), "/rust")];
    let flag = |(from, to): (Option<PathBuf>, &str)| {
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(from?);
        flag.push("=");
        flag.push(to);
        Some(flag)
    };
    paths.into_iter().filter_map(flag).collect()
}
