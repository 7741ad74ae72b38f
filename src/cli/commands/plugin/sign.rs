//! `paddock plugin sign`: signs an artifact in a registry.

use std::path::PathBuf;

use clap::Args;
use paddock_registry::{Reference, sign, verify};

use super::registry::{Access, RegistryArgs, credentials_help, failed, private_key, run_requests};
use crate::output::print;

#[derive(Debug, Args)]
#[command(after_help = concat!("\
The command stores a signature beside the artifact, in the layout of cosign: the tag sha256-HEX.sig. Sign by the digest
that `paddock plugin push` prints. A tag may name another artifact by now, and then that artifact is signed.

`cosign verify --key plugin.pub --insecure-ignore-tlog` verifies the signature, because it is in no transparency log.

", credentials_help!(), "\
Examples:
  paddock plugin keygen
  paddock plugin sign oci://registry.example.com/plugins/my-plugin@sha256:… --key plugin.key
  paddock plugin sign \"$(paddock plugin push my-plugin.wasm oci://localhost:5000/my-plugin:v1)\" --key plugin.key"))]
pub(crate) struct SignArgs {
    /// The artifact, by a digest or a tag.
    #[arg(value_name = "REFERENCE")]
    reference: Reference,
    /// Private key: ECDSA P-256, unencrypted, in PKCS#8 and PEM format. `paddock plugin keygen` makes one.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Signs the artifact, unless this key has signed it, and prints the reference with the digest.
pub(crate) fn run(SignArgs { reference, key, registry }: &SignArgs) -> anyhow::Result<()> {
    let key = private_key(key)?;
    let Access { client, credentials } = registry.access(reference)?;
    let signed = run_requests(async {
        let digest = client.resolve(reference, &credentials).await.map_err(failed)?;
        let signatures = client.signatures(reference, &credentials, &digest).await.map_err(failed)?;
        if verify(&digest, reference, &signatures, &[key.public()]).is_ok() {
            eprintln!("note: this key has signed the artifact before, so nothing was changed");
        } else {
            let signature = sign(&digest, reference, &key)?;
            client.push_signature(reference, &credentials, &digest, &signature).await.map_err(failed)?;
        }
        Ok(reference.at(&digest))
    })?;
    if reference.digest().is_none() {
        eprintln!("note: the digest is that which the registry says for the tag; sign by the digest that you pushed");
    }
    print(&format!("{signed}\n"))
}
