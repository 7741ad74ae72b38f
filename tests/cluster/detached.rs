//! Clusters that were left running. They are found, described and stopped through the folder that each has.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::components::ADMIN_FILE;
use crate::layout::Layout;
use crate::supervisor::stop_detached;
use crate::{Error, Result};

/// The prefix of every cluster's folder in the folder for temporary files.
pub(crate) const PREFIX: &str = "paddock-";

/// A cluster that outlives the process that started it. Its `Display` describes how to use and stop it.
#[derive(Clone, Debug)]
pub struct DetachedCluster {
    layout: Layout,
}

impl DetachedCluster {
    pub(crate) fn at(folder: &Path) -> Self {
        Self { layout: Layout::at(folder) }
    }

    /// The cluster in a folder, as [`DetachedCluster::dir`] and `paddock-cluster list` give it.
    pub fn open(folder: &Path) -> Result<Self> {
        let detached = Self::at(folder);
        if detached.layout.socket().exists() {
            return Ok(detached);
        }
        Err(Error::Input {
            field: "DIR",
            problem: format!(
                "{} has no running cluster: `paddock-cluster list` names those there are",
                folder.display()
            ),
        })
    }

    /// All clusters that this user left running on this machine.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let entries = std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
        let mut folders: Vec<PathBuf> = entries
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX))
            .map(|entry| entry.path())
            .collect();
        folders.sort();
        folders.iter().filter_map(|folder| Self::open(folder).ok()).collect()
    }

    /// The cluster's folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.layout.folder()
    }

    /// A kubeconfig with every right.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.layout.kubeconfig(ADMIN_FILE)
    }

    /// Ends the cluster and removes its folder. Returns when no process, port or file is left.
    pub fn stop(self) -> Result<()> {
        stop_detached(&self.layout)
    }
}

impl fmt::Display for DetachedCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "export KUBECONFIG={}", self.kubeconfig().display())?;
        write!(f, "cargo run -p paddock-cluster -- down {}    # stops it", self.dir().display())
    }
}
