//! The operator's rights: those of its ServiceAccount in `deploy/`, and the right to create its webhook configurations.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use kube::api::DynamicObject;
use paddock_api::names::object::{OPERATOR_DEPLOYMENT, OPERATOR_NAMESPACE};
use paddock_cluster::{Cluster, operator_rights};

use crate::manifests::object;

/// The objects with the operator's identity and rights.
pub(crate) async fn rights(program: &Path) -> Result<Vec<DynamicObject>> {
    operator_rights(program).await?.into_iter().map(object).collect()
}

/// A kubeconfig with exactly these rights.
pub(crate) async fn kubeconfig(cluster: &Cluster) -> Result<PathBuf> {
    let file = cluster.kubeconfig_for_service_account(OPERATOR_NAMESPACE, OPERATOR_DEPLOYMENT).await;
    file.context("a token for the operator's ServiceAccount")
}
