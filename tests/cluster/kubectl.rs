//! Runs kubectl against one cluster, independent of the environment.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::{Binaries, Error, Program, Result};

/// kubectl for one cluster and one user.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    home: PathBuf,
}

impl Kubectl {
    pub(crate) fn new(binaries: &Binaries, kubeconfig: &Path, home: &Path) -> Self {
        Self {
            program: binaries.path(Program::Kubectl).to_owned(),
            kubeconfig: kubeconfig.to_owned(),
            home: home.to_owned(),
        }
    }

    /// The program.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The same cluster with the user of another kubeconfig.
    #[must_use]
    pub fn with_kubeconfig(&self, kubeconfig: &Path) -> Self {
        Self { kubeconfig: kubeconfig.to_owned(), ..self.clone() }
    }

    /// Runs kubectl and returns its output and its exit status, whether it succeeds or fails.
    pub async fn output(&self, args: &[&str], input: Option<&str>) -> Result<Output> {
        let mut child = Command::new(&self.program)
            .args(args)
            .env_clear()
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HOME", &self.home)
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(Error::io("starting kubectl"))?;
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
            // kubectl may end without reading the whole input. Its output then contains the reason.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        child.wait_with_output().await.map_err(Error::io("running kubectl"))
    }

    /// Runs kubectl and returns its standard output. A failure is an error.
    pub async fn run(&self, args: &[&str], input: Option<&str>) -> Result<String> {
        let output = self.output(args, input).await?;
        if !output.status.success() {
            return Err(Error::Command {
                command: format!("kubectl {}", args.join(" ")),
                stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
