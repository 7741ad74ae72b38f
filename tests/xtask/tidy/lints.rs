//! Checks that every crate has the workspace's lints, without which clippy forbids nothing, and checks some rules that
//! clippy does not have.

use anyhow::{Context, Result};
use syn::visit::Visit;

use crate::project::Project;
use crate::tree::Tree;

/// The lints that a workspace must enable. `cargo clippy -- -D warnings` makes them errors.
const LINTS: [&str; 9] = [
    "allow_attributes",
    "allow_attributes_without_reason",
    "dbg_macro",
    "expect_used",
    "panic",
    "todo",
    "unimplemented",
    "unwrap_used",
    "wildcard_enum_match_arm",
];

pub(super) fn check(project: &Project) -> Result<Vec<String>> {
    let mut faults = manifests(&project.tree)?;
    faults.extend(sources(&project.tree)?);
    Ok(faults)
}

/// Each workspace enables the lints, and each package inherits them.
fn manifests(tree: &Tree) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for (path, text) in tree.with_extension(&["toml"]).filter(|(path, _)| path.ends_with("Cargo.toml")) {
        let manifest: toml::Table = text.parse().with_context(|| path.to_owned())?;
        if let Some(workspace) = manifest.get("workspace") {
            let lints = |tool: &str| workspace.get("lints").and_then(|l| l.get(tool));
            let clippy = lints("clippy").and_then(toml::Value::as_table).cloned().unwrap_or_default();
            let missing = LINTS
                .iter()
                .filter(|lint| clippy.get(**lint).and_then(toml::Value::as_str).is_none_or(|level| level == "allow"));
            faults.extend(missing.map(|lint| format!("{path} does not switch {lint} on")));
            let is_safe = lints("rust").and_then(|l| l.get("unsafe_code")).and_then(toml::Value::as_str);
            if !is_safe.is_some_and(|level| ["deny", "forbid"].contains(&level)) {
                faults.push(format!("{path} does not forbid unsafe_code"));
            }
        }
        let inherits = manifest.get("lints").and_then(|l| l.get("workspace")).and_then(toml::Value::as_bool);
        if manifest.contains_key("package") && inherits != Some(true) {
            faults.push(format!("{path} does not take the workspace's lints"));
        }
    }
    Ok(faults)
}

/// No test is disabled, and nothing is marked as unfinished.
fn sources(tree: &Tree) -> Result<Vec<String>> {
    // In two parts, so that the check does not find this file.
    let unfinished = ["FIX", "ME"].concat();
    let mut faults = Vec::new();
    for (path, text) in tree.with_extension(&["rs"]) {
        let mut ignored = Attributes(Vec::new());
        ignored.visit_file(&syn::parse_file(text).with_context(|| path.to_owned())?);
        faults.extend(ignored.0.iter().map(|(line, name)| format!("{path}:{line}: #[{name}]")));
        let marked = text.lines().enumerate().filter(|(_, line)| line.contains(&unfinished));
        faults.extend(marked.map(|(at, _)| format!("{path}:{}: {unfinished}", at + 1)));
    }
    Ok(faults)
}

/// Attributes that disable a test or a lint, with their lines.
struct Attributes(Vec<(usize, &'static str)>);

impl<'a> Visit<'a> for Attributes {
    fn visit_attribute(&mut self, attribute: &'a syn::Attribute) {
        for name in ["ignore", "allow"] {
            if attribute.path().is_ident(name) {
                self.0.push((attribute.pound_token.span.start().line, name));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_is_switched_off_is_found() {
        let marked = ["// FIX", "ME: later\nfn a() {}"].concat();
        let off = "#[test]\n#[ignore = \"slow\"]\nfn a() {}";
        let tree: Tree =
            [("a.rs", off), ("b.rs", &marked), ("c.rs", "fn ignore() {}"), ("d.rs", "#![allow(dead_code)]")]
                .into_iter()
                .collect();
        assert_eq!(
            sources(&tree).unwrap(),
            [
                "a.rs:2: #[ignore]".to_owned(),
                format!("b.rs:1: {}", ["FIX", "ME"].concat()),
                "d.rs:1: #[allow]".to_owned()
            ]
        );
    }

    #[test]
    fn a_package_without_the_lints_and_a_workspace_without_one_are_found() {
        let tree: Tree =
            [("Cargo.toml", "[workspace.lints.clippy]\ntodo = \"warn\""), ("a/Cargo.toml", "[package]\nname = \"a\"")]
                .into_iter()
                .collect();
        let faults = manifests(&tree).unwrap();
        assert_eq!(faults.len(), LINTS.len() - 1 + 2, "{faults:?}");
        assert!(faults.iter().any(|f| f.contains("does not switch panic on")));
    }
}
