//! The largest objects that an API server stores, beside an operator and its webhook.
//!
//! The control plane is the test's own: it begins with an older schema, which has no limits. The large Sandboxes are in
//! kube-system, for which no webhook is called, so they are stored as the schema alone decides.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use paddock_cluster::{Options, Process};
use serde_json::{Map, Value, json};

use super::json::name;
use super::kinds::SANDBOX;
use super::latency::claim_latency;
use super::manifests::{claim, pool, sandbox, template};
use super::namespace::TestNamespace;
use super::operator::{self, Operator, Plan};
use super::pool::filled;
use super::setup;
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![large_objects_cost_little_memory_and_delay_no_claim]
}

/// The number of Sandboxes of each kind of schema.
const STORED: usize = 20;
/// The number of creations at the same time.
const AT_ONCE: usize = 8;
/// The number of claims of which a median is taken.
const CLAIMS: usize = 7;
/// The resident memory that all large objects together may cost, in bytes.
const GROWTH_MAX: u64 = 100_000_000;
/// The bytes of a large object. An API server stores at most 1.5 MiB.
const LARGE: usize = 1_400_000;
/// The bytes that each admitted object has at least. The shape `small-maps` is as large as the budget of an object.
const LARGE_MIN: usize = 1_000_000;

/// A suspended Sandbox with these fields in its pod.
fn large(shape: &str, number: usize, container: &Value, pod: Value) -> Value {
    let mut spec = json!({ "containers": [container] });
    super::manifests::merge(&mut spec, &pod);
    let with = json!({ "operatingMode": "Suspended", "replicas": 0, "podTemplate": { "spec": spec } });
    sandbox(&format!("{shape}-{number}"), with)
}

/// The name of a shape, and its object of a number.
type Shape = (&'static str, Box<dyn Fn(usize) -> Value>);

/// Each shape that the schema admits, and in which an object reaches its largest size.
fn admitted() -> [Shape; 4] {
    let args = |args: Value| json!({ "name": "agent", "image": "agent:1", "args": args });
    let long_value = args(json!(["x".repeat(LARGE)]));
    let many_values = args(json!(vec!["12345"; LARGE / 8]));
    // The API server records a manager of each variable, which takes more than the variable.
    let variables = |container| {
        let variable = |n| json!({ "name": format!("V{n:03}"), "value": "v" });
        json!({
            "name": format!("agent-{container}"), "image": "agent:1",
            "env": (0..900).map(variable).collect::<Vec<_>>(),
        })
    };
    let managed = json!({ "containers": (0..18).map(variables).collect::<Vec<_>>() });
    [
        ("long-value", Box::new(move |n| large("long-value", n, &long_value, json!({})))),
        ("many-values", Box::new(move |n| large("many-values", n, &many_values, json!({})))),
        ("small-maps", Box::new(small_maps)),
        ("managed-fields", Box::new(move |n| large("managed-fields", n, &Value::Null, managed.clone()))),
    ]
}

/// A Sandbox with as many labels in its volume claims as fit into the budget of an object. The labels of two Sandboxes
/// differ, so that no two share their memory.
fn small_maps(number: usize) -> Value {
    let labels = |claim: usize| -> Value {
        (0..100).map(|n| (format!("{n:02}{}", number % 10), claim.to_string().into())).collect::<Map<_, _>>().into()
    };
    let claim = |n: usize| {
        json!({
            "metadata": { "name": format!("v{n:03}"), "labels": labels(n) },
            "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
        })
    };
    let claims: Vec<Value> = (0..800).map(claim).collect();
    let container = json!({ "name": "agent", "image": "agent:1" });
    let mut object = large("small-maps", number, &container, json!({}));
    object["spec"]["volumeClaimTemplates"] = claims.into();
    object
}

/// A Sandbox that only the older schema admits: every second one has many labels, and the others many volumes.
fn outdated(number: usize) -> Value {
    if number % 2 == 1 { many_labels(number) } else { many_volumes(number) }
}

/// Labels of three characters. As a map of texts, each would take ten times its JSON. The API server records a manager of
/// each.
fn many_labels(number: usize) -> Value {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let label =
        |n: usize| -> String { [n / 1296, n / 36, n].map(|n| char::from(DIGITS[n % 36])).into_iter().collect() };
    let labels: Map<String, Value> = (0..46_000).map(|n| (label(n), number.to_string().into())).collect();
    let mut object = large("outdated", number, &json!({ "name": "agent", "image": "agent:1" }), json!({}));
    object["spec"]["podTemplate"]["metadata"] = json!({ "labels": labels });
    object
}

/// A Sandbox that only the older schema admits. The first two have the smallest volumes, each of which would take a
/// hundred times its JSON as a part of a Pod. An API server needs seconds for them, so the others have longer ones.
fn many_volumes(number: usize) -> Value {
    let (count, source) = match number {
        0 | 2 => (LARGE / 34, json!({})),
        _ => (2000, json!({ "medium": "x".repeat(660) })),
    };
    let volume = |n| json!({ "name": format!("v{n:05}"), "emptyDir": source });
    let volumes: Vec<Value> = (0..count).map(volume).collect();
    let container = json!({ "name": "agent", "image": "agent:1" });
    large("outdated", number, &container, json!({ "volumes": volumes }))
}

/// Our CRD of Sandboxes as an older version may have had it: without limits and rules.
fn older_schema() -> String {
    let text = std::fs::read_to_string(root!("crds/agents.x-k8s.io_sandboxes.yaml")).expect("the CRD");
    let mut crd: Value = serde_yaml_ng::from_str(&text).expect("YAML");
    without_limits(&mut crd);
    crd.to_string()
}

fn without_limits(schema: &mut Value) {
    const LIMITS: [&str; 4] = ["maxItems", "maxLength", "maxProperties", "x-kubernetes-validations"];
    match schema {
        Value::Object(fields) => {
            fields.retain(|name, _| !LIMITS.contains(&name.as_str()));
            fields.values_mut().for_each(without_limits);
        }
        Value::Array(list) => list.iter_mut().for_each(without_limits),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The most resident memory of a process since the start of the samples, in bytes.
#[derive(Clone, Default)]
struct Peak(Arc<AtomicU64>);

impl Peak {
    /// Samples the memory of a process until the future is dropped.
    async fn sample(&self, process: &Process) {
        loop {
            self.0.fetch_max(process.resident_bytes().unwrap_or_default(), Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn megabytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed) / 1_000_000
    }
}

/// The median of the milliseconds in which a claim becomes Ready, one claim at a time. The names begin with `prefix`.
async fn median(ns: &TestNamespace, prefix: &str) -> f64 {
    let mut times = Vec::new();
    for number in 0..CLAIMS {
        times.push(claim_latency(ns, claim(&format!("{prefix}-{number}"), "p", json!({}))).await.1);
    }
    times.sort_unstable_by(f64::total_cmp);
    times[CLAIMS / 2]
}

/// Creates objects as dry runs, so many at a time. The webhook may refuse them.
async fn try_all(ns: &TestNamespace, make: &dyn Fn(usize) -> Value) -> Vec<kube::Result<Value>> {
    let tries = (0..AT_ONCE).map(|number| {
        let object = make(number);
        async move { ns.dry_run(&object).await }
    });
    futures::stream::iter(tries).buffer_unordered(AT_ONCE).collect().await
}

async fn large_objects_cost_little_memory_and_delay_no_claim() {
    let (cluster, account) = setup::control_plane(Options::default()).await;
    let plan = Plan { name: "operator", kubeconfig: &account, flags: operator::admitting(&cluster) };
    let operator = Operator::start(&cluster, plan).await;

    let ns = TestNamespace::new(&cluster, "honest").await;
    ns.create(template("t", json!({}))).await;
    let size = i64::try_from(4 * CLAIMS).expect("a small number");
    let made = ns.create(pool("p", "t", json!({ "replicas": size }))).await;
    filled(&ns, &made, 4 * CLAIMS).await;
    let alone = median(&ns, "alone").await;
    filled(&ns, &made, 4 * CLAIMS).await;

    let before = operator.process.resident_bytes().expect("a process");
    let peak = Peak::default();
    let watched = peak.clone();
    let process = operator.process.clone();
    let sampler = tokio::spawn(async move { watched.sample(&process).await });

    // The older schema is in force while the outdated Sandboxes are created, and the present one from then on.
    let hostile = TestNamespace::existing(&cluster, "kube-system");
    let apply = ["apply", "--server-side", "-f", "-"];
    cluster.kubectl().run(&apply, Some(&older_schema())).await.expect("an older schema");
    let stored = |object: Value| {
        let hostile = &hostile;
        async move { hostile.create(object).await }
    };
    paddock_cluster::eventually("the older schema is in force", async || hostile.dry_run(&outdated(4)).await.is_ok())
        .await;
    for number in 0..STORED {
        stored(outdated(number)).await;
    }
    println!("outdated: {} MB", peak.megabytes());
    setup::install(&cluster).await;
    paddock_cluster::eventually("the present schema is in force", async || {
        hostile.dry_run(&outdated(4)).await.is_err()
    })
    .await;
    println!("present schema: {} MB", peak.megabytes());
    let shapes = admitted();
    for number in 0..STORED {
        let (_, make) = &shapes[number % shapes.len()];
        let object = stored(make(number)).await;
        let bytes = object.to_string().len();
        assert!(bytes > LARGE_MIN, "{} has only {bytes} bytes", name(&object));
    }
    paddock_cluster::eventually("each has a status", async || {
        // The table of kubectl has no objects in it, so it is read in a moment.
        let table = hostile.kubectl(&["get", "sandboxes.v1beta1.agents.x-k8s.io", "--no-headers"], None).await;
        // A busy API server may need longer than its own timeout.
        let Ok(table) = table else { return false };
        let reported = |line: &str| ["ReconcilerError", "SandboxSuspended"].iter().any(|reason| line.contains(reason));
        table.lines().count() == 2 * STORED && table.lines().all(reported)
    })
    .await;
    for sandbox in ["outdated-0", "outdated-1", "long-value-0", "many-values-1", "small-maps-2", "managed-fields-3"] {
        let changed = hostile.merge(SANDBOX, sandbox, json!({ "metadata": { "labels": { "changed": "yes" } } })).await;
        assert_eq!(changed["metadata"]["labels"], json!({ "changed": "yes" }));
    }
    println!("stored: {} MB, and {} MB before", peak.megabytes(), before / 1_000_000);

    // Everybody tries all shapes at the same time, again and again, while honest claims are served.
    let hostile = TestNamespace::new(&cluster, "hostile").await;
    let makers: Vec<&dyn Fn(usize) -> Value> =
        shapes.iter().map(|(_, make)| &**make).chain([&outdated as &dyn Fn(usize) -> Value]).collect();
    let tries = async {
        let mut answers = 0;
        loop {
            for make in &makers {
                answers += try_all(&hostile, *make).await.len();
            }
            println!("{answers} tries: {} MB", peak.megabytes());
        }
    };
    let beside = tokio::select! {
        beside = median(&ns, "beside") => beside,
        () = tries => unreachable!("the tries do not end"),
    };
    println!("a claim is Ready in {alone:.0} ms alone and in {beside:.0} ms beside large objects (medians)");

    // A start with all of them is the other moment at which they are read.
    operator.process.kill().await.expect("it ends");
    operator.process.restart().await.expect("it starts again");
    operator.ready().await;
    let after = median(&ns, "after").await;
    println!("after a start: {after:.0} ms, {} MB", peak.megabytes());
    sampler.abort();
    // The API server itself is slower while it handles large objects, and this test shares its processors.
    assert!(beside < 10.0 * alone + 1000.0, "{beside} ms beside large objects, and {alone} ms alone");
    assert!(after < 5.0 * alone + 1000.0, "{after} ms after a start, and {alone} ms alone");
    let growth = peak.0.load(Ordering::Relaxed).saturating_sub(before);
    assert!(growth < GROWTH_MAX, "{growth} bytes more than {before}");
}
