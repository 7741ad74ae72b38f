//! ARCHITECTURE.md names every file and folder of `src/`, and none that does not exist.
//!
//! The map is the section "Code map". A path in backquotes starts at the root, or at the last crate or folder that was
//! named before it. Tests, examples and build scripts need no entry.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use crate::project::Project;
use crate::tree::Tree;

pub(super) fn check(project: &Project) -> Result<Vec<String>> {
    let map = section(project.tree.required("ARCHITECTURE.md")?).context("ARCHITECTURE.md has no code map")?;
    let (unnamed, mut faults) = differences(&project.tree, map);
    faults.extend(unnamed.iter().map(|path| format!("ARCHITECTURE.md does not name {path}")));
    Ok(faults)
}

/// The text under the heading "Code map".
fn section(text: &str) -> Option<&str> {
    let behind = text.split_once("## Code map")?.1;
    Some(behind.split("\n## ").next().unwrap_or(behind))
}

/// The files and folders that a map does not name, and the faults of the paths that do not exist.
fn differences(tree: &Tree, map: &str) -> (Vec<String>, Vec<String>) {
    let expected = expected(tree);
    let (mut named, mut faults, mut folder) = (BTreeSet::new(), Vec::new(), String::new());
    for path in map.split('`').skip(1).step_by(2).filter(|text| text.ends_with(".rs") || text.contains('/')) {
        let is_folder = path.ends_with('/') || !path.ends_with(".rs");
        let path = path.trim_end_matches('/');
        // A path starts at the root, at the last folder, or at a parent of that folder.
        let bases = std::iter::successors(Some(folder.as_str()), |base| Some(base.rsplit_once('/')?.0));
        let mut places = bases.map(|base| format!("{base}/{path}")).chain([path.to_owned()]);
        let Some(found) = places.find(|place| tree.has(place) && !place.starts_with('/')) else {
            faults.push(format!("ARCHITECTURE.md: {path}: there is no such file in {folder}"));
            continue;
        };
        if is_folder {
            folder.clone_from(&found);
        }
        named.insert(found);
    }
    // A module's file and its folder count as one entry, so the map may name either.
    let is_named = |path: &String| {
        let other = path.strip_suffix(".rs").map_or_else(|| format!("{path}.rs"), str::to_owned);
        named.contains(path) || named.contains(&other)
    };
    (expected.into_iter().filter(|path| !is_named(path)).collect(), faults)
}

/// The paths that a map must name: every module, and every folder with a module.
fn expected(tree: &Tree) -> BTreeSet<String> {
    const OMITTED: [&str; 5] = ["tests", "tests.rs", "examples", "build.rs", "mod.rs"];
    let mut expected = BTreeSet::new();
    for (path, _) in tree.below("src").filter(|(path, _)| path.ends_with(".rs")) {
        let parts: Vec<&str> = path.split('/').collect();
        if parts.iter().any(|part| OMITTED.contains(part) || part.ends_with("_test.rs")) {
            continue;
        }
        expected.insert(path.to_owned());
        expected.extend((2..parts.len()).map(|length| parts[..length].join("/")));
    }
    expected
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unnamed_and_missing_modules_are_found() {
        let files = [
            "src/a/lib.rs",
            "src/a/one.rs",
            "src/a/one/two.rs",
            "src/a/one/tests.rs",
            "src/a/three.rs",
            "src/b/lib.rs",
        ];
        let tree: Tree = files.iter().map(|path| (*path, "")).collect();
        let text = "# A\n\n## Code map\n| `src/a` | `lib.rs` |\n| `one/` | `two.rs` |\n| `four.rs` | `src/b/` |\n\n## B\n`three.rs`";
        let (unnamed, faults) = differences(&tree, section(text).unwrap());
        assert_eq!(unnamed, ["src/a/three.rs", "src/b/lib.rs"]);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].contains("four.rs"));
    }
}
