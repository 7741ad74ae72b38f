//! The manifests of `deploy/` with the operator and the gateway in their own pods: their image, their rights, their probes,
//! the webhook and the gateway by their Services, and TCP connections to suspended Sandboxes.

use std::net::SocketAddr;
use std::time::Instant;

use paddock_cluster::{AGENT_IMAGE, Agent, BUSYBOX_IMAGE, Cluster, Options, PATIENCE, eventually_some};
use serde_json::{Value, json};

use super::super::idle::fall_asleep;
use super::super::json::{ready, suspended, text};
use super::super::kinds::{POD, SANDBOX, SERVICE};
use super::super::manifests::object;
use super::super::namespace::{Objects, TestNamespace};
use super::super::operator::{ACCOUNT, NAMESPACE};
use super::super::programs;
use super::seed;
use crate::framework::Test;

/// The Service of the gateway, for which upstream's clients look.
const GATEWAY_SERVICE: &str = "sandbox-router-svc";
const GATEWAY_PORT: u16 = 8080;

pub(super) fn tests() -> Vec<Test> {
    named![deploy_runs_the_operator_and_the_gateway_in_their_pods]
}

/// Starts a cluster, and installs the manifests of a folder, with the image that they name. Returns when every Deployment
/// is ready.
pub(super) async fn installed(kustomization: &str) -> Cluster {
    // The build is first, because it takes longest and can fail.
    let program = programs::paddock().await;
    let cluster = Cluster::start(Options::default().with_node()).await.expect("a cluster with a node");
    cluster.add_program_image("paddock:v0.1.0", &program).await.expect("the image of the operator");
    let kubectl = cluster.kubectl();
    let began = Instant::now();
    kubectl.run(&["apply", "--server-side", "-k", kustomization], None).await.expect("the manifests are applied");
    let operator = TestNamespace::existing(&cluster, NAMESPACE);
    let timeout = format!("--timeout={}s", PATIENCE.as_secs());
    let deployments = operator.kubectl(&["get", "deployments", "-o", "name"], None).await.expect("a list");
    assert!(deployments.lines().any(|name| name.ends_with(&format!("/{ACCOUNT}"))), "{deployments}");
    for deployment in deployments.lines() {
        if let Err(error) = operator.kubectl(&["rollout", "status", deployment, &timeout], None).await {
            let pods = operator.kubectl_output(&["describe", "pods"], None).await;
            let logs = operator.kubectl_output(&["logs", deployment, "--tail=40"], None).await;
            panic!("{error}\n{pods}\n{logs}");
        }
        println!("{deployment} is ready {:?} after kubectl began", began.elapsed());
    }
    cluster
}

/// The address of the gateway's Service, which can be reached from this machine.
pub(super) async fn gateway(cluster: &Cluster) -> SocketAddr {
    let service = TestNamespace::existing(cluster, NAMESPACE).get(SERVICE, GATEWAY_SERVICE).await;
    let address = text(&service, "/spec/clusterIP").parse().expect("an address");
    SocketAddr::new(address, GATEWAY_PORT)
}

async fn deploy_runs_the_operator_and_the_gateway_in_their_pods() {
    let cluster = installed(root!("deploy")).await;
    let operator = TestNamespace::existing(&cluster, NAMESPACE);

    // The API server calls the webhook at the address of its Service.
    let ns = TestNamespace::new(&cluster, "deployed").await;
    let mut generated = object(POD, "generated", json!({ "containers": [{ "name": "a", "image": BUSYBOX_IMAGE }] }));
    generated["metadata"]["labels"] = json!({ "policy.paddock.dev/generated-code": "true" });
    let isolated =
        eventually_some("the webhook answers", async || ns.dry_run(&generated).await.map_err(|e| e.to_string()));
    assert_eq!(text(&isolated.await, "/spec/runtimeClassName"), "gvisor");

    let mut sample = seed::sample();
    sample["metadata"] = json!({ "name": "sample" });
    ns.create(sample).await;
    let sandbox = ns.until(SANDBOX, "sample", "Ready", ready).await;
    let agent = seed::agent_of(&sandbox).await;
    assert!(seed::output(&agent, "cat /proc/version").await.contains("gvisor"), "{AGENT_IMAGE}");
    a_request_with_a_token_resumes_the_sample(&cluster, &ns).await;

    // No container was restarted, and the log can be read and reports no error but those of a busy machine. The operator
    // has two pods and so does the gateway, whose autoscaler adds the second one after a while.
    let all_ready = |pods: &Objects| pods.len() >= 4 && pods.values().all(ready);
    for (name, pod) in operator.until_all(POD, "all four run", all_ready).await {
        assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], json!(0), "{name}");
        assert_eq!(pod["status"]["phase"], Value::from("Running"), "{name}");
        let log = operator.kubectl(&["logs", &name], None).await.expect("its log");
        let errors: Vec<&str> = log.lines().filter(|line| line.contains("\"level\":\"ERROR\"")).collect();
        assert!(errors.iter().all(|line| line.contains("the review took longer than")), "{errors:#?}");
    }
    super::tcp_wake::connections_are_never_refused(&cluster).await;
    cluster.stop();
}

/// The story of the seed with the rights of `deploy/` alone: a file, a suspend for idleness, and one request.
async fn a_request_with_a_token_resumes_the_sample(cluster: &Cluster, ns: &TestNamespace) {
    const FILE: &str = "notes/today.txt";
    const CONTENT: &str = "written before the suspend";
    for args in [
        "create serviceaccount user".to_owned(),
        "create role use --verb=create --resource=sandboxes.agents.x-k8s.io/proxy --resource-name=sample".to_owned(),
        format!("create rolebinding use --role=use --serviceaccount={}:user", ns.namespace),
    ] {
        ns.kubectl_output(&args.split(' ').collect::<Vec<_>>(), None).await;
    }
    let token = format!("Bearer {}", ns.kubectl_output(&["create", "token", "user"], None).await.trim());
    let gateway = gateway(cluster).await;
    let sandbox = [("X-Sandbox-ID", "sample"), ("X-Sandbox-Namespace", ns.namespace.as_str())];
    let stranger = Agent::behind(gateway, GATEWAY_SERVICE, &sandbox);
    let user = Agent::behind(gateway, GATEWAY_SERVICE, &[sandbox[0], sandbox[1], ("Authorization", &token)]);
    user.upload(FILE, CONTENT).await.expect("the file is written");
    fall_asleep(ns, "sample").await;
    let (status, body) = stranger.get("/").await.expect("an answer");
    assert_eq!(status, 401, "{body}");
    assert!(suspended(&ns.get(SANDBOX, "sample").await), "a client without a token resumes nothing");
    let began = Instant::now();
    assert_eq!(user.download(FILE).await.expect("the file"), CONTENT);
    println!("the first request after the suspend was answered after {:?}", began.elapsed());
    let sandbox = ns.until(SANDBOX, "sample", "Ready again", ready).await;
    assert_eq!(text(&sandbox, "/spec/operatingMode"), "Running");
}
