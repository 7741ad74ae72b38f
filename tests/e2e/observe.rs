//! The operator's observability: metrics, debug endpoints, Events and probes.

use std::collections::BTreeSet;
use std::time::Instant;

use paddock_cluster::{eventually, eventually_some};
use serde_json::{Value, json};

use super::faults::{alone, faults};
use super::http;
use super::json::{ready, text, uid};
use super::kinds::{CLAIM, EVENT, SANDBOX};
use super::manifests::{claim, pool, sandbox, template};
use super::namespace::TestNamespace;
use super::operator::{self, Operator, Plan};
use super::pool::filled;
use super::setup::{namespace, setup};
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![
        dashboards_find_upstreams_metrics,
        a_scrape_does_not_ask_the_api_server,
        debug_endpoint_shows_snapshot_and_plan,
        probes_answer,
        secure_metrics_are_for_users_with_the_right,
        cold_start_is_reported_as_event,
    ]
}

/// The metrics of the wire contract, with the labels that a series must have.
const UPSTREAM: [(&str, &[&str]); 7] = [
    ("agent_sandbox_claim_startup_latency_ms_bucket", &["launch_type", "sandbox_template", "le"]),
    ("agent_sandbox_claim_controller_startup_latency_ms_bucket", &["launch_type", "sandbox_template", "le"]),
    ("agent_sandbox_client_claim_startup_latency_ms_bucket", &["launch_type", "sandbox_template", "le"]),
    ("agent_sandbox_creation_latency_ms_bucket", &["namespace", "launch_type", "sandbox_template", "le"]),
    (
        "agent_sandbox_claim_creation_total",
        &["namespace", "sandbox_template", "launch_type", "warmpool_name", "pod_condition", "created_by"],
    ),
    (
        "agent_sandboxes",
        &[
            "namespace",
            "ready_condition",
            "expired",
            "launch_type",
            "sandbox_template",
            "owned_by",
            "created_by",
            "operating_mode",
        ],
    ),
    (
        "agent_sandbox_build_info",
        &["git_version", "git_commit", "build_date", "go_version", "compiler", "platform", "implementation"],
    ),
];

const CLAIM_BUCKETS: [&str; 15] = [
    "100", "250", "500", "750", "1000", "1250", "1500", "2000", "2500", "5000", "10000", "30000", "60000", "120000",
    "240000",
];

const CREATION_BUCKETS: [&str; 14] = [
    "50", "100", "250", "500", "1000", "2500", "5000", "10000", "30000", "60000", "120000", "240000", "300000",
    "600000",
];

/// One warm claim, whose client writes the time of its request.
async fn one_claim(ns: &TestNamespace) {
    ns.create(template("observed", json!({}))).await;
    let made = ns.create(pool("p", "observed", json!({ "replicas": 1 }))).await;
    filled(ns, &made, 1).await;
    let mut task = claim("task", "p", json!({}));
    let asked = jiff::Timestamp::now().to_string();
    task["metadata"]["annotations"] = json!({ "agents.x-k8s.io/client-first-requested-at": asked });
    ns.create(task).await;
    ns.until(CLAIM, "task", "Ready", ready).await;
}

async fn dashboards_find_upstreams_metrics() {
    let ns = namespace("metrics").await;
    one_claim(&ns).await;
    // The metrics also count the claims of other tests. This claim is counted when the watch delivers its Ready.
    let mine = format!("namespace=\"{}\"", ns.namespace);
    let is_mine = |l: &&str| l.starts_with("agent_sandbox_claim_creation_total") && l.contains(&mine);
    let of_pool = [
        format!("paddock_pool_arrivals_total{{{mine},pool=\"p\"}} 1"),
        format!("paddock_pool_claims_total{{{mine},pool=\"p\",start=\"warm\"}} 1"),
    ];
    let text = eventually_some("every series is there, and the claim is counted", async || {
        let text = setup().await.operator.metrics().await;
        let there = |name: &str| text.lines().any(|l| l.split(['{', ' ']).next() == Some(name));
        let counted = of_pool.iter().all(|series| text.lines().any(|l| l == series));
        let all = UPSTREAM.iter().all(|(name, _)| there(name)) && text.lines().any(|l| is_mine(&l)) && counted;
        if all { Ok(text) } else { Err(text) }
    })
    .await;
    for (name, labels) in UPSTREAM {
        let series: Vec<&str> = text.lines().filter(|l| l.split(['{', ' ']).next() == Some(name)).collect();
        assert!(!series.is_empty(), "no {name} in:\n{text}");
        for label in labels {
            assert!(series.iter().all(|s| s.contains(&format!("{label}=\""))), "{name} has no {label}: {series:?}");
        }
    }
    for (family, buckets) in [
        ("agent_sandbox_claim_startup_latency_ms", &CLAIM_BUCKETS[..]),
        ("agent_sandbox_claim_controller_startup_latency_ms", &CLAIM_BUCKETS[..]),
        ("agent_sandbox_client_claim_startup_latency_ms", &CLAIM_BUCKETS[..]),
        ("agent_sandbox_creation_latency_ms", &CREATION_BUCKETS[..]),
    ] {
        let of_family = text.lines().filter(|l| l.starts_with(&format!("{family}_bucket")));
        let bounds: BTreeSet<&str> = of_family.filter_map(|l| l.split("le=\"").nth(1)?.split('"').next()).collect();
        for bucket in buckets {
            assert!(bounds.contains(bucket), "{family} has no bucket {bucket}: {bounds:?}");
        }
        assert!(bounds.contains("10"), "{family} has finer ones: {bounds:?}");
    }
    let created = text.lines().find(is_mine).expect("it was just there");
    for label in ["launch_type=\"warm\"", "warmpool_name=\"p\"", "sandbox_template=\"observed\""] {
        assert!(created.contains(label), "{created}");
    }
}

/// Uses the control plane that one test at a time uses, because it pauses the API server.
async fn a_scrape_does_not_ask_the_api_server() {
    let (faults, _alone) = faults().await;
    let ns = TestNamespace::new(&faults.cluster, "scrape").await;
    let operator = alone(faults, &ns, &faults.account).await;
    let mut times = Vec::new();
    for _ in 0..20 {
        let began = Instant::now();
        operator.metrics().await;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    println!("a scrape takes {:?} (median of 20), {:?} at the most", times[10], times[19]);
    // While the API server is paused, a scrape that lists objects would not end.
    let server = faults.cluster.process("kube-apiserver").unwrap();
    server.pause().await.unwrap();
    let answer = http::get(operator.metrics, "/metrics").await;
    server.resume().await.unwrap();
    operator.process.kill().await.unwrap();
    assert_eq!(answer.expect("an answer without the API server").0, 200);
}

async fn debug_endpoint_shows_snapshot_and_plan() {
    let ns = namespace("seen").await;
    ns.create(sandbox("watched", json!({}))).await;
    ns.until(SANDBOX, "watched", "Ready", ready).await;
    let debug = setup().await.operator.debug;
    let path = format!("/debug/seen/Sandbox/{}/watched", ns.namespace);
    let (status, body) = http::get(debug, &path).await.expect("an answer");
    assert_eq!(status, 200, "{body}");
    let shown: Value = serde_json::from_str(&body).unwrap();
    let made = ns.get(SANDBOX, "watched").await;
    assert_eq!(text(&shown, "/seen/Sandbox/sandbox/meta/uid"), uid(&made), "{body}");
    assert!(shown["last"]["planned"].is_array() && shown["last"]["answered"].is_array(), "{body}");
    // The resource in the path has the name that kubectl uses.
    let path = format!("/debug/seen/sandboxes.agents.x-k8s.io/{}/watched", ns.namespace);
    let (_, body) = http::get(debug, &path).await.expect("an answer");
    let shown: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(text(&shown, "/seen/Sandbox/sandbox/meta/uid"), uid(&made), "{body}");
    let (status, body) = http::get(debug, &format!("/debug/seen/Tractor/{}/watched", ns.namespace)).await.unwrap();
    assert!(status == 404 && body.contains("must be one of"), "{status}: {body}");
}

async fn probes_answer() {
    let operator = &setup().await.operator;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(http::get(operator.health, path).await.expect("an answer").0, 200, "{path}");
    }
    // The OpenAPI documents of the API server have every field of the installed definitions.
    let installed = paddock_api::crd::all().into_iter().map(|definition| definition.spec);
    let complete: BTreeSet<String> = installed
        .map(|spec| format!("paddock_crd_fields_missing{{kind=\"{}.{}\"}} 0", spec.names.kind, spec.group))
        .collect();
    eventually_some("no kind lacks a field", async || {
        let text = operator.metrics().await;
        let of_family = text.lines().filter(|line| line.starts_with("paddock_crd_fields_missing{"));
        let compared: BTreeSet<String> = of_family.map(str::to_owned).collect();
        if compared == complete { Ok(()) } else { Err(format!("{compared:?}")) }
    })
    .await;
    let (_, verbose) = http::get(operator.health, "/readyz?verbose").await.expect("an answer");
    assert!(!verbose.contains("CustomResourceDefinitions"), "{verbose}");
}

async fn cold_start_is_reported_as_event() {
    let ns = namespace("events").await;
    ns.create(template("t", json!({}))).await;
    ns.create(pool("p", "t", json!({ "replicas": 0 }))).await;
    ns.create(claim("cold", "p", json!({}))).await;
    ns.until(CLAIM, "cold", "Ready", ready).await;
    let events = ns
        .until_all(EVENT, "one of the cold start", |all| all.values().any(|e| text(e, "/reason") == "ColdStart"))
        .await;
    let event = events.values().find(|e| text(e, "/reason") == "ColdStart").unwrap();
    assert_eq!((text(event, "/regarding/kind"), text(event, "/regarding/name")), ("SandboxClaim", "cold"));
    assert_eq!(text(event, "/type"), "Normal");
    assert!(!text(event, "/note").is_empty());
}

/// The API server authenticates and authorizes the readers. The operator has the rights of its ServiceAccount, and the
/// ClusterRole for readers is that of `deploy/`.
async fn secure_metrics_are_for_users_with_the_right() {
    let cluster = &setup().await.cluster;
    let ns = namespace("readers").await;
    let granted = format!("--served-namespace={}", ns.namespace);
    let account = operator::rights_with(cluster, &["--webhook=off", &granted]).await;
    // API servers learn rights through a watch of their own. An operator that starts earlier is refused requests. Its other
    // rights are those of the shared operator, which has the same ServiceAccount.
    let seen = ns.seen_by(&account).await;
    let policies = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
    let policy = format!("{policies}/paddock-leases.{}", ns.namespace);
    eventually("the rights of the mode are in force", async || seen.read(&policy).await.is_ok()).await;
    let flags = vec![
        "--leader-elect=false".to_owned(),
        format!("--namespace={}", ns.namespace),
        "--webhook-bind-address=0".to_owned(),
        "--metrics-secure".to_owned(),
    ];
    let secured = Operator::start(cluster, Plan { name: "secured", kubeconfig: &account, flags }).await;
    let kubectl = cluster.kubectl();
    let run = async |args: &[&str]| kubectl.run(args, None).await.expect("kubectl succeeds");
    let mut tokens = Vec::new();
    for name in ["reader", "stranger"] {
        run(&["-n", &ns.namespace, "create", "serviceaccount", name]).await;
        tokens.push(run(&["-n", &ns.namespace, "create", "token", name]).await.trim().to_owned());
    }
    let reader = format!("--serviceaccount={}:reader", ns.namespace);
    run(&["create", "clusterrolebinding", &ns.namespace, "--clusterrole=paddock-metrics-reader", &reader]).await;

    let url: ::http::Uri = format!("https://127.0.0.1:{}", secured.metrics).parse().unwrap();
    let read = async |token: Option<&str>| {
        let mut config = kube::Config::new(url.clone());
        config.accept_invalid_certs = true;
        config.auth_info.token = token.map(|token| token.to_owned().into());
        let client = kube::Client::try_from(config).expect("a client");
        let request = ::http::Request::get("/metrics").body(Vec::new()).unwrap();
        match client.request_text(request).await {
            Ok(text) => Ok(text),
            Err(kube::Error::Api(status)) => Err(status.code),
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(read(None).await, Err(401));
    assert_eq!(read(Some("made-up")).await, Err(401));
    assert_eq!(read(Some(&tokens[1])).await, Err(403));
    // The authorizer receives the binding through a watch.
    let admitted = async || read(Some(&tokens[0])).await.map_err(|code| code.to_string());
    let text = eventually_some("the reader is admitted", admitted).await;
    assert!(text.contains("paddock_leader 1"), "{text}");
    assert!(http::get(secured.metrics, "/metrics").await.is_none_or(|(status, _)| status != 200), "without TLS");
}
