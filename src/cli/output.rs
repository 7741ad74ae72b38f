//! What subcommands read and print.

use std::path::Path;

use anyhow::Context as _;
use clap::ValueEnum;
use serde::Serialize;

/// The format of an output that people read by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TableFormat {
    /// Lines of text, for people.
    Table,
    /// One JSON object.
    Json,
}

impl TableFormat {
    /// Prints a value.
    pub(crate) fn print<T: Serialize>(self, value: &T, table: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
        print(&match self {
            TableFormat::Table => table(value),
            TableFormat::Json => json(value)?,
        })
    }
}

/// One YAML document for each object.
pub(crate) fn yaml<T: Serialize>(objects: &[T]) -> anyhow::Result<String> {
    let mut text = String::new();
    for object in objects {
        text.push_str("---\n");
        text.push_str(&serde_yaml_ng::to_string(object).context("writing an object as YAML")?);
    }
    Ok(text)
}

/// A value in JSON, with the fields in the order of its type.
pub(crate) fn json<T: Serialize>(value: &T) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value).context("writing JSON")? + "\n")
}

/// A reader that has seen enough (`| head`) is no error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    use std::io::{ErrorKind, Write};
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("writing to standard output"),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The content of a file.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("reading {}", path.display()))
}
