//! `paddock man`: manual pages.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use crate::output::print;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  paddock man | man -l -
  paddock man --dir /usr/local/share/man/man1")]
pub(crate) struct ManArgs {
    /// Writes the pages of all subcommands to this folder. Without the flag, the page of paddock itself is printed.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints the page, or writes all pages.
pub(crate) fn run(ManArgs { dir }: &ManArgs, command: clap::Command) -> anyhow::Result<()> {
    match dir {
        Some(dir) => {
            std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
            clap_mangen::generate_to(command, dir).with_context(|| format!("writing to {}", dir.display()))
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page).context("writing the page")?;
            print(&String::from_utf8_lossy(&page))
        }
    }
}
