//! Logs on standard error: text for people, JSON for machines.

use std::io::IsTerminal;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

use crate::args::{LogArgs, LogFormat};

/// Sets the process's log up; `--log-level` before RUST_LOG, else `info`.
pub(crate) fn init(args: &LogArgs) -> anyhow::Result<()> {
    let (source, filter) = match (&args.log_level, std::env::var("RUST_LOG")) {
        (Some(level), _) => ("--log-level", level.clone()),
        (None, Ok(filter)) if !filter.is_empty() => ("RUST_LOG", filter),
        (None, _) => ("default", "info".to_owned()),
    };
    let filter = EnvFilter::try_new(&filter)
        .with_context(|| format!("{source} {filter:?}: expected a level, or TARGET=LEVEL separated by commas"))?;
    let terminal = std::io::stderr().is_terminal();
    let format = args.log_format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => subscriber.with_ansi(terminal).try_init(),
        LogFormat::Json => {
            subscriber.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
        }
    }
    .map_err(|error| anyhow::anyhow!("setting up the log: {error}"))
}
