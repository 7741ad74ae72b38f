//! Faults of the network between the operator and the API server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;
use paddock_cluster::eventually;
use serde_json::json;

use super::{alone, faults};
use crate::e2e::burst::{ApiShape, Burst, Retry, Surplus};
use crate::e2e::children::with_children;
use crate::e2e::json::{controller, ready, uid};
use crate::e2e::kinds::{POD, SANDBOX, SERVICE, VOLUME_CLAIM};
use crate::e2e::namespace::TestNamespace;
use crate::e2e::proxy::{Fate, Proxy};
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![
        conflicts_refusals_and_lost_replies_are_survived,
        retry_after_is_kept_during_429,
        backoff_grows_during_500,
        not_found_of_a_kind_deletes_no_object,
        watches_that_expire_are_listed_again,
        operator_that_has_not_seen_an_orphaning_deletion_lets_the_children_live,
        watch_of_policies_that_fails_is_reported_and_the_status_claims_nothing,
    ]
}

async fn conflicts_refusals_and_lost_replies_are_survived() {
    let (faults, _alone) = faults().await;
    let ns = TestNamespace::new(&faults.cluster, "faults").await;
    let calm = Arc::new(AtomicBool::new(true));
    let struck = Arc::new(AtomicU64::new(0));
    let (is_calm, injected) = (calm.clone(), struck.clone());
    let decide = move |number: u64, _: &http::Method, _: &str| {
        if is_calm.load(Ordering::SeqCst) {
            return Fate::Pass;
        }
        // The numbers are primes, so that every combination happens.
        let fate = match () {
            () if number.is_multiple_of(7) => Fate::Overtake,
            () if number.is_multiple_of(11) => Fate::Refuse(StatusCode::TOO_MANY_REQUESTS),
            () if number.is_multiple_of(13) => Fate::Refuse(StatusCode::INTERNAL_SERVER_ERROR),
            () if number.is_multiple_of(17) => Fate::LoseReply,
            () if number.is_multiple_of(19) => Fate::LoseRequest,
            () if number.is_multiple_of(23) => Fate::Delay(Duration::from_millis(300)),
            () => Fate::Pass,
        };
        injected.fetch_add(u64::from(fate != Fate::Pass), Ordering::SeqCst);
        fate
    };
    let proxy = Proxy::start(&faults.cluster, &faults.account, &ns.namespace, Box::new(decide)).await;
    let operator = alone(faults, &ns, &proxy.kubeconfig).await;
    let burst = Burst::prepare(&ns, ApiShape::Upstream, 20).await;
    calm.store(false, Ordering::SeqCst);
    let cutter = proxy.clone();
    let cutting = tokio::spawn(async move {
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(250)).await;
            cutter.cut_watches();
        }
    });
    burst.create(80).await;
    burst.assert_some_reserved();
    cutting.await.expect("it was cut");
    burst.settle(80, Surplus::Never).await;
    let struck = struck.load(Ordering::SeqCst);
    println!("80 claims through {} writes, {struck} of which went wrong", proxy.writes());
    assert!(struck > 80, "only {struck} writes went wrong");
    operator.process.kill().await.expect("it ends");
}

async fn retry_after_is_kept_during_429() {
    let soonest = storm(StatusCode::TOO_MANY_REQUESTS, 1000).await;
    // `Retry-After: 1`, less the tolerance of a timer.
    assert!(soonest >= Duration::from_millis(950), "asked again after {soonest:?}");
}

async fn backoff_grows_during_500() {
    // The wait doubles from 50 ms on, so each request is tried six times in this period.
    let soonest = storm(StatusCode::INTERNAL_SERVER_ERROR, 2500).await;
    assert!(soonest >= Duration::from_millis(20), "asked again after {soonest:?}");
}

/// The status is the API server's answer for a moment after its start, "the server could not find the requested
/// resource". It is about the kind and not about the object.
async fn not_found_of_a_kind_deletes_no_object() {
    storm(StatusCode::NOT_FOUND, 2500).await;
}

/// All requests are refused for some seconds, reads included, and every watch is cut at the beginning. Returns the
/// shortest time after which a change was tried again.
async fn storm(status: StatusCode, most: u64) -> Duration {
    let (faults, _alone) = faults().await;
    let ns = TestNamespace::new(&faults.cluster, "storm").await;
    let proxy = Proxy::start(&faults.cluster, &faults.account, &ns.namespace, Box::new(|_, _, _| Fate::Pass)).await;
    let operator = alone(faults, &ns, &proxy.kubeconfig).await;
    let burst = Burst::prepare(&ns, ApiShape::Upstream, 20).await;
    let raging = async {
        burst.under_way().await;
        proxy.refuse_all(Some(status));
        proxy.cut_watches();
        tokio::time::sleep(Duration::from_secs(3)).await;
        proxy.refuse_all(None);
    };
    burst.create_during(80, Retry::Never, raging).await;
    burst.assert_some_reserved();
    let refused = proxy.refused();
    burst.settle(80, Surplus::Never).await;
    let (soonest, what) = proxy.soonest_retry().expect("something was asked for again");
    println!("{refused} requests in three seconds were answered with {status}, none twice within {soonest:?}: {what}");
    assert!((20..most).contains(&refused), "{refused} requests were refused: none came, or they came too fast");
    operator.process.kill().await.expect("it ends");
    soonest
}

/// All watches are cut every quarter of a second, and each new watch gets the error that its version is too old.
async fn watches_that_expire_are_listed_again() {
    let (faults, _alone) = faults().await;
    let ns = TestNamespace::new(&faults.cluster, "expired").await;
    let proxy = Proxy::start(&faults.cluster, &faults.account, &ns.namespace, Box::new(|_, _, _| Fate::Pass)).await;
    let operator = alone(faults, &ns, &proxy.kubeconfig).await;
    let burst = Burst::prepare(&ns, ApiShape::Seed, 20).await;
    let expiring = async {
        burst.under_way().await;
        let mut times = 0;
        // At least twelve times, and as often as a slow machine needs for more than forty new watches.
        eventually("watches are begun anew", async || {
            proxy.expire_watches();
            tokio::time::sleep(Duration::from_millis(250)).await;
            times += 1;
            times >= 12 && proxy.expired() > 40
        })
        .await;
    };
    burst.create_during(80, Retry::Never, expiring).await;
    burst.assert_some_reserved();
    let expired = proxy.expired();
    burst.settle(80, Surplus::Never).await;
    println!("{expired} watches got the error that their version had expired");
    operator.process.kill().await.expect("it ends");
}

/// The garbage collector detaches the children, and the operator still believes that their Sandbox stays. If it attached
/// them again, the garbage collector would delete them, with the files of the user.
async fn operator_that_has_not_seen_an_orphaning_deletion_lets_the_children_live() {
    let (faults, _alone) = faults().await;
    let ns = TestNamespace::new(&faults.cluster, "orphans-unseen").await;
    let proxy = Proxy::start(&faults.cluster, &faults.account, &ns.namespace, Box::new(|_, _, _| Fate::Pass)).await;
    let operator = alone(faults, &ns, &proxy.kubeconfig).await;
    ns.create(with_children()).await;
    ns.until(SANDBOX, "a", "Ready", ready).await;
    let children = [(POD, "a"), (SERVICE, "a"), (VOLUME_CLAIM, "data-a")];
    let mut uids = Vec::new();
    for (kind, name) in children {
        uids.push(uid(&ns.get(kind, name).await).to_owned());
    }
    proxy.hold_watches(Some("sandboxes"));
    ns.kubectl(&["delete", "sandbox", "a", "--cascade=orphan"], None).await.expect("deleted");
    for kind in ["Pod", "Service", "PersistentVolumeClaim"] {
        let label = |name: &str, value: &str| format!("{name}=\"{value}\"");
        let wanted = [label("kind", kind), label("verb", "adopt"), label("outcome", "conflict")];
        let tried = |line: &str| line.starts_with("paddock_writes_total") && wanted.iter().all(|w| line.contains(w));
        eventually(&format!("the operator wants its {kind} back"), async || {
            operator.metrics().await.lines().any(tried)
        })
        .await;
    }
    for (kind, name) in children {
        let child = ns.get(kind, name).await;
        assert_eq!((controller(&child), &child["metadata"]["deletionTimestamp"]), ("", &json!(null)), "{kind:?}");
    }
    proxy.hold_watches(None);
    let made = ns.create(with_children()).await;
    for ((kind, name), before) in children.into_iter().zip(uids) {
        let child = ns.until(kind, name, "belongs to the new Sandbox", |o| controller(o) == uid(&made)).await;
        assert_eq!(uid(&child), before, "{kind:?}");
    }
    operator.process.kill().await.expect("it ends");
}

/// A new policy is not in force on a replica that does not see it. The replica goes on, and says so.
async fn watch_of_policies_that_fails_is_reported_and_the_status_claims_nothing() {
    let (faults, _alone) = faults().await;
    let ns = TestNamespace::new(&faults.cluster, "unseen-policy").await;
    let proxy = Proxy::start(&faults.cluster, &faults.account, &ns.namespace, Box::new(|_, _, _| Fate::Pass)).await;
    let operator = alone(faults, &ns, &proxy.kubeconfig).await;
    let apply = async |kind: &str, name: &str, spec: serde_json::Value| {
        let object = json!({
            "apiVersion": "policy.paddock.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec,
        });
        ns.kubectl(&["apply", "-f", "-"], Some(&object.to_string())).await.expect("it is applied");
    };
    let policy = json!({
        "plugin": "unseen", "hook": "idle",
        "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": ns.namespace } },
    });
    let entry = async |name: &str| {
        let read = ns.read(&format!("/apis/policy.paddock.dev/v1alpha1/sandboxpolicies/{name}")).await;
        read.expect("it is there").pointer("/status/replicas/0").cloned().unwrap_or_default()
    };
    apply("SandboxPlugin", "unseen", json!({ "source": { "builtIn": { "name": "idle-timeout" } } })).await;
    apply("SandboxPolicy", "seen", policy.clone()).await;
    let is_bound = |entry: &serde_json::Value| entry["digest"].is_string() && entry["reason"].is_null();
    eventually("the policy is in force", async || is_bound(&entry("seen").await)).await;
    let failing = async |value: u8| {
        let line = format!("paddock_watch_failing{{kind=\"SandboxPolicy\"}} {value}");
        operator.metrics().await.lines().any(|l| l == line)
    };
    assert!(failing(0).await, "an alert has a value to compare");

    proxy.refuse_reads(Some("sandboxpolicies"));
    apply("SandboxPolicy", "unseen", policy).await;
    eventually("the watch is reported", async || failing(1).await).await;
    let (status, text) = crate::e2e::http::get(operator.health, "/readyz?verbose").await.expect("an answer");
    assert!(status == 200 && text.contains("[-]watch of SandboxPolicy: it has failed for a minute"), "{text}");
    eventually("the entry says so", async || entry("seen").await["reason"] == "WatchFailing").await;
    assert!(entry("unseen").await.is_null());

    proxy.refuse_reads(None);
    eventually("the new policy is in force", async || is_bound(&entry("unseen").await)).await;
    eventually("the entry is as before", async || is_bound(&entry("seen").await)).await;
    assert!(failing(0).await);
    ns.kubectl(&["delete", "sandboxpolicy", "seen", "unseen"], None).await.expect("deleted");
    ns.kubectl(&["delete", "sandboxplugin", "unseen"], None).await.expect("deleted");
    operator.process.kill().await.expect("it ends");
}
