//! The files of the control plane's programs. They are built into the user's cache folder, except for those that are
//! taken from the folder in `KUBEBUILDER_ASSETS`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::go_build::CONTROL_PLANE;
use crate::{Error, Result};

/// A program of the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// The database of the API server.
    Etcd,
    /// The API server.
    ApiServer,
    /// The built-in controllers.
    ControllerManager,
    /// The scheduler.
    Scheduler,
    /// The simulator of nodes and pods.
    Kwok,
    /// Prints kwok's stages.
    KwokStages,
    /// Provisions and binds volume claims.
    ProvisionVolumes,
    /// Starts and ends the other programs.
    Supervise,
    /// The command line client.
    Kubectl,
}

impl Program {
    /// All programs.
    pub const ALL: [Self; 9] = [
        Self::Etcd,
        Self::ApiServer,
        Self::ControllerManager,
        Self::Scheduler,
        Self::Kwok,
        Self::KwokStages,
        Self::ProvisionVolumes,
        Self::Supervise,
        Self::Kubectl,
    ];

    /// The file name, which is also the name of the process and of its log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Kwok => "kwok",
            Self::KwokStages => "kwok-stages",
            Self::ProvisionVolumes => "provision-volumes",
            Self::Supervise => "supervise",
            Self::Kubectl => "kubectl",
        }
    }

    /// Whether a folder of test assets, as other projects use them, may replace the program.
    const fn replaceable(self) -> bool {
        match self {
            Self::Etcd | Self::ApiServer | Self::Kubectl => true,
            Self::ControllerManager
            | Self::Scheduler
            | Self::Kwok
            | Self::KwokStages
            | Self::ProvisionVolumes
            | Self::Supervise => false,
        }
    }
}

/// The files of the programs.
#[derive(Clone, Debug)]
pub struct Binaries {
    files: BTreeMap<Program, PathBuf>,
}

impl Binaries {
    /// Finds the programs. It builds them first if this machine has not done so yet. A build takes minutes, is reported
    /// on standard error, and blocks.
    pub fn ready() -> Result<Self> {
        Self::with_assets(std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from).as_deref())
    }

    /// Whether [`Binaries::ready`] has nothing to build.
    #[must_use]
    pub fn are_built() -> bool {
        CONTROL_PLANE.built()
    }

    /// The same as [`Binaries::ready`] for an async caller.
    pub async fn ready_async() -> Result<Self> {
        let blocking = tokio::task::spawn_blocking(Self::ready);
        blocking.await.map_err(Error::format("building the local control plane"))?
    }

    /// The file of a program.
    #[must_use]
    pub fn path(&self, program: Program) -> &Path {
        self.files.get(&program).map_or(Path::new(program.name()), PathBuf::as_path)
    }

    fn with_assets(assets: Option<&Path>) -> Result<Self> {
        if let Some(folder) = assets
            && !folder.is_dir()
        {
            return Err(Error::Input {
                field: "KUBEBUILDER_ASSETS",
                problem: format!(
                    "{} is not a folder: set it to one that has etcd, kube-apiserver or kubectl, or unset it",
                    folder.display()
                ),
            });
        }
        Ok(Self::choose(&CONTROL_PLANE.ready()?, assets))
    }

    fn choose(built: &Path, assets: Option<&Path>) -> Self {
        let files = Program::ALL.into_iter().map(|program| {
            let own = built.join(program.name());
            let file = assets
                .filter(|_| program.replaceable())
                .map(|folder| folder.join(program.name()))
                .filter(|file| file.is_file())
                .unwrap_or(own);
            (program, file)
        });
        Self { files: files.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assets_replace_only_what_they_have_and_only_what_they_may() {
        let assets = tempfile::tempdir().unwrap();
        for name in ["etcd", "kube-scheduler", "kwok"] {
            std::fs::write(assets.path().join(name), "").unwrap();
        }
        let built = Path::new("/built");
        let chosen = Binaries::choose(built, Some(assets.path()));
        assert_eq!(chosen.path(Program::Etcd), assets.path().join("etcd"));
        for own in [Program::ApiServer, Program::Kubectl, Program::Scheduler, Program::Kwok] {
            assert_eq!(chosen.path(own), built.join(own.name()));
        }
    }

    #[test]
    fn assets_that_are_no_folder_are_an_error_that_names_the_variable() {
        let error = Binaries::with_assets(Some(Path::new("/nowhere"))).unwrap_err();
        assert!(matches!(error, Error::Input { field: "KUBEBUILDER_ASSETS", .. }));
    }
}
