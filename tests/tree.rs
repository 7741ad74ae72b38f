//! Checks that mutants and documents name tests that exist, and that each mutant still applies.

use std::path::PathBuf;
use std::process::Command;
use std::{fs, path::Path};

use crate::framework::{Capability, Outcome, Test, test};

pub(crate) fn tests() -> Vec<Test> {
    let git = [Capability::Program("git")];
    vec![
        test("tree::every_mutant_names_a_test", mutants_name_tests).needs(git),
        test("tree::every_mutant_applies", mutants_apply).needs(git),
        test("tree::documented_tests_and_mutants_exist", testing_is_true).needs(git),
    ]
}

/// The source files that are tracked or not ignored by git.
fn sources(extensions: &[&str]) -> Result<Vec<PathBuf>, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(&root)
        .output()
        .map_err(|e| e.to_string())?;
    if !listed.status.success() {
        return Err(String::from_utf8_lossy(&listed.stderr).into_owned());
    }
    let names = String::from_utf8_lossy(&listed.stdout).into_owned();
    let wanted = |p: &PathBuf| p.extension().is_some_and(|e| extensions.iter().any(|w| e == *w));
    let found: Vec<PathBuf> = names.lines().map(|l| root.join(l)).filter(|p| wanted(p) && p.exists()).collect();
    if found.is_empty() { Err("no source file was found".to_owned()) } else { Ok(found) }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn complain(complaints: Vec<String>) -> Outcome {
    if complaints.is_empty() { Ok(()) } else { Err(complaints.join("\n").into()) }
}

/// The names of this program's tests.
fn own_tests() -> Vec<String> {
    let (scenarios, sim, real) = (crate::scenarios::tests(), crate::sim::tests(), crate::e2e::tests());
    let asked = crate::asked::tests();
    let all = [asked, scenarios, sim, real];
    all.into_iter().flatten().map(|t| t.name().to_owned()).collect()
}

fn mutants_name_tests() -> Outcome {
    let own = own_tests();
    let mut complaints = Vec::new();
    for (name, mutant) in paddock_mutants::read(&root())? {
        for named in &mutant.fails {
            let there = match named.package.as_str() {
                "paddock-tests" => own.contains(&named.test),
                package => has_test(package, &named.test)?,
            };
            if !there {
                complaints.push(format!("mutant {name}: there is no test {named}"));
            }
        }
    }
    complain(complaints)
}

/// Whether the sources of a package have a test function with this name. The path of its module is checked when the
/// test is run.
fn has_test(package: &str, name: &str) -> Result<bool, String> {
    let is_package = |manifest: &PathBuf| {
        let text = fs::read_to_string(manifest).unwrap_or_default();
        let manifest: toml::Table = text.parse().unwrap_or_default();
        manifest.get("package").and_then(|p| p.get("name")).and_then(toml::Value::as_str) == Some(package)
    };
    let manifest = sources(&["toml"])?.into_iter().find(is_package);
    let manifest = manifest.ok_or_else(|| format!("there is no package {package}"))?;
    let folder = manifest.parent().unwrap_or(&manifest);
    let function = format!("fn {}(", name.rsplit("::").next().unwrap_or(name));
    for path in sources(&["rs"])?.into_iter().filter(|p| p.starts_with(folder)) {
        let text = fs::read_to_string(&path).map_err(|e| e.to_string())?;
        let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
        let found = lines.iter().position(|l| l.trim_start_matches("async ").starts_with(&function));
        let marked = |at: usize| {
            let above = lines[..at].iter().rev().take_while(|l| l.starts_with("#[") || l.starts_with("//"));
            above.into_iter().any(|l| l.starts_with("#[test]") || l.starts_with("#[tokio::test"))
        };
        if found.is_some_and(marked) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A mutant whose text no longer exists removes nothing.
fn mutants_apply() -> Outcome {
    let root = root();
    let sources = paddock_mutants::sources(&root)?;
    let mut complaints = Vec::new();
    for (name, mutant) in paddock_mutants::read(&root)? {
        if let Err(error) = mutant.apply(&sources) {
            complaints.push(format!("mutant {name}: {error}"));
        }
    }
    complain(complaints)
}

/// The tables of docs/testing.md name tests and mutants that exist, and a mutant beside a test makes that test fail.
fn testing_is_true() -> Outcome {
    let root = root();
    let text = fs::read_to_string(root.join("docs/testing.md"))?;
    let (own, mutants) = (own_tests(), paddock_mutants::read(&root)?);
    let (mut complaints, mut checked) = (Vec::new(), 0);
    let mut with_mutants = false;
    for row in text.lines().filter(|l| l.starts_with("| ")) {
        let quoted: Vec<&str> = row.split('`').skip(1).step_by(2).collect();
        let tests: Vec<&str> = quoted.iter().copied().filter(|q| q.contains("::")).collect();
        let there = |name: &str| own.iter().any(|o| o == name || o.starts_with(&format!("{name}::")));
        let missing = tests.iter().filter(|name| !there(name)).map(|name| format!("there is no test {name}"));
        complaints.extend(missing);
        // The tables with mutants have them in the last column.
        with_mutants |= row.ends_with("| mutant |");
        let last = row.rsplit('|').nth(1).filter(|_| with_mutants).unwrap_or_default();
        for name in last.split('`').skip(1).step_by(2) {
            // A unit test is named by its function.
            let is_named = |test: &str| quoted.iter().any(|q| *q == test || test.ends_with(&format!("::{q}")));
            let fails = mutants.get(name).is_some_and(|m| m.fails.iter().any(|f| is_named(&f.test)));
            if !fails {
                complaints.push(format!("no mutant {name} makes one of {quoted:?} fail"));
            }
        }
        checked += tests.len();
    }
    if checked < 30 {
        complaints.push(format!("only {checked} tests were found in docs/testing.md"));
    }
    complain(complaints)
}
