//! Upstream's clients, unmodified, with containers under gVisor behind the gateway of `deploy/overlays/upstream`.

use std::path::Path;

use paddock_cluster::{AGENT_IMAGE, Cluster, go_sdk_client};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::OnceCell;

use super::super::json::text;
use super::super::kinds::TEMPLATE;
use super::super::manifests::{object, pool};
use super::super::namespace::TestNamespace;
use super::super::pool::filled;
use super::super::sdk;
use super::deployed;
use crate::framework::{Capability, Test};

pub(super) fn tests() -> Vec<Test> {
    let python: Vec<Test> = named![the_python_sdk_uses_claimed_sandboxes_through_the_gateway];
    let go: Vec<Test> = named![the_go_client_uses_a_claimed_sandbox_through_the_gateway];
    let python = python.into_iter().map(|t| t.needs([Capability::Program("python3"), Capability::PythonVenv]));
    python.chain(go).collect()
}

/// The size of the large files in MiB. `PADDOCK_SDK_MIB=300` tests larger ones by hand.
const MIB: &str = "50";

/// A cluster with the manifests for users of upstream.
struct Upstream {
    cluster: Cluster,
    /// The URL of the gateway's Service.
    url: String,
}

/// The cluster that these tests share. It ends with the process.
async fn upstream() -> &'static Upstream {
    static UPSTREAM: OnceCell<Upstream> = OnceCell::const_new();
    let start = || async {
        let cluster = deployed::installed(root!("deploy/overlays/upstream")).await;
        let url = format!("http://{}", deployed::gateway(&cluster).await);
        Upstream { cluster, url }
    };
    UPSTREAM.get_or_init(start).await
}

/// A namespace with a full pool of Sandboxes under gVisor. Each has a volume, and is suspended when it is idle.
async fn warm(name: &str, replicas: u32) -> TestNamespace {
    let ns = TestNamespace::new(&upstream().await.cluster, name).await;
    let agent = json!({
        "name": "agent", "image": AGENT_IMAGE, "volumeMounts": [{ "name": "workspace", "mountPath": "/workspace" }],
    });
    let volume = json!({
        "metadata": { "name": "workspace" },
        "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
    });
    ns.create(object(
        TEMPLATE,
        "agent",
        json!({
            "podTemplate": { "spec": { "runtimeClassName": "gvisor", "containers": [agent] } },
            "volumeClaimTemplates": [volume], "idleTimeout": "20s", "resumePolicy": "OnDemand",
        }),
    ))
    .await;
    let made = ns.create(pool("agents", "agent", json!({ "replicas": replicas }))).await;
    filled(&ns, &made, replicas as usize).await;
    ns
}

/// The answer of a program that prints one JSON object.
async fn ask(program: &mut Command, ns: &TestNamespace, more: &[&str]) -> Value {
    let Upstream { cluster, url } = upstream().await;
    program.arg(cluster.kubeconfig()).args([&ns.namespace, "agents", url]).args(more);
    let printed = sdk::run(program).await;
    serde_json::from_str(printed.trim()).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

async fn the_python_sdk_uses_claimed_sandboxes_through_the_gateway() {
    let python = sdk::environment().await;
    let ns = warm("sdk-python", 3).await;
    let cluster = &upstream().await.cluster;
    // The tunnel of the SDK looks for kubectl.
    let mut path = cluster.kubectl().program().parent().unwrap_or(Path::new("")).as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut script = Command::new(python);
    script.arg("-c").arg(include_str!("sdk.py"));
    script.env("KUBECONFIG", cluster.kubeconfig()).env("HOME", "/nonexistent").env("PATH", path);
    let mib = std::env::var("PADDOCK_SDK_MIB").unwrap_or(MIB.to_owned());
    let seen = ask(&mut script, &ns, &[&mib]).await;

    let failure = json!({ "stdout": "out\n", "stderr": "err\n", "exit_code": 3 });
    let content = "content of a b/c d.txt";
    for mode in ["direct", "tunnel", "asynchronous"] {
        let seen = &seen[mode];
        assert!(text(seen, "/kernel").contains("gvisor"), "{mode}: {seen:#}");
        assert_eq!(seen["failure"], failure, "{mode}");
        for (name, content) in seen["files"].as_object().expect("the files") {
            assert_eq!(content, &json!(format!("content of {name}")), "{mode}");
        }
        assert_eq!(seen["files"].as_object().expect("the files").len(), 3, "{mode}");
        assert_eq!(seen["listed"], json!(["c d.txt", "ü%2F#?.txt"]), "{mode}");
        assert_eq!(seen["exists"], json!([true, false]), "{mode}");
        // The command runs for longer than the idle timeout, and for longer than upstream's router waits.
        assert_eq!((text(seen, "/long/stderr"), &seen["long"]["exit_code"]), ("", &json!(0)), "{mode}: {seen:#}");
        assert!(seen["long_s"].as_f64() >= Some(35.0), "{mode}: {seen:#}");
        assert_eq!(text(seen, "/woken/stdout"), content, "{mode}: {seen:#}");
    }
    for mode in ["direct", "tunnel"] {
        let seen = &seen[mode];
        assert_eq!(seen["missing"]["exit_code"], 1, "{mode}");
        assert!(text(seen, "/missing/stderr").contains("no-such-program"), "{mode}: {seen:#}");
        assert_eq!((&seen["limit"], &seen["no_file"]), (&json!(true), &json!(404)), "{mode}");
        assert_eq!((&seen["here"]["a b"], &seen["here"]["plain.txt"]), (&json!("directory"), &json!("file")), "{mode}");
        assert_eq!(seen["large"], json!([true, true]), "{mode}");
        assert_eq!(text(seen, "/read_woken"), "content of a b/ü%2F#?.txt", "{mode}");
        println!("{mode}: the first command after the suspend took {} s", seen["woken_s"]);
    }
}

async fn the_go_client_uses_a_claimed_sandbox_through_the_gateway() {
    let client = go_sdk_client().await.expect("the client is built");
    let ns = warm("sdk-go", 1).await;
    let seen = ask(&mut Command::new(client), &ns, &[]).await;
    assert!(text(&seen, "/commands/kernel/stdout").contains("gvisor"), "{seen:#}");
    let failure = json!({ "stdout": "out\n", "stderr": "err\n", "exit_code": 3 });
    assert_eq!((&seen["commands"]["failure"], &seen["commands"]["missing"]["exit_code"]), (&failure, &json!(1)));
    assert!(seen["commands"]["long_s"].as_f64() >= Some(35.0), "{seen:#}");
    let files = &seen["files"];
    assert_eq!(text(files, "/content"), "written through the gateway");
    assert_eq!((&files["exists"], &files["exists_not"], &files["missing"]), (&json!(true), &json!(false), &json!(404)));
    assert_eq!((&files["large"], text(files, "/listed/0/name")), (&json!(true), "c.txt"), "{files:#}");
    assert_eq!(text(&seen, "/after_suspend/stdout"), "written through the gateway");
}
