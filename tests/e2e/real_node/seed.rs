//! The sample Sandbox with real containers: under gVisor, asleep when idle, with its files when it runs again.

use std::time::Instant;

use paddock_cluster::{AGENT_IMAGE, Agent, eventually};
use serde_json::{Value, json};

use super::super::idle::fall_asleep;
use super::super::json::{name, ready, text, uid};
use super::super::kinds::{POD, SANDBOX, VOLUME_CLAIM};
use super::super::namespace::TestNamespace;
use super::{namespace, scene};
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![sample_with_another_image_becomes_ready_under_gvisor, file_survives_a_suspend_for_idleness]
}

const SAMPLE: &str = root!("deploy/samples/sandbox.yaml");

/// The sample, with nothing but another image.
pub(super) fn sample() -> Value {
    let text = std::fs::read_to_string(SAMPLE).expect("the sample");
    let mut sample: Value = serde_yaml_ng::from_str(&text).expect("YAML");
    sample["spec"]["template"]["spec"]["containers"][0]["image"] = json!(AGENT_IMAGE);
    sample
}

fn address(sandbox: &Value) -> &str {
    text(sandbox, "/status/podIPs/0")
}

/// The agent of a Sandbox. It may answer only after its pod is Ready, because the sample has no readiness probe.
pub(super) async fn agent_of(sandbox: &Value) -> Agent {
    let agent = Agent::new(address(sandbox));
    eventually("the agent answers", async || agent.is_active().await).await;
    agent
}

/// The output of a command that succeeds.
pub(super) async fn output(agent: &Agent, command: &str) -> String {
    let done = agent.execute(command).await.expect("an answer");
    assert_eq!(done.exit_code, 0, "{command}: {done:?}");
    done.stdout
}

async fn sample_with_another_image_becomes_ready_under_gvisor() {
    let ns = TestNamespace::existing(&scene().await.cluster, "agents");
    ns.kubectl(&["create", "namespace", "agents"], None).await.expect("a namespace");
    let began = Instant::now();
    let made = ns.create(sample()).await;
    let sandbox = ns.until(SANDBOX, name(&made), "Ready", ready).await;
    println!("the sample is Ready under gVisor after {:?}", began.elapsed());
    assert_eq!(text(&sandbox, "/status/runtimeClass/name"), "gvisor");
    let agent = agent_of(&sandbox).await;
    println!("its agent answers after {:?}", began.elapsed());
    assert!(output(&agent, "cat /proc/version").await.contains("gvisor"));
    assert_eq!(output(&agent, "sh -c 'echo $AGENT_ID'").await.trim(), name(&made));
    // The workspace is a volume that the short form mounts by itself.
    assert!(output(&agent, "cat /proc/mounts").await.contains(" /workspace "));
}

async fn file_survives_a_suspend_for_idleness() {
    let ns = namespace("asleep").await;
    let mut made = sample();
    made["metadata"] = json!({ "name": "sleeper" });
    made["spec"]["idleTimeout"] = json!("1h");
    ns.create(made).await;
    let sandbox = ns.until(SANDBOX, "sleeper", "Ready", ready).await;
    let agent = agent_of(&sandbox).await;
    agent.upload("notes/today.txt", "written before the suspend").await.expect("the file is written");
    let volume = ns.get(VOLUME_CLAIM, "workspace-sleeper").await;
    let first = ns.get(POD, "sleeper").await;

    fall_asleep(&ns, "sleeper").await;
    assert!(agent.get("/").await.is_err(), "nothing runs");

    let began = Instant::now();
    ns.merge(SANDBOX, "sleeper", json!({ "spec": { "operatingMode": "Running" } })).await;
    let sandbox = ns.until(SANDBOX, "sleeper", "Ready again", |s| ready(s) && !address(s).is_empty()).await;
    let agent = agent_of(&sandbox).await;
    println!("the agent answers again {:?} after the mode was set", began.elapsed());
    assert_ne!(uid(&ns.get(POD, "sleeper").await), uid(&first), "the pod is another one");
    assert_eq!(uid(&ns.get(VOLUME_CLAIM, "workspace-sleeper").await), uid(&volume));
    assert_eq!(agent.download("notes/today.txt").await.expect("the file"), "written before the suspend");
}
