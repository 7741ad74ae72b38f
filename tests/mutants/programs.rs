//! The test programs of a tree: cargo builds them and reports their paths, and each test is run alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use paddock_mutants::TestName;
use serde_json::Value;

/// A test that runs for longer has failed, because without its protection the code under test may never end. The
/// longest test takes about ten seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// The result of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    Failed,
}

/// The programs with the tests of some packages, each with the folder in which it runs.
pub(crate) struct Programs {
    by_package: BTreeMap<String, Vec<(PathBuf, PathBuf)>>,
    /// The file for the output of a test.
    output: PathBuf,
}

/// The arguments for cargo. The whole workspace is built if the package needs wasmtime. Cargo chooses features by the
/// selected packages, so another selection would build wasmtime twice.
fn selection(package: &str) -> &'static [&'static str] {
    match package {
        "paddock-tests" => &["--package", "paddock-tests", "--test", "paddock"],
        "paddock-core" => &["--package", "paddock-core", "--lib"],
        "paddock-init" => &["--package", "paddock-init"],
        "paddock-plugin-host" => &["--workspace", "--test", "host"],
        _ => &["--workspace", "--lib"],
    }
}

impl Programs {
    /// Builds the programs of some tests in the tree's own directory. In a shared directory, two trees would overwrite
    /// each other's programs.
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
                // Other packages of the workspace are listed too.
                if let Some((package, program)) = test_program(line).filter(|(p, _)| self::selection(p) == selection) {
                    by_package.entry(package).or_default().push(program);
                }
            }
        }
        Ok(Self { by_package, output: tree.join("target/output") })
    }

    /// Runs one test by its full name. Exactly one program must have it.
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

    /// Returns `None` if the program has no such test.
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
        let output = fs::read_to_string(&self.output)?;
        if output.contains("1 passed; 0 failed") {
            Ok(Some(Verdict::Passed))
        } else if output.contains("0 passed; 1 failed") || status.code().is_none() {
            Ok(Some(Verdict::Failed))
        } else if output.contains("0 passed; 0 failed") {
            Ok(None)
        } else {
            bail!("{test}: {} printed {}", program.display(), last_lines(output.as_bytes()));
        }
    }
}

/// The package, the program and the folder of a test program in a line of cargo's output.
fn test_program(line: &str) -> Option<(String, (PathBuf, PathBuf))> {
    let message: Value = serde_json::from_str(line).ok()?;
    let program = message["executable"].as_str().filter(|_| message["profile"]["test"] == true)?;
    // The id has the form `path+file:///…/src/core#paddock-core@0.1.0`.
    let package = message["package_id"].as_str()?.rsplit_once('#')?.1.split('@').next()?;
    let folder = Path::new(message["manifest_path"].as_str()?).parent()?;
    Some((package.to_owned(), (program.into(), folder.into())))
}

fn last_lines(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}
