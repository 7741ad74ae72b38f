//! What the processes have in common: the flags of their logs, their runtime, and the signals that end them.

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use paddock_kube::traces::Traces;
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
    /// URL of an OpenTelemetry collector, such as `http://collector.observability:4318`. The process sends its spans there
    /// over HTTP with protobuf, to the path /v1/traces. docs/traces.md lists the other variables OTEL_* that are read,
    /// such as OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER and OTEL_EXPORTER_OTLP_HEADERS. If absent, there are no spans.
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT", help_heading = "Traces")]
    pub(crate) otlp_endpoint: Option<String>,
    /// Whether there are spans at all. A flag of upstream's controller turns them off.
    #[arg(skip = true)]
    pub(crate) spans: bool,
}

impl LogArgs {
    /// Sets up the log of the process, and its spans.
    fn init(&self, traces: &Traces) -> anyhow::Result<()> {
        paddock_kube::logs::init(self.log_level.as_deref(), self.log_format.map(Into::into), traces.tracer())?;
        Ok(())
    }
}

/// Runs a process until its end. `service` is its name in traces.
pub(crate) fn run(
    service: &'static str,
    log: &LogArgs,
    process: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    let traces = if log.spans {
        Traces::start(service, log.otlp_endpoint.as_deref(), runtime.handle())?
    } else {
        Traces::none()
    };
    log.init(&traces)?;
    let ended = runtime.block_on(process);
    traces.end();
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
