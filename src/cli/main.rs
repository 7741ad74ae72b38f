//! The paddock command: one binary, one image, subcommands.

mod commands;
mod output;
mod usage;
mod values;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::commands::{
    audit, completions, crds, explain, gateway, generate, man, manifests, operator, plugin, simulate, token, version,
};
use crate::usage::BadUsage;

/// With musl's allocator, which the image would have otherwise, the same claims take a third more processor time:
/// `docs/performance/results.md`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Sandboxes for code that nobody has read, on Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "paddock", version, about, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the operator.
    #[command(args_override_self = true)]
    Operator(Box<operator::OperatorArgs>),
    /// Runs the gateway, which routes requests to Sandboxes by name and wakes suspended ones.
    #[command(args_override_self = true)]
    Gateway(Box<gateway::GatewayArgs>),
    /// Prints a token that admits to one Sandbox, or to the Sandbox of one claim, through the gateway.
    Token(Box<token::TokenArgs>),
    /// Prints the CustomResourceDefinitions, for `kubectl apply --server-side -f -`.
    Crds(crds::CrdsArgs),
    /// Prints the manifests of a deployment, CRDs included, for `kubectl apply --server-side -f -`.
    Manifests(manifests::ManifestsArgs),
    /// Prints manifests that are not part of every deployment.
    #[command(subcommand)]
    Generate(generate::GenerateCommand),
    /// Makes, tests and measures plugins.
    #[command(subcommand)]
    Plugin(plugin::PluginCommand),
    /// Reports workloads that run generated code without isolation, in manifests or in a cluster.
    Audit(Box<audit::AuditArgs>),
    /// Shows what the operator saw of a Sandbox, a pool or a claim, asked plugins about it, and decided.
    Explain(Box<explain::ExplainArgs>),
    /// Prints a completion script for a shell.
    Completions(completions::CompletionsArgs),
    /// Prints the manual page, or writes the pages of all subcommands.
    Man(man::ManArgs),
    /// Replays claims through pool-sizing plugins in virtual time, and compares hit rates and idle hours.
    #[command(after_help = simulate::AFTER_HELP)]
    Simulate(Box<simulate::SimulateArgs>),
    /// Prints the version.
    Version,
}

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
            // The code with which clap refuses flags.
            if error.is::<BadUsage>() { ExitCode::from(2) } else { ExitCode::FAILURE }
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
        Command::Gateway(args) => gateway::run(*args),
        Command::Token(args) => token::run(*args),
        Command::Crds(args) => crds::run(&args),
        Command::Manifests(args) => manifests::run(args),
        Command::Generate(command) => generate::run(command),
        Command::Plugin(command) => plugin::run(command),
        Command::Audit(args) => audit::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Completions(args) => completions::run(&args, Cli::command()),
        Command::Man(args) => man::run(&args, Cli::command()),
        Command::Simulate(args) => simulate::run(&args),
        Command::Version => version::run(),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

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

    #[test]
    fn help_lists_the_surfaces() {
        for name in ["operator", "crds", "manifests", "token"] {
            let command = Cli::command();
            let command = command.find_subcommand(name).unwrap();
            let surface = command.get_arguments().find(|arg| arg.get_long() == Some("surface")).unwrap();
            let help = surface.get_help().unwrap().to_string();
            assert!(["seed", "upstream", "both"].iter().all(|value| help.contains(value)), "{name}: {help}");
        }
    }

    #[test]
    fn every_command_has_a_page_and_every_plugin_command_has_examples() {
        let dir = tempfile::tempdir().unwrap();
        clap_mangen::generate_to(Cli::command(), dir.path()).unwrap();
        let command = Cli::command();
        let plugin = command.find_subcommand("plugin").unwrap();
        for sub in plugin.get_subcommands() {
            let page = std::fs::read_to_string(dir.path().join(format!("paddock-plugin-{}.1", sub.get_name())));
            assert!(page.is_ok(), "{}", sub.get_name());
            let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&format!("  paddock plugin {}", sub.get_name())), "{}: {help}", sub.get_name());
        }
        let mut script = Vec::new();
        clap_complete::generate(clap_complete::Shell::Bash, &mut Cli::command(), "paddock", &mut script);
        assert!(String::from_utf8(script).unwrap().contains("componentize"));
    }

    #[test]
    fn errors_of_the_user_are_told_from_others() {
        use crate::usage::{OrBadUsage as _, bad_usage};
        let marked = Err::<(), _>(anyhow!("no such file").context("reading q")).or_bad_usage().unwrap_err();
        assert!(marked.is::<BadUsage>());
        assert_eq!(causes(&marked), "reading q: no such file");
        assert!(bad_usage("x").context("y").is::<BadUsage>(), "context does not hide it");
        assert!(!anyhow!("x").is::<BadUsage>());
    }

    #[test]
    fn every_flag_has_a_variable_and_a_description() {
        let command = Cli::command();
        for process in ["operator", "gateway"] {
            let process = command.find_subcommand(process).unwrap();
            for arg in process.get_arguments() {
                let Some(long) = arg.get_long().filter(|long| !matches!(*long, "help" | "version")) else { continue };
                let variable = match long {
                    // The variable of every OpenTelemetry SDK.
                    "otlp-endpoint" => "OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(),
                    _ => format!("PADDOCK_{}", long.to_uppercase().replace('-', "_")),
                };
                assert_eq!(arg.get_env().and_then(|env| env.to_str()), Some(variable.as_str()));
                assert!(arg.get_help().is_some(), "--{long}");
            }
        }
    }
}
