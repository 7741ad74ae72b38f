//! The operator's rights: those of its ServiceAccount as `deploy/` gives them, and no others.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use kube::api::DynamicObject;
use paddock_cluster::{Cluster, Kubectl, WORKSPACE};
use paddock_core::names::object::{OPERATOR_DEPLOYMENT, OPERATOR_NAMESPACE};

use crate::manifests::{kind, objects};

/// The kinds of `deploy/` that say who the operator is and what it may do.
const KINDS: [&str; 6] = ["Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"];

/// What `deploy/` says of the operator's rights.
pub(crate) async fn rights(kubectl: &Kubectl) -> Result<Vec<DynamicObject>> {
    let folder = format!("{WORKSPACE}/deploy");
    let rendered = kubectl.run(&["kustomize", &folder], None).await.context("rendering deploy/")?;
    let mut rights = objects(&rendered, None)?;
    rights.retain(|object| KINDS.contains(&kind(object)));
    // Roles may name objects of one another, but each needs its namespace.
    rights.sort_by_key(|object| KINDS.iter().position(|known| *known == kind(object)));
    ensure!(!rights.is_empty(), "deploy/ gives the operator no rights");
    Ok(rights)
}

/// A kubeconfig with exactly these rights.
pub(crate) async fn kubeconfig(cluster: &Cluster) -> Result<PathBuf> {
    let file = cluster.kubeconfig_for_service_account(OPERATOR_NAMESPACE, OPERATOR_DEPLOYMENT).await;
    file.context("a token for the operator's ServiceAccount")
}
