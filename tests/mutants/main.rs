//! Mutants: each patch here takes one protection away, and has to make its named tests fail.
//!
//! `cargo mutants-check [NAME…]` copies the working tree to `target/mutants`, applies one patch after another there, and runs
//! the tests that a patch names, a line each: `Fails: TEST` is one of `paddock-tests`, `Fails: PACKAGE TEST` one of another
//! crate. A mutant that does not compile proves nothing, and one whose test passes has found a test that cannot fail. Not
//! part of `cargo test`: each mutant costs a build of what it changes and of the tests that it names.

mod programs;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use programs::{Named, Programs, Verdict};

fn main() -> Result<ExitCode> {
    let chosen: Vec<String> = std::env::args().skip(1).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let tree = root.join("target/mutants");
    let all = Mutant::all(&root)?;
    let unknown: Vec<&String> = chosen.iter().filter(|name| !all.iter().any(|m| m.name == **name)).collect();
    ensure!(unknown.is_empty(), "there is no mutant of the name {unknown:?}");
    let mutants: Vec<Mutant> = all.into_iter().filter(|m| chosen.is_empty() || chosen.contains(&m.name)).collect();
    copy(&root, &tree).context("the working tree cannot be copied")?;

    let tests: BTreeSet<&Named> = mutants.iter().flat_map(|m| &m.fails).collect();
    println!("unchanged: {} tests have to pass", tests.len());
    let programs = Programs::build(&tree, tests.iter().copied()).context("the unchanged tree")?;
    for test in tests {
        ensure!(programs.verdict(test)? == Verdict::Passed, "{test} does not pass on the unchanged tree");
    }

    let mut survivors = 0;
    for mutant in &mutants {
        let began = Instant::now();
        let end = mutant.run(&root, &tree);
        let seconds = began.elapsed().as_secs();
        match end {
            Ok(()) => println!("killed    {} ({seconds} s)", mutant.name),
            Err(error) => {
                survivors += 1;
                println!("SURVIVED  {} ({seconds} s): {error:#}", mutant.name);
            }
        }
    }
    println!("{} mutants, {survivors} survived", mutants.len());
    Ok(if survivors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One protection taken away.
struct Mutant {
    name: String,
    patch: PathBuf,
    fails: Vec<Named>,
}

impl Mutant {
    fn all(root: &Path) -> Result<Vec<Self>> {
        let mut mutants = Vec::new();
        for entry in fs::read_dir(root.join("tests/mutants"))? {
            let patch = entry?.path();
            if patch.extension().is_none_or(|e| e != "patch") {
                continue;
            }
            let text = fs::read_to_string(&patch)?;
            let fails: Vec<Named> = text.lines().filter_map(|l| l.strip_prefix("Fails: ")).map(Named::read).collect();
            ensure!(!fails.is_empty(), "{} does not say which test `Fails: `", patch.display());
            let name = patch.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
            mutants.push(Self { name, patch, fails });
        }
        mutants.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(mutants)
    }

    /// Applies the patch, looks, and takes it back, so that the next one begins from the same tree, whatever happens to the
    /// working tree meanwhile.
    fn run(&self, root: &Path, tree: &Path) -> Result<()> {
        self.apply(root, tree, &[])?;
        let end = self.look(tree);
        self.apply(root, tree, &["--reverse"])?;
        end
    }

    fn apply(&self, root: &Path, tree: &Path, how: &[&str]) -> Result<()> {
        let directory = tree.strip_prefix(root).unwrap_or(tree);
        let mut apply = Command::new("git");
        apply.arg("apply").args(how).arg(format!("--directory={}", directory.display())).arg(&self.patch);
        let applied = apply.current_dir(root).output().context("git does not start")?;
        ensure!(
            applied.status.success(),
            "the patch does not apply: {}",
            String::from_utf8_lossy(&applied.stderr).trim()
        );
        Ok(())
    }

    fn look(&self, tree: &Path) -> Result<()> {
        let programs = Programs::build(tree, &self.fails)?;
        for test in &self.fails {
            match programs.verdict(test)? {
                Verdict::Failed => {}
                Verdict::Passed => bail!("{test} passes all the same"),
            }
        }
        Ok(())
    }
}

/// Brings a copy in step with the working tree; what is the same already keeps its time, so that cargo does not build it again,
/// and what is not there any more goes.
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

/// Removes every file but those of these names, and what cargo has built.
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
