//! The cost of a claim for the API server, counted from the audit log. The last tests check that no request of
//! the operator and of the gateway was forbidden.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::json::{label, ready, text};
use super::kinds::{CLAIM, POD, SANDBOX};
use super::manifests::{claim, pool, template};
use super::namespace::TestNamespace;
use super::operator::{ACCOUNT, NAMESPACE};
use super::pool::filled;
use super::setup::{namespace, setup};
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![
        a_warm_claim_is_ready_after_two_writes,
        warm_claim_in_a_stream_needs_seven_writes,
        operator_was_never_denied_a_request,
        gateway_was_never_denied_a_request,
    ]
}

/// One line of the audit log.
pub(super) struct Line(pub(super) Value);

impl Line {
    pub(super) fn user(&self) -> &str {
        let user = text(&self.0, "/user/username");
        user.strip_prefix("system:serviceaccount:").unwrap_or(user)
    }

    fn writes(&self) -> bool {
        matches!(text(&self.0, "/verb"), "create" | "update" | "patch" | "delete" | "deletecollection")
    }

    pub(super) fn what(&self) -> String {
        let resource = text(&self.0, "/objectRef/resource");
        let sub = text(&self.0, "/objectRef/subresource");
        let slash = if sub.is_empty() { "" } else { "/" };
        format!("{} {resource}{slash}{sub}", text(&self.0, "/verb"))
    }

    /// The time at which the request was received.
    fn at(&self) -> jiff::Timestamp {
        text(&self.0, "/requestReceivedTimestamp").parse().expect("a time")
    }
}

/// The lines of the audit log that contain `named` and fulfil the predicate.
pub(super) async fn audit(named: &str, wanted: impl Fn(&Line) -> bool) -> Vec<Line> {
    let log = tokio::fs::read_to_string(setup().await.cluster.audit_log()).await.expect("an audit log");
    // Most lines belong to other tests, and the last line may be incomplete.
    let lines = log.lines().filter(|line| line.contains(named));
    lines.filter_map(|line| serde_json::from_str(line).ok()).map(Line).filter(wanted).collect()
}

fn operator() -> String {
    format!("{NAMESPACE}:{ACCOUNT}")
}

/// The number of writes by object and verb.
type Counts = BTreeMap<String, usize>;

fn show(title: &str, counts: &Counts, claims: usize) -> f64 {
    let per_claim = |count: usize| count as f64 / claims as f64;
    let total = per_claim(counts.values().sum());
    println!("  {total:>5.2}  {title}");
    for (what, count) in counts {
        println!("         {:>5.2}  {what}", per_claim(*count));
    }
    total
}

/// The writes in a namespace since a time, without Events: the lines of the operator, and the counts of all other
/// users.
async fn since(ns: &TestNamespace, began: jiff::Timestamp) -> (Vec<Line>, Counts) {
    let namespace = ns.namespace.as_str();
    let wanted = |l: &Line| {
        let object = &l.0["objectRef"];
        l.writes() && l.at() >= began && object["namespace"] == namespace && object["resource"] != "events"
    };
    let (ours, others): (Vec<Line>, Vec<Line>) =
        audit(namespace, wanted).await.into_iter().partition(|l| l.user() == operator());
    let mut by_others = Counts::new();
    for line in others {
        *by_others.entry(line.user().to_owned()).or_default() += 1;
    }
    (ours, by_others)
}

fn add(counts: &mut Counts, line: &Line) {
    *counts.entry(line.what()).or_default() += 1;
}

/// Creates claims one by one, each from its creation to its deletion.
async fn a_warm_claim_is_ready_after_two_writes() {
    const CLAIMS: usize = 5;
    let ns = namespace("writes").await;
    ns.create(template("t", json!({}))).await;
    let made = ns.create(pool("p", "t", json!({ "replicas": 3 }))).await;
    filled(&ns, &made, 3).await;
    let (mut path, mut beside, mut all, mut others) = (Counts::new(), Counts::new(), Counts::new(), Counts::new());
    for number in 0..CLAIMS {
        settled(&ns).await;
        let began = jiff::Timestamp::now();
        let task = format!("task-{number}");
        ns.create(claim(&task, "p", json!({}))).await;
        let done = ns.until(CLAIM, &task, "Ready", ready).await;
        let sandbox = text(&done, "/status/sandbox/name").to_owned();
        assert_eq!(label(&ns.get(SANDBOX, &sandbox).await, "agents.x-k8s.io/launch-type"), "warm");
        filled(&ns, &made, 3).await;
        settled(&ns).await;
        ns.delete(CLAIM, &task).await;
        ns.until_gone(SANDBOX, &sandbox).await;
        ns.until_gone(POD, &sandbox).await;
        settled(&ns).await;
        let (ours, by_others) = since(&ns, began).await;
        let named = |l: &Line, name: &str| text(&l.0, "/objectRef/name") == name;
        let tells = ours.iter().find(|l| l.what() == "patch sandboxclaims/status" && named(l, &task));
        let ready_at = tells.expect("its status was written").at();
        for line in &ours {
            add(&mut all, line);
            if line.at() > ready_at {
                continue;
            }
            // Ready depends on the writes of the claim and its Sandbox. The pod's labels and the refill of the pool may
            // happen before Ready too, but Ready does not wait for them.
            let waited_for = !line.what().ends_with("pods") && (named(line, &task) || named(line, &sandbox));
            add(if waited_for { &mut path } else { &mut beside }, line);
        }
        by_others.into_iter().for_each(|(who, count)| *others.entry(who).or_default() += count);
    }
    println!("writes for a warm claim, one at a time, from an audit log, mean of {CLAIMS}:");
    let before_ready = show("until it is Ready", &path, CLAIMS);
    show("in the meantime, without being waited for", &beside, CLAIMS);
    let total = show("from its creation to its deletion, refill included", &all, CLAIMS);
    show("by others", &others, CLAIMS);
    // The webhook of the leading operator writes the hint, so only the writes of the Sandbox and of the claim's status
    // are left.
    assert!(before_ready <= 2.0, "more than two writes before Ready: {path:?}");
    // Six writes, and two of the pool's status: one when it is short of a Sandbox for long, and one when it is full
    // again.
    assert!(total <= 8.0, "{all:?}");
}

/// Creates claims one after the other without a pause. Many claims share the writes of the pool.
async fn warm_claim_in_a_stream_needs_seven_writes() {
    const CLAIMS: usize = 40;
    let ns = namespace("stream").await;
    ns.create(template("t", json!({}))).await;
    let made = ns.create(pool("p", "t", json!({ "replicas": CLAIMS }))).await;
    filled(&ns, &made, CLAIMS).await;
    settled(&ns).await;
    let began = jiff::Timestamp::now();
    for number in 0..CLAIMS {
        ns.create(claim(&format!("task-{number}"), "p", json!({}))).await;
    }
    let claims = ns.until_all(CLAIM, "all are Ready", |all| all.len() == CLAIMS && all.values().all(ready)).await;
    filled(&ns, &made, CLAIMS).await;
    for task in claims.keys() {
        ns.delete(CLAIM, task).await;
    }
    ns.until_all(SANDBOX, "only the Sandboxes of the pool remain", |all| all.len() == CLAIMS).await;
    settled(&ns).await;
    let (ours, others) = since(&ns, began).await;
    let mut all = Counts::new();
    ours.iter().for_each(|line| add(&mut all, line));
    println!("writes for a warm claim, {CLAIMS} in a row, from an audit log:");
    let total = show("from its creation to its deletion, refill included", &all, CLAIMS);
    show("by others", &others, CLAIMS);
    assert!(total <= 7.0, "{all:?}");
}

/// Waits until the operator has not written for a moment, so that late writes count for the phase that caused them.
async fn settled(ns: &TestNamespace) {
    const QUIET: Duration = Duration::from_millis(1500);
    let began = Instant::now();
    let mut last = (usize::MAX, Instant::now());
    while last.1.elapsed() < QUIET {
        let namespace = ns.namespace.as_str();
        let lines = audit(namespace, |l| l.writes() && l.0["objectRef"]["namespace"] == namespace).await.len();
        if lines != last.0 {
            last = (lines, Instant::now());
        }
        assert!(began.elapsed() < Duration::from_secs(60), "it writes on and on");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// This is one of the last tests, so that the log contains all requests that the other tests caused.
async fn operator_was_never_denied_a_request() {
    was_never_denied(&operator()).await;
}

/// The gateway too. The test of its limits sends dry runs and requests without a right, which do not count.
async fn gateway_was_never_denied_a_request() {
    // If no other test of this run needed a gateway, its own requests at its start are what counts.
    super::wake::open().await;
    was_never_denied(&format!("{NAMESPACE}:sandbox-router")).await;
}

async fn was_never_denied(user: &str) {
    let account = user.rsplit(':').next().unwrap_or(user);
    let ours = audit(account, |l| l.user() == user).await;
    assert!(!ours.is_empty(), "{user} is not in the audit log");
    let refused: Vec<String> = ours
        .iter()
        .filter(|l| matches!(l.0["responseStatus"]["code"].as_u64(), Some(401 | 403)))
        .filter(|l| {
            // Two tests send requests without a right on purpose.
            let denied = ["wake-credential", "claim-data-denied", "claim-data-forged"];
            !denied.iter().any(|test| text(&l.0, "/objectRef/namespace").starts_with(test))
        })
        // Quotas and admission are no missing right: some tests use them to see that the operator waits.
        .filter(|l| {
            let message = text(&l.0, "/responseStatus/message");
            !["exceeded quota", "admission webhook"].iter().any(|cause| message.contains(cause))
        })
        .map(|l| {
            format!(
                "{} in {:?}: {}",
                l.what(),
                text(&l.0, "/objectRef/namespace"),
                text(&l.0, "/responseStatus/message")
            )
        })
        .collect();
    assert!(refused.is_empty(), "{} requests: {refused:#?}", refused.len());
    println!("{} requests of {user}, none forbidden", ours.len());
}
