//! The record of decisions: what an operator decided about a Sandbox and a pool is recorded, replayed and explained.

use std::path::Path;
use std::process::{Output, Stdio};

use paddock_cluster::{Options, Signal, eventually_some};
use paddock_plugin_host::BUILT_INS;
use serde_json::{Value, json};
use tokio::process::Command;

use super::json::{ready, text, uid};
use super::kinds::{SANDBOX, SEED_POOL, SEED_TEMPLATE};
use super::manifests::{marked, object, pod, sandbox};
use super::namespace::TestNamespace;
use super::operator::{self, Operator, Plan};
use super::pool::filled;
use super::programs::{paddock, shown};
use super::setup::control_plane;
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![decisions_are_recorded_replayed_and_explained]
}

/// The value of a variable of the Sandbox.
const SECRET: &str = "hunter2-very-secret";

/// Runs a command of the program. The variable KUBECONFIG names no file.
async fn run(args: &[&str]) -> Output {
    let mut command = Command::new(paddock().await);
    command.args(args).env("KUBECONFIG", "/nowhere/config").stdin(Stdio::null());
    command.output().await.expect("the program runs")
}

/// The output of a command, which has to end with this code and to contain these parts.
async fn expect(args: &[&str], code: i32, parts: &[&str]) {
    let output = run(args).await;
    let shown = shown(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}:\n{shown}");
    for part in parts {
        assert!(shown.contains(part), "{args:?}: {part:?} is not in:\n{shown}");
    }
    assert!(!shown.contains(SECRET), "{args:?}:\n{shown}");
}

/// The hooks and the names of the objects in a recording.
fn decided(recording: &Path) -> Vec<(String, String)> {
    let lines = std::fs::read_to_string(recording).unwrap_or_default();
    // The operator may be writing the last line.
    let records = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    records.map(|record| (text(&record, "/hook").to_owned(), text(&record, "/object/name").to_owned())).collect()
}

async fn decisions_are_recorded_replayed_and_explained() {
    let (cluster, account) = control_plane(Options { nodes: 1, ..Options::default() }.with_isolation()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let put = |name: &str, content: &[u8]| {
        std::fs::write(path(name), content).expect("a file");
        path(name).display().to_string()
    };
    std::fs::create_dir(path("plugins")).expect("a folder");
    let sizer = put("plugins/sizer.wasm", paddock_guests::POOL_FIXED);
    put("plugins/sizer.yaml", br#"{"hooks": ["pool-size"], "settings": {"desired": 2}}"#);
    let recording = path("decisions.jsonl");
    let mut flags = operator::admitting(&cluster);
    flags.push(format!("--plugin-dir={}", path("plugins").display()));
    flags.push(format!("--record-decisions={}", recording.display()));
    let operator = Operator::start(&cluster, Plan { name: "operator", kubeconfig: &account, flags }).await;

    let ns = TestNamespace::new(&cluster, "recorded").await;
    let mut agent = marked(sandbox("agent", json!({})));
    agent["spec"]["podTemplate"]["spec"]["containers"][0]["env"] = json!([{ "name": "TOKEN", "value": SECRET }]);
    ns.create(agent).await;
    ns.until(SANDBOX, "agent", "Ready", ready).await;
    ns.create(object(SEED_TEMPLATE, "t", json!({ "template": pod() }))).await;
    let spec = json!({ "templateRef": { "name": "t" }, "minReady": 1, "maxReady": 6 });
    let made = ns.create(object(SEED_POOL, "sized", spec)).await;
    filled(&ns, &made, 2).await;
    ns.until(SEED_POOL, "sized", "reports the decision", |pool| pool["status"]["desiredReplicas"] == 2).await;
    let expected = [("admission", "agent"), ("runtime-class", "agent"), ("pool-size", "sized")];
    eventually_some("the decisions are recorded", async || {
        let found = decided(&recording);
        let there = |(hook, name): &(&str, &str)| found.iter().any(|(h, n)| h == hook && n == name);
        if expected.iter().all(there) { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;

    // The explanations come from the operator.
    let url = format!("http://127.0.0.1:{}", operator.debug);
    let agent = ns.get(SANDBOX, "agent").await;
    let of = |kind: &'static str, name: &'static str| ["explain", kind, name, "-n"];
    let source = format!("According to the operator at {url}.");
    let explain = |kind, name| [&of(kind, name)[..], &[&*ns.namespace, "--debug-url", &url]].concat();
    let title = format!("Sandbox {}/agent (uid {})", ns.namespace, uid(&agent));
    let parts = [
        &*title,
        &source,
        "It should run.",
        "Pod agent is Running, Ready",
        "Ready is True since",
        "Generated code: yes",
    ];
    expect(&explain("sandbox", "agent"), 0, &parts).await;
    expect(&explain("sandbox", "agent"), 0, &["runtime-class-by-label", "It answered: RuntimeClass gvisor"]).await;
    let parts = ["It should keep between 1 and 6 Sandboxes warm", "It answered: 2 Sandboxes, because: fixed at 2"];
    expect(&explain("pool", "sized"), 0, &parts).await;
    expect(&explain("claim", "nothing"), 2, &["sees no SandboxClaim"]).await;
    // The API server adds the Events, and replaces an operator that cannot be reached.
    let kubeconfig = cluster.kubeconfig().display().to_string();
    let with_events = [&explain("sandbox", "agent")[..], &["--kubeconfig", &kubeconfig]].concat();
    expect(&with_events, 0, &["and the Events of the API server", "Normal SandboxReady"]).await;
    let without = [&of("pool", "sized")[..], &[&*ns.namespace, "--debug-url=http://127.0.0.1:1"]].concat();
    let instead = [&without[..], &["--kubeconfig", &kubeconfig]].concat();
    let parts =
        ["According to the API server", "The number of Sandboxes that it should have is 2", "note: the debug endpoint"];
    expect(&instead, 0, &parts).await;
    expect(&without, 1, &["--kubeconfig is not set"]).await;

    // The recording is complete when the operator has ended, and has no secret.
    operator.process.signal(Signal::Terminate).await.expect("it gets SIGTERM");
    operator.process.wait().await.expect("it ends");
    let written = std::fs::read_to_string(&recording).expect("a recording");
    assert!(!written.contains(SECRET) && written.ends_with('\n'), "{written}");
    let recording = recording.display().to_string();
    let replay = |plugin: &str| ["plugin", "replay", &recording, "--plugin", plugin].map(str::to_owned);
    let replayed = async |plugin: &str, more: &[&str], code: i32, parts: &[&str]| {
        let args = replay(plugin);
        let args: Vec<&str> = args.iter().map(String::as_str).chain(more.iter().copied()).collect();
        expect(&args, code, parts).await;
    };
    replayed(&sizer, &["--of=sizer"], 0, &[" 0 differ", "the same component"]).await;
    let other = ["--of=sizer", "--settings={\"desired\": 3}"];
    replayed(&sizer, &other, 1, &["desired: recorded 2, now 3", "were made with other settings", "decisions differ"])
        .await;
    for built_in in BUILT_INS.into_iter().filter(|b| ["require-isolation", "runtime-class-by-label"].contains(&b.name))
    {
        let component = put(&format!("{}.wasm", built_in.name), built_in.component);
        replayed(&component, &["--of", built_in.name], 0, &[" 0 differ", "the same component"]).await;
    }
}
