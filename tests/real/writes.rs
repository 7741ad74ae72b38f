//! What a claim costs the API server, counted from its audit log; and that the operator asks for nothing it may not.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::json::{controller, ready, text, uid};
use super::kinds::{CLAIM, POD, SANDBOX};
use super::manifests::{claim, pool, template};
use super::operator::{ACCOUNT, NAMESPACE};
use super::pool::filled;
use super::stage::{place, stage};
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![a_warm_claim_costs_three_writes_before_it_is_ready, the_operator_was_never_forbidden_anything]
}

/// One line of the audit log.
struct Line(Value);

impl Line {
    fn user(&self) -> &str {
        let user = text(&self.0, "/user/username");
        user.strip_prefix("system:serviceaccount:").unwrap_or(user)
    }

    fn writes(&self) -> bool {
        matches!(text(&self.0, "/verb"), "create" | "update" | "patch" | "delete" | "deletecollection")
    }

    fn what(&self) -> String {
        let resource = text(&self.0, "/objectRef/resource");
        let sub = text(&self.0, "/objectRef/subresource");
        let slash = if sub.is_empty() { "" } else { "/" };
        format!("{} {resource}{slash}{sub}", text(&self.0, "/verb"))
    }

    /// When it came in.
    fn at(&self) -> jiff::Timestamp {
        text(&self.0, "/requestReceivedTimestamp").parse().expect("a time")
    }
}

async fn audit(wanted: impl Fn(&Line) -> bool) -> Vec<Line> {
    let log = tokio::fs::read_to_string(stage().await.cluster.audit_log()).await.expect("an audit log");
    // The last line may be half written.
    let lines = log.lines().filter_map(|line| serde_json::from_str(line).ok()).map(Line);
    lines.filter(wanted).collect()
}

fn operator() -> String {
    format!("{NAMESPACE}:{ACCOUNT}")
}

async fn a_warm_claim_costs_three_writes_before_it_is_ready() {
    const CLAIMS: usize = 10;
    let place = place("writes").await;
    place.create(template("t", json!({}))).await;
    let made = place.create(pool("p", "t", json!({ "replicas": 3 }))).await;
    filled(&place, &made, 3).await;
    let (mut before_ready, mut all) = (BTreeMap::new(), BTreeMap::new());
    let mut by_others: BTreeMap<String, usize> = BTreeMap::new();
    for number in 0..CLAIMS {
        settled(&place).await;
        let began = jiff::Timestamp::now();
        let task = format!("task-{number}");
        place.create(claim(&task, "p", json!({}))).await;
        let done = place.until(CLAIM, &task, "Ready", ready).await;
        let sandbox = text(&done, "/status/sandbox/name").to_owned();
        let taken = place.get(SANDBOX, &sandbox).await;
        assert_eq!(controller(&taken), uid(&done));
        filled(&place, &made, 3).await;
        settled(&place).await;
        place.delete(CLAIM, &task).await;
        place.until_gone(SANDBOX, &sandbox).await;
        place.until_gone(POD, &sandbox).await;
        settled(&place).await;
        let namespace = place.namespace.clone();
        let lines = audit(|l| {
            l.writes() && l.at() >= began && text(&l.0, "/objectRef/namespace") == namespace
                && text(&l.0, "/objectRef/resource") != "events"
        })
        .await;
        // The write that made it Ready is the first that is answered with the claim's status.
        let of_claim = |l: &&Line| {
            l.what() == "patch sandboxclaims/status" && text(&l.0, "/objectRef/name") == task && l.user() == operator()
        };
        let ready_at = lines.iter().find(of_claim).expect("its status was written").at();
        // Refilling the pool goes on beside it, and is no part of the way to Ready.
        let on_the_way = |l: &&Line| {
            let name = text(&l.0, "/objectRef/name");
            l.user() == operator() && l.at() <= ready_at && (name == task || name == sandbox)
        };
        for line in lines.iter().filter(on_the_way) {
            *before_ready.entry(line.what()).or_insert(0) += 1;
        }
        for line in &lines {
            if line.user() == operator() {
                *all.entry(line.what()).or_insert(0) += 1;
            } else {
                *by_others.entry(line.user().to_owned()).or_insert(0) += 1;
            }
        }
    }
    let per_claim = |count: usize| count as f64 / CLAIMS as f64;
    let total = |table: &BTreeMap<String, usize>| per_claim(table.values().sum());
    println!("writes of the operator for a warm claim, from an audit log, mean of {CLAIMS}:");
    println!("  until it is Ready: {:.1}", total(&before_ready));
    for (what, count) in &before_ready {
        println!("    {:>5.1}  {what}", per_claim(*count));
    }
    println!("  from creation to deletion, refill included: {:.1}", total(&all));
    for (what, count) in &all {
        println!("    {:>5.1}  {what}", per_claim(*count));
    }
    println!("  beside it:");
    for (who, count) in &by_others {
        println!("    {:>5.1}  {who}", per_claim(*count));
    }
    assert!(total(&before_ready) <= 3.0, "more than three writes before Ready: {before_ready:?}");
    assert!(total(&all) <= 8.5, "more than eight writes from creation to deletion: {all:?}");
}

/// Waits until the operator has written nothing for a moment: what is still to come belongs to what was before.
async fn settled(place: &super::place::Place) {
    const QUIET: Duration = Duration::from_millis(1500);
    let began = Instant::now();
    let mut last = (usize::MAX, Instant::now());
    while last.1.elapsed() < QUIET {
        let namespace = place.namespace.clone();
        let lines = audit(|l| l.writes() && text(&l.0, "/objectRef/namespace") == namespace).await.len();
        if lines != last.0 {
            last = (lines, Instant::now());
        }
        assert!(began.elapsed() < Duration::from_secs(60), "it writes on and on");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Last of all, so that everything that the other tests made it do is in the log.
async fn the_operator_was_never_forbidden_anything() {
    let ours = audit(|l| l.user() == operator()).await;
    assert!(!ours.is_empty(), "the operator is not in the audit log");
    let refused: Vec<String> = ours
        .iter()
        .filter(|l| matches!(l.0["responseStatus"]["code"].as_u64(), Some(401 | 403)))
        .map(|l| format!("{} in {:?}: {}", l.what(), text(&l.0, "/objectRef/namespace"), text(&l.0, "/responseStatus/message")))
        .collect();
    assert!(refused.is_empty(), "{} requests: {refused:#?}", refused.len());
    println!("{} requests of the operator, none forbidden", ours.len());
}
