//! `paddock plugin`: for authors of plugins.

mod bench;
mod build;
mod check;
pub(crate) mod component;
mod componentize;
mod inspect;
mod keygen;
mod new;
mod pull;
mod push;
mod question;
mod registry;
mod replay;
mod run;
mod sign;
mod test;
mod text;
mod verify;

use clap::Subcommand;

use self::bench::BenchArgs;
use self::build::BuildArgs;
use self::check::CheckArgs;
use self::componentize::ComponentizeArgs;
use self::inspect::InspectArgs;
use self::keygen::KeygenArgs;
use self::new::NewArgs;
use self::pull::PullArgs;
use self::push::PushArgs;
use self::question::QuestionArgs;
use self::replay::ReplayArgs;
use self::run::RunArgs;
use self::sign::SignArgs;
use self::test::TestArgs;
use self::verify::VerifyArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// Writes the crate of a new plugin, with a unit test, cases and a configuration.
    New(NewArgs),
    /// Compiles the crate of a plugin to a component.
    Build(BuildArgs),
    /// Wraps a core WebAssembly module, as cargo writes it, into a component.
    Componentize(ComponentizeArgs),
    /// Loads components with their configuration as the operator would, and says which hooks they have or what is wrong.
    Check(CheckArgs),
    /// Prints the hooks, the imports, the interface version, the size and the digest of a component.
    Inspect(InspectArgs),
    /// Prints an example of a hook's question, for `paddock plugin run`.
    Question(QuestionArgs),
    /// Asks a plugin one question, and prints the answer.
    Run(RunArgs),
    /// Runs cases of plugins: questions with the answers that are expected.
    Test(TestArgs),
    /// Asks a component the questions that an operator recorded, and prints the decisions that differ.
    Replay(ReplayArgs),
    /// Measures the calls of a plugin: times, fuel and memory. Compares them with an earlier run.
    Bench(BenchArgs),
    /// Pushes a component to an OCI registry.
    Push(PushArgs),
    /// Pulls a component from an OCI registry, and verifies it if keys are given.
    Pull(PullArgs),
    /// Makes a key pair for signatures.
    Keygen(KeygenArgs),
    /// Signs an artifact in an OCI registry.
    Sign(SignArgs),
    /// Checks that one of the given keys signed an artifact in an OCI registry.
    Verify(VerifyArgs),
}

/// Runs one of them.
pub(crate) fn run(command: PluginCommand) -> anyhow::Result<()> {
    match command {
        PluginCommand::New(args) => new::run(&args),
        PluginCommand::Build(args) => build::run(&args),
        PluginCommand::Componentize(args) => componentize::run(args),
        PluginCommand::Check(args) => check::run(&args),
        PluginCommand::Inspect(args) => inspect::run(&args),
        PluginCommand::Question(args) => question::run(&args),
        PluginCommand::Run(args) => run::run(&args),
        PluginCommand::Test(args) => test::run(&args),
        PluginCommand::Replay(args) => replay::run(&args),
        PluginCommand::Bench(args) => bench::run(&args),
        PluginCommand::Push(args) => push::run(&args),
        PluginCommand::Pull(args) => pull::run(&args),
        PluginCommand::Keygen(args) => keygen::run(&args),
        PluginCommand::Sign(args) => sign::run(&args),
        PluginCommand::Verify(args) => verify::run(&args),
    }
}
