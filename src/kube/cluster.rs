//! Which cluster: the one that the pod is in, or the one that a kubeconfig named on the command line says.
//!
//! KUBECONFIG is not looked at: people export it, often for production, and an operator changes what it finds.

use std::path::{Path, PathBuf};

use kube::Config;
use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No kubeconfig was named, and this is no pod.
    #[error(
        "no --kubeconfig was given and this is no pod with a service account; give --kubeconfig FILE to run outside of a cluster"
    )]
    NoCluster(#[from] InClusterError),
    /// The kubeconfig cannot be used.
    #[error("--kubeconfig {}", .0.display())]
    Kubeconfig(PathBuf, #[source] KubeconfigError),
}

/// The client's configuration; `context` is one of the kubeconfig's.
///
/// # Errors
/// When the kubeconfig cannot be used, or there is none and this is no pod.
pub async fn config(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Config, ClusterError> {
    let Some(file) = kubeconfig else { return Ok(Config::incluster()?) };
    let failed = |error| ClusterError::Kubeconfig(file.to_owned(), error);
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    Config::from_custom_kubeconfig(Kubeconfig::read_from(file).map_err(failed)?, &options).await.map_err(failed)
}
