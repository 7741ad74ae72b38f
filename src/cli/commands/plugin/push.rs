//! `paddock plugin push`: stores a component in a registry.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use paddock_registry::{Reference, Upload};

use super::component;
use super::inspect::Inspection;
use super::registry::{Access, RegistryArgs, credentials_help, failed, run_requests};
use crate::output::{print, read};
use crate::usage::{OrBadUsage as _, bad_usage};

#[derive(Debug, Args)]
#[command(after_help = concat!("\
The command loads the component as the operator would, and pushes nothing that the operator refuses. It prints the
reference with the digest of the artifact. The same component always gets the same digest.

", credentials_help!(), "\
Examples:
  paddock plugin push my-plugin.wasm oci://registry.example.com/plugins/my-plugin:v1
  paddock plugin push my-plugin.wasm oci://localhost:5000/my-plugin:v1 --plain-http
  paddock plugin push my-plugin.wasm oci://ghcr.io/me/my-plugin:v1 --username me --password-stdin < token"))]
pub(crate) struct PushArgs {
    /// The component.
    #[arg(value_name = "COMPONENT")]
    component: PathBuf,
    /// The place in a registry, with a tag.
    #[arg(value_name = "REFERENCE")]
    reference: Reference,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Checks the component, pushes it, and prints the reference with the digest.
pub(crate) fn run(PushArgs { component: path, reference, registry }: &PushArgs) -> anyhow::Result<()> {
    if reference.tag().is_none() || reference.digest().is_some() {
        return Err(bad_usage(format!(
            "{reference}: must end with a tag such as :v1, because the push makes the digest"
        )));
    }
    let bytes = read(path).or_bad_usage()?;
    let name = component::name(path);
    let host = component::host()?;
    let inspection = Inspection::new(&host, &name, &bytes).with_context(|| path.display().to_string())?;
    inspection.accepted()?;
    let Access { client, credentials } = registry.access(reference)?;
    let upload = Upload {
        file_name: format!("{name}.wasm"),
        component: bytes.into(),
        imports: inspection.imports,
        exports: inspection.exports,
    };
    let push = async { client.push(reference, &credentials, &upload).await.map_err(failed) };
    let pushed = run_requests(push)?;
    print(&format!("{}\n", reference.at(&pushed.manifest_digest)))
}
