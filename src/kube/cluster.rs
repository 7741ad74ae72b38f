//! The choice of the cluster: the cluster of the pod, or the one in a kubeconfig that the command line names.
//!
//! The variable KUBECONFIG is ignored. Users often export it for a production cluster, and an operator changes the
//! objects of the cluster that it finds.

use std::path::{Path, PathBuf};

use kube::Config;
use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};

/// The reason why there is no client configuration.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No kubeconfig was named, and the process does not run in a pod.
    #[error(
        "--kubeconfig is not set, and the process does not run in a pod with a service account; set --kubeconfig FILE to run outside a cluster"
    )]
    NoCluster(#[from] InClusterError),
    /// The kubeconfig cannot be used.
    #[error("--kubeconfig {}", .0.display())]
    Kubeconfig(PathBuf, #[source] KubeconfigError),
}

/// The client configuration. `context` names a context of the kubeconfig. If absent, the current context.
///
/// # Errors
/// If the kubeconfig cannot be used, or if there is none and the process does not run in a pod.
pub async fn config(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Config, ClusterError> {
    let Some(file) = kubeconfig else { return Ok(Config::incluster()?) };
    let failed = |error| ClusterError::Kubeconfig(file.to_owned(), error);
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    Config::from_custom_kubeconfig(Kubeconfig::read_from(file).map_err(failed)?, &options).await.map_err(failed)
}
