//! The log on standard error: text for people, or JSON for machines.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// The format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object on each line.
    Json,
}

/// The reason why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The text is not a filter.
    #[error("{origin} {filter:?} must be a level, or a list of TARGET=LEVEL separated by commas")]
    Filter {
        /// The flag or the variable that contains the filter.
        origin: &'static str,
        /// The text of the filter.
        filter: String,
        /// The fault of the filter.
        #[source]
        error: ParseError,
    },
    /// The process has set up a log before.
    #[error("the log cannot be set up: {0}")]
    Init(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Sets up the log of the process. `level` is the value of `--log-level`. If it is absent, RUST_LOG decides, and the
/// default is `info`. Without a `format`, the log is text on a terminal and JSON elsewhere.
///
/// # Errors
/// If the filter is invalid, or a log was set up before.
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
