//! Sandboxes made by pools and claims (always `v1beta1`, upstream's shape), and how a claim takes one over.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, EnvVar, PodSpec};
use serde_json::{Value, json};

use super::{controller_reference, mount_unmounted, pod_name, taken_over_by};
use crate::api::{ClaimEnvVar, ResumePolicy};
use crate::kind::{ApiShape, Kind};
use crate::model::{self, ServiceIntent, VolumeClaim};
use crate::names::{annotation, group, label, name_hash};
use crate::object::Object;
use crate::object::hash::{fnv64, wire_claim};
use crate::object::json::to_value;

/// What a new Sandbox is made for.
#[derive(Clone, Copy, Debug)]
pub enum Origin<'a> {
    /// A pool keeps it warm.
    Pool(&'a Object),
    /// A claim found nothing warm; the pool is the one it looked in.
    Claim(&'a Object, Option<&'a str>),
}

/// A warm Sandbox of a pool.
#[must_use]
pub fn warm_sandbox(pool: &Object, template: &Object, model: &model::Template, name: &str) -> Value {
    let spec = mounted(model);
    let mut body = sandbox(Origin::Pool(pool), template, model, name);
    body["metadata"]["generateName"] = member_prefix(&pool.key.name).into();
    body["spec"]["podTemplate"]["spec"] = to_value(&spec);
    body
}

/// The Sandbox of a claim that found nothing warm, with what the claim adds.
#[must_use]
pub fn cold_sandbox(
    origin: Origin<'_>,
    template: &Object,
    model: &model::Template,
    claim: &model::Claim,
    volume_claims: &[VolumeClaim],
) -> Value {
    let name = match origin {
        Origin::Pool(object) | Origin::Claim(object, _) => object.key.name.clone(),
    };
    let mut spec = mounted(model);
    inject_env(&mut spec, &claim.env);
    let mut body = sandbox(origin, template, model, &name);
    body["spec"]["podTemplate"]["spec"] = to_value(&spec);
    body["spec"]["volumeClaimTemplates"] = volume_claims.iter().map(wire_claim).collect();
    let metadata = &mut body["spec"]["podTemplate"]["metadata"];
    for (field, added) in [("labels", &claim.labels), ("annotations", &claim.annotations)] {
        for (k, v) in added {
            metadata[field][k] = v.as_str().into();
        }
    }
    body
}

fn mounted(model: &model::Template) -> PodSpec {
    let mut spec = PodSpec::clone(&model.pod.spec);
    if model.shape == ApiShape::Seed {
        mount_unmounted(&mut spec);
    }
    spec
}

fn sandbox(origin: Origin<'_>, template: &Object, model: &model::Template, name: &str) -> Value {
    let template_hash_of_name = name_hash(&template.key.name);
    let mut labels = BTreeMap::from([
        (label::TEMPLATE_REF_HASH, template_hash_of_name.clone()),
        (label::TEMPLATE_HASH, template.template_hash().to_owned()),
    ]);
    let mut annotations = BTreeMap::from([
        (annotation::TEMPLATE_REF, template.key.name.to_string()),
        (annotation::POD_NAME, name.to_owned()),
    ]);
    let owner = match origin {
        Origin::Pool(pool) => {
            labels.insert(label::WARM_POOL_SANDBOX, name_hash(&pool.key.name));
            labels.insert(label::LAUNCH_TYPE, label::LAUNCH_WARM.to_owned());
            annotations.insert(annotation::WARM_POOL, pool.key.name.to_string());
            pool
        }
        Origin::Claim(claim, pool) => {
            labels.insert(label::CLAIM_UID, claim.meta.uid.to_string());
            labels.insert(label::LAUNCH_TYPE, label::LAUNCH_COLD.to_owned());
            annotations.extend(pool.map(|p| (annotation::WARM_POOL, p.to_owned())));
            if let Some(by) = claim.meta.labels.get(label::CREATED_BY) {
                labels.insert(label::CREATED_BY, by.clone());
            }
            if let Some(context) = claim.meta.annotations.get(annotation::TRACE_CONTEXT) {
                annotations.insert(annotation::TRACE_CONTEXT, context.clone());
            }
            claim
        }
    };
    let mut pod_labels = model.pod.labels.clone();
    pod_labels.insert(label::TEMPLATE_REF_HASH.to_owned(), template_hash_of_name);
    let mut spec = json!({
        "podTemplate": {
            "metadata": { "labels": pod_labels, "annotations": model.pod.annotations },
            "spec": {},
        },
        "operatingMode": "Running",
        "replicas": 1,
    });
    if let Some(class) = &model.runtime_class {
        spec["runtimeClassName"] = class.as_str().into();
    }
    if !model.volume_claims.is_empty() {
        spec["volumeClaimTemplates"] = model.volume_claims.iter().map(wire_claim).collect();
    }
    match model.service {
        ServiceIntent::Keep | ServiceIntent::Stable => {}
        ServiceIntent::Absent => spec["service"] = false.into(),
        ServiceIntent::Headless => spec["service"] = true.into(),
    }
    if let Some(timeout) = model.idle_timeout {
        spec["idleTimeout"] = format!("{}ms", timeout.as_millis()).into();
    }
    match model.resume {
        ResumePolicy::Manual => {}
        ResumePolicy::OnDemand => spec["resumePolicy"] = "OnDemand".into(),
    }
    json!({
        "apiVersion": group::SANDBOX_API_VERSION,
        "kind": Kind::Sandbox.name(),
        "metadata": {
            "name": name,
            "namespace": &*owner.key.namespace,
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [controller_reference(owner)],
        },
        "spec": spec,
    })
}

/// The patch by which a claim takes a warm Sandbox: the commit point.
#[must_use]
pub fn adopted_by_claim(claim: &Object, model: &model::Claim, sandbox: &Object, now: Timestamp) -> Value {
    let mut patch = json!({
        "metadata": {
            "ownerReferences": taken_over_by(claim, sandbox),
            "labels": {
                label::WARM_POOL_SANDBOX: null,
                label::CLAIM_UID: &*claim.meta.uid,
                label::LAUNCH_TYPE: label::LAUNCH_WARM,
            },
            "annotations": { annotation::POD_NAME: pod_name(sandbox) },
        },
    });
    if sandbox.sandbox().is_some_and(|s| s.spec.as_ref().is_ok_and(|s| s.idle_timeout.is_some())) {
        // Its pod may have waited for longer than the timeout: it was unused, not idle.
        patch["metadata"]["annotations"][annotation::LAST_ACTIVITY] = now.to_string().into();
    }
    if let Some(by) = claim.meta.labels.get(label::CREATED_BY) {
        patch["metadata"]["labels"][label::CREATED_BY] = by.as_str().into();
    }
    if let Some(context) = claim.meta.annotations.get(annotation::TRACE_CONTEXT) {
        patch["metadata"]["annotations"][annotation::TRACE_CONTEXT] = context.as_str().into();
    }
    if sandbox.meta.only_our_manager {
        // Who wrote which field is of no use where all is one writer's, and keeping it up is more than a quarter of what this
        // write takes the API server. A list of one empty entry tells it to stop; it begins again with a server-side apply.
        patch["metadata"]["managedFields"] = json!([{}]);
    }
    let added = [("labels", &model.labels), ("annotations", &model.annotations)];
    for (field, added) in added.into_iter().filter(|(_, added)| !added.is_empty()) {
        patch["spec"]["podTemplate"]["metadata"][field] = json!(added);
    }
    patch
}

/// Adds a claim's variables: to the container they name, else to the first.
pub fn inject_env(spec: &mut PodSpec, env: &[ClaimEnvVar]) {
    for var in env {
        let container: Option<&mut Container> = match &var.container_name {
            None => spec.containers.first_mut(),
            Some(name) => {
                spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()).find(|c| c.name == *name)
            }
        };
        let Some(container) = container else { continue };
        let added = EnvVar { name: var.name.clone(), value: Some(var.value.clone()), value_from: None };
        let list = container.env.get_or_insert_with(Vec::new);
        match list.iter_mut().find(|e| e.name == var.name) {
            Some(existing) => *existing = added,
            None => list.push(added),
        }
    }
}

/// What the name of every Sandbox of a pool begins with.
#[must_use]
pub fn member_prefix(pool: &str) -> String {
    // The API server's own limit for generated names: 63 less five random characters.
    const LONGEST: usize = 58;
    let mut prefix = format!("{pool}-");
    if prefix.len() > LONGEST {
        prefix.truncate(LONGEST);
    }
    prefix
}

/// The name of a pool's Sandbox, from a number: five characters of the API server's alphabet for generated names.
#[must_use]
pub fn member_name(pool: &Object, nonce: u64) -> String {
    // Without vowels and without digits that look like letters, as in apimachinery's `rand` package.
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut n = fnv64([pool.meta.uid.as_bytes(), &nonce.to_le_bytes()]);
    let suffix: String = (0..5)
        .map(|_| {
            let c = ALPHABET[usize::try_from(n % 27).unwrap_or_default()];
            n /= 27;
            char::from(c)
        })
        .collect();
    format!("{}{suffix}", member_prefix(&pool.key.name))
}
