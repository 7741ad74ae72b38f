//! The world of a module. Rust's bindings write it into the module; the compilers of some other languages cannot.

use anyhow::Context as _;
use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The files of the latest version of the package. The first names the package.
const PACKAGE: [&str; 6] = [
    include_str!("../../../../../wit/v0.2.0/types.wit"),
    include_str!("../../../../../wit/v0.2.0/admission.wit"),
    include_str!("../../../../../wit/v0.2.0/idle.wit"),
    include_str!("../../../../../wit/v0.2.0/pool-size.wit"),
    include_str!("../../../../../wit/v0.2.0/runtime-class.wit"),
    include_str!("../../../../../wit/v0.2.0/worlds.wit"),
];

/// The worlds of the package.
pub(super) const WORLDS: [&str; 5] =
    ["admission-plugin", "runtime-class-plugin", "idle-plugin", "pool-size-plugin", "every-hook"];

/// Adds the description of a world to a module.
pub(super) fn embed(module: &mut Vec<u8>, world: &str) -> anyhow::Result<()> {
    let mut resolve = Resolve::default();
    let package = resolve.push_source("policy.wit", &PACKAGE.concat())?;
    let world = resolve.select_world(&[package], Some(world))?;
    embed_component_metadata(module, &resolve, world, StringEncoding::UTF8).context("the world cannot be added")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_world_of_the_package_can_be_added() {
        let text = PACKAGE.concat();
        let worlds = text.lines().filter_map(|line| line.strip_prefix("world ")?.strip_suffix(" {"));
        assert_eq!(worlds.collect::<Vec<_>>(), WORLDS);
        for world in WORLDS {
            let mut module = wasm_encoder::Module::new().finish();
            let before = module.len();
            embed(&mut module, world).unwrap();
            assert!(module.len() > before, "{world}");
        }
    }
}
