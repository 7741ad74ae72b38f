//! The members of the workspace, as cargo describes them.

use std::path::Path;

use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, MetadataCommand, TargetKind};

/// A member of the workspace.
#[derive(Clone, Debug, Default)]
pub struct Package {
    /// The name of the member.
    pub name: String,
    /// The folder of the member, from the root of the repository.
    pub folder: String,
    /// The root files of its library, programs and build script, from the root of the repository.
    pub roots: Vec<String>,
    /// The dependencies of the member.
    pub dependencies: Vec<Dependency>,
}

/// A dependency of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// The name of the package.
    pub name: String,
    /// The part of the member that needs the package.
    pub usage: Usage,
    /// The requested features.
    pub features: Vec<String>,
    /// Whether the default features are requested.
    pub default_features: bool,
    /// Whether it is needed on some platforms only.
    pub conditional: bool,
}

/// The part of a member that needs a dependency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// The crate itself.
    Code,
    /// The tests, examples and benchmarks.
    Tests,
    /// The build script.
    Build,
}

/// The members of a workspace. `cargo metadata` needs no registry for them.
///
/// # Errors
/// Returns an error if cargo cannot read the workspace.
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
