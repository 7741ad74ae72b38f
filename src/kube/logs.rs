//! Logs on standard error: text for people, JSON for machines.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// The form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Not a filter.
    #[error("{origin} {filter:?}: expected a level, or TARGET=LEVEL separated by commas")]
    Filter {
        /// Where the filter is from.
        origin: &'static str,
        /// The filter.
        filter: String,
        /// What is wrong with it.
        #[source]
        error: ParseError,
    },
    /// Another log was set up before.
    #[error("setting up the log: {0}")]
    Init(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Sets the process's log up; `level`, which is `--log-level`, before RUST_LOG, else `info`. Without a `format`, text on a
/// terminal and JSON elsewhere.
///
/// # Errors
/// When the filter cannot be read, or another log was set up before.
pub fn init(level: Option<&str>, format: Option<LogFormat>) -> Result<(), LogError> {
    let (origin, filter) = match (level, std::env::var("RUST_LOG")) {
        (Some(level), _) => ("--log-level", level.to_owned()),
        (None, Ok(filter)) if !filter.is_empty() => ("RUST_LOG", filter),
        (None, _) => ("default", "info".to_owned()),
    };
    let filter = match EnvFilter::try_new(&filter) {
        Ok(filter) => filter,
        Err(error) => return Err(LogError::Filter { origin, filter, error }),
    };
    let terminal = std::io::stderr().is_terminal();
    let format = format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => subscriber.with_ansi(terminal).try_init(),
        LogFormat::Json => {
            subscriber.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
        }
    }
    .map_err(LogError::Init)
}
