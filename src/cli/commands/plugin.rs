//! `paddock plugin`: for authors of plugins.

mod check;
mod componentize;

use clap::Subcommand;

use self::check::CheckArgs;
use self::componentize::ComponentizeArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// Wraps a core WebAssembly module, as cargo writes it, into a component.
    Componentize(ComponentizeArgs),
    /// Loads a component as the operator would, and says which hooks it has or what is wrong with it.
    Check(CheckArgs),
}

/// Runs one of them.
pub(crate) fn run(command: PluginCommand) -> anyhow::Result<()> {
    match command {
        PluginCommand::Componentize(args) => componentize::run(args),
        PluginCommand::Check(args) => check::run(&args),
    }
}
