//! Runs the commands of `docs/plugins/write-a-plugin.md` and compares their output with the page. Makes, builds and tests
//! the plugin that `paddock plugin new` writes for each hook. None of this needs a cluster. `e2e::plugin_walk` does the
//! same for `docs/plugins/ship-a-plugin.md`, which needs one.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::e2e::programs::paddock;
use crate::framework::{Capability, Outcome, Test, test};

const PAGE: &str = include_str!("../docs/plugins/write-a-plugin.md");
/// The name of the folder with the programs that a page calls.
const PROGRAMS: &str = "bin";
/// The text in an expected line that stands for any text.
const ANY: &str = "…";

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = vec![
        test("walk::output_that_differs_from_the_page_is_found", differences),
        test("walk::commands_of_the_page_work_as_it_says", page).needs([Capability::Program("cargo")]),
        test("walk::build_adds_its_flags_to_those_of_the_configuration", flags).needs([Capability::Program("cargo")]),
        test("walk::build_works_without_the_target_if_there_is_rust_src", toolchains)
            .needs([Capability::Program("cargo")]),
    ];
    for hook in ["admission", "runtime-class", "idle"] {
        let name = format!("walk::template_of_{}_builds_and_meets_its_cases", hook.replace('-', "_"));
        tests.push(test(name, move || template(hook)).needs([Capability::Program("cargo")]));
    }
    tests
}

/// What a reader of the page does.
#[derive(Debug, PartialEq, Eq)]
enum Step<'a> {
    /// Writes a file: a YAML block after a line that is only its name.
    Write { name: &'a str, content: String },
    /// Runs a command, which prints these lines.
    Run { command: &'a str, output: Vec<&'a str> },
}

/// The files and the commands in the blocks of the page.
fn steps(page: &str) -> Vec<Step<'_>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    let mut block = None;
    let mut before = "";
    for line in page.lines() {
        match (block, line) {
            (None, "```yaml") => {
                let name = before.strip_prefix('`').and_then(|line| line.strip_suffix("`:"));
                steps.extend(name.map(|name| Step::Write { name, content: String::new() }));
                block = Some(if name.is_some() { "yaml" } else { "" });
            }
            (None, "```console") => block = Some("console"),
            (None, line) if line.starts_with("```") => block = Some(""),
            (Some(_), "```") => block = None,
            (Some("console"), line) => match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => steps.push(Step::Run { command, output: vec![] }),
                (None, Some(Step::Run { output, .. })) => output.push(line),
                (None, _) => {}
            },
            (Some("yaml"), line) => {
                if let Some(Step::Write { content, .. }) = steps.last_mut() {
                    content.push_str(line);
                    content.push('\n');
                }
            }
            (_, line) => before = if line.is_empty() { before } else { line },
        }
    }
    steps
}

/// Whether lines are those of the page. A line that is only `…` stands for any number of lines.
fn matches(expected: &[&str], actual: &[&str]) -> bool {
    match expected.split_first() {
        None => actual.is_empty(),
        Some((&ANY, rest)) => (0..=actual.len()).any(|skipped| matches(rest, &actual[skipped..])),
        Some((first, rest)) => match actual.split_first() {
            Some((line, others)) => line_matches(first, line) && matches(rest, others),
            None => false,
        },
    }
}

fn line_matches(expected: &str, actual: &str) -> bool {
    let mut parts = expected.split(ANY);
    let Some(mut left) = parts.next().and_then(|first| actual.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return left.is_empty() };
    for part in middle {
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    left.ends_with(last)
}

fn differences() -> Outcome {
    for (expected, actual, same) in [
        (&["a"][..], &["a"][..], true),
        (&["a"], &["b"], false),
        (&["a"], &["a", "b"], false),
        (&["a", "b"], &["a"], false),
        (&["…", "b"], &["x", "y", "b"], true),
        (&["…", "b"], &["x", "y", "c"], false),
        (&["a …"], &["a 1"], true),
        (&["a …"], &["b 1"], false),
        (&["a (… units)"], &["a (17 units)"], true),
        (&["a (… units)"], &["a (17 unit)"], false),
        (&["a … b … c"], &["a 1 b 2 c"], true),
        (&["a … b … c"], &["a 1 2 c"], false),
    ] {
        if matches(expected, actual) != same {
            return Err(format!("{expected:?} and {actual:?}: expected {same}").into());
        }
    }
    let found = steps(
        "```console\n$ a\nb\n```\nc\n```yaml\n$ d\n```\n```text\n$ x\n```\n`f.yaml`:\n\n```yaml\ng\n  h\n```\n\
         ```console\n$ e\n```\n",
    );
    let expected = [
        Step::Run { command: "a", output: vec!["b"] },
        Step::Write { name: "f.yaml", content: "g\n  h\n".to_owned() },
        Step::Run { command: "e", output: vec![] },
    ];
    if found == expected { Ok(()) } else { Err(format!("{found:?}").into()) }
}

/// A folder in this clone, so that the SDK is found, and the programs on the `PATH`.
pub(crate) struct Workplace {
    folder: tempfile::TempDir,
    path: OsString,
    /// Further variables of the environment.
    pub(crate) variables: Vec<(&'static str, OsString)>,
}

impl Workplace {
    pub(crate) fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let program = runtime.block_on(paddock());
        let target = root().join("target/tmp");
        std::fs::create_dir_all(&target)?;
        let folder = tempfile::TempDir::with_prefix_in("walk-", target)?;
        // A folder with this program alone, since the folder of the build contains others.
        let bin = folder.path().join(PROGRAMS);
        std::fs::create_dir(&bin)?;
        std::os::unix::fs::symlink(program, bin.join("paddock"))?;
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(std::iter::once(bin).chain(std::env::split_paths(&paths)))?;
        Ok(Self { folder, path, variables: Vec::new() })
    }

    /// The folder with the programs that a page calls.
    pub(crate) fn programs(&self) -> PathBuf {
        self.folder.path().join(PROGRAMS)
    }

    /// Runs a command of a shell. Returns whether it succeeds, and its output with its errors at the end.
    fn run(&self, folder: &Path, command: &str) -> Result<(bool, String), Box<dyn std::error::Error>> {
        let mut shell = Command::new("sh");
        let own = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(own)) {
            shell.env_remove(name);
        }
        shell.args(["-c", command]).current_dir(folder).stdin(Stdio::null());
        // The folder in which the plugins of this repository are built, so that their dependencies are compiled once.
        shell.env("CARGO_TARGET_DIR", root().join("target/plugins")).env("PATH", &self.path).env_remove("RUST_LOG");
        shell.envs(self.variables.iter().map(|(name, value)| (name, value)));
        let output = shell.output()?;
        let own = |line: &&str| line.starts_with("error:") || line.starts_with("note:");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        let shown: Vec<&str> = if output.status.success() { vec![] } else { errors.lines().filter(own).collect() };
        shown.iter().for_each(|line| text += &format!("{line}\n"));
        if !output.status.success() && shown.is_empty() {
            return Err(format!("{command}: {}\n{text}{errors}", output.status).into());
        }
        Ok((output.status.success(), text))
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the folder of the repository")
}

/// Does what a page says, in the folder of the workplace.
pub(crate) fn follow(workplace: &Workplace, page: &str) -> Outcome {
    let mut folder = workplace.folder.path().to_owned();
    for step in steps(page) {
        let (command, output) = match step {
            Step::Write { name, content } => {
                std::fs::write(folder.join(name), content)?;
                continue;
            }
            Step::Run { command, output } => (command, output),
        };
        if let Some(to) = command.strip_prefix("cd ") {
            folder.push(to);
            continue;
        }
        let (succeeds, actual) = workplace.run(&folder, command).map_err(|error| error.to_string())?;
        let expected = !output.iter().any(|line| line.starts_with("error:"));
        if succeeds != expected {
            return Err(format!("{command}: expected success: {expected}, but got\n{actual}").into());
        }
        // The page does not show the output of every command.
        let lines: Vec<&str> = actual.lines().collect();
        if !matches(&output, &lines) {
            return Err(format!("{command}: the page shows\n{}\nbut it prints\n{actual}", output.join("\n")).into());
        }
    }
    Ok(())
}

/// Fails if a page does not show one of these commands.
pub(crate) fn shows(page: &str, commands: &[&str]) -> Outcome {
    let steps = steps(page);
    for wanted in commands {
        let shown = |step: &Step<'_>| matches!(step, Step::Run { command, .. } if command.starts_with(wanted));
        if !steps.iter().any(shown) {
            return Err(format!("the page does not show `{wanted}`").into());
        }
    }
    Ok(())
}

fn page() -> Outcome {
    let verbs =
        ["new", "build", "test", "question", "run", "bench", "check"].map(|verb| format!("paddock plugin {verb}"));
    shows(PAGE, &verbs.each_ref().map(String::as_str))?;
    let workplace = Workplace::new().map_err(|error| error.to_string())?;
    follow(&workplace, PAGE)
}

fn template(hook: &str) -> Outcome {
    let workplace = Workplace::new().map_err(|error| error.to_string())?;
    let (folder, name) = (workplace.folder.path(), format!("my-{hook}"));
    for command in [
        format!("paddock plugin new {name} --hook {hook}"),
        format!("paddock plugin build {name}"),
        format!("paddock plugin test {name}"),
        format!("paddock plugin check {name}/{name}.wasm"),
        format!("paddock plugin question {hook} > question.yaml"),
        format!("paddock plugin run {name}/{name}.wasm --question question.yaml"),
    ] {
        let (succeeds, output) = workplace.run(folder, &command).map_err(|error| error.to_string())?;
        if !succeeds {
            return Err(format!("{command}: {output}").into());
        }
    }
    Ok(())
}

/// A crate without dependencies. It compiles only if the flags of its configuration and of the command both apply.
const BARE: [(&str, &str); 4] = [
    ("Cargo.toml", "[package]\nname = \"bare\"\nedition = \"2024\"\n[lib]\ncrate-type = [\"cdylib\"]\n[workspace]\n"),
    (".cargo/config.toml", "[target.wasm32-unknown-unknown]\nrustflags = [\"--cfg=kept\"]\n"),
    (
        "src/lib.rs",
        "#[cfg(not(kept))]\ncompile_error!(\"the flag is lost\");\nconst SITE: &str = \
         include!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/src/site.rs\"));\nconst _: () = \
         assert!(matches!(SITE.as_bytes(), [b'/', b'p', b'l', b'u', b'g', b'i', b'n', b's', b'/', ..]));\n",
    ),
    ("src/site.rs", "file!()"),
];

fn bare(folder: &Path) -> std::io::Result<()> {
    for (file, content) in BARE {
        let path = folder.join("bare").join(file);
        std::fs::create_dir_all(path.parent().unwrap_or(folder))?;
        std::fs::write(path, content)?;
    }
    Ok(())
}

fn flags() -> Outcome {
    let workplace = Workplace::new().map_err(|error| error.to_string())?;
    let folder = workplace.folder.path();
    bare(folder)?;
    // The crate compiles, but it is no plugin.
    let (_, output) = workplace.run(folder, "paddock plugin build bare").map_err(|error| error.to_string())?;
    let compiled = !output.contains("the crate does not build") && output.contains("error: the operator refuses bare");
    if compiled { Ok(()) } else { Err(output.into()) }
}

/// A compiler that knows no target, and a cargo that records how it is called to build.
fn toolchains() -> Outcome {
    let workplace = Workplace::new().map_err(|error| error.to_string())?;
    let folder = workplace.folder.path();
    bare(folder)?;
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    std::fs::create_dir(folder.join("tools"))?;
    for (name, script) in [
        ("rustc", "case \"$*\" in *target-libdir*) echo /nowhere ;; *sysroot*) echo \"$SYSROOT\" ;; esac".to_owned()),
        (
            "cargo",
            format!(
                "if [ \"$1\" = metadata ]; then unset RUSTC; exec '{cargo}' \"$@\"; fi\n\
                 echo \"$RUSTC_BOOTSTRAP $*\" > \"$SEEN\"\nexit 9"
            ),
        ),
    ] {
        use std::os::unix::fs::PermissionsExt as _;
        let path = folder.join("tools").join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n"))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    }
    let build = "SEEN=$PWD/seen SYSROOT=$PWD/sysroot RUSTC=$PWD/tools/rustc CARGO=$PWD/tools/cargo \
                 paddock plugin build bare";
    let (_, output) = workplace.run(folder, build).map_err(|error| error.to_string())?;
    for part in ["rustup target add wasm32-unknown-unknown", "rustup component add rust-src"] {
        if !output.contains(part) || folder.join("seen").exists() {
            return Err(format!("with neither the target nor rust-src: expected {part:?}, got\n{output}").into());
        }
    }
    std::fs::create_dir_all(folder.join("sysroot/lib/rustlib/src/rust/library"))?;
    let (_, output) = workplace.run(folder, build).map_err(|error| error.to_string())?;
    let seen = std::fs::read_to_string(folder.join("seen")).map_err(|error| format!("{error}: {output}"))?;
    let expected = seen.starts_with("1 build ") && seen.contains(" -Zbuild-std=std,panic_abort");
    if expected { Ok(()) } else { Err(format!("with rust-src, cargo is called as {seen:?}\n{output}").into()) }
}
