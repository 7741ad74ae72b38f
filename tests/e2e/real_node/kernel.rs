//! The kernel that a container sees, and what the operator and its plugins know of the node's runtimes.

use paddock_cluster::{BUSYBOX_IMAGE, eventually_some};
use serde_json::{Value, json};

use super::super::json::{message, ready, reason, text};
use super::super::kinds::{POD, SANDBOX};
use super::super::manifests::{marked, object, sandbox};
use super::namespace;
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![kernel_of_a_gvisor_pod_is_not_the_hosts, plugin_knows_that_gvisor_is_there_and_kata_is_not]
}

fn busybox() -> Value {
    json!({ "name": "agent", "image": BUSYBOX_IMAGE })
}

async fn kernel_of_a_gvisor_pod_is_not_the_hosts() {
    let ns = namespace("kernel").await;
    for class in ["runc", "gvisor"] {
        let spec = json!({
            "runtimeClassName": class,
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "agent",
                "image": BUSYBOX_IMAGE,
                "readinessProbe": { "tcpSocket": { "port": 8080 }, "periodSeconds": 1 },
            }],
        });
        ns.create(object(POD, class, spec)).await;
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("the release of the host's kernel");
    for (class, is_hosts) in [("runc", true), ("gvisor", false)] {
        ns.until(POD, class, "Ready", ready).await;
        let release = ns.kubectl(&["exec", class, "--", "uname", "-r"], None).await.expect("it runs");
        assert_eq!(release.trim() == host.trim(), is_hosts, "{class} has the kernel {release}");
    }
    // gVisor's own kernel writes its own messages.
    let messages = ns.kubectl(&["exec", "gvisor", "--", "dmesg"], None).await.expect("it runs");
    assert!(messages.contains("gVisor"), "{messages}");
    let logs = async || ns.kubectl(&["logs", "gvisor"], None).await.map_err(|e| e.to_string());
    eventually_some("the log of a container can be read", logs).await;
}

async fn plugin_knows_that_gvisor_is_there_and_kata_is_not() {
    let ns = namespace("classes").await;
    let kata = json!({
        "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
        "metadata": { "name": "kata" }, "handler": "kata",
    });
    ns.kubectl(&["apply", "-f", "-"], Some(&kata.to_string())).await.expect("a RuntimeClass");
    let pod = json!({ "spec": { "terminationGracePeriodSeconds": 1, "containers": [busybox()] } });
    // Nobody names a class for the generated code.
    ns.create(marked(sandbox("coder", json!({ "podTemplate": pod })))).await;
    let coder = ns.until(SANDBOX, "coder", "Ready", ready).await;
    assert_eq!(text(&coder, "/status/runtimeClass/name"), "gvisor");
    let release = ns.kubectl(&["exec", "coder", "--", "uname", "-r"], None).await.expect("it runs");
    let host = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("the release of the host's kernel");
    assert_ne!(release.trim(), host.trim());

    let pod = json!({ "spec": { "terminationGracePeriodSeconds": 1, "containers": [busybox()] } });
    for (class, told) in [
        ("kata", "runtimeClassName is \"kata\", which no ready node can run"),
        ("firecracker", "does not exist; there is gvisor (nodes: 1), kata (nodes: 0), runc (nodes: 1)"),
    ] {
        let mut pod = pod.clone();
        pod["spec"]["runtimeClassName"] = json!(class);
        ns.create(sandbox(class, json!({ "podTemplate": pod }))).await;
        let refused = ns.until(SANDBOX, class, "refused", |s| !reason(s, "Ready").is_empty() && !ready(s)).await;
        assert!(message(&refused, "Ready").contains(told), "{refused}");
        assert_eq!(ns.find(POD, class).await, None);
    }
}
