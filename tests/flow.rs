//! One direction: the watch reads, a reconcile looks at what was seen, and the writer writes. No decision asks the API server.
//!
//! Read from the sources: who may hold a connection to the API server at all, what a reconcile waits for, and what the
//! writer can send.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::framework::{Outcome, Test, test};
use crate::source::{body, code, files, without_tests, words};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("flow::who_talks_to_the_api_server_is_known", connected),
        test("flow::a_reconcile_waits_for_answers_and_for_the_writer_alone", awaits),
        test("flow::the_writer_sends_what_was_planned_and_nothing_else", sends),
        test("flow::what_is_seen_comes_from_the_watch_alone", observes),
        test("flow::plugins_reach_nothing", host),
    ]
}

/// Who may name a client of the API server, and why. Everybody else of the operator has none to ask.
const CONNECTED: [(&str, &str); 11] = [
    ("watch/watcher.rs", "the only reader"),
    ("write/writer.rs", "the only writer"),
    ("write/events.rs", "tells users, off the path"),
    ("client.rs", "makes the clients"),
    ("run.rs", "hands the clients out"),
    ("leader/election.rs", "leases"),
    ("leader/lease.rs", "leases"),
    ("tls/keeper.rs", "the Secret of the webhook's certificate"),
    ("webhook.rs", "asks who it is, once"),
    ("webhook/registrar.rs", "the webhook configurations"),
    ("webhook/activity.rs", "notes the last activity: the one write that no plan has"),
];

/// What one needs to talk to an API server: kube's clients, without which its watcher does nothing, or another's.
const MEANS: [&str; 6] = ["Api", "Client", "Discovery", "reqwest", "ureq", "UnixStream"];

fn operator() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../src/operator")
}

/// The operator's files and their code, without tests.
fn sources() -> Result<Vec<(String, String)>, std::io::Error> {
    let mut sources = Vec::new();
    for path in files(&operator())? {
        let name = path.strip_prefix(operator()).unwrap_or(&path).to_string_lossy().into_owned();
        let is_test = ["test.rs", "tests.rs"].iter().any(|end| name.ends_with(end));
        if !is_test {
            sources.push((name, without_tests(&code(&fs::read_to_string(&path)?)).to_owned()));
        }
    }
    Ok(sources)
}

fn source(name: &str) -> Result<String, String> {
    let sources = sources().map_err(|e| e.to_string())?;
    sources.into_iter().find(|(n, _)| n == name).map(|(_, code)| code).ok_or_else(|| format!("there is no {name}"))
}

fn same(what: &str, found: &BTreeSet<String>, wanted: impl IntoIterator<Item = &'static str>) -> Outcome {
    let wanted: BTreeSet<String> = wanted.into_iter().map(str::to_owned).collect();
    if *found == wanted {
        return Ok(());
    }
    let more: Vec<_> = found.difference(&wanted).collect();
    let fewer: Vec<_> = wanted.difference(found).collect();
    Err(format!("{what}: unexpected {more:?}, not found {fewer:?}").into())
}

fn connected() -> Outcome {
    let names_one = |code: &str| {
        // `kube::Error::Api` is what went wrong, not who asks. A name that stands for one of these hides it.
        let code = code.replace("Error::Api", "").replace("Failed::Api", "").replace("KeepError::Api", "");
        let connects = words(&code).any(|word| MEANS.contains(&word)) || code.contains("TcpStream::connect");
        connects || code.contains("kube::*") || code.contains("kube as") || code.contains("kube::client::*")
    };
    let found = sources()?.into_iter().filter(|(_, code)| names_one(code)).map(|(name, _)| name).collect();
    same("files that can talk to the API server", &found, CONNECTED.map(|(name, _)| name))
}

/// Everything that a piece of code waits for, as it is written.
fn awaited(code: &str) -> BTreeSet<String> {
    let flat = code.split_whitespace().collect::<Vec<_>>().join(" ");
    let begins = ['=', ';', '{', '}'];
    let statements = flat.match_indices(".await").map(|(at, _)| &flat[..at]);
    statements.map(|s| s.rsplit(begins).next().unwrap_or(s).trim().to_owned()).collect()
}

fn awaits() -> Outcome {
    let code = source("reconcile/reconciler.rs")?;
    let reconcile = body(&code, "async fn reconcile(").ok_or("there is no `async fn reconcile`")?;
    same("a reconcile waits for", &awaited(reconcile), ["self.ask(&seen, now)", "self.writer.act(&plan)"])?;
    let ask = body(&code, "async fn ask(").ok_or("there is no `async fn ask`")?;
    same("asking waits for", &awaited(ask), ["match asked"])?;
    if !reconcile.contains("self.world.see(key, now)") || !reconcile.contains("decide(&seen, &answers)") {
        return Err("a reconcile does not decide by what the World shows".into());
    }
    // What is handed to the core and to plugins is what was seen: neither has a way to ask for more.
    let fields = body(&code, "pub struct Reconciler").ok_or("there is no `struct Reconciler`")?;
    let types = words(fields).filter(|w| w.starts_with(char::is_uppercase)).map(str::to_owned).collect();
    same("a reconciler holds", &types, ["SharedWorld", "Judge", "Writer", "Events", "Metrics", "Traces"])
}

fn sends() -> Outcome {
    let act = source("write/writer.rs")?;
    let uses: BTreeSet<String> = act
        .match_indices("self.client")
        .map(|(at, _)| act[at..].split_inclusive(')').next().unwrap_or_default().to_owned())
        .collect();
    same("write/writer.rs uses its client for", &uses, ["self.client.send(request)"])?;
    if words(&act).filter(|w| *w == "Client").count() != 3 {
        return Err("write/writer.rs: a client is imported, held and passed in once, and nowhere else".into());
    }
    let request = source("write/request.rs")?;
    let methods = request.match_indices("Method::").map(|(at, m)| {
        request[at + m.len()..].split(|c: char| !c.is_alphabetic()).next().unwrap_or_default().to_owned()
    });
    same("write/request.rs makes requests of", &methods.collect(), ["POST", "PATCH", "DELETE"])?;
    if words(&request).any(|w| ["get", "head", "from_bytes"].contains(&w)) {
        return Err("write/request.rs makes a request that reads".into());
    }
    Ok(())
}

fn observes() -> Outcome {
    let found = sources()?.into_iter().filter(|(_, code)| words(code).any(|w| w == "Observed")).map(|(name, _)| name);
    // The one that defines who may call it, and the one that does.
    same("files that tell the World what there is", &found.collect(), ["world.rs", "watch/watcher.rs"])
}

fn host() -> Outcome {
    let manifest = fs::read_to_string(operator().join("../host/Cargo.toml"))?;
    let manifest: toml::Table = manifest.parse()?;
    let used = manifest.get("dependencies").and_then(toml::Value::as_table).cloned().unwrap_or_default();
    let found = used.keys().cloned().collect();
    // No network, no runtime, no WASI: a guest's only import is logging.
    let may = ["jiff", "json-patch", "paddock-core", "serde_json", "sha2", "thiserror", "tracing", "wasmtime"];
    same("the host depends on", &found, may.into_iter().chain(["wit-component"]))
}
