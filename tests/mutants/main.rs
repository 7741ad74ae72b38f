//! `cargo mutants-check [NAME…]`: removes one protection after another, and expects the named tests to fail.
//!
//! The program copies the working tree to `target/mutants`, applies each mutant of `mutants.toml` there, and runs the
//! tests that the mutant names. A mutant that does not compile proves nothing. A mutant whose test passes has found a
//! test that cannot fail. This is not part of `cargo test`, because each mutant costs a build of the crates that it
//! changes.

mod programs;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use paddock_mutants::{Mutant, TestName, read, sources};

use programs::{Programs, Verdict};

fn main() -> Result<ExitCode> {
    let chosen: Vec<String> = std::env::args().skip(1).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let tree = root.join("target/mutants");
    let mut mutants = read(&root)?;
    let unknown: Vec<&String> = chosen.iter().filter(|name| !mutants.contains_key(*name)).collect();
    ensure!(unknown.is_empty(), "there is no mutant of the name {unknown:?}");
    mutants.retain(|name, _| chosen.is_empty() || chosen.contains(name));
    copy(&root, &tree).context("the working tree cannot be copied")?;
    let sources = sources(&tree)?;

    let tests: BTreeSet<&TestName> = mutants.values().flat_map(|m| &m.fails).collect();
    println!("unchanged: {} tests have to pass", tests.len());
    let programs = Programs::build(&tree, tests.iter().copied()).context("the unchanged tree")?;
    for test in tests {
        ensure!(programs.verdict(test)? == Verdict::Passed, "{test} does not pass on the unchanged tree");
    }

    let mut survivors = 0;
    for (name, mutant) in &mutants {
        let began = Instant::now();
        let result = check(mutant, &sources, &tree);
        let seconds = began.elapsed().as_secs();
        match result {
            Ok(()) => println!("killed    {name} ({seconds} s)"),
            Err(error) => {
                survivors += 1;
                println!("SURVIVED  {name} ({seconds} s): {error:#}");
            }
        }
    }
    println!("{} mutants, {survivors} survived", mutants.len());
    Ok(if survivors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Applies a mutant, runs its tests, and restores the file, so that each mutant begins from the same tree.
fn check(mutant: &Mutant, sources: &[(PathBuf, String)], tree: &Path) -> Result<()> {
    let (path, changed) = mutant.apply(sources)?;
    let original = fs::read(path)?;
    fs::write(path, changed)?;
    let result = run_tests(mutant, tree);
    fs::write(path, original)?;
    result
}

fn run_tests(mutant: &Mutant, tree: &Path) -> Result<()> {
    let programs = Programs::build(tree, &mutant.fails)?;
    for test in &mutant.fails {
        match programs.verdict(test)? {
            Verdict::Failed => {}
            Verdict::Passed => bail!("{test} passes all the same"),
        }
    }
    Ok(())
}

/// Updates a copy of the working tree. Unchanged files keep their modification time, so that cargo does not build them
/// again. Files that no longer exist are removed.
fn copy(root: &Path, tree: &Path) -> Result<()> {
    let mut list = Command::new("git");
    list.args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(root);
    let listed = list.output().context("git does not start")?;
    ensure!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8(listed.stdout)?;
    let names: BTreeSet<&Path> = listed.lines().map(Path::new).filter(|name| root.join(name).exists()).collect();
    for name in &names {
        let (from, to) = (root.join(name), tree.join(name));
        let Ok(content) = fs::read(&from) else { continue };
        if fs::read(&to).is_ok_and(|there| there == content) {
            continue;
        }
        if let Some(directory) = to.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::write(&to, content)?;
    }
    remove_others(tree, tree, &names)
}

/// Removes every file except these names and cargo's build output.
fn remove_others(tree: &Path, directory: &Path, names: &BTreeSet<&Path>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if entry.file_name() != "target" {
                remove_others(tree, &path, names)?;
            }
        } else if !names.contains(path.strip_prefix(tree)?) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
