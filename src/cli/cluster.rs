//! Which cluster: the one that the pod is in, or the one that a kubeconfig named on the command line says.
//!
//! KUBECONFIG is not looked at: people export it, often for production, and an operator changes what it finds.

use anyhow::Context as _;
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::args::ClusterArgs;

/// The client's configuration.
pub(crate) async fn config(args: &ClusterArgs) -> anyhow::Result<Config> {
    let Some(file) = &args.kubeconfig else {
        return Config::incluster().context(
            "no --kubeconfig was given and this is no pod with a service account; give --kubeconfig FILE to run outside of a cluster",
        );
    };
    let kubeconfig = Kubeconfig::read_from(file).with_context(|| format!("--kubeconfig {}", file.display()))?;
    let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
    Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .with_context(|| format!("--kubeconfig {}", file.display()))
}
