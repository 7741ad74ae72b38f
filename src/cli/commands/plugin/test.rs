//! `paddock plugin test`: cases of plugins in YAML files.

mod case;
mod compare;
mod report;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, bail};
use clap::Args;
use paddock_plugin_host::Host;

use self::case::{Case, Expect};
use self::compare::differences;
use self::report::{CaseReport, FileReport, Format, Verdict};
use super::component::{self, CallArgs, Loaded, Note, Outcome};
use crate::output::print;
use crate::usage::{OrBadUsage as _, bad_usage};

/// The folder of a plugin that contains its cases.
const FOLDER: &str = "tests";

#[derive(Debug, Args)]
#[command(after_help = "\
A file of cases:

  component: ../my-plugin.wasm        # relative to the file
  hook: pool-size                     # may be left out if the component has only one
  settings: {desired: 3}              # may be left out; a case may have its own
  cases:
    - name: a pool keeps the number of the settings
      question: {min: 0, max: 10}     # or the name of a file
      expect: {desired: 3}            # the answer, or some of its fields
    - name: a negative number is refused
      settings: {desired: -1}
      expect: {error: desired}        # a text that the failure contains
    - name: a pool has no more than its maximum
      settings: {desired: 12}
      question: {min: 0, max: 10}
      expect: {note: keeps 10}        # a text of the note about an answer that the operator does not follow

A field that the question does not give has its value in `paddock plugin question HOOK`. docs/plugins/test.md
describes the rules.

The exit code is 1 if a case fails, and 2 if a flag or a file is wrong.

Examples:
  paddock plugin test
  paddock plugin test my-plugin other-plugin/tests/night.yaml
  paddock plugin test -o junit > results.xml")]
pub(crate) struct TestArgs {
    /// Files of cases, or folders of plugins, of which every file tests/*.yaml is used.
    #[arg(value_name = "PATH", default_value = ".")]
    paths: Vec<PathBuf>,
    /// Format of the output.
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    output: Format,
}

/// Runs the cases and prints the report.
pub(crate) fn run(TestArgs { paths, output }: &TestArgs) -> anyhow::Result<()> {
    component::log()?;
    let mut files = Vec::new();
    for path in paths {
        files.extend(files_at(path)?);
    }
    // All files are read before the first case runs, so that a wrong file is not a result among others.
    let read = |path: &PathBuf| Ok((path.clone(), case::read(path).or_bad_usage()?));
    let files: Vec<(PathBuf, Vec<Case>)> = files.iter().map(read).collect::<anyhow::Result<_>>()?;
    let mut runner = Runner { host: component::host()?, loaded: BTreeMap::new() };
    let mut reports = Vec::new();
    for (path, cases) in files {
        let name = path.display().to_string();
        let cases = cases.iter().map(|case| runner.run(case).with_context(|| format!("{name}: {}", case.name)));
        reports.push(FileReport { cases: cases.collect::<anyhow::Result<_>>()?, name });
    }
    print(&output.text(&reports))?;
    let (failed, all) = report::count(&reports);
    if failed > 0 {
        bail!("{failed} of {all} cases failed");
    }
    Ok(())
}

/// The files of cases at a path.
fn files_at(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let folder = path.join(FOLDER);
    let listed = std::fs::read_dir(&folder)
        .with_context(|| format!("{}: must be the folder with the cases of a plugin", folder.display()));
    let mut files = Vec::new();
    for entry in listed.or_bad_usage()? {
        let file = entry.with_context(|| folder.display().to_string())?.path();
        match file.extension().and_then(|ending| ending.to_str()) {
            Some("yaml") => files.push(file),
            Some("yml" | "json") => {
                return Err(bad_usage(format!("{}: the name of a file of cases must end in .yaml", file.display())));
            }
            Some(_) | None => {}
        }
    }
    if files.is_empty() {
        return Err(bad_usage(format!("{}: contains no file of cases (*.yaml)", folder.display())));
    }
    files.sort();
    Ok(files)
}

/// Runs cases. Each component is loaded once.
struct Runner {
    host: Host,
    loaded: BTreeMap<PathBuf, Loaded>,
}

impl Runner {
    fn run(&mut self, case: &Case) -> anyhow::Result<CaseReport> {
        if !self.loaded.contains_key(&case.component) {
            if !case.component.exists() {
                let missing = case.component.display();
                return Err(bad_usage(format!("component: {missing} does not exist; build it first")));
            }
            let loaded = Loaded::new(&self.host, &case.component, &CallArgs::default())?;
            self.loaded.insert(case.component.clone(), loaded);
        }
        let Some(loaded) = self.loaded.get(&case.component) else { bail!("the component is not loaded") };
        let hook = loaded.hook(case.hook)?;
        let question = case.question(hook).or_bad_usage()?;
        let expect = case.expect(hook).or_bad_usage()?;
        let settings = case.settings.as_deref().unwrap_or(&loaded.settings);
        let started = Instant::now();
        let asked = loaded.ask(&self.host, settings, question);
        let took = started.elapsed();
        let failed = |reason: String| format!("expected an answer, got the failure: {reason}");
        let note = match &asked.outcome {
            Outcome::Answered { note, .. } => note.clone(),
            Outcome::Refused { .. } | Outcome::Failed { .. } => None,
        };
        let faults = match (&expect, asked.outcome) {
            (Expect::Answer { fields, note: expected }, Outcome::Answered { answer, .. }) => {
                let mut faults = differences(hook, &answer, fields)?;
                faults.extend(wrong_note(expected.as_deref(), note.as_ref()));
                faults
            }
            (Expect::Answer { .. }, Outcome::Refused { reason, .. }) => vec![failed(refused(&reason))],
            (Expect::Answer { .. }, Outcome::Failed { reason }) => vec![failed(reason)],
            (Expect::Error(text), Outcome::Answered { answer, .. }) => {
                let answer = serde_json::to_string(&answer).context("writing the answer")?;
                vec![format!("error: expected a failure with {text:?}, got the answer {answer}")]
            }
            (Expect::Error(text), Outcome::Refused { reason, .. }) => lacks(&refused(&reason), text),
            (Expect::Error(text), Outcome::Failed { reason }) => lacks(&reason, text),
        };
        let verdict = if faults.is_empty() { Verdict::Passed } else { Verdict::Failed(faults) };
        let note = note.map(|note| note.text);
        Ok(CaseReport { name: case.name.clone(), verdict, note, fuel: asked.usage.fuel, took })
    }
}

/// The fault of a note that a case does not expect. An answer that is overruled needs a case that says so. A note that
/// the operator asks again earlier does not.
fn wrong_note(expected: Option<&str>, note: Option<&Note>) -> Option<String> {
    match (expected, note) {
        (None, None | Some(Note { overruled: false, .. })) => None,
        (None, Some(Note { text, overruled: true })) => Some(format!("note: expected none, got {text:?}")),
        (Some(part), Some(Note { text, .. })) if text.contains(part) => None,
        (Some(part), Some(Note { text, .. })) => Some(format!("note: expected {part:?}, got {text:?}")),
        (Some(part), None) => Some(format!("note: expected {part:?}, but the operator follows the answer")),
    }
}

fn refused(reason: &str) -> String {
    format!("the operator refuses the answer: {reason}")
}

fn lacks(reason: &str, text: &str) -> Vec<String> {
    if reason.contains(text) { vec![] } else { vec![format!("error: expected {text:?}, got {reason:?}")] }
}

#[cfg(test)]
mod tests;
