//! The volume through which a running pod gets the data of its claim, and the Secret with that data.
//!
//! The Secret has a name that no other pod ever had, and it is written once. A container therefore sees nothing or
//! everything, and never the data of another claim.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    DownwardAPIProjection, DownwardAPIVolumeFile, ObjectFieldSelector, PodSpec, ProjectedVolumeSource,
    SecretProjection, Volume, VolumeMount, VolumeProjection,
};
use paddock_api::claim_data::{DELIVERY, EVERYTHING, SECRET, SECRET_BYTES_MAX, SECRET_SUFFIX, VARIABLES, VOLUME};
use paddock_api::kind::Key;
use paddock_api::names::{annotation, label};
use paddock_api::{ClaimDataStart, ClaimEnvVar, ClaimFile, SandboxClaimSpec, SecretKeyRef};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::hold::hold_containers;
use crate::model::{self, ClaimDataRules};
use crate::object::json::to_value;
use crate::plan::ClaimDelivery;

/// Adds the volume to the pod spec of a Sandbox, and mounts it. If its containers wait for the data, it also adds the
/// program that holds them.
pub(super) fn add_volume(spec: &mut PodSpec, rules: &ClaimDataRules) {
    match rules.start {
        ClaimDataStart::Immediate => {}
        ClaimDataStart::AfterDelivery => hold_containers(spec, rules),
    }
    let secret = SecretProjection { name: SECRET.to_owned(), optional: Some(true), items: None };
    let announced = DownwardAPIVolumeFile {
        path: DELIVERY.to_owned(),
        field_ref: Some(ObjectFieldSelector {
            field_path: format!("metadata.annotations['{}']", annotation::CLAIM_DATA),
            api_version: None,
        }),
        ..DownwardAPIVolumeFile::default()
    };
    let sources = vec![
        VolumeProjection { secret: Some(secret), ..VolumeProjection::default() },
        VolumeProjection {
            downward_api: Some(DownwardAPIProjection { items: Some(vec![announced]) }),
            ..VolumeProjection::default()
        },
    ];
    spec.volumes.get_or_insert_default().push(Volume {
        name: VOLUME.to_owned(),
        projected: Some(ProjectedVolumeSource { sources: Some(sources), ..ProjectedVolumeSource::default() }),
        ..Volume::default()
    });
    for container in spec.containers.iter_mut().filter(|container| rules.reaches(&container.name)) {
        container.volume_mounts.get_or_insert_default().push(VolumeMount {
            name: VOLUME.to_owned(),
            mount_path: rules.mount_path.clone(),
            read_only: Some(true),
            ..VolumeMount::default()
        });
    }
}

/// Puts the name of the pod's own Secret in the place of the general one.
pub(super) fn name_secret(spec: &mut PodSpec, name: &str) {
    for volume in spec.volumes.iter_mut().flatten().filter(|volume| volume.name == VOLUME) {
        let sources = volume.projected.iter_mut().flat_map(|projected| projected.sources.iter_mut().flatten());
        for secret in sources.filter_map(|source| source.secret.as_mut()).filter(|secret| secret.name == SECRET) {
            name.clone_into(&mut secret.name);
        }
    }
}

/// The name of the Secret of a pod. `made` distinguishes the pods of one Sandbox, and the UID those of two Sandboxes.
pub(super) fn secret_name(pod: &str, sandbox_uid: &str, made: &str) -> String {
    let hash = Sha256::new().chain_update(sandbox_uid).chain_update([0]).chain_update(made).finalize();
    let suffix = hash.iter().take(SECRET_SUFFIX / 2).fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    format!("{SECRET}-{pod}-{suffix}")
}

/// Whether a name may be one that the operator made for this pod. Users who may edit a Sandbox choose the names in its
/// volumes, and the operator must not write the Secret of another pod for them.
#[must_use]
pub fn is_secret_of(pod: &str, name: &str) -> bool {
    let suffix = name.strip_prefix(SECRET).and_then(|rest| rest.strip_prefix('-'));
    let suffix = suffix.and_then(|rest| rest.strip_prefix(pod)).and_then(|rest| rest.strip_prefix('-'));
    let digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    suffix.is_some_and(|suffix| suffix.len() == SECRET_SUFFIX && suffix.bytes().all(digit))
}

/// The values of the Secrets that a claim references, by the name of the Secret and the key.
pub type SecretValues = BTreeMap<String, BTreeMap<String, Vec<u8>>>;

/// Returns the Secret with the data of a claim, as JSON. The pod is its owner, so the garbage collector deletes it with
/// the pod.
///
/// # Errors
/// A Secret that the claim references lacks a key, or everything together is too large.
pub fn claim_secret(
    pod: &Key,
    pod_uid: &str,
    delivery: &ClaimDelivery,
    spec: &SandboxClaimSpec,
    secrets: &SecretValues,
) -> Result<Value, String> {
    check_bytes(spec, secrets)?;
    let (mut texts, mut binary) = (BTreeMap::new(), BTreeMap::new());
    let mut data: BTreeMap<&str, ByteString> = BTreeMap::new();
    for file in &spec.files {
        let bytes = content(file, secrets)?;
        match str::from_utf8(bytes) {
            Ok(text) => drop(texts.insert(file.name.as_str(), text)),
            Err(_) => drop(binary.insert(file.name.as_str(), ByteString(bytes.to_vec()))),
        }
        data.insert(&file.name, ByteString(bytes.to_vec()));
    }
    let mut everything = json!({
        "claim": { "name": &*delivery.claim.name, "namespace": &*delivery.claim.namespace, "uid": delivery.claim_uid },
        "env": spec.env,
        "files": texts,
    });
    if !binary.is_empty() {
        everything["binaryFiles"] = to_value(&binary);
    }
    if delivery.held {
        // A held container that finds no file waits, so the file exists even if there are no variables.
        data.insert(VARIABLES, ByteString(spec.env.iter().flat_map(variable).collect()));
    }
    data.insert(EVERYTHING, ByteString(everything.to_string().into_bytes()));
    let bytes: usize = data.values().map(|value| value.0.len()).sum();
    if bytes > SECRET_BYTES_MAX {
        return Err(format!(
            "the data of the claim needs {bytes} bytes in a Secret, with the values of the Secrets to which it refers, and \
             a Secret has at most {} KiB: use smaller files, or files with fewer control characters",
            SECRET_BYTES_MAX / 1024
        ));
    }
    let owner = json!({ "apiVersion": "v1", "kind": "Pod", "name": &*pod.name, "uid": pod_uid, "controller": true });
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": delivery.secret,
            "namespace": &*pod.namespace,
            "labels": { label::CLAIM_DATA: label::TRUE },
            "ownerReferences": [owner],
        },
        "type": "Opaque",
        "data": data,
    }))
}

/// A variable as `paddock-init` reads it: its container, if the claim names one, its name and its value. A NUL ends it. The
/// parser of claims admits none in names and values.
fn variable(var: &ClaimEnvVar) -> Vec<u8> {
    let container = var.container_name.as_deref().unwrap_or_default();
    format!("{container}/{}={}\0", var.name, var.value).into_bytes()
}

/// Checks the number of bytes before anything is copied. A Secret that is not among `secrets` counts nothing.
///
/// # Errors
/// The claim brings too much, with the values of these Secrets.
pub fn check_bytes(spec: &SandboxClaimSpec, secrets: &SecretValues) -> Result<(), String> {
    let length = |reference: &SecretKeyRef| Some(secrets.get(&reference.name)?.get(&reference.key)?.len());
    let problem = model::too_large(model::brought_bytes(spec, length), 0);
    problem.map_or(Ok(()), |problem| Err(format!("with the Secrets to which the claim refers, {problem}")))
}

fn content<'a>(file: &'a ClaimFile, secrets: &'a SecretValues) -> Result<&'a [u8], String> {
    let Some(reference) = &file.secret_key_ref else {
        return Ok(file.content.as_deref().unwrap_or_default().as_bytes());
    };
    let values = secrets.get(&reference.name).and_then(|secret| secret.get(&reference.key));
    values.map(Vec::as_slice).ok_or_else(|| {
        let (name, key) = (&reference.name, &reference.key);
        format!("file {} of the claim: Secret {name} has no key {key}: add the key", file.name)
    })
}

#[cfg(test)]
mod tests;
