//! The operator's rights: exactly those of its ServiceAccount in `deploy/`.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use kube::api::DynamicObject;
use paddock_api::names::object::{OPERATOR_DEPLOYMENT, OPERATOR_NAMESPACE};
use paddock_cluster::{Cluster, Kubectl, WORKSPACE};

use crate::manifests::{kind, objects};

/// The kinds of `deploy/` that define the operator's identity and rights.
const KINDS: [&str; 6] = ["Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"];

/// The objects of `deploy/` with the operator's identity and rights.
pub(crate) async fn rights(kubectl: &Kubectl) -> Result<Vec<DynamicObject>> {
    let folder = format!("{WORKSPACE}/deploy");
    let rendered = kubectl.run(&["kustomize", &folder], None).await.context("rendering deploy/")?;
    let mut rights = objects(&rendered, None)?;
    rights.retain(|object| KINDS.contains(&kind(object)));
    // The order of roles does not matter, but each object needs its namespace first.
    rights.sort_by_key(|object| KINDS.iter().position(|known| *known == kind(object)));
    ensure!(!rights.is_empty(), "deploy/ gives the operator no rights");
    Ok(rights)
}

/// A kubeconfig with exactly these rights.
pub(crate) async fn kubeconfig(cluster: &Cluster) -> Result<PathBuf> {
    let file = cluster.kubeconfig_for_service_account(OPERATOR_NAMESPACE, OPERATOR_DEPLOYMENT).await;
    file.context("a token for the operator's ServiceAccount")
}
