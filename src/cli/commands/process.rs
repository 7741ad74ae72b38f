//! What the processes have in common: the flags of their logs, their runtime, and the signals that end them.

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines of text, for people.
    Text,
    /// One JSON object for each line.
    Json,
}

impl From<LogFormat> for paddock_kube::logs::LogFormat {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Text => Self::Text,
            LogFormat::Json => Self::Json,
        }
    }
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Logs")]
pub(crate) struct LogArgs {
    /// Format of the log on standard error. If absent, text on a terminal and JSON elsewhere.
    #[arg(long, value_name = "FORMAT", env = "PADDOCK_LOG_FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
    /// Level of the log, or a filter such as `info,paddock_operator=debug`. If absent, the value of RUST_LOG, or else
    /// info.
    #[arg(long, value_name = "FILTER", env = "PADDOCK_LOG_LEVEL")]
    pub(crate) log_level: Option<String>,
}

impl LogArgs {
    /// Sets up the log of the process.
    fn init(&self) -> anyhow::Result<()> {
        paddock_kube::logs::init(self.log_level.as_deref(), self.log_format.map(Into::into))?;
        Ok(())
    }
}

/// Runs a process until its end.
pub(crate) fn run(log: &LogArgs, process: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    log.init()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    let ended = runtime.block_on(process);
    // Only bounded work is left: calls of plugins, and connections that outlasted the drain.
    runtime.shutdown_background();
    ended
}

/// Completes at SIGTERM or SIGINT.
pub(crate) fn shutdown() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
