//! The files of the repository as text, which is read once. A check is a function of text, so a unit test needs no
//! files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Folders with generated files.
const SKIPPED: [&str; 3] = ["target", ".git", "node_modules"];

/// Text files by their path from the root, with `/` between folders.
#[derive(Debug, Default)]
pub struct Tree {
    files: BTreeMap<String, String>,
}

impl Tree {
    /// Reads every text file below a folder.
    ///
    /// # Errors
    /// Returns an error if a folder or a file cannot be read.
    pub fn read(root: &Path) -> Result<Self> {
        let (mut files, mut folders) = (BTreeMap::new(), vec![root.to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
                let entry = entry?;
                let (path, kind) = (entry.path(), entry.file_type()?);
                if kind.is_dir() && !SKIPPED.iter().any(|skipped| entry.file_name() == *skipped) {
                    folders.push(path);
                } else if kind.is_file() || (kind.is_symlink() && path.is_file()) {
                    let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
                    // Images and compiled plugins are not text.
                    let Ok(text) = String::from_utf8(bytes) else { continue };
                    let name = path.strip_prefix(root)?.to_string_lossy().replace('\\', "/");
                    files.insert(name, text);
                }
            }
        }
        Ok(Self { files })
    }

    /// The same files inside a folder.
    #[must_use]
    pub fn under(self, folder: &str) -> Self {
        self.files.into_iter().map(|(path, text)| (format!("{folder}/{path}"), text)).collect()
    }

    /// The text of a file.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// The text of a file that must exist.
    ///
    /// # Errors
    /// Returns an error if the file does not exist.
    pub fn required(&self, path: &str) -> Result<&str> {
        self.text(path).with_context(|| format!("there is no {path}"))
    }

    /// Whether this is the path of a file, or of a folder with a file in it.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        path.is_empty() || self.files.contains_key(path) || self.below(path).next().is_some()
    }

    /// All files by path.
    pub fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// All files below a folder.
    pub fn below(&self, folder: &str) -> impl Iterator<Item = (&str, &str)> {
        let prefix = format!("{}/", folder.trim_end_matches('/'));
        let from = self.files.range(prefix.clone()..);
        from.take_while(move |(path, _)| path.starts_with(&prefix)).map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// All files with one of these extensions.
    pub fn with_extension<'a>(&'a self, extensions: &'a [&str]) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.files().filter(|(path, _)| path.rsplit_once('.').is_some_and(|(_, end)| extensions.contains(&end)))
    }
}

impl<P: Into<String>, T: Into<String>> FromIterator<(P, T)> for Tree {
    fn from_iter<I: IntoIterator<Item = (P, T)>>(files: I) -> Self {
        Self { files: files.into_iter().map(|(path, text)| (path.into(), text.into())).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_extensions_are_distinguished() {
        let tree: Tree =
            [("src/a.rs", ""), ("src/b/c.rs", ""), ("srcs/d.rs", ""), ("docs/e.md", "")].into_iter().collect();
        assert_eq!(tree.below("src").count(), 2);
        assert_eq!(tree.with_extension(&["md"]).count(), 1);
        assert!(tree.has("src/b") && tree.has("src/a.rs") && !tree.has("src/c"));
    }
}
