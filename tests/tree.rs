//! What holds of the source tree: short files, no lint waved through, no loose end.

use std::path::PathBuf;
use std::process::Command;
use std::{fs, path::Path};

use crate::framework::{Capability, Outcome, Test, test};

/// The longest that a file may be; half as long is better.
const LINES: usize = 500;

pub(crate) fn tests() -> Vec<Test> {
    let git = [Capability::Program("git")];
    vec![
        test("tree::no_source_file_is_too_long", no_long_file).needs(git),
        test("tree::no_lint_is_waved_through_and_no_end_is_loose", no_loose_end).needs(git),
        test("tree::every_source_file_says_what_it_is_for", contracts).needs(git),
        test("tree::every_mutant_names_a_test", mutants_name_tests).needs(git),
    ]
}

/// Source files that are tracked or about to be.
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

fn complain(complaints: Vec<String>) -> Outcome {
    if complaints.is_empty() { Ok(()) } else { Err(complaints.join("\n").into()) }
}

fn no_long_file() -> Outcome {
    let mut complaints = Vec::new();
    for path in sources(&["rs", "go", "wit", "py", "sh"])? {
        let lines = fs::read_to_string(&path)?.lines().count();
        if lines > LINES {
            complaints.push(format!("{} has {lines} lines, more than {LINES}", path.display()));
        }
    }
    complain(complaints)
}

fn no_loose_end() -> Outcome {
    // In two parts each, or this file would complain of itself.
    let forbidden =
        [["#[", "allow("], ["#![", "allow("], ["#[", "ignore"], ["todo", "!("], ["unimplemented", "!("], ["FIX", "ME"]];
    let mut complaints = Vec::new();
    for path in sources(&["rs"])? {
        let text = fs::read_to_string(&path)?;
        for (number, line) in text.lines().enumerate() {
            for word in forbidden.iter().map(|parts| parts.concat()).filter(|word| line.contains(word.as_str())) {
                complaints.push(format!("{}:{}: {word}", path.display(), number + 1));
            }
        }
    }
    complain(complaints)
}

fn contracts() -> Outcome {
    let mut complaints = Vec::new();
    for path in sources(&["rs"])? {
        let text = fs::read_to_string(&path)?;
        if !text.starts_with("//!") {
            complaints.push(format!("{} does not begin with what it is for (//!)", path.display()));
        }
    }
    complain(complaints)
}

fn mutants_name_tests() -> Outcome {
    let names: Vec<String> =
        [crate::scenarios::tests(), crate::sim::tests()].into_iter().flatten().map(|t| t.name().to_owned()).collect();
    let mut complaints = Vec::new();
    for path in sources(&["patch"])? {
        let text = fs::read_to_string(&path)?;
        let expected: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("Fails: ")).collect();
        if expected.is_empty() {
            complaints.push(format!("{} does not say `Fails: TEST`", path.display()));
        }
        for name in expected.iter().filter(|name| !names.iter().any(|n| n == *name)) {
            complaints.push(format!("{}: there is no test {name}", path.display()));
        }
    }
    complain(complaints)
}
