//! Runs the commands of `docs/plugins/write-a-plugin.md` and compares their output with the page. Makes, builds and tests
//! the plugin that `paddock plugin new` writes for each hook. None of this needs a cluster.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::e2e::programs::paddock;
use crate::framework::{Capability, Outcome, Test, test};

const PAGE: &str = include_str!("../docs/plugins/write-a-plugin.md");
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

/// A command of the page, with the lines of its output.
struct Step<'a> {
    command: &'a str,
    output: Vec<&'a str>,
}

/// The commands in the blocks of the page.
fn steps(page: &str) -> Vec<Step<'_>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        match (inside, line) {
            (false, "```console") => inside = true,
            (true, "```") => inside = false,
            (true, line) => match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => steps.push(Step { command, output: vec![] }),
                (None, Some(step)) => step.output.push(line),
                (None, None) => {}
            },
            (false, _) => {}
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
    let found = steps("```console\n$ a\nb\n```\nc\n```yaml\n$ d\n```\n```console\n$ e\n```\n");
    let found: Vec<_> = found.iter().map(|step| (step.command, step.output.len())).collect();
    if found == [("a", 1), ("e", 0)] { Ok(()) } else { Err(format!("{found:?}").into()) }
}

/// A folder in this clone, so that the SDK is found, and the program.
struct Workplace {
    folder: tempfile::TempDir,
    path: std::ffi::OsString,
}

impl Workplace {
    fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let program = runtime.block_on(paddock());
        let target = root().join("target/tmp");
        std::fs::create_dir_all(&target)?;
        let folder = tempfile::TempDir::with_prefix_in("walk-", target)?;
        // A folder with this program alone, since the folder of the build contains others.
        let bin = folder.path().join("bin");
        std::fs::create_dir(&bin)?;
        std::os::unix::fs::symlink(program, bin.join("paddock"))?;
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(std::iter::once(bin).chain(std::env::split_paths(&paths)))?;
        Ok(Self { folder, path })
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

fn page() -> Outcome {
    let workplace = Workplace::new().map_err(|error| error.to_string())?;
    let mut folder = workplace.folder.path().to_owned();
    let steps = steps(PAGE);
    for verb in ["new", "build", "test", "question", "run", "bench", "check"] {
        let shown = steps.iter().any(|step| step.command.starts_with(&format!("paddock plugin {verb}")));
        if !shown {
            return Err(format!("the page does not show `paddock plugin {verb}`").into());
        }
    }
    for Step { command, output } in steps {
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
