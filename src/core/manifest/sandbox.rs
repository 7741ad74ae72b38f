//! The Sandboxes that pools and claims create, and the patch by which a claim takes one. The Sandboxes are always of
//! version `v1beta1` in the upstream shape.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVar, PodSpec};
use paddock_api::kind::{ApiShape, Kind};
use paddock_api::names::{annotation, label, name_hash};
use paddock_api::{ClaimEnvVar, DrainPolicy, ResumePolicy};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::claim_data::add_volume;
use super::claim_metadata::added_keys;
use super::{controller_reference, mount_unmounted, owned, pod_name};
use crate::as_made;
use crate::marker::Marker;
use crate::model::{self, ServiceIntent, VolumeClaim};
use crate::object::Object;
use crate::object::hash::wire_claim;
use crate::object::json::{string_map, to_value};
use crate::settings::ManagedFieldsAtClaim;
use crate::snapshot::Common;

/// The owner for which a new Sandbox is created.
#[derive(Clone, Copy, Debug)]
pub enum Origin<'a> {
    /// The pool that keeps the Sandbox warm.
    Pool(&'a Object),
    /// A claim that found no warm Sandbox, the name of the pool in which it looked, and the marker of both.
    Claim(&'a Object, Option<&'a str>, Marker),
}

/// Returns a warm Sandbox of a pool, as JSON.
#[must_use]
pub fn warm_sandbox(pool: &Object, template: &Object, model: &model::Template, name: &str) -> Value {
    let spec = mounted(model);
    let mut body = sandbox(Origin::Pool(pool), template, model, name);
    body["metadata"]["generateName"] = member_prefix(&pool.key.name).into();
    body["spec"]["podTemplate"]["spec"] = to_value(&spec);
    let (labels, annotations) = (string_map(&body, "/metadata/labels"), string_map(&body, "/metadata/annotations"));
    body["spec"]["podTemplate"]["metadata"]["annotations"][annotation::AS_MADE] =
        format!("{:032x}", as_made::digest(&labels, &annotations)).into();
    body
}

/// Returns the Sandbox of a claim that found no warm Sandbox, as JSON. It contains the additions of the claim.
#[must_use]
pub fn cold_sandbox(
    origin: Origin<'_>,
    template: &Object,
    model: &model::Template,
    claim: &model::Claim,
    volume_claims: &[VolumeClaim],
) -> Value {
    let name = match origin {
        Origin::Pool(object) | Origin::Claim(object, ..) => object.key.name.clone(),
    };
    let mut spec = mounted(model);
    if model.claim_data.is_none() {
        inject_env(&mut spec, &claim.env);
    }
    let mut body = sandbox(origin, template, model, &name);
    body["spec"]["podTemplate"]["spec"] = to_value(&spec);
    body["spec"]["volumeClaimTemplates"] = volume_claims.iter().map(wire_claim).collect();
    if let (Some(_), Some(data)) = (&model.claim_data, &claim.data) {
        body["metadata"]["annotations"][annotation::CLAIM_DATA_DIGEST] = data.digest.as_str().into();
    }
    if let Some(keys) = added_keys(claim) {
        body["metadata"]["annotations"][annotation::CLAIM_METADATA] = keys.into();
    }
    let metadata = &mut body["spec"]["podTemplate"]["metadata"];
    for (field, added) in [("labels", &claim.labels), ("annotations", &claim.annotations)] {
        for (key, value) in added.iter() {
            metadata[field][key] = value.into();
        }
    }
    body
}

fn mounted(model: &model::Template) -> PodSpec {
    let mut spec = model.pod.spec.parse();
    if model.shape == ApiShape::Seed {
        mount_unmounted(&mut spec);
    }
    if let Some(rules) = &model.claim_data {
        add_volume(&mut spec, rules);
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
    let (owner, marker) = match origin {
        Origin::Pool(pool) => {
            labels.insert(label::WARM_POOL_SANDBOX, name_hash(&pool.key.name));
            labels.insert(label::LAUNCH_TYPE, label::LAUNCH_WARM.to_owned());
            annotations.insert(annotation::WARM_POOL, pool.key.name.to_string());
            (pool, Marker::of(&pool.meta.labels))
        }
        Origin::Claim(claim, pool, marker) => {
            labels.insert(label::CLAIM_UID, claim.meta.uid.to_string());
            labels.insert(label::LAUNCH_TYPE, label::LAUNCH_COLD.to_owned());
            annotations.extend(pool.map(|p| (annotation::WARM_POOL, p.to_owned())));
            if let Some(by) = claim.meta.labels.get(label::CREATED_BY) {
                labels.insert(label::CREATED_BY, by.to_owned());
            }
            if let Some(context) = claim.meta.annotations.get(annotation::TRACE_CONTEXT) {
                annotations.insert(annotation::TRACE_CONTEXT, context.to_owned());
            }
            (claim, marker)
        }
    };
    if Marker::strongest([marker, Marker::of(&template.meta.labels)]).is_generated_code() {
        labels.insert(label::GENERATED_CODE, label::TRUE.to_owned());
    }
    let mut pod_labels = model.pod.labels.to_map();
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
    match model.drain {
        DrainPolicy::Evict => {}
        DrainPolicy::Suspend => spec["drainPolicy"] = "Suspend".into(),
    }
    if let Some(wake) = &model.wake {
        spec["wakeSchedule"] = to_value(&wake.written);
    }
    let mut body = owned(owner, Kind::Sandbox, name, json!({ "labels": labels, "annotations": annotations }));
    body["spec"] = spec;
    body
}

/// Returns the merge patch by which a claim takes a warm Sandbox: the commit point. `marker` is the marker of the claim,
/// its pool and its template, which the Sandbox gets.
#[must_use]
pub fn adopted_by_claim(
    claim: &Object,
    model: &model::Claim,
    (sandbox, marker): (&Object, Marker),
    common: &Common,
) -> Value {
    let mut patch = json!({
        "metadata": {
            // A Sandbox with another owner is touched, and would outlive the claim.
            "ownerReferences": [controller_reference(claim)],
            "labels": {
                label::WARM_POOL_SANDBOX: null,
                label::CLAIM_UID: &*claim.meta.uid,
                label::LAUNCH_TYPE: label::LAUNCH_WARM,
            },
            "annotations": { annotation::POD_NAME: pod_name(sandbox) },
        },
    });
    if sandbox.sandbox().is_some_and(|s| s.spec.as_ref().is_ok_and(|s| s.idle_timeout.is_some())) {
        // The pod may have been in the pool for longer than the timeout. It was unused in that time, but it is not
        // idle.
        patch["metadata"]["annotations"][annotation::LAST_ACTIVITY] = common.now.to_string().into();
    }
    if marker.is_generated_code() && Marker::of(&sandbox.meta.labels) != Marker::Marked {
        patch["metadata"]["labels"][label::GENERATED_CODE] = label::TRUE.into();
    }
    if let Some(by) = claim.meta.labels.get(label::CREATED_BY) {
        patch["metadata"]["labels"][label::CREATED_BY] = by.into();
    }
    if let Some(context) = claim.meta.annotations.get(annotation::TRACE_CONTEXT) {
        patch["metadata"]["annotations"][annotation::TRACE_CONTEXT] = context.into();
    }
    if common.settings.managed_fields_at_claim == ManagedFieldsAtClaim::Clear && sandbox.meta.only_our_manager {
        // Managed fields are of no use if one client wrote all fields. They cost more than a quarter of the time that
        // the API server needs for this write. A list with one empty entry makes the API server stop recording them,
        // until a server-side apply.
        patch["metadata"]["managedFields"] = json!([{}]);
    }
    if let Some(data) = model.data.as_ref().filter(|_| takes_claim_data(sandbox)) {
        patch["metadata"]["annotations"][annotation::CLAIM_DATA_DIGEST] = data.digest.as_str().into();
    }
    if let Some(keys) = added_keys(model) {
        patch["metadata"]["annotations"][annotation::CLAIM_METADATA] = keys.into();
    }
    let added = [("labels", &model.labels), ("annotations", &model.annotations)];
    for (field, added) in added.into_iter().filter(|(_, added)| !added.is_empty()) {
        patch["spec"]["podTemplate"]["metadata"][field] = json!(added);
    }
    patch
}

/// Whether the pod of a Sandbox can get the data of a claim while it runs.
#[must_use]
pub fn takes_claim_data(sandbox: &Object) -> bool {
    sandbox.sandbox().is_some_and(|s| s.spec.as_ref().is_ok_and(|model| model.pod.spec.takes_claim_data()))
}

/// Whether the containers of a Sandbox start only when its pod was told what its claim brings.
#[must_use]
pub fn is_held(sandbox: &Object) -> bool {
    sandbox.sandbox().is_some_and(|s| s.spec.as_ref().is_ok_and(|model| model.pod.spec.held()))
}

/// Adds the environment variables of a claim. A variable is added to the container that it names, or else to the first
/// one.
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

/// The prefix of the names of a pool's Sandboxes.
#[must_use]
pub fn member_prefix(pool: &str) -> String {
    // The limit of the API server for the prefix of a generated name: 63 characters without the five random ones.
    const LONGEST: usize = 58;
    let mut prefix = format!("{pool}-");
    if prefix.len() > LONGEST {
        prefix.truncate(LONGEST);
    }
    prefix
}

/// Returns a name for a Sandbox of a pool, computed from a number: the prefix and five characters of the alphabet that
/// the API server uses for generated names.
#[must_use]
pub fn member_name(pool: &Object, nonce: u64) -> String {
    // Like the `rand` package of apimachinery, without vowels and without digits that look like letters.
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    // The UID is public, so the hash must not reveal the number. Otherwise a user could prepare a Pod for the next name.
    let hash = Sha256::new().chain_update(pool.meta.uid.as_bytes()).chain_update(nonce.to_le_bytes()).finalize();
    let mut n = hash.iter().take(8).fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
    let suffix: String = (0..5)
        .map(|_| {
            let c = ALPHABET[usize::try_from(n % 27).unwrap_or_default()];
            n /= 27;
            char::from(c)
        })
        .collect();
    format!("{}{suffix}", member_prefix(&pool.key.name))
}
