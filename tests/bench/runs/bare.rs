//! The API server's own share of a claim's latency: the writes of a claim in two round trips, by a client that makes no
//! decisions.
//!
//! Like a controller, the client receives claims from a watch, so the share of the watch is in both measurements. It
//! then marks the claim and takes the sandbox at the same time. Alternatively, it only takes the sandbox, like an
//! operator whose webhook has marked the claim. After that it writes the claim's status, and the claim is Ready. The
//! client also writes the pod's labels and refills the pool in the cases in which an operator does. There is no
//! webhook. Sandboxes and pods have the same fields as warm ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use futures::StreamExt as _;
use http::Method;
use jiff::Timestamp;
use kube::Client;
use paddock_cluster::AnyCluster;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{RunContext, claims};
use crate::args::Common;
use crate::arrivals::Schedule;
use crate::client::{self, Load, send};
use crate::controller::Who;
use crate::environment::Environment;
use crate::load;
use crate::objects::{self, FIRST_OBSERVED, SAFE_TO_EVICT, SANDBOX_NAME};
use crate::progress::say;
use crate::report::Measured;
use crate::tracker::{ClaimTracker, Outcome};
use crate::usage::Sampler;
use crate::watch::Watch;

/// The number of sandboxes that are created concurrently beforehand.
const AT_ONCE: usize = 32;

pub(super) async fn run(context: &mut RunContext<'_>, common: &Common, schedule: Schedule) -> Result<Measured> {
    let (count, writes) = (schedule.len(), context.bare_writes);
    let mut environment = context.open(common, 0).await?;
    // There is no operator to fill the pool. It exists only as the owner of the sandboxes.
    let pool = environment.post(&objects::pools(), &objects::pool(0, false)).await?;
    create_warm_sandboxes(&environment, count, &pool).await?;
    let kubeconfig = match &*environment.place {
        AnyCluster::Local(cluster) => cluster.kubeconfig_for_user(&Who::Bare.user(), &["system:masters"])?,
        AnyCluster::External(external, _) => external.kubeconfig(),
    };
    let writer = client::connect(&kubeconfig).await?;
    client::warm(&writer).await?;
    environment.settle(common.drain()).await?;

    let last = schedule.last().copied().unwrap_or_default();
    say(&format!("{}: {count} claims in {:.1} s", environment.who.title(), last.as_secs_f64()));
    let watches = [
        Watch::begin(&environment.client, &objects::claims(), |_| {}).await?,
        Watch::begin(&writer, &objects::claims(), |_| {}).await?,
    ];
    let before = environment.moment().await?;
    let sampler = Sampler::begin(environment.processes());
    let start = Instant::now() + claims::LEAD;
    let tracker = Arc::new(ClaimTracker::new("c", start, &schedule));
    let mut tasks = JoinSet::new();
    let [ours, its] = watches;
    let on_board = Arc::clone(&tracker);
    tasks.spawn(ours.follow(move |event| {
        on_board.watched(&event);
    }));
    let (next, marks, refills) = (AtomicUsize::new(0), writes == 3, !common.no_refill);
    tasks.spawn(its.follow(move |event| {
        let Some(state) = event.state.filter(|state| state.sandbox.is_none() && !state.hinted) else { return };
        let number = next.fetch_add(1, Ordering::Relaxed);
        let (sandbox, another) = (sandbox_name(number), sandbox_name(number + count));
        let (writer, claim, uid, pool) = (writer.clone(), event.name.to_owned(), state.uid.to_owned(), pool.clone());
        tokio::spawn(async move {
            // A claim whose writes fail counts as lost.
            if serve(&writer, (&claim, &uid), &sandbox, marks).await.is_ok() && refills {
                let _ = create_warm_sandbox(&writer, &another, &pool).await;
            }
        });
    }));
    let pacing = load::begin(&environment.client, &objects::claims(), &tracker, schedule, objects::claim);
    let served =
        tracker.until(start + last + common.deadline(), |p| p.answered == count && p.ready + p.refused == count);
    tokio::select! {
        _ = served => {}
        ended = tasks.join_next() => match ended {
            Some(Ok(Err(error))) => return Err(error),
            Some(Ok(Ok(_)) | Err(_)) | None => bail!("a watch ended"),
        },
    }
    drop(pacing);
    let after = environment.moment().await?;
    let samples = sampler.end();
    let outcome = Outcome::of(&tracker, &environment.launches().await?);
    let mut measured = Measured::new(environment.who);
    claims::set_client_figures(&mut measured, &outcome);
    claims::used(&mut measured, (&before, &after), &samples, count);
    measured.set("writes_per_claim_to_ready", writes);
    measured.set("webhook", false);
    Ok(measured)
}

fn sandbox_name(number: usize) -> String {
    format!("b-{number:06}")
}

/// Creates a sandbox for each claim, with the status and the pod of a warm one.
async fn create_warm_sandboxes(environment: &Environment<'_>, count: usize, pool: &Value) -> Result<()> {
    say(&format!("{}: making {count} sandboxes", environment.who.title()));
    let creations = (0..count)
        .map(|number| async move { create_warm_sandbox(&environment.client, &sandbox_name(number), pool).await });
    let mut creations = futures::stream::iter(creations).buffer_unordered(AT_ONCE);
    while let Some(created) = creations.next().await {
        created?;
    }
    Ok(())
}

/// The three writes that an operator needs for a warm sandbox.
async fn create_warm_sandbox(client: &Client, name: &str, pool: &Value) -> Result<Value> {
    let path = objects::sandboxes();
    let object = objects::warm_sandbox(name, pool);
    let sandbox = send(client, Method::POST, &path, Load::Json(&object)).await?.object("creating a sandbox")?;
    let pod = objects::warm_pod(&sandbox);
    send(client, Method::POST, &objects::pods(), Load::Json(&pod)).await?.object("creating a pod")?;
    let (status, of_status) = (objects::warm_status(), format!("{path}/{name}/status"));
    send(client, Method::PATCH, &of_status, Load::Merge(&status)).await?.object("writing a status")
}

/// The writes of a controller for a claim.
async fn serve(client: &Client, (claim, uid): (&str, &str), sandbox: &str, marks: bool) -> Result<()> {
    let of_claim = format!("{}/{claim}", objects::claims());
    let of_sandbox = format!("{}/{sandbox}", objects::sandboxes());
    let now = Timestamp::now().to_string();
    let hint = json!({ "metadata": { "annotations": { SANDBOX_NAME: sandbox, FIRST_OBSERVED: now } } });
    let take = json!({ "metadata": {
        "labels": {
            "agents.x-k8s.io/launch-type": "warm", "agents.x-k8s.io/claim-uid": uid,
            "agents.x-k8s.io/warm-pool-sandbox": null,
        },
        "ownerReferences": [{
            "apiVersion": "extensions.agents.x-k8s.io/v1beta1", "kind": "SandboxClaim", "name": claim, "uid": uid,
            "controller": true, "blockOwnerDeletion": true,
        }],
        // The operator does the same with a Sandbox that has no other writer.
        "managedFields": [{}],
    } });
    let mark = async {
        match marks {
            true => {
                send(client, Method::PATCH, &of_claim, Load::Merge(&hint)).await?.object("marking a claim").map(drop)
            }
            false => Ok(()),
        }
    };
    let take = async { send(client, Method::PATCH, &of_sandbox, Load::Merge(&take)).await?.object("taking a sandbox") };
    tokio::try_join!(mark, take)?;
    let status = json!({ "status": {
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "DependenciesReady", "message": "Pod is Ready",
            "lastTransitionTime": now, "observedGeneration": 1,
        }],
        "sandbox": { "name": sandbox, "podIPs": ["10.244.0.1"] },
    } });
    let path = format!("{of_claim}/status");
    send(client, Method::PATCH, &path, Load::Merge(&status))
        .await?
        .object("writing a status")
        .context("a bare claim")?;
    let labelled = json!({ "metadata": {
        "labels": { "agents.x-k8s.io/claim-uid": uid, "agents.x-k8s.io/warm-pool-sandbox": null },
        "annotations": { SAFE_TO_EVICT: null },
    } });
    let pod = format!("{}/{sandbox}", objects::pods());
    send(client, Method::PATCH, &pod, Load::Merge(&labelled)).await?.object("labelling a pod")?;
    Ok(())
}
