//! The members of the workspace, as cargo describes them.

use std::path::Path;

use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, MetadataCommand, TargetKind};

/// A member of the workspace.
#[derive(Clone, Debug, Default)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its folder, from the root of the repository.
    pub folder: String,
    /// The root files of its library, programs and build script, from the root of the repository.
    pub roots: Vec<String>,
    /// What it depends on.
    pub dependencies: Vec<Dependency>,
}

/// A dependency of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// The name of the package.
    pub name: String,
    /// What needs it.
    pub usage: Usage,
    /// The features that are asked for.
    pub features: Vec<String>,
    /// Whether its default features are asked for.
    pub default_features: bool,
    /// Whether it is needed on some platforms only.
    pub conditional: bool,
}

/// What needs a dependency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// The crate itself.
    Code,
    /// Its tests, examples and benchmarks.
    Tests,
    /// Its build script.
    Build,
}

/// The members of a workspace; `cargo metadata` asks no registry for them.
///
/// # Errors
/// When cargo cannot read the workspace.
pub fn members(root: &Path) -> Result<Vec<Package>> {
    let mut command = MetadataCommand::new();
    command.manifest_path(root.join("Cargo.toml")).no_deps().other_options(["--offline".to_owned()]);
    let metadata = command.exec().context("cargo metadata")?;
    let root = metadata.workspace_root.clone();
    let relative = |path: &cargo_metadata::camino::Utf8Path| path.strip_prefix(&root).unwrap_or(path).to_string();
    let packages = metadata.packages.iter().map(|package| Package {
        name: package.name.to_string(),
        folder: relative(package.manifest_path.parent().unwrap_or(&root)),
        roots: package.targets.iter().filter(|t| t.kind.iter().all(is_code)).map(|t| relative(&t.src_path)).collect(),
        dependencies: package.dependencies.iter().map(dependency).collect(),
    });
    Ok(packages.collect())
}

fn is_code(kind: &TargetKind) -> bool {
    !matches!(kind, TargetKind::Test | TargetKind::Example | TargetKind::Bench)
}

fn dependency(found: &cargo_metadata::Dependency) -> Dependency {
    Dependency {
        name: found.name.clone(),
        usage: match found.kind {
            DependencyKind::Development => Usage::Tests,
            DependencyKind::Build => Usage::Build,
            DependencyKind::Normal | DependencyKind::Unknown => Usage::Code,
        },
        features: found.features.clone(),
        default_features: found.uses_default_features,
        conditional: found.target.is_some(),
    }
}
