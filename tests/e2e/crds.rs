//! The CRDs as the API server accepts and serves them.
//!
//! Denials are tested in kube-system. The webhook exempts this namespace, so the API server itself denies the request.

use paddock_api::schema::{ListTypes, builtin_list_types, list_types};
use serde_json::{Value, json};

use super::kinds::{CLAIM, POOL, SANDBOX, SANDBOX_V1ALPHA1, SEED_CLAIM, SEED_POOL, SEED_TEMPLATE, SERVED};
use super::manifests::{merge, pod};
use super::namespace::TestNamespace;
use super::setup::{namespace, setup};
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![
        every_version_is_served,
        definitions_are_structural,
        list_types_are_the_api_servers_own,
        two_managers_share_the_lists_of_either_shape,
        wrong_specs_are_denied_and_the_field_named,
        storage_and_addresses_cannot_be_changed,
        unknown_fields_are_refused_or_reported_as_warnings,
        kubectl_explains_and_prints_columns,
    ]
}

async fn every_version_is_served() {
    let ns = TestNamespace::existing(&setup().await.cluster, "default");
    for kind in SERVED {
        let list = ns.read(&kind.path("default")).await.unwrap_or_else(|e| panic!("{kind:?}: {e}"));
        assert_eq!(list["kind"], format!("{}List", kind.1), "{kind:?}");
    }
}

/// The API server only reports a schema that is not structural. It then prunes no unknown fields.
async fn definitions_are_structural() {
    let ns = TestNamespace::existing(&setup().await.cluster, "default");
    let list = ns.read("/apis/apiextensions.k8s.io/v1/customresourcedefinitions").await.unwrap();
    let ours: Vec<&Value> = list["items"].as_array().unwrap().iter().collect();
    assert_eq!(ours.len(), 9);
    for definition in ours {
        let name = &definition["metadata"]["name"];
        for condition in definition["status"]["conditions"].as_array().unwrap() {
            let wanted = match condition["type"].as_str().unwrap() {
                "Established" | "NamesAccepted" => "True",
                _ => "False",
            };
            assert_eq!(condition["status"], wanted, "{name}: {condition}");
        }
        // A larger CRD cannot be applied client-side.
        let size = serde_json::to_string(&definition["spec"]).unwrap().len();
        assert!(size < 262_144, "{name} has {size} bytes");
    }
}

async fn list_types_are_the_api_servers_own() {
    let ns = TestNamespace::existing(&setup().await.cluster, "default");
    let mut documents = Vec::new();
    for path in ["/openapi/v3/api/v1", "/openapi/v3/apis/networking.k8s.io/v1"] {
        documents.push(ns.read(path).await.unwrap());
    }
    let served = list_types(&documents);
    assert!(served.len() > 50, "only {} definitions", served.len());
    if std::env::var("UPDATE").is_ok_and(|v| v == "1") {
        let file = root!("src/api/list-types.json");
        std::fs::write(file, serde_json::to_string_pretty(&served).unwrap() + "\n").unwrap();
        return;
    }
    let differing: Vec<String> = differences(&builtin_list_types(), &served);
    assert!(differing.is_empty(), "src/api/list-types.json differs from the API server (UPDATE=1): {differing:#?}");
}

fn differences(ours: &ListTypes, served: &ListTypes) -> Vec<String> {
    let names = ours.keys().chain(served.keys());
    let mut differing: Vec<String> = names.filter(|n| ours.get(*n) != served.get(*n)).cloned().collect();
    differing.sort_unstable();
    differing.dedup();
    differing
}

async fn two_managers_share_the_lists_of_either_shape() {
    let ns = namespace("managers").await;
    for (kind, shape) in [(SANDBOX, "podTemplate"), (SANDBOX_V1ALPHA1, "template")] {
        let object = |container: Value| {
            json!({
                "apiVersion": kind.0, "kind": kind.1,
                "metadata": { "name": format!("shared-{}", shape.to_lowercase()) },
                "spec": { shape: { "spec": { "containers": [container], "volumes": [{ "name": "a", "emptyDir": {} }] } } },
            })
        };
        let first = object(json!({
            "name": "agent", "image": "agent:1",
            "env": [{ "name": "A", "value": "1" }],
            "ports": [{ "containerPort": 8888, "name": "runtime", "protocol": "TCP" }],
            "volumeMounts": [{ "name": "a", "mountPath": "/a" }],
        }));
        let second = object(json!({
            "name": "agent",
            "env": [{ "name": "B", "value": "2" }],
            "ports": [{ "containerPort": 9999, "name": "other", "protocol": "TCP" }],
            "volumeMounts": [{ "name": "a", "mountPath": "/b" }],
        }));
        let third = object(json!({ "name": "sidecar", "image": "sidecar:1" }));
        ns.apply("first", &first).await.unwrap();
        ns.apply("second", &second).await.unwrap();
        let merged = ns.apply("third", &third).await.unwrap();
        let names = |pointer: &str, field: &str| -> Vec<Value> {
            let list = merged.pointer(&format!("/spec/{shape}/spec/containers{pointer}"));
            list.and_then(Value::as_array).into_iter().flatten().map(|o| o[field].clone()).collect()
        };
        assert_eq!(names("", "name"), ["agent", "sidecar"], "{shape}");
        assert_eq!(names("/0/env", "name"), ["A", "B"], "{shape}");
        assert_eq!(names("/0/ports", "containerPort"), [8888, 9999], "{shape}");
        assert_eq!(names("/0/volumeMounts", "mountPath"), ["/a", "/b"], "{shape}");
        // A field that its manager no longer applies is removed, and no other field.
        let less = object(
            json!({ "name": "agent", "ports": [{ "containerPort": 9999, "name": "other", "protocol": "TCP" }] }),
        );
        let merged = ns.apply("second", &less).await.unwrap();
        let agent = &merged["spec"][shape]["spec"]["containers"][0];
        assert_eq!(agent["env"], json!([{ "name": "A", "value": "1" }]), "{shape}");
        assert_eq!(agent["ports"].as_array().unwrap().len(), 2, "{shape}");
    }
}

async fn wrong_specs_are_denied_and_the_field_named() {
    let ns = TestNamespace::existing(&setup().await.cluster, "kube-system");
    let sandbox = |with: Value| {
        let mut spec = json!({ "podTemplate": pod() });
        merge(&mut spec, &with);
        (SANDBOX, spec)
    };
    let pool = |with: Value| {
        let mut spec = json!({ "sandboxTemplateRef": { "name": "t" } });
        merge(&mut spec, &with);
        (POOL, spec)
    };
    let cases = [
        (sandbox(json!({ "template": pod() })), vec!["podTemplate", "template", "exactly one"]),
        ((SANDBOX, json!({})), vec!["podTemplate", "template", "exactly one"]),
        (sandbox(json!({ "idleTimeout": "30 minutes" })), vec!["spec.idleTimeout", "30m"]),
        (sandbox(json!({ "idleTimeout": "-5m" })), vec!["spec.idleTimeout", "30m"]),
        (sandbox(json!({ "idleTimeout": "0s" })), vec!["spec.idleTimeout", "above zero"]),
        (sandbox(json!({ "idleTimeout": "1d" })), vec!["spec.idleTimeout"]),
        (sandbox(json!({ "idleTimeout": "87601h" })), vec!["spec.idleTimeout", "at most 87600h"]),
        // A value larger than the largest value of CEL.
        (sandbox(json!({ "idleTimeout": "99999999h" })), vec!["spec.idleTimeout", "at most 87600h"]),
        (sandbox(json!({ "idleTimeout": "999999h999999h999999h" })), vec!["spec.idleTimeout", "at most 87600h"]),
        (sandbox(json!({ "replicas": 2 })), vec!["spec.replicas", "less than or equal to 1"]),
        (sandbox(json!({ "replicas": -1 })), vec!["spec.replicas"]),
        (sandbox(json!({ "operatingMode": "Paused" })), vec!["spec.operatingMode", "Suspended"]),
        (sandbox(json!({ "resumePolicy": "Always" })), vec!["spec.resumePolicy", "OnDemand"]),
        (sandbox(json!({ "drainPolicy": "Suspend" })), vec!["spec.drainPolicy", "resumePolicy: OnDemand"]),
        (sandbox(json!({ "drainPolicy": "Wait" })), vec!["spec.drainPolicy", "Evict"]),
        (
            (SEED_TEMPLATE, json!({ "template": pod(), "drainPolicy": "Suspend", "resumePolicy": "Manual" })),
            vec!["spec.drainPolicy", "resumePolicy: OnDemand"],
        ),
        (sandbox(json!({ "wakeSchedule": { "cron": "@daily" } })), vec!["spec.wakeSchedule.cron", "0 9 * * 1-5"]),
        (sandbox(json!({ "wakeSchedule": { "cron": "0 9 * *" } })), vec!["spec.wakeSchedule.cron", "five fields"]),
        (sandbox(json!({ "wakeSchedule": { "timeZone": "UTC" } })), vec!["spec.wakeSchedule.cron", "Required"]),
        (
            sandbox(json!({ "wakeSchedule": { "cron": "0 9 * * *", "timeZone": "LOCAL" } })),
            vec!["spec.wakeSchedule.timeZone", "Europe/Berlin"],
        ),
        (
            (
                SEED_TEMPLATE,
                json!({ "template": pod(), "wakeSchedule": { "cron": "0 9 * * *", "timeZone": "+02:00" } }),
            ),
            vec!["spec.wakeSchedule.timeZone", "Europe/Berlin"],
        ),
        (sandbox(json!({ "shutdownPolicy": "Keep" })), vec!["spec.shutdownPolicy", "Retain"]),
        (sandbox(json!({ "shutdownTime": "tomorrow" })), vec!["spec.shutdownTime"]),
        (
            sandbox(json!({ "runtimeClassName": "kata", "podTemplate": { "spec": { "runtimeClassName": "gvisor" } } })),
            vec!["spec.runtimeClassName"],
        ),
        (
            sandbox(json!({ "podTemplate": { "spec": { "containers": [{ "image": "nameless" }] } } })),
            vec!["spec.podTemplate.spec.containers[0].name"],
        ),
        (
            sandbox(json!({ "podTemplate": { "spec": { "containers": [
                { "name": "a", "resources": { "limits": { "cpu": "lots" } } },
            ] } } })),
            vec!["spec.podTemplate.spec.containers[0].resources.limits.cpu"],
        ),
        (pool(json!({ "minReady": 5, "maxReady": 2 })), vec!["spec.minReady", "maxReady"]),
        (pool(json!({ "replicas": -1 })), vec!["spec.replicas"]),
        (pool(json!({ "updateStrategy": { "type": "Never" } })), vec!["spec.updateStrategy.type", "OnReplenish"]),
        ((POOL, json!({ "replicas": 1 })), vec!["spec.sandboxTemplateRef"]),
        ((SEED_POOL, json!({ "minReady": 1 })), vec!["spec.templateRef"]),
        ((CLAIM, json!({})), vec!["warmPoolRef", "sandboxTemplateRef", "exactly one"]),
        (
            (CLAIM, json!({ "warmPoolRef": { "name": "p" }, "sandboxTemplateRef": { "name": "t" } })),
            vec!["warmPoolRef", "sandboxTemplateRef", "exactly one"],
        ),
        ((CLAIM, json!({ "warmPoolRef": { "name": "p" }, "warmpool": "q" })), vec!["spec.warmpool"]),
        (
            (CLAIM, json!({ "warmPoolRef": { "name": "p" }, "lifecycle": { "ttlSecondsAfterFinished": -1 } })),
            vec!["spec.lifecycle.ttlSecondsAfterFinished"],
        ),
        ((SEED_CLAIM, json!({})), vec!["templateRef", "warmPoolRef", "exactly one"]),
        ((SEED_TEMPLATE, json!({})), vec!["spec.template"]),
        (
            (SEED_TEMPLATE, json!({ "template": pod(), "envVarsInjectionPolicy": "Sometimes" })),
            vec!["spec.envVarsInjectionPolicy", "Overrides"],
        ),
    ];
    for ((kind, spec), wanted) in cases {
        let object = json!({ "apiVersion": kind.0, "kind": kind.1, "metadata": { "name": "wrong" }, "spec": spec });
        let denied = match ns.dry_run(&object).await {
            Err(kube::Error::Api(status)) => status,
            other => panic!("{spec} was not denied: {other:?}"),
        };
        assert_eq!((denied.code, denied.reason.as_str()), (422, "Invalid"), "{spec}: {}", denied.message);
        for part in wanted {
            assert!(denied.message.contains(part), "{spec}: {part:?} is not in: {}", denied.message);
        }
    }
}

async fn storage_and_addresses_cannot_be_changed() {
    let ns = TestNamespace::existing(&setup().await.cluster, "kube-system");
    let disk = |size: &str| {
        json!([{
            "metadata": { "name": "home" },
            "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": size } } },
        }])
    };
    let object = json!({
        "apiVersion": SANDBOX.0, "kind": SANDBOX.1, "metadata": { "name": "rules-of-updates" },
        "spec": { "podTemplate": pod(), "volumeClaimTemplates": disk("1Gi"), "operatingMode": "Suspended", "replicas": 0 },
    });
    ns.create(object).await;
    for (change, wanted) in [
        (json!({ "volumeClaimTemplates": disk("2Gi") }), "volumeClaimTemplates is immutable"),
        (json!({ "volumeClaimTemplates": null }), "volumeClaimTemplates is immutable"),
        (json!({ "resumePolicy": "OnDemand" }), "resumePolicy is immutable"),
    ] {
        for kind in [SANDBOX, SANDBOX_V1ALPHA1] {
            let patch = kube::api::Patch::Merge(json!({ "spec": change }));
            let denied = ns.api(kind).patch("rules-of-updates", &Default::default(), &patch).await.unwrap_err();
            assert!(denied.to_string().contains(wanted), "{change}: {denied}");
        }
    }
    ns.delete(SANDBOX, "rules-of-updates").await;
}

async fn unknown_fields_are_refused_or_reported_as_warnings() {
    let ns = namespace("strictness").await;
    let manifest = json!({
        "apiVersion": SANDBOX.0, "kind": SANDBOX.1, "metadata": { "name": "typo" },
        "spec": { "podTemplate": pod(), "idleTimeOut": "30m" },
    })
    .to_string();
    let strict = ns.kubectl(&["create", "--validate=strict", "-f", "-"], Some(&manifest)).await.unwrap_err();
    assert!(strict.to_string().contains(r#"unknown field "spec.idleTimeOut""#), "{strict}");
    let warn = ns.kubectl_output(&["create", "--validate=warn", "-f", "-"], Some(&manifest)).await;
    assert!(warn.contains(r#"unknown field "spec.idleTimeOut""#), "{warn}");
    assert!(ns.get(SANDBOX, "typo").await["spec"]["idleTimeOut"].is_null(), "it is pruned");
}

async fn kubectl_explains_and_prints_columns() {
    let ns = namespace("kubectl").await;
    for (field, wanted) in [
        ("sandboxes.agents.x-k8s.io.spec.idleTimeout", "FIELD: idleTimeout"),
        ("sandboxwarmpools.extensions.agents.x-k8s.io.spec.maxReady", "FIELD: maxReady"),
        ("sandboxclaims.agents.x-k8s.io.spec.templateRef", "FIELD: templateRef"),
    ] {
        let explained = ns.kubectl(&["explain", field], None).await.unwrap();
        assert!(explained.contains(wanted) && explained.contains("DESCRIPTION"), "{field}: {explained}");
        assert!(!explained.contains("<empty>"), "{field} is not described: {explained}");
    }
    let metadata = json!({ "name": "columns" });
    ns.create(
        json!({ "apiVersion": SANDBOX.0, "kind": SANDBOX.1, "metadata": metadata, "spec": { "podTemplate": pod() } }),
    )
    .await;
    ns.create(json!({ "apiVersion": POOL.0, "kind": POOL.1, "metadata": metadata, "spec": { "sandboxTemplateRef": { "name": "none" } } })).await;
    ns.create(json!({ "apiVersion": CLAIM.0, "kind": CLAIM.1, "metadata": metadata, "spec": { "warmPoolRef": { "name": "none" } } })).await;
    for (resource, wanted) in [
        ("sandboxes", "NAME READY REASON AGE"),
        ("sandboxwarmpools.extensions.agents.x-k8s.io", "NAME READY DESIRED AGE"),
        ("sandboxclaims.extensions.agents.x-k8s.io", "NAME READY SANDBOX REASON AGE"),
    ] {
        let table = ns.kubectl(&["get", resource], None).await.unwrap();
        let header: Vec<&str> = table.lines().next().unwrap_or_default().split_whitespace().collect();
        assert_eq!(header.join(" "), wanted, "{table}");
    }
    // Short names work too.
    for name in ["sandbox", "swp", "sandboxclaim", "sandboxtemplate"] {
        ns.kubectl(&["get", name], None).await.unwrap();
    }
}
