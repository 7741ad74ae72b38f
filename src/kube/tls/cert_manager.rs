//! Keeps three things consistent: the Secret, the served certificate, and the CA bundle of the webhook configurations.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::time::sleep;
use tracing::{info, warn};

use super::cert_state::{CertState, KeyPair, Lifetimes, Step};
use super::issue::{IssueError, issue};
use super::serving_cert::{InvalidKeyPair, ServingCert, certified, is_bundle};
use crate::clock::Clock;
use crate::limits;

/// The number of rounds in one tick: create or read the Secret, stage, switch, and one more after a conflict.
const ROUNDS: usize = 4;

/// Writes a CA bundle into the webhook configurations.
pub trait CaBundlePublisher: Send + Sync + 'static {
    /// Writes the bundle into every configuration. True if all of them have it afterwards.
    fn trust(&self, bundle: &str) -> impl Future<Output = Result<bool, kube::Error>> + Send;
}

/// Keeps the certificate in one Secret.
pub struct CertManager<T> {
    secrets: Api<Secret>,
    name: String,
    hosts: Vec<String>,
    lifetimes: Lifetimes,
    serving_cert: ServingCert,
    /// The state whose current pair is served. It replaces a Secret that is deleted or damaged, because a new CA would
    /// not be trusted yet.
    served: Mutex<Option<CertState>>,
    trust: Arc<T>,
}

/// The reason why a round failed. A later round may succeed.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// A request to the API server failed.
    #[error("webhook certificate: {0}")]
    Api(#[source] Box<kube::Error>),
    /// No certificate could be issued.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The content of the Secret cannot be served.
    #[error("webhook certificate: {0}")]
    Serve(#[from] InvalidKeyPair),
    /// The state of the certificates cannot be written as JSON.
    #[error("webhook certificate: {0}")]
    Encode(#[from] serde_json::Error),
    /// Another replica wrote the Secret first in every round.
    #[error("webhook certificate: other writers changed Secret {0} during each of {ROUNDS} attempts")]
    Race(String),
}

impl From<kube::Error> for CertError {
    fn from(error: kube::Error) -> Self {
        CertError::Api(Box::new(error))
    }
}

impl<T: CaBundlePublisher> CertManager<T> {
    /// Creates a manager of the certificate for `hosts` in the Secret `namespace/name`.
    pub fn new(
        (client, namespace, name): (Client, &str, &str),
        hosts: Vec<String>,
        lifetimes: Lifetimes,
        (serving_cert, trust): (ServingCert, Arc<T>),
    ) -> Self {
        Self {
            secrets: Api::namespaced(client, namespace),
            name: name.to_owned(),
            hosts,
            lifetimes,
            serving_cert,
            served: Mutex::default(),
            trust,
        }
    }

    /// Runs until the future is dropped.
    pub async fn run(self, clock: Clock) {
        let interval = self.lifetimes.interval.unsigned_abs();
        let mut delays = limits::CERTIFICATE_BACKOFF.delays();
        loop {
            match self.tick(&clock).await {
                Ok(()) => {
                    delays = limits::CERTIFICATE_BACKOFF.delays();
                    sleep(interval).await;
                }
                Err(error) => {
                    warn!(%error, "the check of the webhook certificate failed and will be repeated");
                    sleep(delays.next().unwrap_or_default()).await;
                }
            }
        }
    }

    /// Serves the certificate of the Secret, updates the CA bundle, and takes every step that is due.
    ///
    /// # Errors
    /// If one of these fails. The certificate and the bundle from before stay in use.
    pub async fn tick(&self, clock: &Clock) -> Result<(), CertError> {
        for _ in 0..ROUNDS {
            let (found, version) = self.read().await?;
            // The reply has corrected the clock.
            let now = clock.now();
            let served = self.served.lock().clone();
            let (state, is_stored) = match (served, found) {
                (None, None) => (CertState::new(self.issue(now)?), false),
                (None, Some(found)) => (found, true),
                (Some(served), None) => (served, false),
                (Some(served), Some(found)) => match served.instead_of(&found, now, &self.lifetimes) {
                    Some(restored) => (restored, false),
                    None => (found, true),
                },
            };
            if !is_stored {
                warn!(secret = self.name, "the Secret does not contain the webhook certificate and is written");
                self.store(&state, version).await?;
                continue;
            }
            // The current certificate was in the bundle before it became current, except for the first certificate.
            self.serving_cert.serve(state.current.certificate.as_bytes(), state.current.key.as_bytes())?;
            *self.served.lock() = Some(state.clone());
            let trusted = self.trust.trust(&state.bundle()).await?;
            let step = state.step(now, &self.hosts, &self.lifetimes, trusted);
            if step == Step::Keep {
                return Ok(());
            }
            let issued = match step {
                Step::Stage | Step::Replace => Some(self.issue(now)?),
                Step::Keep | Step::Switch | Step::Retire => None,
            };
            info!(?step, secret = self.name, "the webhook certificate changes");
            self.store(&state.after(step, now, || issued), version).await?;
        }
        Err(CertError::Race(self.name.clone()))
    }

    fn issue(&self, now: Timestamp) -> Result<KeyPair, IssueError> {
        issue(&self.hosts, now, self.lifetimes.certificate)
    }

    /// The state in the Secret, and the version of the Secret. There is no state if the Secret does not exist, or if its
    /// certificate cannot be served.
    async fn read(&self) -> Result<(Option<CertState>, Option<String>), CertError> {
        let found = self.secrets.get_opt(&self.name).await?;
        let version = found.as_ref().and_then(|s| s.metadata.resource_version.clone());
        Ok((found.and_then(|s| s.data).as_ref().and_then(usable), version))
    }

    /// Writes the Secret if it still has this version, or if it is still absent. A conflict is not an error. The first
    /// writer decides, and the next round reads the Secret.
    async fn store(&self, state: &CertState, version: Option<String>) -> Result<(), CertError> {
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                resource_version: version.clone(),
                ..ObjectMeta::default()
            },
            data: Some(state.to_secret()?),
            type_: Some("kubernetes.io/tls".to_owned()),
            ..Secret::default()
        };
        let written = match version {
            None => self.secrets.create(&PostParams::default(), &secret).await,
            Some(_) => self.secrets.replace(&self.name, &PostParams::default(), &secret).await,
        };
        match written {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// The state in the data of the Secret, if its current pair can be served. Its other parts are absent if they are
/// damaged: the API server would refuse a bundle with a damaged CA.
fn usable(data: &BTreeMap<String, ByteString>) -> Option<CertState> {
    let is_usable = |pair: &KeyPair| {
        is_bundle(&pair.authority) && certified(pair.certificate.as_bytes(), pair.key.as_bytes()).is_ok()
    };
    let CertState { current, next, previous } = CertState::from_secret(data)?;
    let (next, previous) = (next.filter(is_usable), previous.filter(|ca| is_bundle(&ca.authority)));
    is_usable(&current).then_some(CertState { current, next, previous })
}

#[cfg(test)]
mod tests;
