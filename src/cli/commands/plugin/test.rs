//! `paddock plugin test`: cases of plugins in YAML files.

mod case;
mod compare;
mod report;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, bail};
use clap::Args;
use paddock_core::admission::Acceptance;
use paddock_plugin_host::Host;

use self::case::{Case, Expect};
use self::compare::differences;
use self::report::{CaseReport, FileReport, Format};
use super::component::{self, CallArgs, Loaded};
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
        let used = asked.outcome.used();
        let note = used.as_ref().ok().and_then(|(_, acceptance)| note(acceptance)).map(str::to_owned);
        let faults = match (expect, used) {
            (Expect::Answer { fields, note }, Ok((answer, acceptance))) => {
                let mut faults = differences(hook, answer, &fields)?;
                faults.extend(wrong_note(note.as_deref(), acceptance));
                faults
            }
            (Expect::Answer { .. }, Err(failure)) => vec![format!("expected an answer, got the failure: {failure}")],
            (Expect::Error(text), Ok((answer, _))) => {
                let answer = serde_json::to_string(answer).context("writing the answer")?;
                vec![format!("error: expected a failure with {text:?}, got the answer {answer}")]
            }
            (Expect::Error(text), Err(failure)) if failure.contains(&text) => vec![],
            (Expect::Error(text), Err(failure)) => vec![format!("error: expected {text:?}, got {failure:?}")],
        };
        Ok(CaseReport { name: case.name.clone(), faults, note, fuel: asked.usage.fuel, took })
    }
}

/// Where the operator does not do exactly what the answer says.
fn note(acceptance: &Acceptance) -> Option<&str> {
    match acceptance {
        Acceptance::Earlier(text) | Acceptance::Corrected(text) => Some(text),
        Acceptance::Followed | Acceptance::Refused(_) => None,
    }
}

/// The fault of a note that a case does not expect. An answer that is overruled needs a case that says so. A note that
/// the operator asks again earlier does not.
fn wrong_note(expected: Option<&str>, acceptance: &Acceptance) -> Option<String> {
    match (expected, note(acceptance)) {
        (None, Some(text)) if matches!(acceptance, Acceptance::Corrected(_)) => {
            Some(format!("note: expected none, got {text:?}"))
        }
        (None, _) => None,
        (Some(part), Some(text)) if text.contains(part) => None,
        (Some(part), Some(text)) => Some(format!("note: expected {part:?}, got {text:?}")),
        (Some(part), None) => Some(format!("note: expected {part:?}, but the operator follows the answer")),
    }
}

#[cfg(test)]
mod tests;
