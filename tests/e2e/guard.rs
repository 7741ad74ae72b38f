//! A plugin that guards a namespace, while its files break and the operator is restarted.

use std::path::{Path, PathBuf};

use paddock_cluster::{Cluster, Options, eventually, eventually_some};
use serde_json::{Value, json};

use super::http;
use super::json::{message, ready, reason};
use super::kinds::SANDBOX;
use super::manifests::sandbox;
use super::namespace::TestNamespace;
use super::operator::{self, NAMESPACE, Operator, Plan};
use super::setup::control_plane;
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![restart_with_broken_files_keeps_denying]
}

/// A control plane for one test, because the operator is restarted with broken plugins.
struct Scene {
    cluster: Cluster,
    account: PathBuf,
    plugins: PathBuf,
    cache: PathBuf,
    webhook: u16,
    ports: operator::Ports,
}

impl Scene {
    async fn start() -> Self {
        let (cluster, account) = control_plane(Options { nodes: 1, ..Options::default() }).await;
        let dir = |name: &str| {
            let dir = cluster.dir().join(name);
            std::fs::create_dir(&dir).expect("a directory");
            dir
        };
        let (plugins, cache) = (dir("plugins"), dir("plugin-cache"));
        let (webhook, ports) = (cluster.port().expect("a free port"), operator::ports(&cluster));
        Self { account, plugins, cache, webhook, ports, cluster }
    }

    /// Starts an operator in the place of the former one.
    async fn operator(&self, name: &str, cache: Option<&Path>) -> Operator {
        let address = format!("127.0.0.1:{}", self.webhook);
        let mut flags = vec![
            format!("--webhook-bind-address={address}"),
            format!("--webhook-url=https://{address}"),
            format!("--webhook-service-namespace={NAMESPACE}"),
            format!("--plugin-dir={}", self.plugins.display()),
            "--leader-elect=false".to_owned(),
        ];
        flags.extend(cache.map(|dir| format!("--plugin-cache-dir={}", dir.display())));
        let plan = Plan { name, kubeconfig: &self.account, flags };
        Operator::spawn_at(&self.cluster, plan, self.ports).await
    }

    fn write(&self, file: &str, content: impl AsRef<[u8]>) {
        let new = self.plugins.join(format!(".{file}.new"));
        std::fs::write(&new, content).expect("a file");
        std::fs::rename(new, self.plugins.join(file)).expect("a file");
    }
}

/// The message with which the webhook refuses a Sandbox in the guarded namespace.
async fn refused(ns: &TestNamespace) -> String {
    eventually_some("the guard denies", async || match ns.dry_run(&sandbox("probe", json!({}))).await {
        Ok(_) => Err("admitted".to_owned()),
        Err(kube::Error::Api(status)) if status.message.contains("plugin images") => Ok(status.message.clone()),
        // The webhook may not be reachable for a moment. Its failure policy is Ignore.
        Err(error) => Err(error.to_string()),
    })
    .await
}

async fn restart_with_broken_files_keeps_denying() {
    let scene = Scene::start().await;
    let labels = json!({ "images": "restricted" });
    let guarded = TestNamespace::labelled(&scene.cluster, "guarded", labels).await;
    let open = TestNamespace::new(&scene.cluster, "open").await;
    let guard = json!({
        "hooks": ["admission"],
        "namespaceSelector": { "matchLabels": { "images": "restricted" } },
        "kinds": ["Sandbox"],
        "settings": { "registries": ["ghcr.io"] },
    });
    scene.write("images.yaml", guard.to_string());
    scene.write("images.wasm", paddock_guests::ALLOWED_IMAGES);
    let first = scene.operator("first", Some(&scene.cache)).await;
    first.ready().await;
    let denied = refused(&guarded).await;
    assert!(denied.contains("allowed are images of: ghcr.io"), "{denied}");
    first.process.kill().await.expect("it was alive");

    // After a restart, the last good version denies, whatever is in the directory.
    let mut typo = guard.clone();
    typo["settings"] = json!({ "registeries": ["ghcr.io"] });
    scene.write("images.yaml", typo.to_string());
    scene.write("images.wasm", b"not a component");
    let second = scene.operator("second", Some(&scene.cache)).await;
    second.ready().await;
    let denied = refused(&guarded).await;
    assert!(denied.contains("allowed are images of: ghcr.io"), "{denied}");
    let metrics = second.metrics().await;
    for line in [r#"paddock_plugin_not_loaded{plugin="images"} 0"#, r#"paddock_plugin_refused{plugin="images"} 1"#] {
        assert!(metrics.lines().any(|l| l == line), "{line} is not in:\n{metrics}");
    }
    second.process.kill().await.expect("it was alive");

    // Without a good version, the plugin fails by its policy. The replica serves, leads and reconciles before it is
    // ready, and an object without the webhook gets no pod.
    let third = scene.operator("third", None).await;
    let denied = refused(&guarded).await;
    assert!(denied.contains("it is not loaded: images.wasm: the file is not a WebAssembly component"), "{denied}");
    open.create(sandbox("free", json!({}))).await;
    open.until(SANDBOX, "free", "Ready", ready).await;
    eventually("readiness has waited for a minute at most", async || {
        http::get(third.health, "/readyz").await.is_some_and(|(status, _)| status == 200)
    })
    .await;
    let (_, verbose) = http::get(third.health, "/readyz?verbose").await.expect("an answer");
    assert!(verbose.contains("[-]plugin images: it is not loaded"), "{verbose}");
    let metrics = third.metrics().await;
    let line = r#"paddock_plugin_not_loaded{plugin="images"} 1"#;
    assert!(metrics.lines().any(|l| l == line), "{line} is not in:\n{metrics}");
    let (_, shown) = http::get(third.debug, "/debug/plugins").await.expect("an answer");
    let shown: Vec<Value> = serde_json::from_str(&shown).expect("a list");
    assert!(shown.iter().any(|p| p["name"] == "images" && p["state"] == "notLoaded"), "{shown:?}");
    third.process.kill().await.expect("it was alive");

    // While nobody answers the webhook, the Sandbox is stored. The next operator reviews it before it makes the pod.
    guarded.create(sandbox("unasked", json!({}))).await;
    let fourth = scene.operator("fourth", None).await;
    let not_loaded = |s: &Value| reason(s, "Ready") == "PolicyDenied" && message(s, "Ready").contains("is not loaded");
    guarded.until(SANDBOX, "unasked", "denied", not_loaded).await;
    scene.write("images.yaml", guard.to_string().replace("ghcr.io", "docker.io"));
    scene.write("images.wasm", paddock_guests::ALLOWED_IMAGES);
    guarded.until(SANDBOX, "unasked", "Ready", ready).await;
    fourth.ready().await;
}
