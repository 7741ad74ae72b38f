//! Defects of claims and pools.

use std::collections::BTreeSet;

use libtest_mimic::Failed;
use paddock_api::kind::Kind;

use super::{claim, defect, expect, pool_of};
use crate::framework::{Outcome, Test};
use crate::sim::operator::carry_out;
use crate::sim::scripted::{ApiReply, Link, ScriptedCluster};

pub(super) fn tests() -> Vec<Test> {
    vec![
        defect("adopting_one_that_is_not_ready_while_ready_ones_exist_1513", ready_ones_first),
        defect("two_claims_adopting_one_sandbox_478_599", two_claims_one_sandbox),
        defect("two_claims_planned_at_once_send_no_conflicting_take", no_conflicting_take),
        defect("a_claim_abandoning_a_committed_sandbox_1277", committed_stays),
        defect("a_second_operator_does_not_choose_again_1277", no_second_choice),
        defect("a_cold_claim_that_never_binds_under_concurrency_1367", cold_claims_bind),
        defect("asked_for_200_made_many_more_1215_1266", no_more_than_asked),
        defect("asked_for_200_made_more_when_replies_are_lost_1215_1266", no_more_than_asked_when_lost),
        defect("a_retained_expired_claim_leaking_its_sandbox_589", expired_claim_leaks_nothing),
        defect("adopting_from_a_stale_template_764_1078", stale_template),
        defect("adopting_from_a_draining_node_1136", draining_node),
        defect("a_pool_deleting_what_a_claim_just_took", pool_spares_what_was_taken),
        defect("a_lost_take_blocking_a_sandbox", lost_take_is_free_again),
        defect("an_extended_claim_deleted_at_its_former_end", extended_claim_stays),
    ]
}

fn bound_to(cluster: &ScriptedCluster, name: &str) -> String {
    cluster.get(Kind::Claim, name)["status"]["sandbox"]["name"].as_str().unwrap_or_default().to_owned()
}

fn is_ready(cluster: &ScriptedCluster, name: &str) -> Outcome {
    let ready = cluster.condition(Kind::Claim, name, "Ready");
    expect(ready.0 == "True", || {
        format!("the Ready condition of claim {name} is {ready:?}: {}", cluster.get(Kind::Claim, name))
    })
}

/// The names of all Sandboxes in the core's order: by age, and by name if they were created in the same second.
fn by_age(cluster: &ScriptedCluster) -> Vec<String> {
    let mut names = cluster.names(Kind::Sandbox);
    names.sort_by_key(|n| (cluster.get(Kind::Sandbox, n)["metadata"]["creationTimestamp"].to_string(), n.clone()));
    names
}

fn oldest(cluster: &ScriptedCluster) -> String {
    by_age(cluster).remove(0)
}

fn ready_ones_first() -> Outcome {
    let mut cluster = ScriptedCluster::new(&pool_of(3));
    // The two oldest Sandboxes stop being Ready. They are still the oldest.
    let names = by_age(&cluster);
    for name in &names[..2] {
        cluster.patch(Kind::Pod, name, "{ status: { conditions: [{ type: Ready, status: 'False' }] } }");
    }
    cluster.nodes_work = false;
    cluster.settle();
    cluster.apply(&claim("c"));
    cluster.settle();
    is_ready(&cluster, "c")?;
    expect(bound_to(&cluster, "c") == names[2], || {
        format!("it took {}, and {} is Ready", bound_to(&cluster, "c"), names[2])
    })
}

/// Two operators act as the leader with the same snapshot, and each serves another claim.
fn two_claims_one_sandbox() -> Outcome {
    let mut cluster = ScriptedCluster::new(&pool_of(1));
    cluster.nodes_work = false;
    cluster.apply(&claim("c1"));
    cluster.apply(&claim("c2"));
    let mut second = cluster.another();
    cluster.watch();
    let now = cluster.api.now;
    let (_, _, first_plan) = cluster.operator.plan(&ScriptedCluster::key(Kind::Claim, "c1"), now);
    let (_, _, second_plan) = second.plan(&ScriptedCluster::key(Kind::Claim, "c2"), now);
    for plan in [&first_plan, &second_plan] {
        let takes = plan.ops().any(|op| op.reason.as_str() == "Claimed");
        expect(takes, || "a claim did not even try: this proves nothing".to_owned())?;
        for op in plan.steps.iter().filter(|s| !s.is_empty()).take(1).flatten() {
            carry_out(&mut cluster.api, op);
        }
    }
    let name = cluster.names(Kind::Sandbox).remove(0);
    let owner = cluster.controller(Kind::Sandbox, &name);
    expect(owner.0 == "c1", || format!("{name} was c1's and is {}'s", owner.0))?;
    cluster.nodes_work = true;
    cluster.settle();
    cluster.pass(5);
    is_ready(&cluster, "c1")?;
    is_ready(&cluster, "c2")?;
    expect(bound_to(&cluster, "c1") != bound_to(&cluster, "c2"), || "both have the same Sandbox".to_owned())
}

/// Both claims are queued before either request is sent. The second plan must become stale and be made again, so that
/// no request runs into a conflict.
fn no_conflicting_take() -> Outcome {
    let mut cluster = ScriptedCluster::new(&pool_of(2));
    cluster.nodes_work = false;
    cluster.apply(&claim("c1"));
    cluster.apply(&claim("c2"));
    cluster.watch();
    cluster.sent.clear();
    cluster.act(Link::Good);
    cluster.settle();
    let vain: Vec<_> =
        cluster.sent.iter().filter(|(_, a)| *a == ApiReply::Conflict).map(|(op, _)| op.to_string()).collect();
    expect(vain.is_empty(), || format!("sent in vain: {vain:?}"))?;
    is_ready(&cluster, "c1")?;
    is_ready(&cluster, "c2")?;
    let taken = cluster.count(Kind::Sandbox, "patch");
    expect(bound_to(&cluster, "c1") != bound_to(&cluster, "c2"), || format!("one for both, after {taken} patches"))
}

/// The status names a Sandbox. The claim keeps this Sandbox, even if it becomes the owner of another one.
fn committed_stays() -> Outcome {
    let mut cluster = ScriptedCluster::new(&pool_of(2));
    cluster.apply(&claim("c"));
    cluster.settle();
    is_ready(&cluster, "c")?;
    let committed = bound_to(&cluster, "c");
    // A second Sandbox, older than the first, as a late write of another operator would leave it.
    let other = cluster.names(Kind::Sandbox).into_iter().find(|n| *n != committed).ok_or("there is no other")?;
    let claim_uid = cluster.get(Kind::Claim, "c")["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let mut second = cluster.get(Kind::Sandbox, &other);
    second["metadata"]["creationTimestamp"] = "2029-01-01T00:00:00Z".into();
    second["metadata"]["ownerReferences"] = serde_json::json!([{
        "apiVersion": "extensions.agents.x-k8s.io/v1beta1",
        "kind": "SandboxClaim",
        "name": "c",
        "uid": claim_uid,
        "controller": true,
    }]);
    cluster.api.place(second);
    cluster.restart();
    cluster.settle();
    cluster.pass(5);
    expect(bound_to(&cluster, "c") == committed, || {
        format!("it had {committed}, and names {}", bound_to(&cluster, "c"))
    })?;
    expect(cluster.names(Kind::Sandbox).contains(&committed), || format!("{committed} was deleted"))?;
    expect(!cluster.names(Kind::Sandbox).contains(&other), || format!("{other} stays beside {committed}"))
}

/// An operator that does not know the choice of the previous operator must not overwrite it.
fn no_second_choice() -> Outcome {
    let mut cluster = ScriptedCluster::new(&pool_of(2));
    cluster.nodes_work = false;
    let oldest = oldest(&cluster);
    cluster.apply(&claim("c"));
    // The snapshot of the late operator is from a moment at which the pod of the chosen Sandbox was not Ready.
    cluster.patch(Kind::Pod, &oldest, "{ status: { conditions: [{ type: Ready, status: 'False' }] } }");
    let mut late = cluster.another();
    cluster.patch(Kind::Pod, &oldest, "{ status: { conditions: [{ type: Ready, status: 'True' }] } }");
    cluster.settle();
    let committed = bound_to(&cluster, "c");
    expect(committed == oldest, || format!("it took {committed}, and {oldest} is the oldest: this proves nothing"))?;
    let now = cluster.api.now;
    let (_, _, plan) = late.plan(&ScriptedCluster::key(Kind::Claim, "c"), now);
    expect(!plan.is_empty(), || "the late one plans nothing: this proves nothing".to_owned())?;
    'steps: for step in plan.steps.iter().filter(|s| !s.is_empty()) {
        for op in step {
            let outcome = carry_out(&mut cluster.api, op);
            if !matches!(outcome, paddock_core::plan::Outcome::Stored(_)) {
                break 'steps;
            }
        }
    }
    expect(bound_to(&cluster, "c") == committed, || {
        format!("it had {committed}, and names {}", bound_to(&cluster, "c"))
    })
}

fn cold_claims_bind() -> Outcome {
    let mut cluster = ScriptedCluster::new(&pool_of(0));
    let names: Vec<String> = (0..20).map(|i| format!("c{i}")).collect();
    for name in &names {
        cluster.apply(&claim(name));
    }
    // Every first request is carried out and every reply is lost. The pods start late.
    cluster.nodes_work = false;
    cluster.watch();
    cluster.act(Link::RepliesLost);
    cluster.settle();
    cluster.pass(5);
    cluster.nodes_work = true;
    cluster.settle();
    for name in &names {
        is_ready(&cluster, name)?;
        expect(bound_to(&cluster, name) == *name, || format!("{name} has {}", bound_to(&cluster, name)))?;
    }
    let made = cluster.names(Kind::Sandbox).len();
    expect(made == names.len(), || format!("{made} Sandboxes for {} claims", names.len()))
}

/// Reconciles a pool of 200 forty times while the watch of Sandboxes delivers nothing. The pool never creates more than
/// 200.
fn reconciled_without_a_watch(link: Link) -> Result<ScriptedCluster, Failed> {
    let mut cluster = ScriptedCluster::new(&pool_of(0));
    cluster.nodes_work = false;
    cluster.hold(Kind::Sandbox);
    cluster.patch(Kind::Pool, "p", "{ spec: { replicas: 200 } }");
    cluster.watch();
    for _ in 0..40 {
        cluster.operator.push(ScriptedCluster::key(Kind::Pool, "p"));
        cluster.act(link);
        let made = cluster.names(Kind::Sandbox).len();
        expect(made <= 200, || format!("asked for 200, made {made}"))?;
    }
    Ok(cluster)
}

fn no_more_than_asked() -> Outcome {
    let made = reconciled_without_a_watch(Link::Good)?.names(Kind::Sandbox).len();
    expect(made == 200, || format!("asked for 200, made {made}"))
}

/// The replies to many requests are lost, and the pool is reconciled again after each failure.
fn no_more_than_asked_when_lost() -> Outcome {
    let mut cluster = reconciled_without_a_watch(Link::RepliesLost)?;
    cluster.release(Kind::Sandbox);
    cluster.pass(120);
    let made = cluster.names(Kind::Sandbox).len();
    expect(made == 200, || format!("asked for 200, made {made}"))
}

fn expired_claim_leaks_nothing() -> Outcome {
    let mut cluster = ScriptedCluster::new(&pool_of(1));
    cluster.apply(
        "{ apiVersion: extensions.agents.x-k8s.io/v1beta1, kind: SandboxClaim, metadata: { name: c }, spec: { warmPoolRef: { name: p }, lifecycle: { shutdownTime: '2030-01-01T12:10:00Z', shutdownPolicy: Retain } } }",
    );
    cluster.settle();
    is_ready(&cluster, "c")?;
    let had = bound_to(&cluster, "c");
    cluster.pass(700);
    let ready = cluster.condition(Kind::Claim, "c", "Ready");
    expect(ready == ("False".to_owned(), "ClaimExpired".to_owned()), || format!("its condition is {ready:?}"))?;
    expect(!cluster.names(Kind::Sandbox).contains(&had), || format!("{had} is still there"))?;
    expect(!cluster.names(Kind::Pod).contains(&had), || format!("the pod of {had} is still there"))
}

fn stale_template() -> Outcome {
    let mut cluster = ScriptedCluster::new(&pool_of(1));
    let old = cluster.names(Kind::Sandbox).remove(0);
    cluster.patch(
        Kind::Template,
        "t",
        "{ spec: { podTemplate: { spec: { containers: [{ name: agent, image: 'agent:2' }] } } } }",
    );
    // The claim comes while the stale Sandbox is there, and before the pool replaces it.
    cluster.apply(&claim("c"));
    expect(cluster.names(Kind::Sandbox).contains(&old), || "the stale one is gone: this proves nothing".to_owned())?;
    cluster.settle();
    is_ready(&cluster, "c")?;
    let image = cluster.get(Kind::Pod, &bound_to(&cluster, "c"))["spec"]["containers"][0]["image"].clone();
    expect(image == "agent:2", || format!("it got {image}"))
}

fn draining_node() -> Outcome {
    let mut cluster = ScriptedCluster::new(&pool_of(1));
    let there = cluster.names(Kind::Sandbox).remove(0);
    cluster.patch(Kind::Node, "n1", "{ spec: { unschedulable: true } }");
    cluster.apply(&claim("c"));
    cluster.settle();
    expect(bound_to(&cluster, "c") != there, || format!("{there} is on a node that is being drained"))?;
    crate::sim::nodes::put_node(&mut cluster.api, "n2");
    cluster.pass(5);
    is_ready(&cluster, "c")
}

/// A pool scales down while a claim takes one of its Sandboxes. The pool must not delete the taken Sandbox.
fn pool_spares_what_was_taken() -> Outcome {
    let mut cluster = ScriptedCluster::new(&pool_of(1));
    let name = cluster.names(Kind::Sandbox).remove(0);
    cluster.nodes_work = false;
    cluster.apply(&claim("c"));
    let mut shrinking = cluster.another();
    cluster.settle();
    is_ready(&cluster, "c")?;
    cluster.patch(Kind::Pool, "p", "{ spec: { replicas: 0 } }");
    shrinking.watch_step(Kind::Pool, &cluster.api);
    let mut deleted = 0;
    for _ in 0..3 {
        // The operator's snapshot has the new size of the pool, and not the claim's take of the Sandbox.
        shrinking.watch_step(Kind::Pool, &cluster.api);
        let (_, _, plan) = shrinking.plan(&ScriptedCluster::key(Kind::Pool, "p"), cluster.api.now);
        for op in plan.ops().filter(|op| op.reason.as_str() == "PoolAboveDesired") {
            deleted += 1;
            carry_out(&mut cluster.api, op);
        }
    }
    expect(deleted > 0, || "nothing was to be deleted: this proves nothing".to_owned())?;
    let remaining: BTreeSet<String> = cluster.names(Kind::Sandbox).into_iter().collect();
    expect(remaining.contains(&name), || format!("{name} is c's and was deleted"))
}

/// A take that never arrived. The Sandbox is unavailable while the take may still have been carried out, and then
/// available again.
fn lost_take_is_free_again() -> Outcome {
    let mut cluster = ScriptedCluster::new(&pool_of(1));
    let name = cluster.names(Kind::Sandbox).remove(0);
    cluster.apply(&claim("c1"));
    cluster.watch();
    let key = ScriptedCluster::key(Kind::Claim, "c1");
    cluster.operator.start(&key, cluster.api.now);
    cluster.run_to_end(Link::RequestsLost);
    cluster.delete(Kind::Claim, "c1");
    cluster.settle();
    cluster.pass(60);
    cluster.apply(&claim("c2"));
    cluster.settle();
    is_ready(&cluster, "c2")?;
    expect(bound_to(&cluster, "c2") == name, || format!("{name} is warm, and c2 has {}", bound_to(&cluster, "c2")))
}

/// A user moves the end of a claim after its status has reported the end. No webhook denies that here. The watch
/// delivers the change before or after the operator plans the deletion.
fn extended_claim_stays() -> Outcome {
    let end = "lifecycle: { shutdownTime: '2030-01-01T12:10:00Z', shutdownPolicy: Delete }, warmPoolRef:";
    for is_delivered in [true, false] {
        let mut cluster = ScriptedCluster::new(&pool_of(1));
        cluster.apply(&claim("c").replace("warmPoolRef:", end));
        cluster.settle();
        is_ready(&cluster, "c")?;
        let had = bound_to(&cluster, "c");
        cluster.api.now += jiff::SignedDuration::from_mins(10);
        let key = ScriptedCluster::key(Kind::Claim, "c");
        cluster.operator.start(&key, cluster.api.now);
        cluster.operator.advance(&key, cluster.api.now);
        cluster.serve(Link::Good);
        let ready = cluster.condition(Kind::Claim, "c", "Ready");
        expect(ready.1 == "ClaimExpired", || format!("its condition is {ready:?}: this proves nothing"))?;
        cluster.patch(Kind::Claim, "c", "{ spec: { lifecycle: { shutdownTime: '2030-01-01T13:00:00Z' } } }");
        if is_delivered {
            cluster.watch();
        }
        cluster.run_to_end(Link::Good);
        cluster.act(Link::Good);
        cluster.settle();
        is_ready(&cluster, "c")?;
        expect(bound_to(&cluster, "c") == had, || format!("it had {had}, and has {}", bound_to(&cluster, "c")))?;
        let deleted = cluster.get(Kind::Claim, "c")["metadata"]["deletionTimestamp"].is_string();
        expect(!deleted, || "it was extended, and is being deleted".to_owned())?;
        // It still ends at its new end.
        cluster.pass(3600);
        expect(cluster.names(Kind::Claim).is_empty(), || "its new end has passed".to_owned())?;
    }
    Ok(())
}
