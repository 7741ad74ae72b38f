//! The core is pure: by its manifest, and by what clippy forbids in it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use toml::Value;

use crate::framework::{Outcome, Test, test};

/// What the core may use. None of them does I/O, keeps time, or runs anything.
const MAY_USE: [&str; 8] =
    ["jiff", "json-patch", "k8s-openapi", "kube", "schemars", "serde", "serde_json", "thiserror"];
/// What the core's own tests may use beside.
const TESTS_MAY_USE: [&str; 1] = ["serde_yaml_ng"];
/// Without these, a decision could look at the clock, the disk, the environment, or depend on the order of a hash.
const FORBIDDEN_METHODS: [&str; 8] = [
    "std::time::SystemTime::now",
    "std::time::Instant::now",
    "jiff::Timestamp::now",
    "jiff::Zoned::now",
    "std::thread::spawn",
    "std::thread::sleep",
    "std::env::var",
    "std::fs::read",
];
const FORBIDDEN_TYPES: [&str; 5] = [
    "std::collections::HashMap",
    "std::collections::HashSet",
    "std::fs::File",
    "std::net::TcpStream",
    "std::process::Command",
];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("purity::the_core_depends_on_nothing_that_acts", dependencies),
        test("purity::kube_gives_the_core_its_derives_alone", kube_derives_alone),
        test("purity::clippy_forbids_clock_files_threads_and_hash_order", forbidden),
    ]
}

fn core() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../src/core")
}

fn read(path: &Path) -> Result<toml::Table, String> {
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    text.parse().map_err(|e| format!("{}: {e}", path.display()))
}

fn dependencies() -> Outcome {
    let manifest = read(&core().join("Cargo.toml"))?;
    for (table, may) in [("dependencies", MAY_USE.as_slice()), ("dev-dependencies", &TESTS_MAY_USE)] {
        let used = manifest.get(table).and_then(Value::as_table).cloned().unwrap_or_default();
        let more: Vec<&String> = used.keys().filter(|name| !may.contains(&name.as_str())).collect();
        if !more.is_empty() {
            return Err(format!("src/core/Cargo.toml [{table}] has {more:?}: the core may use {may:?}").into());
        }
    }
    for table in ["build-dependencies", "target"] {
        if manifest.contains_key(table) {
            return Err(format!("src/core/Cargo.toml has [{table}]: the core needs none").into());
        }
    }
    Ok(())
}

fn kube_derives_alone() -> Outcome {
    let manifest = read(&core().join("Cargo.toml"))?;
    let workspace = read(&core().join("../../Cargo.toml"))?;
    let kube = &workspace["workspace"]["dependencies"]["kube"];
    if kube.get("default-features") != Some(&Value::Boolean(false)) || kube.get("features").is_some() {
        return Err("kube in the workspace must have no features: they would reach the core".into());
    }
    let features = manifest["dependencies"]["kube"].get("features").and_then(Value::as_array);
    let features: Vec<&str> = features.into_iter().flatten().filter_map(Value::as_str).collect();
    if features == ["derive"] { Ok(()) } else { Err(format!("the core's kube has {features:?}").into()) }
}

fn forbidden() -> Outcome {
    let clippy = read(&core().join("clippy.toml"))?;
    for (list, wanted) in [("disallowed-methods", FORBIDDEN_METHODS.as_slice()), ("disallowed-types", &FORBIDDEN_TYPES)]
    {
        let entries = clippy.get(list).and_then(Value::as_array).into_iter().flatten();
        let paths: BTreeSet<&str> =
            entries.filter_map(|e| e.as_str().or_else(|| e.get("path").and_then(Value::as_str))).collect();
        let missing: Vec<&&str> = wanted.iter().filter(|p| !paths.contains(**p)).collect();
        if !missing.is_empty() {
            return Err(format!("src/core/clippy.toml {list} lacks {missing:?}").into());
        }
    }
    // Clippy reads one file alone: what the workspace's says would be lost.
    let workspace = read(&core().join("../../clippy.toml"))?;
    let lost: Vec<&String> = workspace.keys().filter(|k| clippy.get(k.as_str()) != workspace.get(k.as_str())).collect();
    if lost.is_empty() { Ok(()) } else { Err(format!("src/core/clippy.toml must repeat {lost:?}").into()) }
}
