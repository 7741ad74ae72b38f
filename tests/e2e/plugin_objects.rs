//! Plugins and policies as objects: a platform team installs and binds a component with kubectl alone.

use paddock_cluster::{Signal, eventually_some};
use serde_json::{Value, json};

use super::json::{holds, message, number, ready, reason, text};
use super::kinds::{EVENT, SANDBOX};
use super::manifests::sandbox;
use super::namespace::TestNamespace;
use super::operator::{ACCOUNT, NAMESPACE, Operator, Plan};
use super::setup::{namespace, setup};
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![
        plugin_of_a_config_map_decides_by_a_policy_and_survives_a_broken_one,
        component_stops_when_the_digest_excludes_it,
        wrong_settings_are_refused_with_their_path,
        policy_without_a_plugin_fails_by_its_policy_until_the_plugin_is_there,
        policies_that_do_not_act_warn_audit_and_count,
        each_replica_has_an_entry_until_it_ends,
        wrong_plugins_and_policies_are_refused_by_the_schema,
    ]
}

/// A test's plugin and policy, which have its name.
pub(super) struct Scene {
    pub(super) ns: TestNamespace,
    /// The operator's namespace, which has the ConfigMaps.
    system: TestNamespace,
    pub(super) name: String,
}

impl Scene {
    pub(super) async fn new(name: &str) -> Self {
        let system = TestNamespace::existing(&setup().await.cluster, NAMESPACE);
        Self { ns: namespace(name).await, system, name: name.to_owned() }
    }

    /// Puts a component into the ConfigMap of the plugin, as the manual says.
    pub(super) async fn put(&self, component: &[u8]) {
        let file = setup().await.cluster.dir().join(format!("{}.wasm", self.name));
        std::fs::write(&file, component).expect("a file");
        let from = format!("--from-file=plugin.wasm={}", file.display());
        let made = ["create", "configmap", &self.name, &from, "--dry-run=client", "-o", "yaml"];
        let manifest = self.system.kubectl(&made, None).await.expect("a ConfigMap");
        let applied = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        self.system.kubectl(&applied, Some(&manifest)).await.expect("the ConfigMap is applied");
    }

    pub(super) fn plugin(&self) -> Value {
        self.object("SandboxPlugin", json!({ "source": { "configMap": { "name": self.name, "key": "plugin.wasm" } } }))
    }

    /// A policy about the Sandboxes of the test's namespace.
    fn policy(&self, with: Value) -> Value {
        let mut spec = json!({
            "plugin": self.name,
            "hook": "admission",
            "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": self.ns.namespace } },
            "kinds": ["Sandbox"],
            "settings": { "registries": ["ghcr.io"] },
        });
        super::manifests::merge(&mut spec, &with);
        self.object("SandboxPolicy", spec)
    }

    pub(super) fn object(&self, kind: &str, spec: Value) -> Value {
        json!({
            "apiVersion": "policy.paddock.dev/v1alpha1", "kind": kind, "metadata": { "name": self.name }, "spec": spec,
        })
    }

    /// The output of `kubectl apply`, whether it succeeds or fails.
    pub(super) async fn apply(&self, object: &Value) -> String {
        self.ns.kubectl_output(&["apply", "-f", "-"], Some(&object.to_string())).await
    }

    pub(super) async fn wait(&self, kind: &str) {
        let object = format!("{kind}/{}", self.name);
        let wait = ["wait", "--for=condition=Ready", "--timeout=60s", &object];
        if let Err(error) = self.ns.kubectl(&wait, None).await {
            let shown = self.ns.kubectl_output(&["get", &object, "-o", "yaml"], None).await;
            panic!("{error}\n{shown}\n{}", setup().await.operator.log_tail());
        }
    }

    pub(super) async fn until(&self, plural: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let path = format!("/apis/policy.paddock.dev/v1alpha1/{plural}/{}", self.name);
        eventually_some(what, async || match self.ns.read(&path).await {
            Ok(object) if wanted(&object) => Ok(object),
            Ok(object) => Err(object["status"].to_string()),
            Err(error) => Err(error.to_string()),
        })
        .await
    }

    /// Whether a Sandbox is admitted, as a dry run: nothing, or the message of the denial.
    async fn denial(&self) -> Option<String> {
        self.ns.dry_run(&sandbox("probe", json!({}))).await.err().map(|error| error.to_string())
    }

    async fn until_denied(&self) -> String {
        eventually_some("the policy denies", async || self.denial().await.ok_or("admitted")).await
    }

    async fn until_admitted(&self) {
        eventually_some("the policy admits", async || self.denial().await.map_or(Ok(()), Err)).await;
    }

    pub(super) async fn delete(&self, kind: &str) {
        let deleted = ["delete", kind, &self.name, "--ignore-not-found"];
        self.ns.kubectl(&deleted, None).await.expect("it is deleted");
    }
}

async fn plugin_of_a_config_map_decides_by_a_policy_and_survives_a_broken_one() {
    let scene = Scene::new("objects-images").await;
    scene.put(paddock_guests::ALLOWED_IMAGES).await;
    scene.apply(&scene.plugin()).await;
    scene.wait("sandboxplugin").await;
    assert_eq!(scene.denial().await, None, "a plugin alone decides nothing");
    scene.apply(&scene.policy(json!({}))).await;
    scene.wait("sandboxpolicy").await;
    let denial = scene.until_denied().await;
    assert!(denial.contains("plugin objects-images: spec.podTemplate.spec.containers[0].image"), "{denial}");

    // The status has an entry of each replica, and kubectl shows the result.
    let plugin =
        scene.until("sandboxplugins", "the status is complete", |p| ready(p) && !p["status"]["digest"].is_null()).await;
    let digest = text(&plugin, "/status/digest").to_owned();
    let entries = plugin["status"]["replicas"].as_array().expect("entries");
    assert_eq!(entries.len(), 1, "{plugin}");
    assert_eq!(text(&entries[0], "/digest"), digest);
    assert_eq!((&entries[0]["hooks"], text(&entries[0], "/witVersion")), (&json!(["admission"]), "0.1.0"));
    assert_eq!(number(&plugin, "/status/observedGeneration"), number(&plugin, "/metadata/generation"));
    let shown = scene.ns.kubectl_output(&["get", "sandboxplugins", "-o", "wide"], None).await;
    assert!(shown.contains("READY") && shown.contains("Loaded") && shown.contains(&digest), "{shown}");
    let shown = scene.ns.kubectl_output(&["get", "sandboxpolicies"], None).await;
    assert!(shown.contains("PLUGIN") && shown.contains("admission") && shown.contains("Bound"), "{shown}");
    let explained = scene.ns.kubectl_output(&["explain", "sandboxpolicy.spec.failurePolicy"], None).await;
    assert!(explained.contains("missing"), "{explained}");

    // A broken component reports, and does not replace the good one.
    scene.put(paddock_guests::ASK_FOR_WASI).await;
    let broken = scene.until("sandboxplugins", "the fault is reported", |p| reason(p, "Ready") == "LoadFailed").await;
    assert!(message(&broken, "Ready").contains("WASI"), "{broken}");
    assert_eq!(text(&broken, "/status/digest"), digest);
    assert!(scene.denial().await.is_some());
    let default = TestNamespace::existing(&setup().await.cluster, "default");
    let reported = |e: &Value| text(e, "/reason") == "LoadFailed" && text(e, "/regarding/name") == "objects-images";
    default.until_all(EVENT, "an Event reports the fault", |all| all.values().any(reported)).await;
    scene.put(paddock_guests::ALLOWED_IMAGES).await;
    scene.until("sandboxplugins", "the component is good again", ready).await;

    // Other settings take effect, and the decision is as before when the policy is deleted.
    scene.apply(&scene.policy(json!({ "settings": { "registries": ["docker.io"] } }))).await;
    scene.until_admitted().await;
    scene.apply(&scene.policy(json!({}))).await;
    scene.until_denied().await;
    scene.delete("sandboxpolicy").await;
    scene.until_admitted().await;
    scene.delete("sandboxplugin").await;
}

/// A platform team pins a plugin, because the component in use must not decide any more.
async fn component_stops_when_the_digest_excludes_it() {
    let scene = Scene::new("objects-pinned").await;
    let digest = |component: &[u8]| paddock_plugin_host::digest(component);
    let pinned = |component: &[u8]| {
        let mut plugin = scene.plugin();
        plugin["spec"]["digest"] = digest(component).into();
        plugin
    };
    scene.put(paddock_guests::ALLOWED_IMAGES).await;
    scene.apply(&pinned(paddock_guests::ALLOWED_IMAGES)).await;
    scene.apply(&scene.policy(json!({}))).await;
    scene.wait("sandboxpolicy").await;
    let denial = scene.until_denied().await;
    assert!(denial.contains("plugin objects-pinned: spec.podTemplate"), "{denial}");
    // Another component under the same key changes nothing.
    scene.put(paddock_guests::POOL_FIXED).await;
    let kept = scene.until("sandboxplugins", "it is refused", |p| reason(p, "Ready") == "DigestMismatch").await;
    assert_eq!(text(&kept, "/status/digest"), digest(paddock_guests::ALLOWED_IMAGES));
    scene.put(paddock_guests::ALLOWED_IMAGES).await;
    scene.until("sandboxplugins", "it is good again", ready).await;

    // The pin names another component, and the ConfigMap does not have it.
    scene.apply(&pinned(paddock_guests::MISBEHAVE)).await;
    let stopped = |p: &Value| reason(p, "Ready") == "DigestMismatch" && p["status"]["digest"].is_null();
    scene.until("sandboxplugins", "the component in use stops", stopped).await;
    scene.until("sandboxpolicies", "the policy fails", |p| reason(p, "Ready") == "PluginNotLoaded").await;
    let denial = scene.until_denied().await;
    assert!(denial.contains("no version of SandboxPlugin objects-pinned can be used"), "{denial}");
    scene.apply(&pinned(paddock_guests::ALLOWED_IMAGES)).await;
    scene.until("sandboxpolicies", "the policy is in force again", ready).await;
    scene.delete("sandboxpolicy").await;
    scene.delete("sandboxplugin").await;
}

async fn wrong_settings_are_refused_with_their_path() {
    let scene = Scene::new("objects-settings").await;
    scene.put(paddock_guests::ALLOWED_IMAGES).await;
    // The settings cannot be checked before the plugin is loaded.
    let mut absent = scene.policy(json!({}));
    absent["spec"]["settings"] = json!({ "registeries": ["ghcr.io"] });
    let warned = scene.apply(&absent).await;
    assert!(warned.contains("has not loaded SandboxPlugin objects-settings") && warned.contains("created"), "{warned}");
    scene.apply(&scene.plugin()).await;
    scene.wait("sandboxplugin").await;
    let refused =
        scene.until("sandboxpolicies", "the status names the field", |p| reason(p, "Ready") == "InvalidSettings");
    let refused = refused.await;
    assert!(message(&refused, "Ready").contains("spec.settings.registeries: unknown field"), "{refused}");
    // Somebody who changes only a label is not stopped by the fault.
    let labelled = ["label", "sandboxpolicy", "objects-settings", "a=b"];
    scene.ns.kubectl(&labelled, None).await.expect("the label is added");
    scene.delete("sandboxpolicy").await;
    let refused = scene.apply(&absent).await;
    assert!(refused.contains("spec.settings.registeries: unknown field"), "{refused}");
    let refused = scene.apply(&scene.policy(json!({ "settings": { "registries": ["ghcr.io", "a/"] } }))).await;
    assert!(refused.contains("spec.settings.registries[1]: must be a registry"), "{refused}");
    let refused = scene.apply(&scene.object("SandboxPolicy", json!({ "plugin": scene.name, "hook": "idle" }))).await;
    assert!(refused.contains("spec.hook") && refused.contains("it exports admission"), "{refused}");
    scene.delete("sandboxplugin").await;
}

async fn policy_without_a_plugin_fails_by_its_policy_until_the_plugin_is_there() {
    let scene = Scene::new("objects-missing").await;
    scene.apply(&scene.policy(json!({ "settings": { "registries": ["docker.io"] } }))).await;
    let denial = scene.until_denied().await;
    assert!(denial.contains("there is no SandboxPlugin objects-missing"), "{denial}");
    scene.until("sandboxpolicies", "the status says why", |p| reason(p, "Ready") == "PluginNotFound").await;
    let metrics = setup().await.operator.metrics().await;
    let line = "paddock_plugin_not_loaded{plugin=\"SandboxPolicy/objects-missing\"} 1";
    assert!(metrics.lines().any(|l| l == line), "{metrics}");
    scene.apply(&scene.plugin()).await;
    scene.until("sandboxplugins", "the status says why", |p| reason(p, "Ready") == "SourceNotFound").await;
    scene.put(paddock_guests::ALLOWED_IMAGES).await;
    scene.wait("sandboxpolicy").await;
    scene.until_admitted().await;
    scene.delete("sandboxpolicy").await;
    scene.delete("sandboxplugin").await;
}

async fn policies_that_do_not_act_warn_audit_and_count() {
    let scene = Scene::new("objects-modes").await;
    scene.put(paddock_guests::ALLOWED_IMAGES).await;
    scene.apply(&scene.plugin()).await;
    scene.wait("sandboxplugin").await;
    let counted = async |mode: &str| {
        let metrics = setup().await.operator.metrics().await;
        let is_it = |line: &&str| {
            line.starts_with("paddock_policy_unenforced_total{")
                && ["\"denied\"", &format!("\"{mode}\""), "\"objects-modes\""].iter().all(|part| line.contains(part))
        };
        metrics.lines().any(|line| is_it(&line))
    };
    for mode in ["Warn", "Audit", "Shadow"] {
        scene.apply(&scene.policy(json!({ "mode": mode }))).await;
        let object = sandbox(&format!("noted-{}", mode.to_lowercase()), json!({})).to_string();
        eventually_some("the mode is in force", async || {
            let shown = scene.ns.kubectl_output(&["apply", "--dry-run=server", "-f", "-"], Some(&object)).await;
            let warned = shown.contains("would deny this: plugin objects-modes: spec.podTemplate");
            if warned == (mode == "Warn") && counted(mode).await { Ok(()) } else { Err(shown) }
        })
        .await;
    }
    let name = "noted";
    scene.ns.create(sandbox(name, json!({}))).await;
    scene.ns.until(SANDBOX, name, "Ready", |s| holds(s, "Ready")).await;
    scene.delete("sandboxpolicy").await;
    scene.delete("sandboxplugin").await;
}

/// A second replica beside the one of all tests. It does not lead, and has no webhook.
async fn each_replica_has_an_entry_until_it_ends() {
    let scene = Scene::new("objects-replicas").await;
    scene.put(paddock_guests::POOL_FIXED).await;
    scene.apply(&scene.plugin()).await;
    scene.wait("sandboxplugin").await;
    let cluster = &setup().await.cluster;
    let account = cluster.kubeconfig_for_service_account(NAMESPACE, ACCOUNT).await.expect("a token");
    let flags = vec!["--webhook-bind-address=0".to_owned()];
    let plan = Plan { name: "second-replica", kubeconfig: &account, flags };
    let second = Operator::start(cluster, plan).await;
    let digests = |p: &Value| -> Vec<String> {
        let entries = p["status"]["replicas"].as_array().into_iter().flatten();
        entries.map(|entry| text(entry, "/digest").to_owned()).collect()
    };
    let both = scene.until("sandboxplugins", "both replicas report", |p| digests(p).len() == 2 && ready(p)).await;
    assert_eq!(digests(&both)[0], digests(&both)[1], "{both}");
    // Each entry has a field manager of its own.
    let managers = both["metadata"]["managedFields"].as_array().expect("managers").iter();
    let of_replicas = managers.filter(|m| text(m, "/manager").starts_with("paddock-plugins-")).count();
    assert_eq!(of_replicas, 2, "{both}");
    second.process.signal(Signal::Terminate).await.expect("a signal");
    scene.until("sandboxplugins", "the other replica is left", |p| digests(p).len() == 1 && ready(p)).await;
    scene.delete("sandboxplugin").await;
}

async fn wrong_plugins_and_policies_are_refused_by_the_schema() {
    let scene = Scene::new("objects-schema").await;
    let source = json!({ "configMap": { "name": "a", "key": "b" } });
    let policy = |spec: Value| scene.object("SandboxPolicy", spec);
    let plugin = |spec: Value| scene.object("SandboxPlugin", spec);
    let both = json!({ "source": { "configMap": { "name": "a", "key": "b" }, "builtIn": { "name": "idle-timeout" } } });
    let mut dotted = plugin(json!({ "source": source }));
    dotted["metadata"]["name"] = "a.b".into();
    for (object, parts) in [
        (plugin(both), vec!["spec.source", "exactly one of configMap, builtIn and oci"]),
        (plugin(json!({ "source": {} })), vec!["spec.source", "exactly one of configMap, builtIn and oci"]),
        (plugin(json!({ "source": source, "digest": "sha256:12" })), vec!["spec.digest"]),
        (
            plugin(json!({ "source": source, "limits": { "memory": "1Gi" } })),
            vec!["spec.limits.memory", "64Ki to 256Mi"],
        ),
        (
            plugin(json!({ "source": source, "limits": { "memory": "lots" } })),
            vec!["spec.limits.memory", "64Ki to 256Mi"],
        ),
        (plugin(json!({ "source": source, "limits": { "fuel": 0 } })), vec!["spec.limits.fuel"]),
        (
            plugin(json!({ "source": source, "limits": { "deadline": "1m" } })),
            vec!["spec.limits.deadline", "5ms to 2s"],
        ),
        (
            plugin(json!({ "source": source, "limits": { "deadline": "3s" } })),
            vec!["spec.limits.deadline", "5ms to 2s"],
        ),
        (dotted, vec!["metadata.name must consist of"]),
        (policy(json!({})), vec!["spec", "exactly one of plugin and isolation"]),
        (policy(json!({ "plugin": "p" })), vec!["spec.hook", "must be given with plugin"]),
        (
            policy(json!({ "plugin": "p", "hook": "idle", "isolation": { "allow": ["hostPID"] } })),
            vec!["spec", "exactly one of plugin and isolation"],
        ),
        (policy(json!({ "hook": "idle", "isolation": { "allow": ["hostPID"] } })), vec!["spec.hook", "left out"]),
        (policy(json!({ "isolation": {} })), vec!["spec.isolation", "allow or runtimeClasses"]),
        (policy(json!({ "isolation": { "allow": [] } })), vec!["spec.isolation.allow"]),
        (policy(json!({ "isolation": { "allow": ["hostpid"] } })), vec!["spec.isolation.allow[0]"]),
        (policy(json!({ "isolation": { "runtimeClasses": [] } })), vec!["spec.isolation.runtimeClasses"]),
        (
            policy(json!({ "mode": "Shadow", "isolation": { "allow": ["hostPID"] } })),
            vec!["spec.isolation", "only namespaceSelector"],
        ),
        (policy(json!({ "plugin": "p", "hook": "sleep" })), vec!["spec.hook", "pool-size"]),
        (policy(json!({ "plugin": "p", "hook": "idle", "kinds": ["Pod"] })), vec!["spec.kinds", "admission"]),
        (
            policy(json!({ "plugin": "p", "hook": "admission", "kinds": ["Pods"] })),
            vec!["spec.kinds[0]", "SandboxClaim"],
        ),
        (policy(json!({ "plugin": "p", "hook": "idle", "mode": "Warn" })), vec!["spec.mode", "hook admission alone"]),
        (policy(json!({ "plugin": "p", "hook": "idle", "order": 2_147_483_647 })), vec!["spec.order"]),
        (policy(json!({ "plugin": "p", "hook": "idle", "settings": [] })), vec!["spec.settings"]),
        (policy(json!({ "plugin": "p", "hook": "idle", "failurePolicy": "Retry" })), vec!["spec.failurePolicy"]),
        (
            policy(selecting("namespaceSelector", json!({ "key": "a", "operator": "in", "values": ["b"] }))),
            vec!["spec.namespaceSelector.matchExpressions[0].operator", "\"DoesNotExist\""],
        ),
        (
            policy(selecting("objectSelector", json!({ "key": "a", "operator": "NotIn" }))),
            vec!["spec.objectSelector.matchExpressions[0].values", "must have a value with the operator In or NotIn"],
        ),
        (
            policy(selecting("objectSelector", json!({ "key": "a", "operator": "In", "values": [] }))),
            vec!["spec.objectSelector.matchExpressions[0].values", "must have a value with the operator In or NotIn"],
        ),
        (
            policy(selecting("namespaceSelector", json!({ "key": "a", "operator": "Exists", "values": ["b"] }))),
            vec!["spec.namespaceSelector.matchExpressions[0].values", "none with Exists or DoesNotExist"],
        ),
    ] {
        let refused =
            scene.ns.kubectl_output(&["apply", "--dry-run=server", "-f", "-"], Some(&object.to_string())).await;
        assert!(parts.iter().all(|part| refused.contains(part)), "{object}: {refused}");
        assert!(!refused.contains("(server dry run)"), "{object}: {refused}");
    }
    let limits = json!({ "memory": "64Mi", "fuel": 200_000_000, "deadline": "1.5s" });
    let good = plugin(json!({ "source": source, "limits": limits, "digest": format!("sha256:{}", "a".repeat(64)) }));
    let mut selected = json!({ "plugin": "p", "hook": "idle" });
    selected["objectSelector"]["matchExpressions"] = json!([
        { "key": "a", "operator": "In", "values": ["b"] }, { "key": "a", "operator": "NotIn", "values": ["c"] },
        { "key": "a", "operator": "Exists" }, { "key": "b", "operator": "DoesNotExist" },
    ]);
    let isolation =
        json!({ "namespaceSelector": {}, "isolation": { "allow": ["hostPID"], "runtimeClasses": ["kata"] } });
    for good in [good, policy(selected), policy(isolation)] {
        let dry_run = ["apply", "--dry-run=server", "-f", "-"];
        let admitted = scene.ns.kubectl_output(&dry_run, Some(&good.to_string())).await;
        assert!(admitted.contains("created (server dry run)"), "{admitted}");
    }
}

/// The spec of a policy with one requirement in this selector.
fn selecting(selector: &str, requirement: Value) -> Value {
    json!({ "plugin": "p", "hook": "idle", selector: { "matchExpressions": [requirement] } })
}
