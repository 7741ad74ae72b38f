//! `paddock generate`: manifests that are not part of every deployment.

mod vap;

use clap::Subcommand;

/// Manifests that are not part of every deployment.
#[derive(Debug, Subcommand)]
pub(crate) enum GenerateCommand {
    /// Prints ValidatingAdmissionPolicies that keep generated code isolated while no replica of the webhook answers.
    #[command(after_help = vap::AFTER_HELP)]
    Vap(vap::VapArgs),
}

/// Prints the manifests.
pub(crate) fn run(command: GenerateCommand) -> anyhow::Result<()> {
    match command {
        GenerateCommand::Vap(args) => vap::run(args),
    }
}
