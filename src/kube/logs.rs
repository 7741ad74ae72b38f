//! The log on standard error: text for people, or JSON for machines. The number of lines has a budget, and the length of a
//! line has a limit.

mod budget;
mod format;
mod lines;

use std::io::IsTerminal;

use opentelemetry_sdk::trace::SdkTracer;
use tracing::Subscriber;
use tracing_subscriber::filter::{FilterExt, ParseError, filter_fn};
use tracing_subscriber::layer::{Filter, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt, registry};

pub use self::budget::ACCESS_LOG;
use self::budget::Budget;
pub use self::format::LogFormat;
use self::lines::Lines;
use crate::traces;

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
    Init(#[from] tracing_subscriber::util::TryInitError),
    /// The thread that reports suppressed lines could not be started.
    #[error("the log cannot be set up: {0}")]
    Thread(#[from] std::io::Error),
}

/// Sets up the log of the process. `level` is the value of `--log-level`. If it is absent, RUST_LOG decides, and the
/// default is `info`. Without a `format`, the log is text on a terminal and JSON elsewhere. The spans of
/// [`traces::TARGET`] go to the `tracer` and not to the log.
///
/// # Errors
/// If the filter is invalid, or a log was set up before.
pub fn init(level: Option<&str>, format: Option<LogFormat>, tracer: Option<SdkTracer>) -> Result<(), LogError> {
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
    let budget = Budget::default();
    let filter = of_lines(filter, budget.clone());
    let lines = fmt::layer().with_writer(Lines(format));
    match format {
        LogFormat::Text => {
            let lines = lines.with_ansi(terminal).with_filter(filter);
            registry().with(traces::layer(tracer)).with(lines).try_init()?;
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_current_span(true).with_span_list(false);
            registry().with(traces::layer(tracer)).with(lines.with_filter(filter)).try_init()?;
        }
    }
    std::thread::Builder::new().name("log-report".to_owned()).spawn(move || budget.report())?;
    Ok(())
}

/// The filter of the lines. It excludes the spans for a collector, so that nothing enables them without one.
fn of_lines<S: Subscriber>(filter: EnvFilter, budget: Budget) -> impl Filter<S> {
    filter.and(budget).and(filter_fn(|line| line.target() != traces::TARGET))
}

#[cfg(test)]
mod tests {
    use tracing::{Level, Metadata, Span, span, subscriber};

    use super::*;

    /// A span's place in the code. Another test may have a subscriber at the same time, so whether a span is disabled here
    /// says nothing about a process with one subscriber.
    fn place(span: impl Fn() -> Span) -> &'static Metadata<'static> {
        subscriber::with_default(registry(), || span().metadata().expect("the registry enables every span"))
    }

    #[test]
    fn spans_are_disabled_without_a_collector_at_every_level() {
        let lines = fmt::layer().with_writer(std::io::sink);
        let lines = lines.with_filter(of_lines(EnvFilter::new("trace"), Budget::default()));
        let process = registry().with(traces::layer(None)).with(lines);
        let is_never = |place| process.register_callsite(place).is_never();
        assert!(!is_never(place(|| span!(Level::TRACE, "of the log"))));
        assert!(is_never(place(|| span!(target: traces::TARGET, Level::INFO, "request"))));
    }
}
