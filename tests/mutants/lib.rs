//! The list of safety mutants: each replaces one text in the sources, and so removes one protection.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// The path of the list from the root of the repository.
pub const LIST: &str = "tests/mutants/mutants.toml";

/// One protection to remove.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutant {
    /// The failure that is possible without the protection.
    pub why: String,
    /// A text that occurs exactly once in the Rust files under `src/`.
    pub find: String,
    /// The replacement.
    pub replace: String,
    /// The tests that have to fail.
    pub fails: Vec<TestName>,
}

/// A test and its package, written `TEST` (a test of `paddock-tests`) or `PACKAGE TEST`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(from = "String")]
pub struct TestName {
    /// The package of the test.
    pub package: String,
    /// The full name of the test, with its modules.
    pub test: String,
}

impl From<String> for TestName {
    fn from(text: String) -> Self {
        let (package, test) = text.split_once(' ').unwrap_or(("paddock-tests", &text));
        Self { package: package.to_owned(), test: test.trim().to_owned() }
    }
}

impl fmt::Display for TestName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.package, self.test)
    }
}

/// The mutants of a tree by name.
///
/// # Errors
/// The list cannot be read, or a mutant names no test.
pub fn read(root: &Path) -> Result<BTreeMap<String, Mutant>> {
    let text = fs::read_to_string(root.join(LIST)).context(LIST)?;
    let mutants: BTreeMap<String, Mutant> = toml::from_str(&text).context(LIST)?;
    for (name, mutant) in &mutants {
        ensure!(!mutant.fails.is_empty(), "{LIST}: {name} names no test that has to fail");
    }
    Ok(mutants)
}

/// The Rust files of a tree that a mutant may change, and their contents.
///
/// # Errors
/// A folder or a file cannot be read.
pub fn sources(root: &Path) -> Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    let mut folders = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension() == Some(OsStr::new("rs")) {
                let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
                found.push((path, text));
            }
        }
    }
    found.sort();
    Ok(found)
}

impl Mutant {
    /// The file that this mutant changes, and its contents with the change.
    ///
    /// # Errors
    /// The text does not occur, or occurs more than once.
    pub fn apply<'a>(&self, sources: &'a [(PathBuf, String)]) -> Result<(&'a Path, String)> {
        let found: Vec<_> = sources.iter().filter(|(_, text)| text.contains(&self.find)).collect();
        let times: usize = found.iter().map(|(_, text)| text.matches(&self.find).count()).sum();
        let at: Vec<_> = found.iter().map(|(path, _)| path.display().to_string()).collect();
        ensure!(times == 1, "the text occurs {times} times under src/, not once: {:?} {}", self.find, at.join(", "));
        let (path, text) = found[0];
        Ok((path, text.replacen(&self.find, &self.replace, 1)))
    }
}
