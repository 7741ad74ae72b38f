//! Settings are compared with the JSON Schema of their plugin before a policy is stored, and a plugin whose schema has a
//! fault is not loaded.

use serde_json::{Value, json};

use super::json::{message, ready, reason, text};
use super::plugin_objects::Scene;
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![wrong_settings_are_refused_with_their_json_pointer, plugin_whose_schema_has_a_fault_is_not_loaded]
}

async fn wrong_settings_are_refused_with_their_json_pointer() {
    let scene = Scene::new("settings-pool").await;
    let policy = |settings: Value| {
        let spec = json!({
            "plugin": scene.name,
            "hook": "pool-size",
            "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": scene.ns.namespace } },
            "settings": settings,
        });
        scene.object("SandboxPolicy", spec)
    };
    // The settings cannot be checked before the plugin is loaded. The status then names the field.
    let early = scene.apply(&policy(json!({ "peakBuckets": 0 }))).await;
    assert!(early.contains("has not loaded SandboxPlugin settings-pool") && early.contains("created"), "{early}");
    let built_in = json!({ "source": { "builtIn": { "name": "pool-by-demand" } } });
    scene.apply(&scene.object("SandboxPlugin", built_in)).await;
    let plugin = scene.until("sandboxplugins", "the plugin is loaded", ready).await;
    assert_eq!(text(&plugin, "/status/replicas/0/witVersion"), "0.2.0", "{plugin}");
    let names_the_field = |policy: &Value| reason(policy, "Ready") == "InvalidSettings";
    let refused = scene.until("sandboxpolicies", "the status names the field", names_the_field).await;
    let expected = "spec.settings: /peakBuckets: must be at least 1, is 0";
    assert!(message(&refused, "Ready").contains(expected), "{refused}");
    // The API server refuses such settings from now on, and takes good ones.
    for (settings, expected) in [
        (json!({ "peakBuckets": -1 }), "spec.settings: /peakBuckets: must be at least 1, is -1"),
        (json!({ "serviceLevel": "high" }), "spec.settings: /serviceLevel: must be a number, is a string"),
        (json!({ "servicelevel": 0.9 }), "spec.settings: /servicelevel: unknown field; the schema has halfLifeBuckets"),
    ] {
        let refused = scene.apply(&policy(settings)).await;
        assert!(refused.contains(expected) && refused.contains("is invalid"), "{refused}");
    }
    scene.apply(&policy(json!({ "serviceLevel": 0.9 }))).await;
    scene.until("sandboxpolicies", "the policy is in force", ready).await;
    scene.delete("sandboxpolicy").await;
    scene.delete("sandboxplugin").await;
}

async fn plugin_whose_schema_has_a_fault_is_not_loaded() {
    let scene = Scene::new("settings-schema").await;
    let component = |schema: &str| paddock_guests::with_schema(schema).expect("a component");
    scene.put(&component(r#"{"properties": {"a": {"$ref": "https://example.com/schema.json"}}}"#)).await;
    scene.apply(&scene.plugin()).await;
    let failed = |plugin: &Value| reason(plugin, "Ready") == "LoadFailed";
    let broken = scene.until("sandboxplugins", "the fault is reported", failed).await;
    let expected = "the schema of the settings of pool-size cannot be used: #/properties/a/$ref";
    assert!(message(&broken, "Ready").contains(expected), "{broken}");
    let good = r##"{"properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"type": "integer"}}}"##;
    scene.put(&component(good)).await;
    scene.until("sandboxplugins", "the good schema is loaded", ready).await;
    scene.delete("sandboxplugin").await;
}
