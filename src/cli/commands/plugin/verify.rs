//! `paddock plugin verify`: checks the signatures of an artifact in a registry.

use std::path::PathBuf;

use clap::Args;
use paddock_registry::{Reference, verify};

use super::registry::{Access, RegistryArgs, credentials_help, failed, public_keys, run_requests};
use crate::output::print;

#[derive(Debug, Args)]
#[command(after_help = concat!("\
The exit code is 0 if one of the keys signed the artifact, and 1 otherwise. The command prints the reference with the
digest that is signed. A signature covers the digest alone: it stays valid for a copy in another registry, and it does not
say that the tag names the right artifact.

", credentials_help!(), "\
Examples:
  paddock plugin verify oci://registry.example.com/plugins/my-plugin:v1 --key plugin.pub
  paddock plugin verify oci://ghcr.io/me/my-plugin@sha256:… --key cosign.pub --key other.pub"))]
pub(crate) struct VerifyArgs {
    /// The artifact, by a tag or a digest.
    #[arg(value_name = "REFERENCE")]
    reference: Reference,
    /// Public key in PEM format, such as plugin.pub or cosign.pub. May be repeated: one of the keys is enough.
    #[arg(long = "key", value_name = "FILE", required = true)]
    keys: Vec<PathBuf>,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Verifies the artifact, and prints the reference with the digest.
pub(crate) fn run(VerifyArgs { reference, keys: files, registry }: &VerifyArgs) -> anyhow::Result<()> {
    let keys = public_keys(files)?;
    let Access { client, credentials } = registry.access(reference)?;
    let (digest, verified) = run_requests(async {
        let digest = client.resolve(reference, &credentials).await.map_err(failed)?;
        let signatures = client.signatures(reference, &credentials, &digest).await.map_err(failed)?;
        let verified = verify(&digest, reference, &signatures, &keys)?;
        Ok((digest, verified))
    })?;
    let file = files.get(verified.key).map(|file| file.display().to_string()).unwrap_or_default();
    eprintln!("note: signed with the key of {file}, for {}", verified.identity);
    print(&format!("{}\n", reference.at(&digest)))
}
