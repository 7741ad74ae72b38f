//! `paddock plugin componentize`: from cargo's module to a component.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::Args;
use paddock_plugin_host::componentize;

use crate::output::{print, read};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  paddock plugin componentize target/wasm32-unknown-unknown/release/my_plugin.wasm
  paddock plugin componentize module.wasm --output my-plugin.wasm")]
pub(crate) struct ComponentizeArgs {
    /// The module: target/wasm32-unknown-unknown/release/my_plugin.wasm.
    #[arg(value_name = "MODULE")]
    module: PathBuf,
    /// Where the component goes; the module's name with dashes, here, if absent: my-plugin.wasm.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Writes the component.
pub(crate) fn run(ComponentizeArgs { module, output }: ComponentizeArgs) -> anyhow::Result<()> {
    let output = output.map_or_else(|| beside(&module), Ok)?;
    let component = componentize(&read(&module)?).with_context(|| module.display().to_string())?;
    std::fs::write(&output, &component).with_context(|| format!("writing {}", output.display()))?;
    print(&format!("{}: {} bytes\n", output.display(), component.len()))
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
