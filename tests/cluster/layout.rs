//! Where the files of one cluster are.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Makes a folder that only its owner can look into: it will have keys.
pub(crate) fn temporary(prefix: &str) -> Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix(prefix)
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir()
        .map_err(Error::io("making a temporary folder"))
}

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
            std::fs::create_dir_all(&folder).map_err(Error::io(format!("making {}", folder.display())))?;
        }
        Ok(layout)
    }

    pub(crate) fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
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
