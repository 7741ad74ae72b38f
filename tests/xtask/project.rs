//! What the checks look at: the text of the repository, the members of the workspace, and the modules of the crates in `src/`.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::api_reference;
use crate::packages::{Package, members};
use crate::rust::Program;
use crate::tree::Tree;

/// A repository, read once.
#[derive(Debug)]
pub struct Project {
    /// Its files.
    pub tree: Tree,
    /// The members of its workspace.
    pub packages: Vec<Package>,
    /// The modules of those members that are in `src/`.
    pub program: Program,
}

impl Project {
    /// Reads the repository that this crate is a part of.
    ///
    /// # Errors
    /// When a file cannot be read, or is no Rust, or when cargo cannot read the workspace.
    pub fn read() -> Result<Self> {
        let root = root();
        Self::new(Tree::read(&root)?, members(&root)?)
    }

    /// A repository of these files and members.
    ///
    /// # Errors
    /// When a file is no Rust.
    pub fn new(tree: Tree, packages: Vec<Package>) -> Result<Self> {
        let shipped: Vec<Package> = packages.iter().filter(|p| p.folder.starts_with("src/")).cloned().collect();
        let program = Program::read(&tree, &shipped)?;
        Ok(Self { tree, packages, program })
    }

    /// The member of this name.
    #[must_use]
    pub fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|p| p.name == name)
    }
}

/// Writes the documents that are made from the repository.
///
/// # Errors
/// When the files that they are made from cannot be read.
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
