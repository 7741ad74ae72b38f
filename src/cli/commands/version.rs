//! `paddock version`.

use crate::output::print;

/// Prints the version.
pub(crate) fn run() -> anyhow::Result<()> {
    print(concat!("paddock v", env!("CARGO_PKG_VERSION"), "\n"))
}
