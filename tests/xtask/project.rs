//! The input of the checks: the text of the repository, the members of the workspace, and the modules of the crates in
//! `src/`.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::api_reference;
use crate::packages::{Package, members};
use crate::rust::Program;
use crate::tree::Tree;

/// A repository that was read once.
#[derive(Debug)]
pub struct Project {
    /// The files of the repository.
    pub tree: Tree,
    /// The members of its workspace.
    pub packages: Vec<Package>,
    /// The modules of the members in `src/`.
    pub program: Program,
}

impl Project {
    /// Reads the repository of this crate.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read or is not valid Rust, or if cargo cannot read the workspace.
    pub fn read() -> Result<Self> {
        let root = root();
        Self::new(Tree::read(&root)?, members(&root)?)
    }

    /// A repository with these files and members.
    ///
    /// # Errors
    /// Returns an error if a file is not valid Rust.
    pub fn new(tree: Tree, packages: Vec<Package>) -> Result<Self> {
        let shipped: Vec<Package> = packages.iter().filter(|p| p.folder.starts_with("src/")).cloned().collect();
        let program = Program::read(&tree, &shipped)?;
        Ok(Self { tree, packages, program })
    }

    /// The member with this name.
    #[must_use]
    pub fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|p| p.name == name)
    }
}

/// Writes the documents that are generated from the repository.
///
/// # Errors
/// Returns an error if the source files of the documents cannot be read.
pub fn write_generated() -> Result<()> {
    let root = root();
    let reference = api_reference::generate(&Tree::read(&root.join("crds"))?.under("crds"))?;
    std::fs::write(root.join(api_reference::FILE), reference)?;
    Ok(())
}

/// The root of the repository.
#[must_use]
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}
