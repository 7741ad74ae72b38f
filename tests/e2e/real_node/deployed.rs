//! The manifests of `deploy/` with the operator in its own pods: its image, its rights, its probes, and the webhook by
//! its Service.

use std::time::Instant;

use paddock_cluster::{AGENT_IMAGE, BUSYBOX_IMAGE, Cluster, Options, PATIENCE, eventually_some};
use serde_json::{Value, json};

use super::super::json::{ready, text};
use super::super::kinds::{POD, SANDBOX};
use super::super::manifests::object;
use super::super::namespace::{Objects, TestNamespace};
use super::super::operator::{ACCOUNT, NAMESPACE};
use super::super::programs;
use super::seed;
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![deploy_runs_the_operator_in_its_pods]
}

async fn deploy_runs_the_operator_in_its_pods() {
    // The build is first, because it takes longest and can fail.
    let program = programs::paddock().await;
    let cluster = Cluster::start(Options::default().with_node()).await.expect("a cluster with a node");
    cluster.add_program_image("paddock:v0.1.0", &program).await.expect("the image of the operator");
    let kubectl = cluster.kubectl();
    let began = Instant::now();
    kubectl.run(&["apply", "--server-side", "-k", root!("deploy")], None).await.expect("deploy/ is applied");
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

    // No container was restarted, and the log can be read and reports no error. The operator has two pods and so does
    // the gateway, whose autoscaler adds the second one after a while.
    let all_ready = |pods: &Objects| pods.len() >= 4 && pods.values().all(ready);
    for (name, pod) in operator.until_all(POD, "all four run", all_ready).await {
        assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], json!(0), "{name}");
        assert_eq!(pod["status"]["phase"], Value::from("Running"), "{name}");
        let log = operator.kubectl(&["logs", &name], None).await.expect("its log");
        assert!(!log.contains("\"level\":\"ERROR\""), "{log}");
    }
    cluster.stop();
}
