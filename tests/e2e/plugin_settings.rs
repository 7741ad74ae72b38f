//! Settings are compared with the JSON Schema of their plugin before a policy is stored, and a plugin whose schema has a
//! fault is not loaded.

use paddock_cluster::eventually_some;
use serde_json::{Value, json};

use super::json::{message, ready, reason, text};
use super::namespace::TestNamespace;
use super::operator::NAMESPACE;
use super::setup::{namespace, setup};
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![wrong_settings_are_refused_with_their_json_pointer, plugin_whose_schema_has_a_fault_is_not_loaded]
}

fn object(kind: &str, name: &str, spec: &Value) -> String {
    json!({
        "apiVersion": "policy.paddock.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec,
    })
    .to_string()
}

/// Reads an object until it is as wanted.
async fn until(ns: &TestNamespace, (plural, name): (&str, &str), what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let path = format!("/apis/policy.paddock.dev/v1alpha1/{plural}/{name}");
    eventually_some(what, async || match ns.read(&path).await {
        Ok(object) if wanted(&object) => Ok(object),
        Ok(object) => Err(object["status"].to_string()),
        Err(error) => Err(error.to_string()),
    })
    .await
}

async fn wrong_settings_are_refused_with_their_json_pointer() {
    let name = "settings-pool";
    let ns = namespace(name).await;
    let apply = async |manifest: String| ns.kubectl_output(&["apply", "-f", "-"], Some(&manifest)).await;
    let policy = |settings: Value| {
        let spec = json!({
            "plugin": name,
            "hook": "pool-size",
            "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": ns.namespace } },
            "settings": settings,
        });
        object("SandboxPolicy", name, &spec)
    };
    // The settings cannot be checked before the plugin is loaded. The status then names the field.
    let early = apply(policy(json!({ "peakBuckets": 0 }))).await;
    assert!(early.contains("has not loaded SandboxPlugin settings-pool") && early.contains("created"), "{early}");
    apply(object("SandboxPlugin", name, &json!({ "source": { "builtIn": { "name": "pool-by-demand" } } }))).await;
    let plugin = until(&ns, ("sandboxplugins", name), "the plugin is loaded", ready).await;
    assert_eq!(text(&plugin, "/status/replicas/0/witVersion"), "0.2.0", "{plugin}");
    let refused = until(&ns, ("sandboxpolicies", name), "the status names the field", |policy| {
        reason(policy, "Ready") == "InvalidSettings"
    });
    let refused = refused.await;
    let expected = "spec.settings: /peakBuckets: must be at least 1, is 0";
    assert!(message(&refused, "Ready").contains(expected), "{refused}");
    // The API server refuses such settings from now on, and takes good ones.
    for (settings, expected) in [
        (json!({ "peakBuckets": -1 }), "spec.settings: /peakBuckets: must be at least 1, is -1"),
        (json!({ "serviceLevel": "high" }), "spec.settings: /serviceLevel: must be a number, is a string"),
        (json!({ "servicelevel": 0.9 }), "spec.settings: /servicelevel: unknown field; the schema has halfLifeBuckets"),
    ] {
        let refused = apply(policy(settings)).await;
        assert!(refused.contains(expected) && refused.contains("is invalid"), "{refused}");
    }
    apply(policy(json!({ "serviceLevel": 0.9 }))).await;
    until(&ns, ("sandboxpolicies", name), "the policy is in force", ready).await;
    for kind in ["sandboxpolicy", "sandboxplugin"] {
        ns.kubectl(&["delete", kind, name], None).await.expect("it is deleted");
    }
}

async fn plugin_whose_schema_has_a_fault_is_not_loaded() {
    let name = "settings-schema";
    let cluster = &setup().await.cluster;
    let (ns, system) = (namespace(name).await, TestNamespace::existing(cluster, NAMESPACE));
    let put = async |schema: &str| {
        let file = cluster.dir().join(format!("{name}.wasm"));
        std::fs::write(&file, paddock_guests::with_schema(schema).expect("a component")).expect("a file");
        let from = format!("--from-file=plugin.wasm={}", file.display());
        let made = ["create", "configmap", name, &from, "--dry-run=client", "-o", "yaml"];
        let manifest = system.kubectl(&made, None).await.expect("a ConfigMap");
        let applied = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        system.kubectl(&applied, Some(&manifest)).await.expect("the ConfigMap is applied");
    };
    put(r#"{"properties": {"a": {"$ref": "https://example.com/schema.json"}}}"#).await;
    let source = json!({ "source": { "configMap": { "name": name, "key": "plugin.wasm" } } });
    ns.kubectl_output(&["apply", "-f", "-"], Some(&object("SandboxPlugin", name, &source))).await;
    let broken =
        until(&ns, ("sandboxplugins", name), "the fault is reported", |plugin| reason(plugin, "Ready") == "LoadFailed");
    let broken = broken.await;
    let expected = "the schema of the settings of pool-size cannot be used: #/properties/a/$ref";
    assert!(message(&broken, "Ready").contains(expected), "{broken}");
    put(r##"{"properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"type": "integer"}}}"##).await;
    until(&ns, ("sandboxplugins", name), "the good schema is loaded", ready).await;
    ns.kubectl(&["delete", "sandboxplugin", name], None).await.expect("it is deleted");
}
