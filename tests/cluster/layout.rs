//! The paths of one cluster's files.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Creates a folder that only its owner can read, because it will contain keys.
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
    /// Creates the folders for files.
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

    /// The entries that are kept when a test fails. They are small and show the reason.
    pub(crate) const EVIDENCE: [&'static str; 1] = ["log"];

    pub(crate) fn audit_log(&self) -> PathBuf {
        self.logs().join("audit.jsonl")
    }

    /// The folder of the volumes that are provisioned.
    pub(crate) fn volumes(&self) -> PathBuf {
        self.folder.join("volumes")
    }

    pub(crate) fn kubeconfig(&self, user: &str) -> PathBuf {
        self.folder.join(format!("{user}.kubeconfig"))
    }

    /// The socket of a detached supervisor.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("supervisor.sock")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}
