//! A pool of warm sandboxes and a claim that takes one: the unchanged sample manifest, in its own order.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use futures::StreamExt as _;
use kube::Api;
use kube::api::{ListParams, PostParams, WatchEvent, WatchParams};
use paddock_api::SandboxWarmPoolStatus;
use paddock_api::kind::Kind;
use paddock_api::names::condition;

use crate::manifests::{WARM_POOL, as_applied, kind, objects};
use crate::screen::Screen;
use crate::session::{NAMESPACE, SeedClaim, SeedPool, StepContext};
use crate::wait::{Look, PATIENCE, holds, until};

/// The sample's pool.
pub(super) const POOL: &str = "python-pool";
/// The sample's `minReady`.
const WARM: i32 = 5;
/// The number of claims after the sample's own. They are created one after another, and show that the first result was
/// no accident.
const MORE_CLAIMS: usize = 9;

pub(super) async fn run(context: &mut StepContext<'_>) -> Result<()> {
    let screen = context.screen;
    screen.chapter("A pool of warm ones · kubectl apply -n agents -f deploy/samples/warm-pool.yaml");
    let (claims, others): (Vec<_>, Vec<_>) =
        objects(WARM_POOL, Some(NAMESPACE))?.into_iter().partition(|object| kind(object) == "SandboxClaim");
    let pools: Api<SeedPool> = context.api_of(Kind::SeedPool);
    let fill = async {
        for object in &others {
            context.create(object).await?;
        }
        full(screen, &pools, WARM).await?;
        Ok(((), format!("{POOL} holds {WARM} Ready sandboxes")))
    };
    screen.step("SandboxWarmPool", "filling it", fill).await?;

    let claim = as_applied(claims.first().context("the sample holds a claim")?)?;
    let claim: SeedClaim = serde_json::from_value(serde_json::to_value(claim)?).context("the sample's claim")?;
    let api: Api<SeedClaim> = context.api_of(Kind::SeedClaim);
    let taken = screen
        .step("SandboxClaim", "claiming one", async {
            let taken = claimed(&api, &claim).await?;
            let name = claim.metadata.name.as_deref().unwrap_or_default();
            let summary = format!("{name} got {} in {:.1} ms", taken.sandbox, milliseconds(taken.after));
            Ok((taken, summary))
        })
        .await?;
    screen.remark("as a watching client sees it: from sending the claim to its Ready with a sandbox's name");

    let work = async {
        let mut times = vec![taken.after];
        for number in 1..=MORE_CLAIMS {
            full(screen, &pools, WARM).await?;
            let mut next = claim.clone();
            next.metadata.name = Some(format!("claim-again-{number}"));
            next.metadata.annotations = None;
            times.push(claimed(&api, &next).await?.after);
        }
        times.sort();
        let (median, longest) = (times[times.len() / 2], times.last().copied().unwrap_or_default());
        let summary = format!("median {:.1} ms, longest {:.1} ms", milliseconds(median), milliseconds(longest));
        Ok(((), format!("{} of them, one after another: {summary}", times.len())))
    };
    screen.step("more claims", "claiming more", work).await
}

/// Waits until a pool has at least `warm` Ready sandboxes, and at least the number that it wants.
pub(super) async fn full(screen: &Screen, pools: &Api<SeedPool>, warm: i32) -> Result<SandboxWarmPoolStatus> {
    let pool = until(screen, pools, POOL, |pool| {
        let Some(status) = pool.and_then(|pool| pool.status.as_ref()) else {
            return Look::NotYet("has no status yet".to_owned());
        };
        let (ready, wanted) =
            (status.ready_replicas.unwrap_or_default(), status.desired_replicas.unwrap_or(warm).max(warm));
        if ready >= wanted { Look::Done } else { Look::NotYet(format!("{ready} of {wanted} are Ready")) }
    });
    pool.await?.and_then(|pool| pool.status).context("the pool")
}

/// The sandbox that a claim got, and the time that it took.
struct Taken {
    sandbox: String,
    after: Duration,
}

/// Creates a claim while a watch is open, and measures the time until the watch delivers it as Ready.
async fn claimed(api: &Api<SeedClaim>, claim: &SeedClaim) -> Result<Taken> {
    let version = api.list_metadata(&ListParams::default().limit(1)).await.context("listing claims")?;
    let version = version.metadata.resource_version.unwrap_or_default();
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    let only = WatchParams::default().fields(&format!("metadata.name={name}"));
    let mut events = std::pin::pin!(api.watch(&only, &version).await.context("watching claims")?);
    // The watch occupies its connection. A working client has a second one open.
    api.list_metadata(&ListParams::default().limit(1)).await.context("listing claims")?;
    let began = Instant::now();
    let create = async {
        api.create(&PostParams::default(), claim).await.with_context(|| format!("creating claim {name}"))?;
        // The watch delivers the result.
        std::future::pending::<Result<Taken>>().await
    };
    let mut last = "it was not seen".to_owned();
    let watch = async {
        while let Some(event) = events.next().await {
            let (WatchEvent::Added(claim) | WatchEvent::Modified(claim)) = event.context("watching claims")? else {
                continue;
            };
            let status = claim.status.unwrap_or_default();
            match (holds(&status.conditions, condition::READY), status.sandbox.and_then(|sandbox| sandbox.name)) {
                (Look::Done, Some(sandbox)) => return Ok(Taken { sandbox, after: began.elapsed() }),
                (Look::Done, None) => last = "it is Ready and names no sandbox".to_owned(),
                (Look::NotYet(what), _) => last = what,
            }
        }
        bail!("the watch of claims ended")
    };
    tokio::select! {
        failed = create => failed,
        taken = watch => taken,
        () = tokio::time::sleep(PATIENCE) => bail!("claim {name} did not become Ready within {} s", PATIENCE.as_secs()),
    }
    .with_context(|| format!("claim {name}"))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
