//! `cargo xtask`: checks the source tree and commit messages, and writes the documents that are generated from code.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use paddock_xtask::project::{self, Project, root};
use paddock_xtask::{commit_message, tidy};

#[derive(Parser)]
#[command(about, bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Check the source tree
    Tidy {
        /// Print the names and the descriptions of the checks
        #[arg(long)]
        list: bool,
        /// Run only the checks whose name contains one of these words
        names: Vec<String>,
    },
    /// Write docs/api-reference.md from the CRDs in crds/
    ApiReference,
    /// Check one commit message
    CommitMsg {
        /// The file with the message, or - for standard input
        file: PathBuf,
    },
    /// Check the messages of the commits since the one in commit-rules-since
    Commits,
}

fn main() -> Result<ExitCode> {
    let passed = match Arguments::parse().task {
        Task::Tidy { list: true, names: _ } => {
            tidy::CHECKS.iter().for_each(|check| println!("{}: {}", check.name, check.about));
            true
        }
        Task::Tidy { list: false, names } => tidy_all(&names)?,
        Task::ApiReference => {
            project::write_generated()?;
            true
        }
        Task::CommitMsg { file } => message(&file)?,
        Task::Commits => commits()?,
    };
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tidy_all(names: &[String]) -> Result<bool> {
    let project = Project::read()?;
    let mut passed = true;
    let chosen = |name: &str| names.is_empty() || names.iter().any(|n| name.contains(n));
    for check in tidy::CHECKS.iter().filter(|check| chosen(check.name)) {
        match tidy::run(check, &project) {
            Ok(()) => println!("ok      {}", check.name),
            Err(error) => {
                passed = false;
                println!("FAILED  {}\n{error:#}\n", check.name);
            }
        }
    }
    Ok(passed)
}

fn message(file: &Path) -> Result<bool> {
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text)?;
    } else {
        text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    }
    let faults = commit_message::faults(&text);
    faults.iter().for_each(|fault| eprintln!("commit message: {fault}"));
    Ok(faults.is_empty())
}

/// Checks the commits after the one in the first line of `commit-rules-since`, apart from those that the file excepts
/// in other lines.
fn commits() -> Result<bool> {
    let rules = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("commit-rules-since"))?;
    let mut lines = rules.lines();
    let since = lines.next().unwrap_or_default();
    let excepted: Vec<&str> = lines.filter_map(|line| line.split(' ').next()).filter(|hash| hash.len() == 40).collect();
    let ancestor =
        Command::new("git").args(["merge-base", "--is-ancestor", since, "HEAD"]).current_dir(root()).status();
    ensure!(
        ancestor.context("git does not start")?.success(),
        "{since} of commit-rules-since is not an ancestor of HEAD"
    );
    let range = format!("{since}..HEAD");
    let mut log = Command::new("git");
    let log = log.args(["log", "--no-merges", "-z", "--format=%H %B", &range]).current_dir(root()).output();
    let log = log.context("git does not start")?;
    ensure!(log.status.success(), "git log {range}: {}", String::from_utf8_lossy(&log.stderr).trim());
    let log = String::from_utf8_lossy(&log.stdout).into_owned();
    let (mut count, mut passed) = (0, true);
    let entries = log.split('\0').filter_map(|entry| entry.split_once(' '));
    for (hash, message) in entries.filter(|(hash, _)| !excepted.contains(hash)) {
        count += 1;
        for fault in commit_message::faults(message) {
            passed = false;
            println!("{hash} {}: {fault}", message.lines().next().unwrap_or_default());
        }
    }
    println!("{count} commit messages checked");
    Ok(passed)
}
