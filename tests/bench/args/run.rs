//! The options that benchmarks share: what is printed, drawn and kept, and the program that is measured.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use paddock_cluster::build_operator;

use crate::progress::say;

/// The options of every benchmark.
#[derive(Clone, Debug, Args)]
pub(crate) struct Run {
    /// Print one JSON object as the last line.
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
    /// Keep the logs of the control plane and of the programs beside it, and print their path.
    #[arg(long, help_heading = "Output")]
    pub(crate) keep_logs: bool,
    /// Use this `paddock` instead of building one.
    #[arg(long, value_name = "FILE", help_heading = "Operator")]
    operator: Option<PathBuf>,
}

/// The option of the benchmarks that can draw their figures.
#[derive(Clone, Debug, Args)]
pub(crate) struct Chart {
    /// Draw a chart into this file.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) svg: Option<PathBuf>,
}

impl Run {
    /// The program that `--operator` names.
    ///
    /// # Errors
    /// Returns an error if its path cannot be made absolute.
    pub(crate) fn named(&self) -> Result<Option<PathBuf>> {
        self.operator.as_ref().map(std::path::absolute).transpose().context("--operator")
    }

    /// The program to measure, which is built if none is named.
    ///
    /// # Errors
    /// Returns an error if the build fails.
    pub(crate) async fn program(&self) -> Result<PathBuf> {
        if let Some(named) = self.named()? {
            return Ok(named);
        }
        say("building the program; the first time that takes minutes");
        Ok(build_operator(say).await?)
    }
}

impl Chart {
    /// Checks that the folder of the chart exists, before minutes are spent on the run.
    ///
    /// # Errors
    /// Returns an error that names the missing folder.
    pub(crate) fn check(&self) -> Result<()> {
        let folder = self.svg.as_deref().and_then(Path::parent).filter(|folder| !folder.as_os_str().is_empty());
        match folder.filter(|folder| !folder.is_dir()) {
            Some(missing) => bail!("--svg: there is no folder {}", missing.display()),
            None => Ok(()),
        }
    }
}
