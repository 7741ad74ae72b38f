//! The core is pure: by its manifest, and by what clippy forbids in it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use toml::Value;

use crate::framework::{Outcome, Test, test};
use crate::source::{code, files};

/// What the core may use. None of them does I/O, keeps time, or runs anything.
const MAY_USE: [&str; 8] =
    ["jiff", "json-patch", "k8s-openapi", "kube", "schemars", "serde", "serde_json", "thiserror"];
/// What the core's own tests may use beside.
const TESTS_MAY_USE: [&str; 2] = ["proptest", "serde_yaml_ng"];
/// Every part of the standard library that the core may name: no clock, files, network, threads, environment or processes,
/// and nothing that is ordered by chance. What clippy forbids below is what these parts could still be misused for, and what
/// a path could be spelt around this list.
const MAY_NAME: [&str; 10] = [
    "std::cmp",
    "std::collections::BTreeMap",
    "std::collections::BTreeSet",
    "std::collections::VecDeque",
    "std::fmt",
    "std::iter",
    "std::mem",
    "std::ops",
    "std::sync::Arc",
    "std::time::Duration",
];
/// Reads and blesses the files of the CRDs; the code that it tests does not.
const TEST_WITH_FILES: &str = "api/tests.rs";
/// The whole lists: an entry that is missing in the file opens a door, and one that is missing here was not thought about.
const FORBIDDEN_METHODS: [&str; 63] = [
    "std::time::SystemTime::now",
    "std::time::SystemTime::elapsed",
    "std::time::Instant::now",
    "std::time::Instant::elapsed",
    "jiff::Timestamp::now",
    "jiff::Zoned::now",
    "jiff::tz::TimeZone::system",
    "jiff::tz::TimeZone::try_system",
    "jiff::tz::TimeZone::get",
    "std::thread::spawn",
    "std::thread::scope",
    "std::thread::current",
    "std::thread::park",
    "std::thread::yield_now",
    "std::thread::available_parallelism",
    "std::thread::sleep",
    "std::env::var",
    "std::env::var_os",
    "std::env::vars",
    "std::env::vars_os",
    "std::env::args",
    "std::env::args_os",
    "std::env::current_dir",
    "std::env::current_exe",
    "std::env::temp_dir",
    "std::fs::read",
    "std::fs::read_to_string",
    "std::fs::read_dir",
    "std::fs::read_link",
    "std::fs::write",
    "std::fs::copy",
    "std::fs::rename",
    "std::fs::hard_link",
    "std::fs::create_dir",
    "std::fs::create_dir_all",
    "std::fs::remove_file",
    "std::fs::remove_dir",
    "std::fs::remove_dir_all",
    "std::fs::metadata",
    "std::fs::symlink_metadata",
    "std::fs::set_permissions",
    "std::fs::canonicalize",
    "std::fs::exists",
    "std::path::Path::exists",
    "std::path::Path::try_exists",
    "std::path::Path::is_file",
    "std::path::Path::is_dir",
    "std::path::Path::is_symlink",
    "std::path::Path::metadata",
    "std::path::Path::symlink_metadata",
    "std::path::Path::read_dir",
    "std::path::Path::read_link",
    "std::path::Path::canonicalize",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "std::io::read_to_string",
    "std::net::ToSocketAddrs::to_socket_addrs",
    "std::sync::mpsc::channel",
    "std::sync::mpsc::sync_channel",
    "std::process::exit",
    "std::process::abort",
    "std::process::id",
];

const FORBIDDEN_TYPES: [&str; 34] = [
    "std::collections::HashMap",
    "std::collections::HashSet",
    "std::hash::RandomState",
    "std::hash::DefaultHasher",
    "std::time::SystemTime",
    "std::time::Instant",
    "std::fs::File",
    "std::fs::OpenOptions",
    "std::fs::DirBuilder",
    "std::fs::ReadDir",
    "std::io::Stdin",
    "std::io::Stdout",
    "std::io::Stderr",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
    "std::os::unix::net::UnixStream",
    "std::os::unix::net::UnixListener",
    "std::os::unix::net::UnixDatagram",
    "std::process::Command",
    "std::process::Child",
    "std::thread::Builder",
    "std::thread::JoinHandle",
    "std::thread::LocalKey",
    "std::sync::Mutex",
    "std::sync::RwLock",
    "std::sync::Condvar",
    "std::sync::Barrier",
    "std::sync::OnceLock",
    "std::sync::LazyLock",
    "std::sync::atomic::AtomicBool",
    "std::sync::atomic::AtomicU32",
    "std::sync::atomic::AtomicU64",
    "std::sync::atomic::AtomicUsize",
];

const FORBIDDEN_MACROS: [&str; 6] =
    ["std::print", "std::println", "std::eprint", "std::eprintln", "std::dbg", "std::thread_local"];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("purity::the_core_depends_on_nothing_that_acts", dependencies),
        test("purity::kube_gives_the_core_its_derives_alone", kube_derives_alone),
        test("purity::clippy_forbids_clock_files_threads_and_hash_order", forbidden),
        test("purity::the_core_names_nothing_of_the_standard_library_that_acts", names_nothing_that_acts),
        test("purity::paths_are_found_however_they_are_written", paths_are_found),
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
    for (list, wanted) in [
        ("disallowed-methods", FORBIDDEN_METHODS.as_slice()),
        ("disallowed-types", &FORBIDDEN_TYPES),
        ("disallowed-macros", &FORBIDDEN_MACROS),
    ] {
        let entries = clippy.get(list).and_then(Value::as_array).into_iter().flatten();
        let paths: BTreeSet<&str> =
            entries.filter_map(|e| e.as_str().or_else(|| e.get("path").and_then(Value::as_str))).collect();
        let wanted: BTreeSet<&str> = wanted.iter().copied().collect();
        if paths != wanted {
            let missing: Vec<_> = wanted.difference(&paths).collect();
            let unknown: Vec<_> = paths.difference(&wanted).collect();
            return Err(format!("src/core/clippy.toml {list} lacks {missing:?}, and has beside {unknown:?}").into());
        }
    }
    // Clippy reads one file alone: what the workspace's says would be lost.
    let workspace = read(&core().join("../../clippy.toml"))?;
    let lost: Vec<&String> = workspace.keys().filter(|k| clippy.get(k.as_str()) != workspace.get(k.as_str())).collect();
    if lost.is_empty() { Ok(()) } else { Err(format!("src/core/clippy.toml must repeat {lost:?}").into()) }
}

fn names_nothing_that_acts() -> Outcome {
    let mut complaints = Vec::new();
    let files: Vec<_> = files(&core())?.into_iter().filter(|f| !f.ends_with(TEST_WITH_FILES)).collect();
    if files.len() < 30 {
        return Err(format!("only {} files were found", files.len()).into());
    }
    for path in files {
        for named in standard_paths(&code(&fs::read_to_string(&path)?)) {
            if !MAY_NAME.iter().any(|may| named == *may || named.starts_with(&format!("{may}::"))) {
                complaints.push(format!("{}: {named}", path.display()));
            }
        }
    }
    if complaints.is_empty() { Ok(()) } else { Err(format!("not in MAY_NAME:\n{}", complaints.join("\n")).into()) }
}

/// Every path of `std`, `core` and `alloc`, groups in braces taken apart and all called `std`.
fn standard_paths(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for root in ["std", "core", "alloc"] {
        for (at, _) in code.match_indices(root) {
            let (before, after) = (&code[..at], &code[at + root.len()..]);
            let is_name = |c: char| c.is_alphanumeric() || c == '_';
            // Part of a longer name, or of a path that begins elsewhere, as `k8s_openapi::api::core`.
            let inside = before.strip_suffix("::").is_some_and(|b| b.ends_with(is_name));
            if before.ends_with(is_name) || inside || after.starts_with(is_name) {
                continue;
            }
            let rest = after.trim_start();
            if let Some(tail) = rest.strip_prefix("::") {
                expand("std", tail, &mut paths);
            } else if before.trim_end().ends_with("use") || before.trim_end().ends_with("crate") {
                // `use std as other;`, `extern crate std`: under another name it would not be found.
                paths.push("std".to_owned());
            }
        }
    }
    paths
}

/// What a path or a tree of paths names, and what is left behind it.
fn expand<'a>(prefix: &str, text: &'a str, paths: &mut Vec<String>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut inner) = text.strip_prefix('{') {
        loop {
            inner = expand(prefix, inner, paths).trim_start();
            match inner.strip_prefix(',').map(str::trim_start) {
                Some(more) if !more.starts_with('}') => inner = more,
                Some(end) => return &end[1..],
                None => return inner.strip_prefix('}').unwrap_or(inner),
            }
        }
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '*').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() {
        // As in `std::mem::size_of::<T>`.
        paths.push(prefix.to_owned());
        return rest;
    }
    let path = if name == "self" { prefix.to_owned() } else { format!("{prefix}::{name}") };
    match rest.trim_start().strip_prefix("::") {
        Some(tail) => expand(&path, tail, paths),
        None => {
            paths.push(path);
            rest.trim_start()
                .strip_prefix("as ")
                .map_or(rest, |alias| alias.trim_start().trim_start_matches(|c: char| c.is_alphanumeric() || c == '_'))
        }
    }
}

fn paths_are_found() -> Outcome {
    for (text, found) in [
        ("use std::fs;", vec!["std::fs"]),
        (
            "use std::{env as e, collections::{BTreeMap, HashMap}, time::{self, Duration}};",
            vec![
                "std::env",
                "std::collections::BTreeMap",
                "std::collections::HashMap",
                "std::time",
                "std::time::Duration",
            ],
        ),
        ("let t = ::std::time::Instant::now();", vec!["std::time::Instant::now"]),
        ("core :: hint :: spin_loop()", vec!["std::hint::spin_loop"]),
        ("use std::thread::*;", vec!["std::thread::*"]),
        ("use std as other;", vec!["std"]),
        ("extern crate std as other;", vec!["std"]),
        ("use k8s_openapi::api::core::v1::Pod; let std_like = a.core; // std::fs", vec![]),
        ("let n = std::mem::size_of::<u8>();", vec!["std::mem::size_of"]),
        ("use std::{\n    fmt,\n    io,\n};", vec!["std::fmt", "std::io"]),
        ("let text = \"std::fs \\\" std::fs //\"; std::env::var(r#\"std::net\"#, '\"')", vec!["std::env::var"]),
    ] {
        let paths = standard_paths(&code(text));
        if paths != found {
            return Err(format!("{text}: {paths:?}").into());
        }
    }
    Ok(())
}
