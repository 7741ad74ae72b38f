//! Each check of the source tree as a test: `cargo test -p paddock-xtask --test tidy`. `UPDATE=1` writes generated
//! documents.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::OnceLock;

use libtest_mimic::{Arguments, Failed, Trial};
use paddock_xtask::project::{Project, write_generated};
use paddock_xtask::tidy::{self, CHECKS};

/// The result of each check. The checks share the syntax trees, which cannot be sent between threads, so all checks run
/// together.
type Found = Result<BTreeMap<&'static str, Result<(), String>>, String>;

fn main() -> ExitCode {
    static FOUND: OnceLock<Found> = OnceLock::new();
    let trials = CHECKS.iter().map(|check| {
        Trial::test(format!("tidy::{}", check.name), || {
            let found = FOUND.get_or_init(run_all).as_ref().map_err(Failed::from)?;
            found[check.name].as_ref().map_err(Failed::from).copied()
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

fn run_all() -> Found {
    if std::env::var_os("UPDATE").is_some() {
        write_generated().map_err(|error| format!("{error:#}"))?;
    }
    let project = Project::read().map_err(|error| format!("{error:#}"))?;
    let run = |check| tidy::run(check, &project).map_err(|error| format!("{error:#}"));
    Ok(CHECKS.iter().map(|check| (check.name, run(check))).collect())
}
