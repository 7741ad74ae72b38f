//! Creates the Secret with the data of a claim, before the pod is told about it.
//!
//! This is the only place that reads a claim's content and the Secrets of users. Both go into the Secret of the pod and
//! nowhere else: no message, log line or metric contains them.

use std::collections::BTreeMap;

use http::StatusCode;
use k8s_openapi::api::core::v1::Secret;
use kube::Resource;
use kube::api::{DeleteParams, PostParams};
use kube::core::Request;
use paddock_api::SandboxClaimSpec;
use paddock_api::kind::Key;
use paddock_api::names::FIELD_MANAGER;
use paddock_core::manifest::{SecretValues, check_bytes, claim_secret};
use paddock_core::model;
use paddock_core::plan::ClaimDelivery;
use serde::Deserialize;

use super::calls::{Calls, conflict, rejected};
use super::reply::Reply;

/// The parts of a claim that a delivery reads.
#[derive(Deserialize)]
struct Claim {
    metadata: Metadata,
    spec: SandboxClaimSpec,
}

#[derive(Deserialize)]
struct Metadata {
    uid: String,
}

/// Creates the Secrets with the data of claims.
pub(super) struct Deliverer {
    calls: Calls,
}

impl Deliverer {
    pub(super) fn new(calls: Calls) -> Self {
        Self { calls }
    }

    /// Reads the claim and the Secrets to which it refers, and returns the JSON of the Secret with the data. Each request
    /// has a timeout of its own, because a claim may refer to many Secrets.
    ///
    /// # Errors
    /// The reply with which the whole operation ends.
    pub(super) async fn read(&self, pod: &Key, uid: &str, data: &ClaimDelivery) -> Result<Vec<u8>, Reply> {
        let spec = self.read_claim(data).await?;
        let values = self.read_secrets(pod, &spec).await?;
        let secret = claim_secret(pod, uid, data, &spec, &values).map_err(|problem| rejected(422, problem))?;
        Ok(secret.to_string().into_bytes())
    }

    /// Creates the Secret. If it exists, an earlier attempt created it, or somebody else did, so it is replaced.
    ///
    /// # Errors
    /// The reply with which the whole operation ends.
    pub(super) async fn create_secret(&self, pod: &Key, data: &ClaimDelivery, body: &[u8]) -> Result<(), Reply> {
        let secrets = secrets(&pod.namespace);
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let create = || self.calls.send(secrets.create(&params, body.to_vec()));
        let first = create().await?;
        if first.code.is_success() {
            return Ok(());
        }
        if !first.already_exists() {
            return Err(first.refused(&format!("Secret {}", data.secret)));
        }
        let deleted = self.calls.send(secrets.delete(&data.secret, &DeleteParams::default())).await?;
        if !deleted.code.is_success() && deleted.code != StatusCode::NOT_FOUND {
            return Err(deleted.refused(&format!("Secret {} exists and cannot be replaced", data.secret)));
        }
        let second = create().await?;
        if second.code.is_success() {
            return Ok(());
        }
        if second.already_exists() {
            let name = &data.secret;
            return Err(rejected(
                409,
                format!(
                    "Secret {name} exists and cannot be replaced: it has a finalizer, or somebody creates it again. \
                     Remove the finalizer, or delete Pod {}, which gets another Secret",
                    pod.name
                ),
            ));
        }
        Err(second.refused(&format!("Secret {}", data.secret)))
    }

    /// Reads the claim, because the World does not keep its content.
    async fn read_claim(&self, data: &ClaimDelivery) -> Result<SandboxClaimSpec, Reply> {
        let claim: Claim = self.calls.read(&data.claim).await?;
        // If the claim is another one by now, the watch will show it.
        let same = claim.metadata.uid == data.claim_uid && model::digest(&claim.spec) == data.digest;
        if same { Ok(claim.spec) } else { Err(conflict()) }
    }

    /// Reads the Secrets to which the claim refers. Only one of them is in memory at a time, and of the others the keys
    /// that the claim names, up to the limit of what it may bring.
    async fn read_secrets(&self, pod: &Key, spec: &SandboxClaimSpec) -> Result<SecretValues, Reply> {
        let references = || spec.files.iter().filter_map(|file| file.secret_key_ref.as_ref());
        let mut values = SecretValues::new();
        for reference in references() {
            if values.contains_key(&reference.name) {
                continue;
            }
            let name = &reference.name;
            let answer = self.calls.get(&secrets(&pod.namespace), name).await?;
            if answer.code == StatusCode::NOT_FOUND {
                return Err(rejected(
                    404,
                    format!("Secret {name}, to which the claim refers, does not exist: create it"),
                ));
            }
            if !answer.code.is_success() {
                let what = format!("reading Secret {name}, to which the claim refers");
                return Err(answer.refused(&what));
            }
            let Ok(secret) = serde_json::from_slice::<Secret>(&answer.body) else {
                return Err(rejected(422, format!("Secret {name}, to which the claim refers, cannot be read")));
            };
            let named = |key: &String| references().any(|other| other.name == *name && other.key == *key);
            let data = secret.data.unwrap_or_default().into_iter().filter(|(key, _)| named(key));
            let data: BTreeMap<String, Vec<u8>> = data.map(|(key, value)| (key, value.0)).collect();
            values.insert(name.clone(), data);
            check_bytes(spec, &values).map_err(|problem| rejected(422, problem))?;
        }
        Ok(values)
    }
}

fn secrets(namespace: &str) -> Request {
    Request::new(Secret::url_path(&(), Some(namespace)))
}

#[cfg(test)]
mod tests;
