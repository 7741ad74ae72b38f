//! `paddock plugin pull`: fetches a component from a registry.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use paddock_registry::{Reference, verify};

use super::registry::{Access, RegistryArgs, credentials_help, failed, public_keys, run_requests};
use crate::output::print;
use crate::usage::OrBadUsage as _;

#[derive(Debug, Args)]
#[command(after_help = concat!("\
The command checks the digests of the artifact and of the component. With --key, it writes the file only if one of these
keys signed the artifact. It prints the reference with the digest.

", credentials_help!(), "\
Examples:
  paddock plugin pull oci://registry.example.com/plugins/my-plugin:v1 -o my-plugin.wasm
  paddock plugin pull oci://registry.example.com/plugins/my-plugin:v1 -o my-plugin.wasm --key plugin.pub"))]
pub(crate) struct PullArgs {
    /// The artifact, by a tag or a digest.
    #[arg(value_name = "REFERENCE")]
    reference: Reference,
    /// The file of the component.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Public key in PEM format, such as plugin.pub or cosign.pub. The artifact must have a signature of one of the keys.
    /// May be repeated.
    #[arg(long = "key", value_name = "FILE")]
    keys: Vec<PathBuf>,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Pulls the component, verifies it, writes it, and prints the reference with the digest.
pub(crate) fn run(PullArgs { reference, output, keys, registry }: &PullArgs) -> anyhow::Result<()> {
    let trusted = public_keys(keys)?;
    let Access { client, credentials } = registry.access(reference)?;
    let artifact = run_requests(async {
        let artifact = client.pull(reference, &credentials).await.map_err(failed)?;
        if !keys.is_empty() {
            let digest = &artifact.manifest_digest;
            let signatures = client.signatures(reference, &credentials, digest).await.map_err(failed)?;
            verify(digest, reference, &signatures, &trusted)?;
        }
        Ok(artifact)
    })?;
    std::fs::write(output, &artifact.component)
        .with_context(|| format!("writing {}", output.display()))
        .or_bad_usage()?;
    print(&format!("{}\n", reference.at(&artifact.manifest_digest)))
}
