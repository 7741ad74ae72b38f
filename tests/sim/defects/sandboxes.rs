//! Defects of Sandboxes, and of an operator's picture of the cluster.

use paddock_api::kind::Kind;

use super::{claim, defect, expect, pool_of, sandbox};
use crate::framework::{Outcome, Test};
use crate::sim::scripted::{ApiReply, Link, ScriptedCluster};

pub(super) fn tests() -> Vec<Test> {
    vec![
        defect("two_pods_for_one_sandbox_from_a_stale_cache_418", one_pod),
        defect("a_terminating_pod_counted_as_ready_after_a_quick_resume", quick_resume),
        defect("a_failed_pod_never_replaced_729_1192", failed_pod_is_replaced),
        defect("echo_reconciles_1280", no_echoes),
        defect("a_status_that_only_counts_seconds_is_not_written", idle_is_quiet),
        defect("plugin_state_is_not_written_in_every_reconcile", unchanged_state_is_not_written),
        defect("reply_after_the_deletion_restores_no_object", deleted_object_stays_deleted),
        defect("list_started_before_a_write_removes_no_object", list_before_write),
        defect("object_deleted_during_a_list_is_not_kept", deleted_while_listed),
        defect("a_conflict_about_an_old_version_does_not_hide_the_new_one", conflict_outdates_what_was_tried),
        defect("refusal_is_reported_although_it_ends_the_plan", refusal_is_reported),
        defect("connections_sent_to_a_terminating_pod", endpoint_removed_before_the_pod),
        defect("an_extended_sandbox_deleted_at_its_former_end", extended_sandbox_stays),
    ]
}

/// The watch of Pods delivers nothing and every reply is lost, while the Sandbox is reconciled again and again.
fn one_pod() -> Outcome {
    let mut cluster = ScriptedCluster::new("");
    cluster.hold(Kind::Pod);
    cluster.nodes_work = false;
    cluster.apply(&sandbox("x"));
    for _ in 0..10 {
        cluster.watch();
        cluster.operator.push(ScriptedCluster::key(Kind::Sandbox, "x"));
        cluster.act(Link::RepliesLost);
        cluster.api.now += jiff::SignedDuration::from_secs(20);
        // The object changes, and so would a pod name that is computed from the object's fields.
        cluster.patch(Kind::Sandbox, "x", "{ metadata: { annotations: { touched: 'yes' } } }");
        let pods = cluster.names(Kind::Pod);
        expect(pods == ["x"], || format!("its pods are {pods:?}"))?;
    }
    Ok(())
}

fn quick_resume() -> Outcome {
    let mut cluster = ScriptedCluster::new(&sandbox("x"));
    expect(cluster.condition(Kind::Sandbox, "x", "Ready").0 == "True", || "it never got Ready".to_owned())?;
    let first = cluster.get(Kind::Pod, "x")["metadata"]["uid"].clone();
    cluster.nodes_work = false;
    cluster.patch(Kind::Sandbox, "x", "{ spec: { operatingMode: Suspended, replicas: 0 } }");
    cluster.settle();
    expect(!cluster.get(Kind::Pod, "x")["metadata"]["deletionTimestamp"].is_null(), || "its pod stays".to_owned())?;
    cluster.patch(Kind::Sandbox, "x", "{ spec: { operatingMode: Running, replicas: 1 } }");
    cluster.settle();
    let ready = cluster.condition(Kind::Sandbox, "x", "Ready");
    expect(ready.0 == "False", || format!("its pod terminates, and its condition is {ready:?}"))?;
    cluster.nodes_work = true;
    cluster.settle();
    cluster.pass(3);
    let ready = cluster.condition(Kind::Sandbox, "x", "Ready");
    expect(ready.0 == "True", || format!("resumed, and its condition is {ready:?}"))?;
    expect(cluster.get(Kind::Pod, "x")["metadata"]["uid"] != first, || "it is the old pod".to_owned())
}

fn failed_pod_is_replaced() -> Outcome {
    let mut cluster = ScriptedCluster::new(&sandbox("x"));
    let first = cluster.get(Kind::Pod, "x")["metadata"]["uid"].clone();
    cluster.patch(Kind::Pod, "x", "{ status: { phase: Failed, reason: Evicted, conditions: [] } }");
    cluster.pass(30);
    let pod = cluster.get(Kind::Pod, "x");
    expect(pod["metadata"]["uid"] != first && !pod.is_null(), || "it was not replaced".to_owned())?;
    let ready = cluster.condition(Kind::Sandbox, "x", "Ready");
    expect(ready.0 == "True", || format!("its condition is {ready:?}"))
}

/// The whole life of a warm claim, with a limit on the number of reconciles and writes.
fn no_echoes() -> Outcome {
    let mut cluster = ScriptedCluster::new(&pool_of(1));
    cluster.pass(5);
    let (reconciles, writes) = (cluster.operator.reconciles, cluster.sent.len());
    cluster.apply(&claim("c"));
    cluster.settle();
    expect(cluster.condition(Kind::Claim, "c", "Ready").0 == "True", || "the claim is not Ready".to_owned())?;
    cluster.pass(5);
    cluster.delete(Kind::Claim, "c");
    cluster.settle();
    cluster.pass(5);
    let (reconciles, writes) = (cluster.operator.reconciles - reconciles, cluster.sent.len() - writes);
    // The writes are the hint, the take and the status of the claim, the pod's metadata, a new warm Sandbox with its
    // pod and its status, and the pool's status.
    expect(writes <= 8, || format!("{writes} writes: {:?}", tail(&cluster, writes)))?;
    // Measured: 19 reconciles for 7 writes, because the object of each write is reconciled once more and nodes change
    // the pods. Every echo that causes a reconcile would add one.
    expect(reconciles <= 20, || format!("{reconciles} reconciles for {writes} writes"))
}

fn tail(cluster: &ScriptedCluster, count: usize) -> Vec<String> {
    cluster.sent[cluster.sent.len() - count..].iter().map(|(op, _)| format!("{} {}", op.key, op.reason)).collect()
}

const IDLE: &str = "{ apiVersion: agents.x-k8s.io/v1beta1, kind: Sandbox, metadata: { name: x }, spec: { operatingMode: Running, replicas: 1, idleTimeout: 10m, podTemplate: { spec: { containers: [{ name: agent, image: 'agent:1' }] } } } }";

fn idle_is_quiet() -> Outcome {
    let mut cluster = ScriptedCluster::new(IDLE);
    cluster.pass(5);
    let before = cluster.sent.len();
    for _ in 0..30 {
        cluster.operator.push(ScriptedCluster::key(Kind::Sandbox, "x"));
        cluster.pass(3);
    }
    let writes = cluster.sent.len() - before;
    expect(writes == 0, || format!("{writes} writes: {:?}", tail(&cluster, writes)))?;
    cluster.pass(600);
    let suspended = cluster.condition(Kind::Sandbox, "x", "Suspended");
    expect(suspended.0 == "True", || format!("idle for long, and its condition is {suspended:?}"))
}

fn unchanged_state_is_not_written() -> Outcome {
    let mut cluster = ScriptedCluster::new(IDLE);
    cluster.operator.let_plugins_count();
    cluster.pass(5);
    let before = cluster.sent.len();
    for _ in 0..60 {
        cluster.operator.push(ScriptedCluster::key(Kind::Sandbox, "x"));
        cluster.pass(2);
    }
    let writes = cluster.sent.len() - before;
    // The time is two minutes, and the state is written at most once a minute.
    expect((1..=3).contains(&writes), || format!("{writes} writes: {:?}", tail(&cluster, writes)))
}

/// The watch of Sandboxes is faster than the reply. A late reply must not bring back a deleted object.
fn deleted_object_stays_deleted() -> Outcome {
    let mut cluster = ScriptedCluster::new(&sandbox("x"));
    cluster.patch(Kind::Sandbox, "x", "{ spec: { replicas: 0 } }");
    cluster.watch();
    let key = ScriptedCluster::key(Kind::Sandbox, "x");
    cluster.operator.start(&key, cluster.api.now);
    cluster.operator.advance(&key, cluster.api.now);
    // All writes of the first step are stored. Before their replies arrive, the object is deleted and the watch
    // delivers the deletion.
    let ops: Vec<_> = cluster.operator.flights.iter().map(|f| f.op.clone()).collect();
    let replies: Vec<_> = ops.iter().map(|op| crate::sim::operator::carry_out(&mut cluster.api, op)).collect();
    cluster.delete(Kind::Sandbox, "x");
    cluster.watch();
    for reply in replies {
        cluster.operator.flights[0].reply = Some(reply);
        cluster.operator.deliver(0, cluster.api.now);
    }
    expect(cluster.operator.world.get(&key).is_none(), || "it is back".to_owned())?;
    cluster.settle();
    let rest = cluster.operator.world.everything();
    expect(rest.is_empty(), || format!("remaining: {rest:?}"))
}

/// The list's snapshot was taken before our creation was stored, and the list arrives after it.
fn list_before_write() -> Outcome {
    let mut cluster = ScriptedCluster::new(&pool_of(0));
    cluster.nodes_work = false;
    cluster.operator.cut(Kind::Sandbox);
    cluster.operator.watch_step(Kind::Sandbox, &cluster.api);
    cluster.operator.watch_step(Kind::Sandbox, &cluster.api);
    cluster.hold(Kind::Sandbox);
    cluster.patch(Kind::Pool, "p", "{ spec: { replicas: 3 } }");
    cluster.watch();
    cluster.act(Link::Good);
    expect(cluster.names(Kind::Sandbox).len() == 3, || "three were asked for".to_owned())?;
    // The old list arrives now, without the new Sandboxes.
    cluster.operator.watch_step(Kind::Sandbox, &cluster.api);
    cluster.operator.push(ScriptedCluster::key(Kind::Pool, "p"));
    cluster.act(Link::Good);
    let made = cluster.names(Kind::Sandbox).len();
    expect(made == 3, || format!("three were asked for, and {made} made"))
}

/// The list's snapshot was taken after the deletion, and the reply to our earlier write arrives before the list does.
/// No later watch event will report the deletion.
fn deleted_while_listed() -> Outcome {
    let mut cluster = ScriptedCluster::new(&sandbox("x"));
    let key = ScriptedCluster::key(Kind::Sandbox, "x");
    cluster.patch(Kind::Sandbox, "x", "{ spec: { replicas: 0 } }");
    cluster.watch();
    cluster.operator.cut(Kind::Sandbox);
    cluster.operator.watch_step(Kind::Sandbox, &cluster.api);
    cluster.operator.start(&key, cluster.api.now);
    cluster.operator.advance(&key, cluster.api.now);
    let ops: Vec<_> = cluster.operator.flights.iter().map(|f| f.op.clone()).collect();
    let replies: Vec<_> = ops.iter().map(|op| crate::sim::operator::carry_out(&mut cluster.api, op)).collect();
    cluster.delete(Kind::Sandbox, "x");
    cluster.operator.watch_step(Kind::Sandbox, &cluster.api);
    for reply in replies {
        cluster.operator.flights[0].reply = Some(reply);
        cluster.operator.deliver(0, cluster.api.now);
    }
    cluster.operator.watch_step(Kind::Sandbox, &cluster.api);
    // The object may have been created after the list's snapshot, so the object in the reply is kept for now.
    expect(cluster.operator.world.get(&key).is_some(), || "a reply was not believed".to_owned())?;
    cluster.watch();
    expect(cluster.operator.world.get(&key).is_none(), || "it is held for ever".to_owned())
}

/// Between the request for a take and its conflict, the watch delivered a newer version of the Sandbox. That version
/// may be taken.
fn conflict_outdates_what_was_tried() -> Outcome {
    let mut cluster = ScriptedCluster::new(&pool_of(1));
    cluster.nodes_work = false;
    let name = cluster.names(Kind::Sandbox).remove(0);
    cluster.apply(&claim("c"));
    cluster.watch();
    let key = ScriptedCluster::key(Kind::Claim, "c");
    cluster.operator.start(&key, cluster.api.now);
    cluster.operator.advance(&key, cluster.api.now);
    cluster.patch(Kind::Sandbox, &name, "{ metadata: { annotations: { touched: 'yes' } } }");
    cluster.watch();
    cluster.serve(Link::Good);
    let conflicts = cluster.sent.iter().filter(|(_, a)| *a == ApiReply::Conflict).count();
    expect(conflicts == 1, || format!("{conflicts} conflicts: this proves nothing"))?;
    cluster.settle();
    let has = cluster.get(Kind::Claim, "c")["status"]["sandbox"]["name"].clone();
    expect(has == name, || format!("{name} is warm, and c has {has}"))
}

/// The API server refuses a pool's Sandboxes. The plan ends there, and the status reports the refusal.
fn refusal_is_reported() -> Outcome {
    let mut cluster = ScriptedCluster::new("");
    cluster.api.refuse("Sandbox", "exceeded quota");
    cluster.apply(&pool_of(2));
    cluster.settle();
    cluster.pass(5);
    let message =
        cluster.get(Kind::Pool, "p")["status"]["conditions"][0]["message"].as_str().unwrap_or_default().to_owned();
    expect(message.contains("exceeded quota"), || format!("its message is {message:?}"))
}

/// The EndpointSlice loses its endpoint before the pod is deleted.
fn endpoint_removed_before_the_pod() -> Outcome {
    let on_demand = IDLE.replace("idleTimeout: 10m", "resumePolicy: OnDemand");
    let mut cluster = ScriptedCluster::new(&on_demand);
    let has_endpoint =
        |cluster: &ScriptedCluster| cluster.get(Kind::EndpointSlice, "x").pointer("/endpoints/0").is_some();
    expect(has_endpoint(&cluster), || "its slice has no endpoint: this proves nothing".to_owned())?;
    cluster.patch(Kind::Sandbox, "x", "{ spec: { operatingMode: Suspended, replicas: 0 } }");
    cluster.settle();
    expect(!has_endpoint(&cluster), || "suspended, and its slice still has the endpoint of the pod".to_owned())?;
    let terminating =
        |cluster: &ScriptedCluster| cluster.get(Kind::Pod, "x")["metadata"]["deletionTimestamp"].is_string();
    let gone = |cluster: &ScriptedCluster| cluster.get(Kind::Pod, "x").is_null();
    expect(!terminating(&cluster) && !gone(&cluster), || "the pod is deleted together with the endpoint".to_owned())?;
    cluster.pass(3);
    expect(gone(&cluster), || "the pod is not deleted".to_owned())
}

/// A user moves the end of a Sandbox after its status has reported the end. The watch delivers the change before or
/// after the operator plans the deletion.
fn extended_sandbox_stays() -> Outcome {
    let end = "replicas: 1, shutdownTime: '2030-01-01T12:10:00Z', shutdownPolicy: Delete,";
    for is_delivered in [true, false] {
        let mut cluster = ScriptedCluster::new(&sandbox("x").replace("replicas: 1,", end));
        let pod = cluster.get(Kind::Pod, "x")["metadata"]["uid"].clone();
        cluster.api.now += jiff::SignedDuration::from_mins(10);
        let key = ScriptedCluster::key(Kind::Sandbox, "x");
        cluster.operator.start(&key, cluster.api.now);
        cluster.operator.advance(&key, cluster.api.now);
        cluster.serve(Link::Good);
        let ready = cluster.condition(Kind::Sandbox, "x", "Ready");
        expect(ready.1 == "SandboxExpired", || format!("its condition is {ready:?}: this proves nothing"))?;
        cluster.patch(Kind::Sandbox, "x", "{ spec: { shutdownTime: '2030-01-01T13:00:00Z' } }");
        if is_delivered {
            cluster.watch();
        }
        cluster.run_to_end(Link::Good);
        cluster.act(Link::Good);
        cluster.settle();
        let ready = cluster.condition(Kind::Sandbox, "x", "Ready");
        expect(ready.0 == "True", || format!("delivered: {is_delivered}: its condition is {ready:?}"))?;
        expect(cluster.get(Kind::Pod, "x")["metadata"]["uid"] == pod, || "it has another pod".to_owned())?;
        let deleted = cluster.get(Kind::Sandbox, "x")["metadata"]["deletionTimestamp"].is_string();
        expect(!deleted, || "it was extended, and is being deleted".to_owned())?;
        // It still ends at its new end.
        cluster.pass(3600);
        expect(cluster.names(Kind::Sandbox).is_empty(), || "its new end has passed".to_owned())?;
    }
    Ok(())
}
