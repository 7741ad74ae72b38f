//! Compiles the built-in plugins from `plugins/` to components in `OUT_DIR`, where `builtins.rs` embeds them.

use std::path::PathBuf;

#[path = "guest_build/componentize.rs"]
#[expect(unreachable_pub, reason = "the library includes this file too")]
mod componentize;
#[path = "guest_build/guests.rs"]
#[expect(unreachable_pub, reason = "two build scripts include this file")]
mod guests;
#[path = "guest_build/toolchain.rs"]
mod toolchain;

const BUILT_INS: [&str; 5] =
    ["require-isolation", "runtime-class-by-label", "idle-timeout", "pool-by-demand", "pool-seasonal"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=guest_build/guests.rs");
    println!("cargo::rerun-if-changed=guest_build/componentize.rs");
    println!("cargo::rerun-if-changed=guest_build/toolchain.rs");
    let built = match (std::env::var_os("CARGO_MANIFEST_DIR"), std::env::var_os("OUT_DIR")) {
        (Some(here), Some(out)) => {
            guests::build(&PathBuf::from(here).join("../../plugins"), &BUILT_INS, &PathBuf::from(out))
        }
        (_, _) => {
            Err("CARGO_MANIFEST_DIR and OUT_DIR are not set: this is a build script, run it through cargo".into())
        }
    };
    if let Err(error) = built {
        error.lines().for_each(|line| println!("cargo::error={line}"));
    }
}
