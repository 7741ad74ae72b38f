//! Stored Sandboxes and claims as JSON, for the plugins that review them in a reconcile.
//!
//! The documents are made from the model, because an observed object keeps no other copy. They contain every field that
//! the model has. Durations are written in milliseconds.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use paddock_api::kind::ApiShape;
use paddock_api::{DrainPolicy, OperatingMode, ResumePolicy};
use serde_json::{Map, Value, json};

use crate::model::{self, ClaimSource, PoolChoice, ServiceIntent};
use crate::object::Object;
use crate::object::hash::wire_claim;
use crate::object::json::to_value;

/// Returns a Sandbox in its API shape, without its status.
#[must_use]
pub fn stored_sandbox(sandbox: &Object, model: &model::Sandbox) -> Value {
    let field = match model.shape {
        ApiShape::Upstream => "podTemplate",
        ApiShape::Seed => "template",
    };
    let pod = json!({
        "metadata": { "labels": model.pod.labels, "annotations": model.pod.annotations },
        "spec": model.pod.spec.text().parse::<Value>(),
    });
    let beside = model.runtime_class.as_ref().filter(|_| !model.pod.spec.names_class());
    let service = match (model.shape, model.service) {
        (ApiShape::Upstream, ServiceIntent::Absent) => Some(false),
        (ApiShape::Upstream, ServiceIntent::Headless) => Some(true),
        (ApiShape::Upstream, ServiceIntent::Keep | ServiceIntent::Stable) | (ApiShape::Seed, _) => None,
    };
    let replicas = model.replicas.map(|mode| i32::from(mode == OperatingMode::Running));
    let resume = Some(model.resume).filter(|resume| *resume != ResumePolicy::default());
    let drain = Some(model.drain).filter(|drain| *drain != DrainPolicy::default());
    let claims: Vec<Value> = model.volume_claims.iter().map(wire_claim).collect();
    let spec = fields([
        (field, Some(pod)),
        ("runtimeClassName", beside.map(|name| json!(name))),
        ("volumeClaimTemplates", Some(json!(claims)).filter(|_| !claims.is_empty())),
        ("service", service.map(|wanted| json!(wanted))),
        ("shutdownTime", model.shutdown.at.map(|at| to_value(&Time(at)))),
        ("shutdownPolicy", model.shutdown.at.map(|_| to_value(&model.shutdown.policy))),
        ("operatingMode", model.operating_mode.map(|mode| to_value(&mode))),
        ("replicas", replicas.map(|n| json!(n))),
        ("idleTimeout", model.idle_timeout.map(|timeout| json!(format!("{}ms", timeout.as_millis())))),
        ("resumePolicy", resume.map(|resume| to_value(&resume))),
        ("drainPolicy", drain.map(|drain| to_value(&drain))),
        ("wakeSchedule", model.wake.as_ref().map(|wake| to_value(wake.written()))),
    ]);
    document(sandbox, spec)
}

/// Returns a claim in its API shape, without its status.
#[must_use]
pub fn stored_claim(claim: &Object, model: &model::Claim) -> Value {
    let named = |name: &str| Some(json!({ "name": name }));
    let template = match claim.key.kind.shape() {
        Some(ApiShape::Upstream) | None => "sandboxTemplateRef",
        Some(ApiShape::Seed) => "templateRef",
    };
    let (pool_ref, template_ref, pools) = match &model.source {
        ClaimSource::Pool(name) => (named(name), None, None),
        ClaimSource::Template { name, pools } => (
            None,
            named(name),
            match pools {
                PoolChoice::Any => None,
                PoolChoice::NoPool => Some(json!("none")),
                PoolChoice::Named(pool) => Some(json!(pool)),
            },
        ),
    };
    let end = &model.end;
    let lifecycle = fields([
        ("shutdownTime", end.at.map(|at| to_value(&Time(at)))),
        ("ttlSecondsAfterFinished", end.after_finished.map(|ttl| json!(ttl.as_secs()))),
        ("shutdownPolicy", Some(to_value(&end.policy)).filter(|_| end.at.is_some() || end.after_finished.is_some())),
    ]);
    let added = fields([
        ("labels", Some(json!(model.labels)).filter(|_| !model.labels.is_empty())),
        ("annotations", Some(json!(model.annotations)).filter(|_| !model.annotations.is_empty())),
    ]);
    let claims: Vec<Value> = model.volume_claims.iter().map(wire_claim).collect();
    // The contents of files are not kept.
    let files = model.data.iter().flat_map(|data| &data.files);
    let files: Vec<Value> = files
        .map(|file| fields([("name", Some(json!(file.name))), ("secretKeyRef", file.secret.as_ref().map(to_value))]))
        .collect();
    let is_empty = |value: &Value| value.as_object().is_some_and(Map::is_empty);
    let spec = fields([
        ("warmPoolRef", pool_ref),
        (template, template_ref),
        ("warmpool", pools),
        ("lifecycle", Some(lifecycle).filter(|lifecycle| !is_empty(lifecycle))),
        ("additionalPodMetadata", Some(added).filter(|added| !is_empty(added))),
        ("env", Some(to_value(&model.env)).filter(|_| !model.env.is_empty())),
        ("files", Some(json!(files)).filter(|_| !files.is_empty())),
        ("volumeClaimTemplates", Some(json!(claims)).filter(|_| !claims.is_empty())),
    ]);
    document(claim, spec)
}

/// A JSON object of those fields that have a value.
fn fields<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn document(object: &Object, spec: Value) -> Value {
    let meta = &object.meta;
    let controller = meta.controller.iter().map(|owner| (&**owner, true));
    let owners = controller.chain(meta.other_owners.iter().map(|owner| (owner, false)));
    let owner_references: Vec<Value> = owners
        .map(|(owner, controller)| {
            json!({
                "apiVersion": &*owner.api_version,
                "kind": &*owner.kind,
                "name": &*owner.name,
                "uid": &*owner.uid,
                "controller": controller,
            })
        })
        .collect();
    json!({
        "apiVersion": object.key.kind.api_version(),
        "kind": object.key.kind.name(),
        "metadata": {
            "name": &*object.key.name,
            "namespace": &*object.key.namespace,
            "uid": &*meta.uid,
            "generation": meta.generation,
            "creationTimestamp": to_value(&Time(meta.created)),
            "labels": meta.labels,
            "annotations": meta.annotations,
            "ownerReferences": owner_references,
        },
        "spec": spec,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use paddock_api::kind::Kind;

    /// What a plugin is shown parses to the model that the operator uses, for every field and both shapes.
    #[test]
    fn stored_object_parses_to_the_same_model() {
        let pod = json!({
            "metadata": { "labels": { "l": "1" }, "annotations": { "a": "2" } },
            "spec": { "containers": [{ "name": "c", "image": "i" }] },
        });
        let claim = json!([{ "metadata": { "name": "data" }, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } },
        } }]);
        let lifecycle = json!({
            "shutdownTime": "2030-01-01T12:00:00Z", "ttlSecondsAfterFinished": 60, "shutdownPolicy": "Delete",
        });
        for (kind, spec) in [
            (Kind::Sandbox, json!({ "podTemplate": pod })),
            (Kind::Sandbox, json!({ "template": pod, "runtimeClassName": "gvisor", "replicas": 0 })),
            (
                Kind::Sandbox,
                json!({
                    "podTemplate": pod, "runtimeClassName": "gvisor", "volumeClaimTemplates": claim, "service": true,
                    "shutdownTime": "2030-01-01T12:00:00Z", "shutdownPolicy": "Delete", "operatingMode": "Running",
                    "replicas": 1, "idleTimeout": "30m",
                }),
            ),
            (Kind::Sandbox, json!({ "podTemplate": pod, "service": false })),
            (Kind::Sandbox, json!({ "podTemplate": pod, "resumePolicy": "OnDemand" })),
            (Kind::Sandbox, json!({ "podTemplate": pod, "resumePolicy": "OnDemand", "drainPolicy": "Suspend" })),
            (Kind::Sandbox, json!({ "podTemplate": pod, "wakeSchedule": { "cron": "0 9 * * 1-5" } })),
            (
                Kind::Sandbox,
                json!({ "podTemplate": pod, "wakeSchedule": { "cron": "0 9 * * *", "timeZone": "Asia/Tokyo" } }),
            ),
            (Kind::Sandbox, json!({ "podTemplate": pod, "wakeSchedule": { "cron": "not valid" } })),
            (Kind::Claim, json!({ "warmPoolRef": { "name": "p" } })),
            (Kind::Claim, json!({ "sandboxTemplateRef": { "name": "t" }, "warmpool": "none" })),
            (
                Kind::Claim,
                json!({
                    "sandboxTemplateRef": { "name": "t" }, "warmpool": "p", "lifecycle": lifecycle,
                    "additionalPodMetadata": { "labels": { "l": "1" }, "annotations": { "a": "2" } },
                    "env": [{ "name": "A", "value": "b", "containerName": "c" }], "volumeClaimTemplates": claim,
                }),
            ),
            (Kind::SeedClaim, json!({ "templateRef": { "name": "t" } })),
            (Kind::SeedClaim, json!({ "warmPoolRef": { "name": "p" } })),
        ] {
            let metadata = json!({
                "name": "a", "namespace": "n", "uid": "u", "labels": { "x": "y" }, "annotations": { "y": "z" },
                "creationTimestamp": "2030-01-01T11:00:00Z", "generation": 3,
                "ownerReferences": [{ "apiVersion": "v1", "kind": "O", "name": "o", "uid": "p", "controller": true }],
            });
            let object = |document: Value| Object::from_json(kind, document).expect("metadata");
            let stored = |object: &Object| match (object.sandbox(), object.claim()) {
                (Some(s), _) => stored_sandbox(object, s.spec.as_ref().expect("a model")),
                (_, Some(c)) => stored_claim(object, c.spec.as_ref().expect("a model")),
                (None, None) => Value::Null,
            };
            let first = object(json!({ "metadata": metadata, "spec": spec }));
            let second = object(stored(&first));
            assert_eq!(format!("{:?}", first.body), format!("{:?}", second.body), "{spec}");
            assert_eq!(json!(first.meta), json!(second.meta), "{spec}");
        }
    }
}
