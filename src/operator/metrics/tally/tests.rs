//! The values of upstream's families after objects were created, changed and deleted.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::metrics::Metrics;
use paddock_api::kind::Kind;
use paddock_core::object::Object;
use paddock_core::plan::{ClaimStart, StartKind};

fn object(kind: Kind, name: &str, metadata: Value, rest: Value) -> Object {
    let mut document = rest;
    document["metadata"] = metadata;
    document["metadata"]["name"] = name.into();
    document["metadata"]["namespace"] = "ns".into();
    document["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
    Object::from_json(kind, document).unwrap()
}

fn owner(kind: &str, name: &str) -> Value {
    json!([{ "apiVersion": "extensions.agents.x-k8s.io/v1beta1", "kind": kind, "name": name, "uid": name, "controller": true }])
}

fn condition(status: &str) -> Value {
    json!({ "conditions": [{
        "type": "Ready", "status": status, "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
    }] })
}

fn warm(owners: Value, ready: &str) -> Object {
    let metadata = json!({
        "labels": { "agents.x-k8s.io/launch-type": "warm" },
        "annotations": { "agents.x-k8s.io/sandbox-template-ref": "python" },
        "ownerReferences": owners,
    });
    let spec = json!({ "podTemplate": { "spec": { "containers": [{ "name": "c", "image": "i" }] } } });
    object(Kind::Sandbox, "pool-x1", metadata, json!({ "spec": spec, "status": condition(ready) }))
}

fn claim(ready: &str) -> Object {
    let metadata = json!({
        "labels": { "agents.x-k8s.io/created-by": "python-client" },
        "annotations": { "agents.x-k8s.io/controller-first-observed-at": "2026-01-01T00:00:00.5Z" },
    });
    let mut status = condition(ready);
    if ready == "True" {
        status["sandbox"] = json!({ "name": "pool-x1" });
    }
    object(Kind::Claim, "c1", metadata, json!({ "spec": { "warmPoolRef": { "name": "pool" } }, "status": status }))
}

fn text(metrics: &Metrics) -> String {
    String::from_utf8(metrics.text().unwrap()).unwrap()
}

fn lines<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
    text.lines().filter(|line| line.starts_with(start)).collect()
}

#[test]
fn sandboxes_that_are_not_isolated_are_counted_by_namespace() {
    let metrics = Metrics::new().unwrap();
    metrics.leading(true);
    let sandbox = |name: &str, problem: Option<&str>| {
        let spec = json!({ "podTemplate": { "spec": { "containers": [{ "name": "c", "image": "i" }] } } });
        let status = json!({ "isolation": { "generatedCode": true, "problem": problem } });
        object(Kind::Sandbox, name, json!({}), json!({ "spec": spec, "status": status }))
    };
    let family = "paddock_sandboxes_not_isolated";
    for (what, changed, expected) in [
        ("isolated", sandbox("a", None), None),
        ("one", sandbox("a", Some("hostPath")), Some(1)),
        ("two", sandbox("b", Some("no RuntimeClass")), Some(2)),
        ("one again", sandbox("a", None), Some(1)),
        ("none", sandbox("b", None), None),
    ] {
        metrics.applied(&changed, Timestamp::now());
        let text = text(&metrics);
        let line = expected.map(|n| format!("{family}{{namespace=\"ns\"}} {n}"));
        assert_eq!(lines(&text, &format!("{family}{{")), line.iter().map(String::as_str).collect::<Vec<_>>(), "{what}");
    }
}

#[test]
fn sandboxes_are_counted_where_they_are_now() {
    let metrics = Metrics::new().unwrap();
    metrics.leading(true);
    metrics.applied(&warm(owner("SandboxWarmPool", "pool"), "False"), Timestamp::now());
    metrics.applied(&warm(owner("SandboxWarmPool", "pool"), "True"), Timestamp::now());
    let shown = text(&metrics);
    let line = lines(&shown, "agent_sandboxes{");
    assert!(matches!(&*line, [line] if line.contains("created_by=\"controller\"")), "{line:?}");
    metrics.applied(&warm(owner("SandboxClaim", "c1"), "True"), Timestamp::now());
    let shown = text(&metrics);
    assert_eq!(
        lines(&shown, "agent_sandboxes{"),
        ["agent_sandboxes{created_by=\"unknown\",expired=\"false\",launch_type=\"warm\",namespace=\"ns\",\
          operating_mode=\"Running\",owned_by=\"SandboxClaim\",ready_condition=\"true\",sandbox_template=\"python\"} 1"]
    );
    metrics.deleted(&warm(json!([]), "True"));
    assert!(lines(&text(&metrics), "agent_sandboxes{").is_empty());
}

#[test]
fn a_list_replaces_what_was_counted() {
    let metrics = Metrics::new().unwrap();
    metrics.leading(true);
    metrics.listed(Kind::Sandbox, &[warm(json!([]), "True")]);
    assert_eq!(lines(&text(&metrics), "agent_sandboxes{").len(), 1);
    metrics.listed(Kind::Pod, &[]);
    assert_eq!(lines(&text(&metrics), "agent_sandboxes{").len(), 1);
    metrics.listed(Kind::Sandbox, &[]);
    assert!(lines(&text(&metrics), "agent_sandboxes{").is_empty());
}

#[test]
fn a_warm_claim_is_counted_and_timed_once() {
    let metrics = Metrics::new().unwrap();
    metrics.leading(true);
    metrics.applied(&warm(owner("SandboxWarmPool", "pool"), "True"), Timestamp::now());
    metrics.applied(&claim("False"), Timestamp::now());
    for _ in 0..2 {
        metrics.applied(&warm(owner("SandboxClaim", "c1"), "True"), Timestamp::now());
        metrics.applied(&claim("True"), Timestamp::now());
    }
    let shown = text(&metrics);
    assert_eq!(
        lines(&shown, "agent_sandbox_claim_creation_total{"),
        ["agent_sandbox_claim_creation_total{created_by=\"python-client\",launch_type=\"warm\",namespace=\"ns\",\
          pod_condition=\"ready\",sandbox_template=\"python\",warmpool_name=\"pool\"} 1"]
    );
    for family in ["claim_startup", "claim_controller_startup"] {
        let name =
            format!("agent_sandbox_{family}_latency_ms_count{{launch_type=\"warm\",sandbox_template=\"python\"}} 1");
        assert!(shown.contains(&name), "{name}\n{shown}");
    }
    assert!(lines(&shown, "agent_sandbox_client_claim_startup_latency_ms_count").is_empty());
    // The form of Go's client.
    assert!(shown.contains("le=\"240000\"") && shown.contains("le=\"+Inf\""), "{shown}");
}

fn pool(name: &str) -> Object {
    let spec = json!({ "replicas": 1, "sandboxTemplateRef": { "name": "python" } });
    object(Kind::Pool, name, json!({}), json!({ "spec": spec }))
}

#[test]
fn pools_of_one_template_have_counters_of_their_own_until_they_are_deleted() {
    let metrics = Metrics::new().unwrap();
    metrics.leading(true);
    let (small, large) = (pool("small"), pool("large"));
    for pool in [&small, &large] {
        metrics.applied(pool, Timestamp::now());
    }
    let start = |kind, pools: &[&Object]| ClaimStart { kind, pools: pools.iter().map(|p| p.key.clone()).collect() };
    metrics.claim_arrived(&[small.key.clone(), large.key.clone()]);
    metrics.claim_arrived(&[large.key.clone(), pool("absent").key]);
    metrics.claim_started(&start(StartKind::Warm, &[&large]));
    metrics.claim_started(&start(StartKind::NoneReady, &[&small, &large, &pool("absent")]));
    let shown = text(&metrics);
    let of = |pool: &str, start: &str, count: u32| {
        let line = format!("paddock_pool_claims_total{{namespace=\"ns\",pool=\"{pool}\",start=\"{start}\"}} {count}");
        assert!(shown.lines().any(|l| l == line), "{line} is not in:\n{shown}");
    };
    of("large", "warm", 1);
    of("large", "none-ready", 1);
    of("small", "warm", 0);
    of("small", "none-ready", 1);
    of("small", "take-refused", 0);
    assert_eq!(
        lines(&shown, "paddock_pool_arrivals_total{"),
        [
            "paddock_pool_arrivals_total{namespace=\"ns\",pool=\"large\"} 2",
            "paddock_pool_arrivals_total{namespace=\"ns\",pool=\"small\"} 1",
        ]
    );
    metrics.deleted(&large);
    let shown = text(&metrics);
    assert!(!shown.contains("pool=\"large\"") && shown.contains("pool=\"small\""), "{shown}");
}

#[test]
fn arrivals_are_counted_by_the_leader_alone() {
    let metrics = Metrics::new().unwrap();
    metrics.applied(&pool("p"), Timestamp::now());
    metrics.claim_arrived(&[pool("p").key]);
    let count = || lines(&text(&metrics), "paddock_pool_arrivals_total{").join(",");
    assert_eq!(count(), "paddock_pool_arrivals_total{namespace=\"ns\",pool=\"p\"} 0");
    metrics.leading(true);
    metrics.claim_arrived(&[pool("p").key]);
    assert_eq!(count(), "paddock_pool_arrivals_total{namespace=\"ns\",pool=\"p\"} 1");
}

#[test]
fn only_the_leader_times_and_shows_the_cluster() {
    let metrics = Metrics::new().unwrap();
    metrics.applied(&claim("False"), Timestamp::now());
    metrics.applied(&warm(owner("SandboxClaim", "c1"), "True"), Timestamp::now());
    metrics.applied(&claim("True"), Timestamp::now());
    let shown = text(&metrics);
    assert!(lines(&shown, "agent_sandboxes{").is_empty());
    assert!(lines(&shown, "agent_sandbox_claim_").is_empty(), "{shown}");
    assert!(shown.contains("paddock_leader 0"));
    // Objects from before the leadership are counted and not timed.
    metrics.leading(true);
    metrics.applied(&claim("True"), Timestamp::now());
    let shown = text(&metrics);
    assert_eq!(lines(&shown, "agent_sandboxes{").len(), 1);
    assert!(lines(&shown, "agent_sandbox_claim_startup").is_empty());
}

#[test]
fn every_upstream_bucket_is_kept() {
    let metrics = Metrics::new().unwrap();
    metrics.leading(true);
    metrics.applied(&warm(owner("SandboxClaim", "c1"), "True"), Timestamp::now());
    metrics.applied(&claim("True"), Timestamp::now());
    let shown = text(&metrics);
    for bucket in [100, 250, 500, 750, 1000, 1250, 1500, 2000, 2500, 5000, 10000, 30000, 60000, 120_000, 240_000] {
        let line = format!(
            "agent_sandbox_claim_startup_latency_ms_bucket{{launch_type=\"warm\",sandbox_template=\"python\",le=\"{bucket}\"}}"
        );
        assert!(shown.contains(&line), "{line}");
    }
    for bucket in [50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 120_000, 240_000, 300_000, 600_000] {
        assert!(
            lines(&shown, "agent_sandbox_creation_latency_ms_bucket")
                .iter()
                .any(|l| l.contains(&format!("le=\"{bucket}\""))),
            "{bucket}"
        );
    }
}

#[test]
fn what_users_name_does_not_add_up() {
    let metrics = Metrics::new().unwrap();
    metrics.leading(true);
    let made_of = |template: &str, sandbox: &str| {
        let mut made = warm(owner("SandboxWarmPool", "pool"), "True");
        made.key.name = sandbox.into();
        let annotation = ("agents.x-k8s.io/sandbox-template-ref".to_owned(), template.to_owned());
        made.meta.annotations = BTreeMap::from([annotation]).into();
        made
    };
    for n in 0..2 * super::TEMPLATES {
        let sandbox = made_of(&format!("t{n}"), &format!("s{n}"));
        metrics.applied(&sandbox, Timestamp::now());
        metrics.deleted(&sandbox);
    }
    let shown = text(&metrics);
    let series = lines(&shown, "agent_sandbox_creation_latency_ms_count");
    // One namespace leaves some of the places for others.
    let named = series.len() - 1;
    assert!(named < super::TEMPLATES && named > super::TEMPLATES * 8 / 10, "{named}");
    let others = 2 * super::TEMPLATES - named;
    assert!(series.iter().any(|line| line.contains("__other__") && line.ends_with(&format!(" {others}"))));

    metrics.applied(&claim("True"), Timestamp::now());
    assert_eq!(lines(&text(&metrics), "agent_sandbox_claim_startup_latency_ms_count").len(), 1);

    metrics.applied(&made_of("t0", "taken"), Timestamp::now());
    metrics.applied(&claim("False"), Timestamp::now());
    let mut taken = made_of("t0", "taken");
    taken.meta.controller = warm(owner("SandboxClaim", "c1"), "True").meta.controller;
    metrics.applied(&taken, Timestamp::now());
    assert_eq!(lines(&text(&metrics), "agent_sandbox_claim_creation_total").len(), 1);
    let mut namespace = object(Kind::Namespace, "ns", json!({}), json!({}));
    namespace.key = paddock_api::kind::Key::new(Kind::Namespace, "", "ns");
    metrics.deleted(&namespace);
    let shown = text(&metrics);
    assert!(lines(&shown, "agent_sandbox_creation_latency_ms").is_empty(), "{shown}");
    assert!(lines(&shown, "agent_sandbox_claim_creation_total").is_empty(), "{shown}");
    // These series have no label for the namespace. They belong to the templates of the namespace.
    assert!(!lines(&shown, "agent_sandbox_claim_startup").iter().any(|line| line.contains("\"t0\"")), "{shown}");
}

#[test]
fn the_series_of_a_template_end_with_the_last_namespace_that_uses_it() {
    let metrics = Metrics::new().unwrap();
    metrics.leading(true);
    metrics.applied(&warm(owner("SandboxClaim", "c1"), "True"), Timestamp::now());
    metrics.applied(&claim("True"), Timestamp::now());
    let count = || lines(&text(&metrics), "agent_sandbox_claim_startup_latency_ms_count").len();
    assert_eq!(count(), 1);
    let delete = |name: &str| {
        let mut namespace = object(Kind::Namespace, name, json!({}), json!({}));
        namespace.key = paddock_api::kind::Key::new(Kind::Namespace, "", name);
        metrics.deleted(&namespace);
    };
    let mut elsewhere = warm(json!([]), "True");
    elsewhere.key.namespace = "other".into();
    metrics.applied(&elsewhere, Timestamp::now());
    delete("ns");
    assert_eq!(count(), 1);
    delete("other");
    assert_eq!(count(), 0);
}
