//! Errors of the command line and of the files that it names, which end the program with code 2.

use std::error::Error;
use std::fmt;

/// An error that the user's input causes: a flag, or a file that a flag names. Flags that clap refuses have the same exit
/// code.
#[derive(Debug)]
pub(crate) struct BadUsage(anyhow::Error);

impl fmt::Display for BadUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for BadUsage {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// Marks an error as one of the user's input.
pub(crate) trait OrBadUsage<T> {
    /// The value, or the error as [`BadUsage`].
    fn or_bad_usage(self) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> OrBadUsage<T> for Result<T, E> {
    fn or_bad_usage(self) -> anyhow::Result<T> {
        self.map_err(|error| BadUsage(error.into()).into())
    }
}

/// An error of the user's input with this message.
pub(crate) fn bad_usage(message: impl fmt::Display) -> anyhow::Error {
    BadUsage(anyhow::anyhow!("{message}")).into()
}
