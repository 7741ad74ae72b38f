//! What a claim brings to a container that already runs, and how long it takes.

use std::time::{Duration, Instant};

use paddock_cluster::BUSYBOX_IMAGE;
use serde_json::json;

use super::super::json::{label, ready, text};
use super::super::kinds::{CLAIM, POD, POOL, SANDBOX};
use super::super::manifests::{claim, pool, template};
use super::super::pool::filled;
use super::{TestNamespace, namespace};
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![process_in_a_warm_pod_sees_what_its_claim_brings, held_command_starts_with_what_its_claim_brings]
}

/// The tries of each runtime. `PADDOCK_CLAIM_DATA_TRIES` replaces the number, to measure.
fn tries() -> usize {
    std::env::var("PADDOCK_CLAIM_DATA_TRIES").ok().and_then(|tries| tries.parse().ok()).unwrap_or(2)
}

/// A process that runs before its claim polls the file, and writes what it sees to its log. The log of a container has the
/// time of each line. The claim without data is told so.
async fn process_in_a_warm_pod_sees_what_its_claim_brings() {
    for class in ["gvisor", "runc"] {
        let ns = namespace(&format!("claim-data-{class}")).await;
        let script = "while ! grep -q . /run/paddock/claim/delivery; do sleep 0.01; done; \
                      cat /run/paddock/claim/delivery; echo; \
                      while grep -q data /run/paddock/claim/delivery && [ ! -e /run/paddock/claim/..data/claim.json ]; do sleep 0.01; done; \
                      cat /run/paddock/claim/..data/*; echo; echo END; while :; do sleep 1; done";
        let container =
            json!({ "name": "agent", "image": BUSYBOX_IMAGE, "command": ["/bin/busybox", "sh", "-c", script] });
        let spec = json!({
            "runtimeClassName": class, "terminationGracePeriodSeconds": 1, "containers": [container],
        });
        ns.create(template(
            "t",
            json!({
                "podTemplate": { "spec": spec }, "claimData": { "secrets": ["api-key"] },
                "envVarsInjectionPolicy": "Allowed",
            }),
        ))
        .await;
        may_read_secrets(&ns).await;
        let made = ns.create(pool("p", "t", json!({ "replicas": 2 }))).await;
        let (mut until_seen, mut until_ready) = (Vec::new(), Vec::new());
        for number in 0..tries() {
            filled(&ns, &made, 2).await;
            let task = format!("task-{number}");
            let spec = json!({
                "env": [{ "name": "MODE", "value": "fast" }],
                "files": [
                    { "name": "task.txt", "content": format!("do {number}") },
                    { "name": "token", "secretKeyRef": { "name": "api-key", "key": "token" } },
                ],
            });
            let began = (Instant::now(), jiff::Timestamp::now());
            ns.create(claim(&task, "p", spec)).await;
            let done = ns.until(CLAIM, &task, "Ready", ready).await;
            until_ready.push(began.0.elapsed());
            let sandbox = text(&done, "/status/sandbox/name").to_owned();
            assert_eq!(label(&ns.get(SANDBOX, &sandbox).await, "agents.x-k8s.io/launch-type"), "warm");
            let lines = log_until_end(&ns, &sandbox).await;
            for expected in [&format!("do {number}"), "t0ken", "\"value\":\"fast\"", "data "] {
                assert!(lines.iter().any(|(_, line)| line.contains(expected)), "{expected}: {lines:?}");
            }
            let at = lines.iter().find(|(_, line)| line.contains("claim")).expect("the file").0;
            until_seen.push(Duration::try_from(at.duration_since(began.1)).unwrap_or_default());
            ns.delete(CLAIM, &task).await;
            ns.until_gone(POD, &sandbox).await;
        }
        filled(&ns, &made, 2).await;
        ns.create(claim("nothing", "p", json!({}))).await;
        let done = ns.until(CLAIM, "nothing", "Ready", ready).await;
        let lines = log_until_end(&ns, text(&done, "/status/sandbox/name")).await;
        assert!(lines.iter().any(|(_, line)| line == "none"), "{lines:?}");
        show(class, "create of the claim -> its process has the data", &mut until_seen);
        show(class, "create of the claim -> Ready", &mut until_ready);
    }
}

/// The command of a warm pod starts only after its claim. It is an HTTP server, so the first answer shows the whole way. A
/// claim that brings nothing starts it too, and the deletion of a held pod does not wait for its grace period.
async fn held_command_starts_with_what_its_claim_brings() {
    for class in ["gvisor", "runc"] {
        let ns = namespace(&format!("claim-held-{class}")).await;
        let script = "echo started $MODE; mkdir -p /tmp/www; echo hello $MODE > /tmp/www/index.html; \
                      exec /bin/httpd -f -p 8080 -h /tmp/www";
        let container = json!({
            "name": "agent", "image": BUSYBOX_IMAGE, "command": ["/bin/busybox", "sh"], "args": ["-c", script],
        });
        let spec = json!({ "runtimeClassName": class, "containers": [container] });
        ns.create(template(
            "t",
            json!({
                "podTemplate": { "spec": spec }, "claimData": { "start": "AfterDelivery" },
                "envVarsInjectionPolicy": "Allowed", "networkPolicyManagement": "Unmanaged",
            }),
        ))
        .await;
        let made = ns.create(pool("p", "t", json!({ "replicas": 2 }))).await;
        let mut until_answer = Vec::new();
        for number in 0..tries() {
            let full = filled(&ns, &made, 2).await;
            for member in full.keys() {
                let log = ns.kubectl_output(&["logs", member, "-c", "agent"], None).await;
                assert!(!log.contains("started"), "{member} started before its claim: {log}");
            }
            let task = format!("task-{number}");
            let mode = format!("m{number}");
            let began = Instant::now();
            ns.create(claim(&task, "p", json!({ "env": [{ "name": "MODE", "value": mode }] }))).await;
            let done = ns.until(CLAIM, &task, "Ready", ready).await;
            let sandbox = text(&done, "/status/sandbox/name").to_owned();
            let address = text(&done, "/status/sandbox/podIPs/0").to_owned();
            let answer = first_answer(&address).await;
            until_answer.push(began.elapsed());
            assert!(answer.contains(&format!("hello {mode}")), "{answer}");
            ns.delete(CLAIM, &task).await;
            ns.until_gone(POD, &sandbox).await;
        }
        filled(&ns, &made, 2).await;
        ns.create(claim("nothing", "p", json!({}))).await;
        let done = ns.until(CLAIM, "nothing", "Ready", ready).await;
        assert!(first_answer(text(&done, "/status/sandbox/podIPs/0")).await.contains("hello"));
        filled(&ns, &made, 2).await;
        ns.merge(POOL, "p", json!({ "spec": { "replicas": 0 } })).await;
        let began = Instant::now();
        ns.until_all(POD, "only the pod of the claim is left", |all| all.len() == 1).await;
        // The grace period of these pods is 30 s.
        assert!(began.elapsed() < Duration::from_secs(25), "held pods ended after {:?}", began.elapsed());
        show(class, "create of the claim -> first HTTP answer of the held command", &mut until_answer);
    }
}

/// The answer of the server in a pod, as soon as its port accepts a connection.
async fn first_answer(address: &str) -> String {
    paddock_cluster::eventually_some("the server answers", async || get(address).await.map_err(|e| e.to_string())).await
}

async fn get(address: &str) -> std::io::Result<String> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let mut stream = tokio::net::TcpStream::connect((address, 8080)).await?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn show(class: &str, what: &str, times: &mut [Duration]) {
    times.sort();
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
    println!("{class}: {what}: p50 {:?}, p99 {:?}, max {:?}, n={}", at(50), at(99), at(100), times.len());
}

/// The lines of a container's log with their times, when the last one has been written.
async fn log_until_end(ns: &TestNamespace, pod: &str) -> Vec<(jiff::Timestamp, String)> {
    let read = async || {
        let log = ns.kubectl(&["logs", pod, "--timestamps"], None).await.map_err(|e| e.to_string())?;
        let parse = |line: &str| {
            let (at, line) = line.split_once(' ')?;
            Some((at.parse().ok()?, line.to_owned()))
        };
        let lines: Vec<(jiff::Timestamp, String)> = log.lines().filter_map(parse).collect();
        if lines.iter().any(|(_, line)| line == "END") { Ok(lines) } else { Err(log) }
    };
    paddock_cluster::eventually_some("the process has seen the data", read).await
}

/// A Secret, and the right of the operator to read it.
async fn may_read_secrets(ns: &TestNamespace) {
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "api-key" }, "stringData": { "token": "t0ken" } });
    ns.create(secret).await;
    let subject = "--serviceaccount=agent-sandbox-system:agent-sandbox-controller";
    let role = "--clusterrole=agent-sandbox-controller-claim-secrets";
    ns.kubectl(&["create", "rolebinding", "claim-secrets", role, subject], None).await.expect("a RoleBinding");
}
