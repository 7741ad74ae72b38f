//! Bursts of claims on a pool for tests that inject faults during the burst, and the checks at the end.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::json::{annotation, controller, deleting, name, ready, text, uid};
use super::kinds::{CLAIM, Kind, POD, POOL, SANDBOX, SEED_CLAIM, SEED_POOL, SEED_TEMPLATE, TEMPLATE};
use super::manifests::{object, pod};
use super::namespace::{Objects, TestNamespace};
use super::oracle::{ApiKinds, Violation, ViolationKind, WatchEvent, Witness, violations};
use super::pool::{filled, members};

/// The number of creations at the same time, as from several clients.
const AT_ONCE: usize = 25;

/// The API shape of a burst's objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ApiShape {
    Seed,
    Upstream,
}

impl ApiShape {
    pub(crate) fn kinds(self) -> ApiKinds {
        match self {
            ApiShape::Seed => ApiKinds { pool: SEED_POOL, claim: SEED_CLAIM },
            ApiShape::Upstream => ApiKinds { pool: POOL, claim: CLAIM },
        }
    }

    fn objects(self, warm: usize) -> [Value; 2] {
        match self {
            ApiShape::Seed => [
                object(SEED_TEMPLATE, "t", json!({ "template": pod() })),
                object(SEED_POOL, "p", json!({ "templateRef": { "name": "t" }, "minReady": warm, "maxReady": warm })),
            ],
            ApiShape::Upstream => [
                object(TEMPLATE, "t", json!({ "podTemplate": pod() })),
                object(POOL, "p", json!({ "sandboxTemplateRef": { "name": "t" }, "replicas": warm })),
            ],
        }
    }

    fn claim(self, number: usize) -> Value {
        let name = format!("task-{number}");
        match self {
            ApiShape::Seed => object(SEED_CLAIM, &name, json!({ "templateRef": { "name": "t" } })),
            ApiShape::Upstream => object(CLAIM, &name, json!({ "warmPoolRef": { "name": "p" } })),
        }
    }
}

/// Whether a claim may have a second Sandbox for a moment, until the operator deletes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Surplus {
    /// The operator stays alive, and knows which creations it has requested.
    Never,
    /// A request of the killed operator may be carried out after its successor has listed the objects.
    AfterACrash,
}

/// A full pool and its witness.
pub(crate) struct Burst {
    ns: TestNamespace,
    shape: ApiShape,
    pool: Value,
    warm: usize,
    /// The names of the Sandboxes that the pool had when it was full.
    first: BTreeSet<String>,
    witness: Witness,
    /// The number of claims that got a reservation at admission.
    reserved: AtomicUsize,
    /// Whether the second half of the claims may be created.
    second_half: watch::Sender<bool>,
}

/// The reaction to a creation that the API server refuses or does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// The test fails.
    Never,
    /// The creation is repeated until the API server has stored the claim, because the API server may be down.
    UntilStored,
}

impl Burst {
    /// Creates a pool and waits until it is full.
    pub(crate) async fn prepare(ns: &TestNamespace, shape: ApiShape, warm: usize) -> Self {
        let [template, pool] = shape.objects(warm);
        ns.create(template).await;
        let pool = ns.create(pool).await;
        let first = filled(ns, &pool, warm).await.into_keys().collect();
        let witness = Witness::begin(ns, shape.kinds()).await;
        let (reserved, second_half) = (AtomicUsize::new(0), watch::Sender::new(true));
        Self { ns: ns.clone(), shape, pool, warm, first, witness, reserved, second_half }
    }

    /// Counts a reservation. The reply to a creation contains the claim as it left admission, before any other write.
    fn created(&self, claim: &Value) {
        let reserved = !annotation(claim, "agents.x-k8s.io/sandbox-name").is_empty();
        self.reserved.fetch_add(usize::from(reserved), Ordering::Relaxed);
    }

    /// The number of claims that got a reservation at admission.
    pub(crate) fn reserved(&self) -> usize {
        self.reserved.load(Ordering::Relaxed)
    }

    /// Checks that some claims got a reservation, which is the case with a webhook.
    pub(crate) fn assert_some_reserved(&self) {
        let reserved = self.reserved();
        println!("{reserved} claims got a reservation at admission");
        assert!(reserved > 0, "no claim got a reservation: the webhook was not called");
    }

    /// Creates the claims, and returns when the API server has stored them.
    pub(crate) async fn create(&self, count: usize) {
        self.create_claims(count, Retry::Never).await;
    }

    /// Creates the claims during a fault. The second half waits until [`Burst::under_way`] or [`Burst::refilling`] has
    /// returned. The fault therefore happens in the middle of the burst, even if a busy machine notices the burst late.
    pub(crate) async fn create_during<T>(&self, count: usize, retry: Retry, fault: impl Future<Output = T>) -> T {
        self.second_half.send_replace(false);
        tokio::join!(fault, self.create_claims(count, retry)).0
    }

    async fn create_claims(&self, count: usize, retry: Retry) {
        let creation = async |number| {
            if number >= count / 2 {
                let mut open = self.second_half.subscribe();
                open.wait_for(|open| *open).await.expect("the burst holds the sender");
            }
            let claim = self.shape.claim(number);
            loop {
                match self.ns.try_create(&claim).await {
                    Ok(claim) => return self.created(&claim),
                    Err(error) if retry == Retry::Never => panic!("creating {claim:#}: {error}"),
                    // An earlier try was carried out, and its reply was lost.
                    Err(kube::Error::Api(status)) if status.code == 409 => return,
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        };
        futures::stream::iter((0..count).map(creation)).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
    }

    /// Waits until some of the claims are Ready.
    pub(crate) async fn under_way(&self) {
        let served = |all: &Objects| all.values().filter(|claim| ready(claim)).count() >= 3;
        self.ns.until_all(self.shape.kinds().claim, "some are Ready", served).await;
        self.second_half.send_replace(true);
    }

    /// Waits until the pool creates replacements for the Sandboxes that were taken.
    pub(crate) async fn refilling(&self) {
        let new = |sandbox: &&Value| !self.first.contains(name(sandbox));
        let made = |all: &Objects| members(all, uid(&self.pool)).iter().any(new);
        self.ns.until_all(SANDBOX, "the pool creates replacements", made).await;
        self.second_half.send_replace(true);
    }

    /// Waits until all claims are Ready and the pool is full, and checks every event since the start.
    pub(crate) async fn settle(self, count: usize, surplus: Surplus) {
        let Self { ns, shape, pool, warm, witness, first: _, reserved: _, second_half: _ } = self;
        let kind: Kind = shape.kinds().claim;
        let claims = ns
            .until_all(kind, &format!("{count} are Ready"), |all| all.len() == count && all.values().all(ready))
            .await;
        // The pool is full again, so it is neither stuck nor above its maximum.
        let sandboxes = filled(&ns, &pool, warm).await;
        let pods = ns.list(POD).await;
        let mut taken = BTreeSet::new();
        for claim in claims.values() {
            let its = text(claim, "/status/sandbox/name");
            assert!(taken.insert(its.to_owned()), "Sandbox {its} has two claims");
            let sandbox = sandboxes.get(its).unwrap_or_else(|| panic!("{} has no Sandbox", name(claim)));
            assert_eq!(controller(sandbox), uid(claim), "{its} is not the Sandbox of {}", name(claim));
            assert!(ready(sandbox), "{its} is not Ready");
            let of_it = pods.values().filter(|p| controller(p) == uid(sandbox) && !deleting(p));
            assert_eq!(of_it.count(), 1, "pods of {its}");
        }
        let others = sandboxes.len() - taken.len() - members(&sandboxes, uid(&pool)).len();
        assert_eq!(others, 0, "Sandboxes that belong to nobody");
        let events = witness.end().await;
        let (second, mut wrong): (Vec<Violation>, Vec<Violation>) =
            violations(&events, shape.kinds()).into_iter().partition(|v| v.kind == ViolationKind::SecondSandbox);
        match surplus {
            Surplus::Never => wrong.extend(second),
            Surplus::AfterACrash if second.is_empty() => {}
            Surplus::AfterACrash => println!("for a moment, after a crash: {second:?}"),
        }
        if let Some(first) = wrong.first() {
            let history: Vec<String> =
                events.iter().filter(|s| first.details.contains(name(&s.object))).map(line).collect();
            panic!("{} times, first: {first:#?}\n{}", wrong.len(), history.join("\n"));
        }
        let kept = events.iter().filter(|s| s.kind == SANDBOX).count();
        assert!(kept >= count, "the witness saw only {kept} events of Sandboxes");
    }
}

/// One event as a short text.
fn line(event: &WatchEvent) -> String {
    let WatchEvent { version, kind, gone, object } = event;
    let owner = text(object, "/metadata/ownerReferences/0/name");
    let what = if *gone { "gone" } else { "there" };
    format!("{version} {} {} {what}, of {owner:?}, status {}", kind.1, name(object), object["status"])
}
