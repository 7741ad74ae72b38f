//! `paddock completions`: completion scripts for shells.

use clap::Args;
use clap_complete::Shell;

use crate::output::print;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  source <(paddock completions bash)
  paddock completions zsh > ~/.zfunc/_paddock
  paddock completions fish > ~/.config/fish/completions/paddock.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell.
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(CompletionsArgs { shell }: &CompletionsArgs, mut command: clap::Command) -> anyhow::Result<()> {
    let (name, mut script) = (command.get_name().to_owned(), Vec::new());
    clap_complete::generate(*shell, &mut command, name, &mut script);
    print(&String::from_utf8_lossy(&script))
}
