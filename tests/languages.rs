//! The example `pool-headroom` in Rust, Python, JavaScript and Go. Each is built and asked by `paddock plugin test`, with
//! the limits of the operator. Its answers are compared with the arithmetic of this file.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use jiff::{SignedDuration, Timestamp};
use paddock_cluster::{componentize_py, componentize_qjs};
use serde_json::{Value, json};

use crate::e2e::programs::paddock;
use crate::framework::{Capability, Outcome, Test, test};

/// The number of questions beside those of the plugin's own cases.
const QUESTIONS: usize = 40;
const COMPONENT: &str = "pool-headroom.wasm";
/// The arguments of the commands in the READMEs of the examples.
const PYTHON: &str = "--wit-path ../../../wit/v0.2.0 --world pool-size-plugin componentize --stub-wasi pool_headroom \
                      --output pool-headroom.wasm";
const JAVASCRIPT: &str = "--wit ../../../wit/v0.2.0 --world pool-size-plugin --js pool-headroom.js --sync --stub-wasi \
                          --output pool-headroom.wasm";
const GO: &str = "build -trimpath -buildvcs=false -buildmode=c-shared -ldflags=-s -o module.wasm .";
const COMPONENTIZE: &str =
    "plugin componentize module.wasm --world pool-size-plugin --stub-wasi --output pool-headroom.wasm";

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

pub(crate) fn tests() -> Vec<Test> {
    let python = [Capability::Program("python3"), Capability::PythonVenv];
    let javascript = [Capability::Program("node"), Capability::Program("npm")];
    vec![
        test("languages::plugin_in_rust_answers_as_the_arithmetic", rust),
        test("languages::plugin_in_python_answers_as_the_arithmetic", python_plugin).needs(python),
        test("languages::plugin_in_javascript_answers_as_the_arithmetic", javascript_plugin).needs(javascript),
        test("languages::plugin_in_go_answers_as_the_arithmetic", go).needs([Capability::Program("go")]),
    ]
}

fn rust() -> Outcome {
    let plugin = Plugin::new()?;
    std::fs::write(plugin.folder().join(COMPONENT), paddock_guests::POOL_HEADROOM)?;
    plugin.answers()
}

fn python_plugin() -> Outcome {
    let plugin = Plugin::copied("python")?;
    plugin.run("componentize-py", &mut componentize_py()?, PYTHON)?;
    plugin.answers()
}

fn javascript_plugin() -> Outcome {
    let plugin = Plugin::copied("javascript")?;
    plugin.run("componentize-qjs", &mut componentize_qjs()?, JAVASCRIPT)?;
    plugin.answers()
}

fn go() -> Outcome {
    let plugin = Plugin::copied("go")?;
    let mut go = Command::new("go");
    go.env("GOOS", "wasip1").env("GOARCH", "wasm").env("GOFLAGS", "").env("GOWORK", "off").env_remove("GOEXPERIMENT");
    plugin.run("GOOS=wasip1 GOARCH=wasm go", &mut go, GO)?;
    plugin.run("paddock", &mut Command::new(&plugin.paddock), COMPONENTIZE)?;
    plugin.answers()
}

/// A copy of an example in a folder that is as deep below the root as the example.
struct Plugin {
    copy: tempfile::TempDir,
    readme: String,
    paddock: PathBuf,
}

impl Plugin {
    fn new() -> Result<Self> {
        let target = root().join("target/tmp");
        std::fs::create_dir_all(&target)?;
        let copy = tempfile::TempDir::with_prefix_in("languages-", target)?;
        std::fs::create_dir(copy.path().join("tests"))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { copy, readme: String::new(), paddock: runtime.block_on(paddock()) })
    }

    fn copied(example: &str) -> Result<Self> {
        let plugin = Self::new()?;
        let example = root().join("plugins/examples").join(example);
        for folder in [".", "tests"] {
            for entry in std::fs::read_dir(example.join(folder))? {
                let file = entry?.path();
                if file.is_file() {
                    let name = file.file_name().ok_or("a file without a name")?;
                    std::fs::copy(&file, plugin.folder().join(folder).join(name))?;
                }
            }
        }
        Ok(Self { readme: std::fs::read_to_string(example.join("README.md"))?, ..plugin })
    }

    fn folder(&self) -> &Path {
        self.copy.path()
    }

    /// Runs a command with these arguments, which the README states too.
    fn run(&self, program: &str, command: &mut Command, arguments: &str) -> Result<()> {
        let line = format!("{program} {arguments}");
        if !self.readme.replace(" \\\n    ", " ").lines().any(|shown| shown.trim_start_matches("$ ").ends_with(&line)) {
            return Err(format!("the README lacks the command\n{line}").into());
        }
        finish(command.args(arguments.split_whitespace()).current_dir(self.folder()))
    }

    /// Runs the cases of the plugin, and those of [`questions`].
    fn answers(&self) -> Outcome {
        let generated = json!({ "component": format!("../{COMPONENT}"), "cases": questions() });
        std::fs::write(self.folder().join("tests/generated.yaml"), generated.to_string())?;
        finish(Command::new(&self.paddock).args(["plugin", "test"]).current_dir(self.folder()))?;
        Ok(())
    }
}

/// Runs a command that must succeed.
fn finish(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Err(format!("{command:?}: {}\n{out}{errors}", output.status).into())
}

/// Random questions with their answers, the same in every run. Some numbers are the largest that a field can have.
fn questions() -> Vec<Value> {
    let mut random = fastrand::Rng::with_seed(120);
    let number = |random: &mut fastrand::Rng| match random.u32(..8) {
        0 => u32::MAX,
        1 => 0,
        _ => random.u32(..500),
    };
    let mut cases = Vec::new();
    for index in 0..QUESTIONS {
        let settings = match index % 2 {
            0 => Settings { headroom: 50, window: 60, given: false },
            _ => Settings { headroom: random.u64(..=1000), window: random.u64(1..=600), given: true },
        };
        let (one, other) = (number(&mut random), number(&mut random));
        let arrivals = (0..random.usize(..=60)).map(|_| number(&mut random)).collect();
        let asked = Asked { min: one.min(other), max: one.max(other), bucket: random.u32(1..=60), arrivals };
        cases.push(case(index, &asked, &settings));
    }
    cases
}

struct Settings {
    headroom: u64,
    window: u64,
    /// Whether the case has settings. Without them, the defaults apply.
    given: bool,
}

struct Asked {
    min: u32,
    max: u32,
    bucket: u32,
    arrivals: Vec<u32>,
}

fn case(index: usize, asked: &Asked, settings: &Settings) -> Value {
    let Asked { min, max, bucket, arrivals } = asked;
    let Settings { headroom, window, given } = settings;
    let now: Timestamp = "2027-01-15T08:00:00Z".parse().expect("a time");
    let buckets = usize::try_from(window.div_ceil(u64::from(*bucket))).expect("a few");
    let claims: u64 = arrivals.iter().rev().take(buckets).map(|claims| u64::from(*claims)).sum();
    let wanted = (claims * (100 + headroom)).div_ceil(100);
    let expected = json!({
        "desired": wanted.max(u64::from(*min)).min(u64::from(*max)),
        "next-check": (now + SignedDuration::from_secs(i64::from(*bucket))).to_string(),
        "reason": format!("{claims} claims in {window} s, and {headroom} % headroom"),
        "state": null,
    });
    let settings = if *given { json!({ "headroomPercent": headroom, "windowSeconds": window }) } else { json!({}) };
    json!({
        "name": format!("question {index}"),
        "settings": settings,
        "question": { "min": min, "max": max, "bucket-seconds": bucket, "arrivals": arrivals, "now": now.to_string() },
        "expect": expected,
    })
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
