//! Changes of plugins while the operator runs: a plugin is added to its directory, replaced, broken and removed.

use std::path::PathBuf;

use paddock_cluster::{eventually, eventually_some};
use paddock_plugin_host::BUILT_INS;
use serde_json::{Value, json};

use super::http;
use super::json::{message, name, ready, reason, text, uid};
use super::kinds::{CLAIM, EVENT, POD, SANDBOX, SEED_POOL, SEED_TEMPLATE};
use super::manifests::{claim, object, pod, pool, sandbox, template};
use super::namespace::TestNamespace;
use super::pool::{filled, members};
use super::setup::{namespace, setup};
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![
        plugin_is_replaced_live_and_a_broken_one_is_refused,
        misbehaving_plugin_is_replaced_by_defaults_or_overruled,
        plugin_for_sandboxes_reviews_those_of_claims_and_pools,
        failures_in_one_namespace_leave_the_plugin_to_another,
    ]
}

/// The component of the built-in plugin `idle-timeout`, for tests that give it settings.
pub(super) fn idle_timeout() -> &'static [u8] {
    BUILT_INS.into_iter().find(|built_in| built_in.name == "idle-timeout").expect("a built-in plugin").component
}

/// The files of a plugin in the operator's directory.
pub(super) struct Files {
    name: String,
    dir: PathBuf,
}

impl Files {
    pub(super) async fn of(name: &str) -> Self {
        Self { name: name.to_owned(), dir: setup().await.plugins.clone() }
    }

    /// Writes a file atomically.
    pub(super) fn put(&self, extension: &str, content: &[u8]) {
        let made = self.dir.join(format!(".{}.{extension}.new", self.name));
        std::fs::write(&made, content).expect("a file");
        std::fs::rename(&made, self.path(extension)).expect("a file");
    }

    /// Binds the plugin to one namespace, with settings. Other tests keep the built-ins.
    fn bind(&self, ns: &TestNamespace, settings: Value) {
        self.bind_hook(ns, "pool-size", settings);
    }

    /// The same for another hook.
    pub(super) fn bind_hook(&self, ns: &TestNamespace, hook: &str, settings: Value) {
        let bound = json!({
            "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": ns.namespace } },
            "hooks": [hook],
            "settings": settings,
        });
        self.put("yaml", bound.to_string().as_bytes());
    }

    fn path(&self, extension: &str) -> PathBuf {
        self.dir.join(format!("{}.{extension}", self.name))
    }

    /// The operator's report about the plugin, when it fulfils the predicate.
    pub(super) async fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually_some(&format!("plugin {}: {what}", self.name), async || {
            let (_, body) = http::get(setup().await.operator.debug, "/debug/plugins").await.expect("an answer");
            let all: Vec<Value> = serde_json::from_str(&body).expect("a list");
            all.into_iter().find(|p| text(p, "/name") == self.name).filter(&wanted).ok_or(body)
        })
        .await
    }
}

/// A failed test leaves no files behind.
impl Drop for Files {
    fn drop(&mut self) {
        for extension in ["wasm", "yaml"] {
            let _ = std::fs::remove_file(self.path(extension));
        }
    }
}

/// The configuration of `allowed-images` for one namespace. It reviews only Sandboxes.
fn images(namespaces: &[&TestNamespace], registry: &str) -> Value {
    let names: Vec<&str> = namespaces.iter().map(|ns| ns.namespace.as_str()).collect();
    json!({
        "namespaceSelector": { "matchExpressions": [
            { "key": "kubernetes.io/metadata.name", "operator": "In", "values": names },
        ] },
        "hooks": ["admission"],
        "kinds": ["Sandbox"],
        "settings": { "registries": [registry] },
    })
}

/// Whether an object is not Ready, because a plugin denies it.
fn denied(object: &Value, plugin: &str) -> bool {
    reason(object, "Ready") == "PolicyDenied" && message(object, "Ready").contains(&format!("plugin {plugin}"))
}

/// A pool with a range, which the built-in keeps at its minimum while there are no claims.
async fn roomy(ns: &TestNamespace) -> Value {
    ns.create(object(SEED_TEMPLATE, "t", json!({ "template": pod() }))).await;
    let spec = json!({ "templateRef": { "name": "t" }, "minReady": 1, "maxReady": 6 });
    let made = ns.create(object(SEED_POOL, "p", spec)).await;
    filled(ns, &made, 1).await;
    made
}

async fn plugin_is_replaced_live_and_a_broken_one_is_refused() {
    let ns = namespace("plugin").await;
    let made = roomy(&ns).await;
    let files = Files::of("live-fixed").await;
    files.bind(&ns, json!({ "desired": 4 }));
    files.put("wasm", paddock_guests::POOL_FIXED);
    filled(&ns, &made, 4).await;
    ns.until(SEED_POOL, "p", "reports the decision", |p| p["status"]["desiredReplicas"] == 4).await;
    files.bind(&ns, json!({ "desired": 3 }));
    filled(&ns, &made, 3).await;
    let good = files.until("in order", |p| p["error"].is_null()).await;

    // Each bad file is refused for another reason, and the good plugin keeps working.
    for bad in [b"not a component".as_slice(), paddock_guests::ASK_FOR_WASI, paddock_guests::FROM_THE_FUTURE] {
        files.put("wasm", bad);
        let refused = files.until("refused", |p| !p["error"].is_null()).await;
        assert_eq!(refused["digest"], good["digest"], "{refused}");
        let all = ns.list(SANDBOX).await;
        ns.delete(SANDBOX, name(members(&all, uid(&made))[0])).await;
        filled(&ns, &made, 3).await;
        files.put("wasm", paddock_guests::POOL_FIXED);
        files.until("in order again", |p| p["error"].is_null()).await;
    }
    // Settings with an unknown field are refused too.
    files.bind(&ns, json!({ "desird": 5 }));
    files.until("refused", |p| text(p, "/error").contains("desird")).await;
    filled(&ns, &made, 3).await;

    drop(files);
    filled(&ns, &made, 1).await;
}

async fn misbehaving_plugin_is_replaced_by_defaults_or_overruled() {
    let ns = namespace("plugin-broken").await;
    let files = Files::of("live-broken").await;
    files.bind(&ns, json!({ "mode": "spin" }));
    files.put("wasm", paddock_guests::MISBEHAVE);
    files.until("in force", |p| p["digest"].is_string()).await;
    let made = roomy(&ns).await;
    let metrics = setup().await.operator.metrics().await;
    let counted = |line: &&str| line.starts_with("paddock_plugin_failures_total") && line.contains("\"live-broken\"");
    assert!(metrics.lines().any(|l| counted(&l) && !l.ends_with(" 0")), "its failures are not counted:\n{metrics}");
    let log = std::fs::read_to_string(setup().await.operator.process.log()).expect("the operator's log");
    let logged = |line: &str| line.contains("the plugin gave no valid answer") && line.contains("live-broken");
    assert!(log.lines().any(logged), "its failures are not in the log");
    let (_, shown) = http::get(setup().await.operator.debug, "/debug/bindings").await.expect("an answer");
    let bound: Vec<Value> = serde_json::from_str(&shown).expect("a list");
    let place_of = |plugin: &str| bound.iter().position(|b| b["plugin"] == plugin && b["hook"] == "pool-size");
    assert!(place_of("live-broken").is_some_and(|at| Some(at) < place_of("pool-by-demand")), "{shown}");
    // An answer above the limit is cut to the limit, and an Event reports it.
    files.bind(&ns, json!({ "mode": "too-many" }));
    filled(&ns, &made, 6).await;
    let overruled = |e: &Value| text(e, "/reason") == "PluginOverruled" && text(e, "/regarding/name") == "p";
    ns.until_all(EVENT, "an event reports that the plugin was overruled", |all| all.values().any(overruled)).await;
}

/// The operator makes the Sandboxes of pools and claims itself, and the webhook does not see them. A plugin that reviews
/// only Sandboxes denies them all the same, and when a pod is made again. It heals when the policy changes.
async fn plugin_for_sandboxes_reviews_those_of_claims_and_pools() {
    let ns = namespace("plugin-kinds").await;
    ns.create(sandbox("older", json!({}))).await;
    ns.until(SANDBOX, "older", "Ready", ready).await;
    let files = Files::of("only-sandboxes").await;
    files.put("yaml", images(&[&ns], "ghcr.io").to_string().as_bytes());
    files.put("wasm", paddock_guests::ALLOWED_IMAGES);
    files.until("in force", |p| p["digest"].is_string()).await;

    let by_hand = ns.try_create(&sandbox("by-hand", json!({}))).await.expect_err("denied by the webhook");
    assert!(by_hand.to_string().contains("plugin only-sandboxes: spec.podTemplate"), "{by_hand}");
    ns.create(template("t", json!({}))).await;
    ns.create(pool("p", "t", json!({ "replicas": 1 }))).await;
    ns.create(pool("empty", "t", json!({ "replicas": 0 }))).await;
    ns.create(claim("c", "empty", json!({}))).await;
    let is_denied = |object: &Value| denied(object, "only-sandboxes");
    ns.until(SANDBOX, "c", "denied", is_denied).await;
    ns.until(CLAIM, "c", "denied", is_denied).await;
    let of_pool = |o: &Value| text(o, "/metadata/generateName") == "p-";
    ns.until_all(SANDBOX, "the pool's is denied", |all| all.values().any(|s| of_pool(s) && is_denied(s))).await;
    let told = |e: &Value| text(e, "/reason") == "AdmissionDenied" && text(e, "/regarding/name") == "c";
    ns.until_all(EVENT, "an Event reports the denial", |all| all.values().any(told)).await;
    // The pod of an older Sandbox runs on. When it is made again, the Sandbox is reviewed.
    let pods = ns.list(POD).await;
    assert_eq!(pods.keys().map(String::as_str).collect::<Vec<_>>(), ["older"]);
    ns.delete(POD, "older").await;
    ns.until(SANDBOX, "older", "denied", is_denied).await;

    files.put("yaml", images(&[&ns], "docker.io").to_string().as_bytes());
    for name in ["older", "c"] {
        ns.until(SANDBOX, name, "Ready", ready).await;
    }
    ns.until(CLAIM, "c", "Ready", ready).await;
    // The status names the plugin, its version and the settings with which it allowed the pod.
    let digest = files.until("in order", |p| p["error"].is_null()).await["digest"].clone();
    let allowed = json!({
        "hook": "admission", "name": "only-sandboxes", "digest": digest, "settings": r#"{"registries":["docker.io"]}"#,
    });
    let names_it = |object: &Value| object["status"]["plugins"].as_array().is_some_and(|all| all.contains(&allowed));
    for (kind, name) in [(SANDBOX, "older"), (SANDBOX, "c"), (CLAIM, "c")] {
        ns.until(kind, name, "names the plugin that allowed it", names_it).await;
    }
    let wide = ns.kubectl_output(&["get", "sandboxclaims.extensions.agents.x-k8s.io", "c", "-o", "wide"], None).await;
    assert!(wide.contains("RUNTIME-PLUGIN") && wide.contains("runtime-class-by-label"), "{wide}");
    ns.until_all(SANDBOX, "the pool's is Ready", |all| all.values().any(|s| of_pool(s) && ready(s))).await;

    // A warm Sandbox that the policy denies by now is not handed out.
    files.put("yaml", images(&[&ns], "ghcr.io").to_string().as_bytes());
    eventually("the new settings are in force", async || ns.dry_run(&sandbox("probe", json!({}))).await.is_err()).await;
    ns.create(claim("late", "p", json!({}))).await;
    ns.until(CLAIM, "late", "denied", is_denied).await;
    assert!(ns.list(SANDBOX).await.values().any(|s| of_pool(s) && ready(s)), "the warm one stays in its pool");
    // The claim is served when the plugin is removed.
    drop(files);
    ns.until(CLAIM, "late", "Ready", ready).await;
}

/// A plugin runs out of fuel on the large objects of one namespace, until it is in quarantine there. In another
/// namespace it goes on to review.
async fn failures_in_one_namespace_leave_the_plugin_to_another() {
    let (hostile, good) = (namespace("plugin-hostile").await, namespace("plugin-good").await);
    let files = Files::of("by-namespace").await;
    let mut bound = images(&[&hostile, &good], "ghcr.io");
    // Enough for a small object, and not for one with half a megabyte of annotations.
    bound["limits"] = json!({ "fuel": 1_500_000 });
    files.put("yaml", bound.to_string().as_bytes());
    files.put("wasm", paddock_guests::ALLOWED_IMAGES);
    files.until("in force", |p| p["digest"].is_string()).await;
    let with_image = |name: &str, image: &str| {
        let mut object = sandbox(name, json!({}));
        object["spec"]["podTemplate"]["spec"]["containers"][0]["image"] = image.into();
        object
    };
    let mut large = with_image("large", "ghcr.io/a/b:1");
    large["spec"]["podTemplate"]["metadata"]["annotations"] = json!({ "large": "\\\"".repeat(100_000) });
    let refusal = async |ns: &TestNamespace, object: &Value| {
        let refused = ns.try_create(object).await.expect_err("denied");
        refused.to_string()
    };
    for _ in 0..5 {
        let message = refusal(&hostile, &large).await;
        assert!(message.contains("plugin fuel"), "{message}");
    }
    let small = with_image("small", "ghcr.io/a/b:1");
    let message = refusal(&hostile, &small).await;
    assert!(message.contains("plugin quarantined"), "{message}");
    let message = refusal(&good, &with_image("foreign", "docker.io/a/b:1")).await;
    assert!(message.contains("plugin by-namespace: spec.podTemplate.spec.containers[0].image"), "{message}");
    good.create(small).await;
    good.until(SANDBOX, "small", "Ready", ready).await;
    let (_, shown) = http::get(setup().await.operator.debug, "/debug/bindings").await.expect("an answer");
    let bound: Vec<Value> = serde_json::from_str(&shown).expect("a list");
    let own = bound.iter().find(|b| b["plugin"] == "by-namespace").expect("its binding");
    let names: Vec<&String> = own["quarantinedForUnverifiedUntil"].as_object().expect("an object").keys().collect();
    assert_eq!(names, [&hostile.namespace], "{own}");
}
