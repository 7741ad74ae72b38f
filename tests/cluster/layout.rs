//! Where the files of one cluster are.

use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The folder of one cluster.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    folder: PathBuf,
}

impl Layout {
    /// The folders in which files are put.
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        let layout = Self::at(folder);
        for folder in [layout.pki(), layout.logs()] {
            std::fs::create_dir_all(&folder)
                .map_err(Error::io(format!("making {}", folder.display())))?;
        }
        Ok(layout)
    }

    pub(crate) fn at(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn pki(&self) -> PathBuf {
        self.folder.join("pki")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.folder.join("log")
    }

    pub(crate) fn log(&self, process: &str) -> PathBuf {
        self.logs().join(format!("{process}.log"))
    }

    /// Entries that are worth keeping when a test fails: small, and they tell what happened.
    pub(crate) const EVIDENCE: [&'static str; 1] = ["log"];

    pub(crate) fn audit_log(&self) -> PathBuf {
        self.logs().join("audit.jsonl")
    }

    pub(crate) fn kubeconfig(&self, user: &str) -> PathBuf {
        self.folder.join(format!("{user}.kubeconfig"))
    }

    /// Where a supervisor that has been detached listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("supervisor.sock")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}
