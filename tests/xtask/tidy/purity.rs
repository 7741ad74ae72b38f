//! Checks that the api and core crates are pure, by the names of the standard library in their code and by the list of
//! names that clippy forbids in them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

use super::dependencies::PURE_CRATES;
use crate::project::Project;
use crate::rust::{Name, flatten};

/// The parts of the standard library that the pure crates may name: no clock, files, network, threads, environment or
/// processes, and no type with a random order.
const MAY_NAME: [&str; 14] = [
    "std::borrow::Cow",
    "std::cell::Cell",
    "std::cell::LazyCell",
    "std::cmp",
    "std::collections::BTreeMap",
    "std::collections::BTreeSet",
    "std::collections::VecDeque",
    "std::fmt",
    "std::iter",
    "std::mem",
    "std::ops",
    "std::sync::Arc",
    "std::sync::Weak",
    "std::time::Duration",
];

/// The file with this test reads and writes the files of the CRDs. The code under test does not.
const TEST_WITH_FILES: &str = "fn the_files_in_crds_are_those_of_the_code";

/// The file with the clock of the tests whose work must grow linearly. Only tests are compiled with it.
const CLOCK_OF_TESTS: &str = "pub(crate) struct Stopwatch(Instant);";

/// The items that the core's clippy.toml must forbid, by list. They are misuses of the allowed names, and items that
/// are reachable without the name of their module: a method, a name of the prelude, or another crate's clock.
const FORBIDDEN: [(&str, &[&str]); 3] = [
    (
        "disallowed-methods",
        &[
            "std::time::SystemTime: now elapsed",
            "std::time::Instant: now elapsed",
            "jiff::Timestamp: now",
            "jiff::Zoned: now",
            "jiff::tz::TimeZone: system try_system get",
            "std::thread: spawn scope current park yield_now available_parallelism sleep",
            "std::env: var var_os vars vars_os args args_os current_dir current_exe temp_dir",
            "std::fs: read read_to_string read_dir read_link write copy rename hard_link create_dir create_dir_all",
            "std::fs: remove_file remove_dir remove_dir_all metadata symlink_metadata set_permissions canonicalize exists",
            "std::path::Path: exists try_exists is_file is_dir is_symlink metadata symlink_metadata",
            "std::path::Path: read_dir read_link canonicalize",
            "std::io: stdin stdout stderr read_to_string",
            "std::net::ToSocketAddrs: to_socket_addrs",
            "std::sync::mpsc: channel sync_channel",
            "std::process: exit abort id",
        ],
    ),
    (
        "disallowed-types",
        &[
            "std::collections: HashMap HashSet",
            "std::hash: RandomState DefaultHasher",
            "std::time: SystemTime Instant",
            "std::fs: File OpenOptions DirBuilder ReadDir",
            "std::io: Stdin Stdout Stderr",
            "std::net: TcpStream TcpListener UdpSocket",
            "std::os::unix::net: UnixStream UnixListener UnixDatagram",
            "std::process: Command Child",
            "std::thread: Builder JoinHandle LocalKey",
            "std::sync: Mutex RwLock Condvar Barrier OnceLock LazyLock",
            "std::sync::atomic: AtomicBool AtomicU32 AtomicU64 AtomicUsize",
        ],
    ),
    ("disallowed-macros", &["std: print println eprint eprintln dbg thread_local"]),
];

pub(super) fn clippy(project: &Project) -> Result<Vec<String>> {
    let workspace = project.tree.required("clippy.toml")?;
    let mut faults = Vec::new();
    for name in PURE_CRATES {
        let package = project.package(name).with_context(|| format!("there is no {name}"))?;
        let path = format!("{}/clippy.toml", package.folder);
        let found = not_forbidden(project.tree.required(&path)?, workspace)?;
        faults.extend(found.into_iter().map(|fault| format!("{path} {fault}")));
    }
    Ok(faults)
}

/// The items that a clippy.toml does not forbid, the items that it forbids beside the list, and the settings that it
/// does not repeat.
fn not_forbidden(clippy: &str, workspace: &str) -> Result<Vec<String>> {
    let (clippy, workspace): (toml::Table, toml::Table) = (clippy.parse()?, workspace.parse()?);
    let mut faults = Vec::new();
    for (list, wanted) in FORBIDDEN {
        let entries = clippy.get(list).and_then(toml::Value::as_array).into_iter().flatten();
        let path = |entry: &toml::Value| entry.as_str().or_else(|| entry.get("path")?.as_str()).map(str::to_owned);
        let there: BTreeSet<String> = entries.filter_map(path).collect();
        let full = |line: &&str| {
            let (module, names) = line.split_once(": ").unwrap_or((line, ""));
            names.split(' ').map(|name| format!("{module}::{name}")).collect::<Vec<_>>()
        };
        let wanted: BTreeSet<String> = wanted.iter().flat_map(full).collect();
        faults.extend(wanted.difference(&there).map(|path| format!("{list} lacks {path}")));
        faults
            .extend(there.difference(&wanted).map(|path| format!("{list} has {path}, which this check does not know")));
    }
    // Clippy reads only one file, so the settings of the workspace's file would be lost.
    let lost = workspace.iter().filter(|(key, value)| clippy.get(*key) != Some(*value));
    faults.extend(lost.map(|(key, _)| format!("must repeat {key}")));
    Ok(faults)
}

pub(super) fn names(project: &Project) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for package in project.packages.iter().filter(|p| PURE_CRATES.contains(&p.name.as_str())) {
        let sources = project.tree.below(&package.folder).filter(|(path, _)| path.ends_with(".rs"));
        for (path, text) in
            sources.filter(|(_, text)| ![TEST_WITH_FILES, CLOCK_OF_TESTS].iter().any(|of| text.contains(of)))
        {
            let syntax = syn::parse_file(text).with_context(|| path.to_owned())?;
            let wrong = standard_names(&syntax).into_iter().filter(|(name, _)| !may_name(name));
            faults.extend(wrong.map(|(name, line)| format!("{path}:{line}: {name}")));
        }
    }
    Ok(faults)
}

fn may_name(name: &str) -> bool {
    MAY_NAME.iter().any(|may| name == *may || name.starts_with(&format!("{may}::")))
}

/// Every path of `std`, `core` and `alloc` in a file, with `std` as the first segment, and one of its lines.
fn standard_names(file: &syn::File) -> BTreeMap<String, usize> {
    let mut standard = Standard::default();
    standard.visit_file(file);
    standard.0
}

#[derive(Default)]
struct Standard(BTreeMap<String, usize>);

impl Standard {
    fn add(&mut self, segments: &[String], line: usize) {
        if let Some((root, rest)) = segments.split_first()
            && ["std", "core", "alloc"].contains(&root.as_str())
        {
            let path: Vec<&str> = ["std"].into_iter().chain(rest.iter().map(String::as_str)).collect();
            self.0.entry(path.join("::")).or_insert(line);
        }
    }

    /// Adds the paths in the tokens of a macro call. A name after `.` or `::` does not begin a path.
    fn tokens(&mut self, tokens: &TokenStream) {
        let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
        let is_punct = |at: usize, c: char| matches!(tokens.get(at), Some(TokenTree::Punct(p)) if p.as_char() == c);
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            if let TokenTree::Group(group) = token {
                self.tokens(&group.stream());
            } else if let TokenTree::Ident(first) = token {
                let inside = at >= 1 && is_punct(at - 1, '.')
                    || at >= 3
                        && is_punct(at - 1, ':')
                        && is_punct(at - 2, ':')
                        && matches!(tokens[at - 3], TokenTree::Ident(_));
                let (line, mut segments) = (first.span().start().line, vec![first.to_string()]);
                while is_punct(at + 1, ':') && is_punct(at + 2, ':') {
                    let Some(TokenTree::Ident(next)) = tokens.get(at + 3) else { break };
                    segments.push(next.to_string());
                    at += 3;
                }
                if !inside && segments.len() > 1 {
                    self.add(&segments, line);
                }
            }
            at += 1;
        }
    }
}

impl<'a> Visit<'a> for Standard {
    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        let mut imports = Vec::new();
        flatten(&item.tree, &Name { segments: Vec::new(), is_global: false }, false, &mut imports);
        for import in imports {
            let mut segments = import.name.segments;
            if import.alias.is_none() {
                segments.push("*".to_owned());
            }
            self.add(&segments, item.use_token.span.start().line);
        }
    }

    fn visit_item_extern_crate(&mut self, item: &'a syn::ItemExternCrate) {
        self.add(&[item.ident.to_string()], item.ident.span().start().line);
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        if let (true, Some(first)) = (segments.len() > 1, path.segments.first()) {
            self.add(&segments, first.ident.span().start().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'a syn::Macro) {
        self.visit_path(&call.path);
        self.tokens(&call.tokens);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(code: &str) -> Vec<String> {
        standard_names(&syn::parse_file(code).unwrap()).into_keys().collect()
    }

    #[test]
    fn paths_are_found_however_they_are_written() {
        assert_eq!(
            found("use std::{env as e, collections::{BTreeMap, HashMap}, time::{self, Duration}};"),
            ["std::collections::BTreeMap", "std::collections::HashMap", "std::env", "std::time", "std::time::Duration",]
        );
        for (code, name) in [
            ("use std::fs;", "std::fs"),
            ("fn f() { let t = ::std::time::Instant::now(); }", "std::time::Instant::now"),
            ("fn f() { core :: hint :: spin_loop() }", "std::hint::spin_loop"),
            ("use std::thread::*;", "std::thread::*"),
            ("use std as other;", "std"),
            ("extern crate std as other;", "std"),
            ("fn f() { assert!(std::mem::size_of::<u8>() > 0) }", "std::mem::size_of"),
            ("mod m { fn f() { json!({ \"a\": [std::env::var(r#\"std::net\"#)] }) } }", "std::env::var"),
        ] {
            assert_eq!(found(code), [name], "{code}");
        }
        let none = "use k8s_openapi::api::core::v1::Pod; // std::fs\nfn f() { assert!(a.core, k8s::core::v1::Pod, \"std::fs\") }";
        assert_eq!(found(none), Vec::<String>::new());
    }

    #[test]
    fn harmless_paths_may_be_named() {
        assert!(may_name("std::fmt") && may_name("std::fmt::Display") && may_name("std::sync::Arc::new"));
        assert!(
            !may_name("std::time")
                && !may_name("std::sync")
                && !may_name("std::fmtx")
                && !may_name("std::time::Instant")
        );
    }

    #[test]
    fn missing_clippy_entry_is_found() {
        let faults =
            not_forbidden("disallowed-macros = [\"std::print\", \"std::new\"]", "allow-unwrap-in-tests = true")
                .unwrap();
        for fault in [
            "disallowed-methods lacks std::time::Instant::now",
            "disallowed-macros lacks std::println",
            "disallowed-macros has std::new, which this check does not know",
            "must repeat allow-unwrap-in-tests",
        ] {
            assert!(faults.iter().any(|f| f == fault), "{faults:?}");
        }
    }
}
