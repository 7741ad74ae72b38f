//! Upstream's Python SDK against the operator, in a virtual environment that the test creates. The test does not use
//! kubectl.

use std::path::PathBuf;
use std::process::Stdio;

use paddock_cluster::python_sdk;
use serde_json::{Value, json};
use tokio::process::Command;

use super::json::{controller, label, text, uid};
use super::kinds::{CLAIM, SANDBOX};
use super::manifests::{pool, template};
use super::pool::filled;
use super::setup::{namespace, setup};
use crate::framework::{Capability, Test};

pub(super) fn tests() -> Vec<Test> {
    let tests: Vec<Test> = named![the_python_sdk_creates_awaits_lists_and_deletes];
    tests.into_iter().map(|t| t.needs([Capability::Program("python3"), Capability::PythonVenv])).collect()
}

async fn the_python_sdk_creates_awaits_lists_and_deletes() {
    let python = environment().await;
    let ns = namespace("sdk").await;
    ns.create(template("python", json!({ "service": true, "envVarsInjectionPolicy": "Allowed" }))).await;
    let warm = ns.create(pool("python-pool", "python", json!({ "replicas": 2 }))).await;
    let full = filled(&ns, &warm, 2).await;

    let mut script = Command::new(python);
    script.arg("-c").arg(include_str!("sdk.py"));
    script.arg(setup().await.cluster.kubeconfig()).arg(&ns.namespace).arg("python-pool");
    // By default, the SDK reads this kubeconfig. It must not find another cluster.
    script.env_remove("KUBECONFIG").env("HOME", "/nonexistent");
    let claimed = tokio::spawn(watch_claims(ns.clone()));
    let seen: Value = serde_json::from_str(run(&mut script).await.trim()).expect("one JSON object");
    println!("the SDK's create_sandbox returned after {} ms, on a warm pool", seen["ready_ms"]);

    assert!(full.contains_key(text(&seen, "/sandbox")), "a warm one: {seen:#}");
    assert_eq!(seen["found"], seen["sandbox"]);
    assert_eq!(seen["listed"], json!([seen["claim"]]));
    assert_eq!(seen["cold"]["claim"], seen["cold"]["sandbox"], "made for the claim, under its name");
    assert_eq!(seen["cold"]["env"]["TASK"], "7842");
    assert_eq!(seen["missing_pool"], "not found");
    assert_eq!((&seen["left"], &seen["after_deletion"]), (&json!([]), &json!("not found")));
    let (claim, taken) = claimed.await.expect("the watch saw a claim and its Sandbox");
    assert_eq!(controller(&taken), uid(&claim));
    assert_eq!(label(&taken, "agents.x-k8s.io/created-by"), "python-client");
    // The pool is refilled, and no object of the claims is left.
    let taken = [text(&seen, "/sandbox"), text(&seen, "/cold/sandbox")];
    let only_warm =
        |all: &super::namespace::Objects| all.len() == 2 && taken.iter().all(|name| !all.contains_key(*name));
    ns.until_all(SANDBOX, "only two warm Sandboxes remain", only_warm).await;
}

/// The first claim that is bound, and its Sandbox.
async fn watch_claims(ns: super::namespace::TestNamespace) -> (Value, Value) {
    let bound = |c: &Value| !text(c, "/status/sandbox/name").is_empty();
    let claims = ns.until_all(CLAIM, "one is bound", |all| all.values().any(bound)).await;
    let claim = claims.into_values().find(bound).expect("it is there");
    let sandbox = ns.get(SANDBOX, text(&claim, "/status/sandbox/name")).await;
    (claim, sandbox)
}

/// The Python interpreter of a virtual environment with the SDK.
pub(super) async fn environment() -> PathBuf {
    python_sdk().await.expect("the SDK is installed")
}

/// Runs a program that succeeds, and returns what it printed.
pub(super) async fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.expect("it starts");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    out.into_owned()
}
