//! The length of source files, and their first line.

use anyhow::Result;

use crate::project::Project;
use crate::tree::Tree;

/// The maximum length of a source file. Half of it is better.
const LONGEST: usize = 500;

pub(super) fn length(project: &Project) -> Result<Vec<String>> {
    Ok(too_long(&project.tree))
}

pub(super) fn purpose(project: &Project) -> Result<Vec<String>> {
    Ok(without_purpose(&project.tree))
}

fn too_long(tree: &Tree) -> Vec<String> {
    let sources = tree.with_extension(&["rs", "go", "wit", "py", "sh"]);
    let long = sources.map(|(path, text)| (path, text.lines().count())).filter(|(_, lines)| *lines > LONGEST);
    long.map(|(path, lines)| format!("{path} has {lines} lines, more than {LONGEST}")).collect()
}

fn without_purpose(tree: &Tree) -> Vec<String> {
    let silent = tree.with_extension(&["rs"]).filter(|(_, text)| !text.starts_with("//! "));
    silent.map(|(path, _)| format!("{path} does not begin with a line of //! that says what it is for")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_and_files_without_purpose_are_found() {
        let long = "//! Long.\n".repeat(LONGEST + 1);
        let tree: Tree =
            [("a.rs", "//! Good."), ("b.rs", "use std::fmt;"), ("c.rs", &long), ("d.md", &long)].into_iter().collect();
        assert_eq!(too_long(&tree), [format!("c.rs has {} lines, more than {LONGEST}", LONGEST + 1)]);
        assert_eq!(without_purpose(&tree).len(), 1);
    }
}
