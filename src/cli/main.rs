//! The paddock command: one binary, one image, subcommands.

mod args;
mod cluster;
mod logs;
mod operator;
mod plugin;
mod values;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory, FromArgMatches};
use paddock_core::api::crd::selected;
use paddock_operator::manifests;

use crate::args::{Cli, Command, CrdsArgs, ManifestsArgs};

fn main() -> ExitCode {
    let matches = Cli::command().get_matches_from(values::go_style(std::env::args_os()));
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    match dispatch(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Operator(args) => operator::run(*args),
        Command::Crds(CrdsArgs { surface }) => print(&yaml(&selected(surface))?),
        Command::Manifests(ManifestsArgs { surface, namespace, image }) => {
            print(&yaml(&manifests::all(&manifests::Settings { namespace, image, surfaces: surface }))?)
        }
        Command::Plugin(command) => plugin::run(command),
        Command::Version => print(concat!("paddock v", env!("CARGO_PKG_VERSION"), "\n")),
    }
}

/// One YAML document for each object.
fn yaml<T: serde::Serialize>(objects: &[T]) -> anyhow::Result<String> {
    let mut text = String::new();
    for object in objects {
        text.push_str("---\n");
        text.push_str(&serde_yaml_ng::to_string(object).context("writing an object as YAML")?);
    }
    Ok(text)
}

/// A reader that has seen enough (`| head`) is no error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    use std::io::{ErrorKind, Write};
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("writing to standard output"),
        Ok(()) | Err(_) => Ok(()),
    }
}
