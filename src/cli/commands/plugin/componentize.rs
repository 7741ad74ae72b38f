//! `paddock plugin componentize`: from a compiler's module to a component.

mod wasi;
mod world;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::Args;
use clap::builder::PossibleValuesParser;
use paddock_plugin_host::componentize;

use crate::output::{print, read};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  paddock plugin componentize target/wasm32-unknown-unknown/release/my_plugin.wasm
  paddock plugin componentize module.wasm --output my-plugin.wasm
  paddock plugin componentize go.wasm --world pool-size-plugin --stub-wasi --output my-plugin.wasm")]
pub(crate) struct ComponentizeArgs {
    /// The module: target/wasm32-unknown-unknown/release/my_plugin.wasm.
    #[arg(value_name = "MODULE")]
    module: PathBuf,
    /// Where the component goes; the module's name with dashes, here, if absent: my-plugin.wasm.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The world of the module in paddock:policy@0.2.0. Only a module that does not describe its world needs it.
    #[arg(long, value_name = "WORLD", value_parser = PossibleValuesParser::new(world::WORLDS))]
    world: Option<String>,
    /// Replaces the imports of WASI preview 1 by functions of an empty machine: no arguments, no files, no output, a
    /// clock that stands still, and zeros for random numbers.
    #[arg(long)]
    stub_wasi: bool,
}

/// Writes the component.
pub(crate) fn run(ComponentizeArgs { module, output, world, stub_wasi }: ComponentizeArgs) -> anyhow::Result<()> {
    let output = output.map_or_else(|| beside(&module), Ok)?;
    let bytes = read(&module)?;
    let component = component(bytes, world.as_deref(), stub_wasi).with_context(|| module.display().to_string())?;
    std::fs::write(&output, &component).with_context(|| format!("writing {}", output.display()))?;
    print(&format!("{}: {} bytes\n", output.display(), component.len()))
}

fn component(mut module: Vec<u8>, world: Option<&str>, stub_wasi: bool) -> anyhow::Result<Vec<u8>> {
    if stub_wasi {
        module = wasi::stub(&module)?;
    }
    if let Some(world) = world {
        world::embed(&mut module, world)?;
    }
    Ok(componentize(&module)?)
}

/// Plugins are named with dashes, crates and so modules with underscores.
fn beside(module: &Path) -> anyhow::Result<PathBuf> {
    let stem = module.file_stem().and_then(|stem| stem.to_str());
    let name =
        format!("{}.wasm", stem.with_context(|| format!("{}: not a file name", module.display()))?.replace('_', "-"));
    // The module may lie here under the same name.
    ensure!(Path::new(&name) != module, "{name} would be overwritten: say --output");
    Ok(name.into())
}
