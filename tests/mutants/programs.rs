//! Test programs of a tree: built by cargo, found by what it tells of them, and run one test at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use paddock_mutants::TestName;
use serde_json::Value;

/// A test that has not ended by then has failed: without its limit, what it watches over goes on for ever. The longest takes
/// some ten seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// How a test ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    Failed,
}

/// The programs that hold the tests of some packages, each with the folder that it is to run in.
pub(crate) struct Programs {
    by_package: BTreeMap<String, Vec<(PathBuf, PathBuf)>>,
    /// What a test says.
    output: PathBuf,
}

/// What cargo is asked for. The whole workspace where its crates need wasmtime: cargo chooses features by the packages that
/// are asked for, and would build that twice.
fn selection(package: &str) -> &'static [&'static str] {
    match package {
        "paddock-tests" => &["--package", "paddock-tests", "--test", "paddock"],
        "paddock-core" => &["--package", "paddock-core", "--lib"],
        "paddock-plugin-host" => &["--workspace", "--test", "host"],
        _ => &["--workspace", "--lib"],
    }
}

impl Programs {
    /// Builds what holds some tests, in the tree's own directory: in a shared one two trees would overwrite each other's
    /// programs.
    pub(crate) fn build<'a>(tree: &Path, tests: impl IntoIterator<Item = &'a TestName>) -> Result<Self> {
        let selections: BTreeSet<_> = tests.into_iter().map(|test| selection(&test.package)).collect();
        let mut by_package: BTreeMap<String, Vec<(PathBuf, PathBuf)>> = BTreeMap::new();
        for selection in selections {
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["test", "--quiet", "--no-run", "--message-format=json-render-diagnostics"]).args(selection);
            cargo.current_dir(tree).env_remove("CARGO_TARGET_DIR").stdin(Stdio::null());
            let built = cargo.output().context("cargo does not start")?;
            ensure!(built.status.success(), "it does not compile: {}", last_lines(&built.stderr));
            for line in String::from_utf8_lossy(&built.stdout).lines() {
                // Others of the workspace come along.
                if let Some((package, program)) = test_program(line).filter(|(p, _)| self::selection(p) == selection) {
                    by_package.entry(package).or_default().push(program);
                }
            }
        }
        Ok(Self { by_package, output: tree.join("target/said") })
    }

    /// Runs one test by its whole name, which exactly one program must have.
    pub(crate) fn verdict(&self, test: &TestName) -> Result<Verdict> {
        let mut verdicts = Vec::new();
        for (program, folder) in self.by_package.get(&test.package).into_iter().flatten() {
            verdicts.extend(self.run(program, folder, &test.test)?);
        }
        match verdicts.as_slice() {
            [verdict] => Ok(*verdict),
            [] => bail!("{test} did not run: there is no such test"),
            [_, ..] => bail!("{test} names several tests"),
        }
    }

    /// `None` if the program has no such test.
    fn run(&self, program: &Path, folder: &Path, test: &str) -> Result<Option<Verdict>> {
        let mut command = Command::new(program);
        command.args(["--exact", test]).current_dir(folder).env("CARGO_MANIFEST_DIR", folder).env_remove("UPDATE");
        command.stdin(Stdio::null()).stdout(File::create(&self.output)?).stderr(Stdio::null());
        let mut child = command.spawn().with_context(|| format!("{} does not start", program.display()))?;
        let began = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if began.elapsed() > PATIENCE {
                child.kill()?;
                child.wait()?;
                return Ok(Some(Verdict::Failed));
            }
            sleep(Duration::from_millis(20));
        };
        let said = fs::read_to_string(&self.output)?;
        if said.contains("1 passed; 0 failed") {
            Ok(Some(Verdict::Passed))
        } else if said.contains("0 passed; 1 failed") || status.code().is_none() {
            Ok(Some(Verdict::Failed))
        } else if said.contains("0 passed; 0 failed") {
            Ok(None)
        } else {
            bail!("{test}: {} says {}", program.display(), last_lines(said.as_bytes()));
        }
    }
}

/// Package, program and folder of a test program that a line of cargo's tells of.
fn test_program(line: &str) -> Option<(String, (PathBuf, PathBuf))> {
    let told: Value = serde_json::from_str(line).ok()?;
    let program = told["executable"].as_str().filter(|_| told["profile"]["test"] == true)?;
    // As `path+file:///…/src/core#paddock-core@0.1.0`.
    let package = told["package_id"].as_str()?.rsplit_once('#')?.1.split('@').next()?;
    let folder = Path::new(told["manifest_path"].as_str()?).parent()?;
    Some((package.to_owned(), (program.into(), folder.into())))
}

fn last_lines(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}
