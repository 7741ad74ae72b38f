//! Compiles the plugins of the tests and the demo, in the same way as the host's build script compiles the built-ins.

use std::path::PathBuf;

#[path = "../../src/plugin-host/guest_build/componentize.rs"]
#[expect(unreachable_pub, reason = "the host includes this file too")]
mod componentize;
#[path = "../../src/plugin-host/guest_build/guests.rs"]
#[expect(unreachable_pub, reason = "two build scripts include this file")]
mod guests;
#[path = "../../src/plugin-host/guest_build/toolchain.rs"]
mod toolchain;

const GUESTS: [&str; 10] = [
    "examples/allowed-images",
    "examples/pool-fixed",
    "examples/pool-headroom",
    "test-guests/misbehave",
    "test-guests/ask-for-wasi",
    "test-guests/ask-for-more",
    "test-guests/from-the-future",
    "test-guests/any-schema",
    "test-guests/repeat-v0-1-0",
    "test-guests/repeat-v0-2-0",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../../src/plugin-host/guest_build/guests.rs");
    println!("cargo::rerun-if-changed=../../src/plugin-host/guest_build/componentize.rs");
    println!("cargo::rerun-if-changed=../../src/plugin-host/guest_build/toolchain.rs");
    let built = match (std::env::var_os("CARGO_MANIFEST_DIR"), std::env::var_os("OUT_DIR")) {
        (Some(here), Some(out)) => {
            guests::build(&PathBuf::from(here).join("../../plugins"), &GUESTS, &PathBuf::from(out))
        }
        (_, _) => {
            Err("CARGO_MANIFEST_DIR and OUT_DIR are not set: this is a build script, run it through cargo".into())
        }
    };
    if let Err(error) = built {
        error.lines().for_each(|line| println!("cargo::error={line}"));
    }
}
