//! The allowed dependencies of each crate: our own crates in one direction, and no crate with side effects in the pure
//! crates.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use crate::packages::{Dependency, Package, Usage};
use crate::project::Project;
use crate::tree::Tree;

/// The crates of ours that each crate in `src/` may use. A crate that is not in the table may use none.
const LAYERS: [(&str, &[&str]); 10] = [
    ("paddock-api", &[]),
    ("paddock-init", &[]),
    ("paddock-core", &["paddock-api"]),
    ("paddock-plugin-host", &["paddock-api", "paddock-core"]),
    ("paddock-kube", &["paddock-api"]),
    ("paddock-registry", &[]),
    ("paddock-operator", &["paddock-api", "paddock-core", "paddock-plugin-host", "paddock-kube", "paddock-registry"]),
    ("paddock-gateway", &["paddock-api", "paddock-kube"]),
    ("paddock-simulate", &["paddock-api", "paddock-core", "paddock-plugin-host"]),
    (
        "paddock",
        &[
            "paddock-api",
            "paddock-core",
            "paddock-plugin-host",
            "paddock-kube",
            "paddock-registry",
            "paddock-operator",
            "paddock-gateway",
            "paddock-simulate",
        ],
    ),
];

/// The other crates that the pure crates may use. None of them does I/O, reads a clock or runs anything.
const PURE: [&str; 11] = [
    "jiff",
    "json-patch",
    "k8s-openapi",
    "kube",
    "schemars",
    "serde",
    "serde_json",
    "serde_path_to_error",
    "sha2",
    "strum",
    "thiserror",
];

/// The other crates that the tests of the pure crates may use.
const PURE_TESTS: [&str; 2] = ["proptest", "serde_yaml_ng"];

/// The pure crates.
pub(super) const PURE_CRATES: [&str; 2] = ["paddock-api", "paddock-core"];

/// The crates that the plugin host may use: no network, no runtime and no WASI. A plugin's only import is logging.
///
/// `boon` compares settings with a schema, and gets a loader that loads nothing. `idna_adapter` only chooses the release
/// without Unicode tables.
const PLUGIN_HOST: [&str; 11] = [
    "boon",
    "idna_adapter",
    "jiff",
    "json-patch",
    "regex-syntax",
    "serde_json",
    "sha2",
    "thiserror",
    "tracing",
    "wasmtime",
    "wit-component",
];

pub(super) fn layers(project: &Project) -> Result<Vec<String>> {
    Ok(wrong_layers(&project.packages))
}

fn wrong_layers(packages: &[Package]) -> Vec<String> {
    let names: BTreeSet<&str> = packages.iter().map(|p| p.name.as_str()).collect();
    let mut faults = Vec::new();
    for package in packages.iter().filter(|p| p.folder.starts_with("src/")) {
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == package.name) else {
            faults.push(format!("{} is not in the table of layers", package.name));
            continue;
        };
        // The tests of a crate may use the crates for tests.
        let ours = package.dependencies.iter().filter(|d| d.usage != Usage::Tests && names.contains(d.name.as_str()));
        let wrong = ours.filter(|d| !allowed.contains(&d.name.as_str()));
        faults.extend(
            wrong.map(|d| format!("{} depends on {}; of our crates it may use {allowed:?}", package.name, d.name)),
        );
    }
    faults
}

pub(super) fn core(project: &Project) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for name in PURE_CRATES {
        faults.extend(impure(project.package(name).with_context(|| format!("there is no {name}"))?));
    }
    Ok(faults)
}

fn impure(package: &Package) -> Vec<String> {
    let wrong = |dependency: &&Dependency| {
        let name = dependency.name.as_str();
        let allowed = PURE.contains(&name) || PURE_CRATES.contains(&name);
        match dependency.usage {
            Usage::Code => !allowed || dependency.conditional,
            Usage::Tests => !allowed && !PURE_TESTS.contains(&name),
            Usage::Build => true,
        }
    };
    let wrong = package.dependencies.iter().filter(wrong);
    wrong.map(|d| format!("{} depends on {} ({:?}); it may use {PURE:?}", package.name, d.name, d.usage)).collect()
}

pub(super) fn kube(project: &Project) -> Result<Vec<String>> {
    let mut faults = workspace_features(&project.tree)?;
    for package in project.packages.iter().filter(|p| PURE_CRATES.contains(&p.name.as_str())) {
        faults.extend(client_features(package));
    }
    Ok(faults)
}

/// Features of kube that the workspace requests would also apply to the core.
fn workspace_features(tree: &Tree) -> Result<Vec<String>> {
    let manifest: toml::Table = tree.required("Cargo.toml")?.parse()?;
    let kube = manifest.get("workspace").and_then(|w| w.get("dependencies")?.get("kube"));
    let kube = kube.context("the workspace has no dependency on kube")?;
    let is_bare = kube.get("default-features") == Some(&toml::Value::Boolean(false)) && kube.get("features").is_none();
    Ok(if is_bare { Vec::new() } else { vec!["kube in the workspace must have no features".to_owned()] })
}

fn client_features(package: &Package) -> Vec<String> {
    let kube = package.dependencies.iter().filter(|d| d.name == "kube");
    let wrong = kube.filter(|d| d.default_features || d.features.iter().any(|f| f != "derive"));
    wrong.map(|d| format!("{} has kube with {:?}: it may have derive alone", package.name, d.features)).collect()
}

pub(super) fn plugin_host(project: &Project) -> Result<Vec<String>> {
    Ok(reaching(project.package("paddock-plugin-host").context("there is no paddock-plugin-host")?))
}

fn reaching(host: &Package) -> Vec<String> {
    let code = host.dependencies.iter().filter(|d| d.usage == Usage::Code);
    let wrong = code.filter(|d| !PLUGIN_HOST.contains(&d.name.as_str()) && !PURE_CRATES.contains(&d.name.as_str()));
    wrong.map(|d| format!("{} depends on {}; it may use {PLUGIN_HOST:?}", host.name, d.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[(&str, Usage)]) -> Package {
        let dependency = |(name, usage): &(&str, Usage)| Dependency {
            name: (*name).to_owned(),
            usage: *usage,
            features: vec!["derive".to_owned()],
            default_features: false,
            conditional: false,
        };
        Package {
            name: name.to_owned(),
            folder: format!("src/{name}"),
            dependencies: dependencies.iter().map(dependency).collect(),
            ..Package::default()
        }
    }

    #[test]
    fn a_gateway_that_uses_the_core_is_refused() {
        let uses = [("paddock-core", Usage::Code), ("paddock-api", Usage::Code), ("serde", Usage::Code)];
        let packages = [package("paddock-gateway", &uses), package("paddock-core", &[]), package("paddock-api", &[])];
        let faults = wrong_layers(&packages);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].starts_with("paddock-gateway depends on paddock-core"));
        assert_eq!(wrong_layers(&[package("paddock-new", &[])]).len(), 1);
    }

    #[test]
    fn a_core_with_a_runtime_is_refused() {
        let uses = [("serde", Usage::Code), ("proptest", Usage::Tests), ("tokio", Usage::Code), ("cc", Usage::Build)];
        let faults = impure(&package("paddock-core", &uses));
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(!impure(&package("paddock-core", &[("proptest", Usage::Code)])).is_empty());
    }

    #[test]
    fn kube_with_a_client_is_refused() {
        let mut core = package("paddock-core", &[("kube", Usage::Code)]);
        assert!(client_features(&core).is_empty());
        core.dependencies[0].features.push("client".to_owned());
        assert_eq!(client_features(&core).len(), 1);
        let manifest = "[workspace.dependencies]\nkube = { version = \"5\", features = [\"client\"] }";
        assert_eq!(workspace_features(&[("Cargo.toml", manifest)].into_iter().collect()).unwrap().len(), 1);
    }

    #[test]
    fn a_plugin_host_with_a_network_is_refused() {
        let uses = [("wasmtime", Usage::Code), ("paddock-core", Usage::Code), ("wasmtime-wasi", Usage::Code)];
        assert_eq!(reaching(&package("paddock-plugin-host", &uses)).len(), 1);
    }
}
