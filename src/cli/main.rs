//! The paddock command: one binary, one image, subcommands.

mod args;
mod operator;
mod output;
mod plugin;
mod values;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use paddock_api::crd::selected;
use paddock_operator::manifests;

use crate::args::{Cli, Command, CrdsArgs, ManifestsArgs};
use crate::output::{print, yaml};

/// With musl's allocator, which the image would have otherwise, the same claims take a third more processor time:
/// `docs/performance/results.md`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let matches = Cli::command().get_matches_from(values::go_style(std::env::args_os()));
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    match dispatch(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", causes(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes, each once: many libraries say their cause in their own text as well.
fn causes(error: &anyhow::Error) -> String {
    let mut said: Vec<String> = Vec::new();
    for cause in error.chain().map(ToString::to_string) {
        if !said.iter().any(|earlier| earlier.contains(&cause)) {
            said.push(cause);
        }
    }
    said.join(": ")
}

fn dispatch(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Operator(args) => operator::run(*args),
        Command::Crds(CrdsArgs { surface }) => print(&yaml(&selected(surface))?),
        Command::Manifests(ManifestsArgs { surface, namespace, image }) => {
            print(&yaml(&manifests::all(&manifests::Settings { namespace, image, shapes: surface }))?)
        }
        Command::Plugin(command) => plugin::run(command),
        Command::Version => print(concat!("paddock v", env!("CARGO_PKG_VERSION"), "\n")),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::causes;

    #[test]
    fn a_cause_that_was_said_already_is_not_said_again() {
        let error = anyhow!("no such file").context("cannot read /x: no such file").context("--kubeconfig /x");
        assert_eq!(causes(&error), "--kubeconfig /x: cannot read /x: no such file");
        let error = anyhow!("refused").context("connecting").context("connecting");
        assert_eq!(causes(&error), "connecting: refused");
    }

    #[test]
    fn a_kubeconfig_that_is_not_there_is_said_once() {
        let error = kube::config::Kubeconfig::read_from("/nowhere/config").unwrap_err();
        let said = causes(&anyhow::Error::from(error).context("--kubeconfig /nowhere/config"));
        assert_eq!(said.matches("No such file").count(), 1, "{said}");
    }
}
