//! Keeps the Secret, what is served, and what the webhook configurations trust, in step.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::sleep;
use tracing::{info, warn};

use super::cert_state::{CertState, KeyPair, Lifetimes, Step};
use super::issue::{IssueError, issue};
use super::serving_cert::{InvalidKeyPair, ServingCert};
use crate::limits;

/// Rounds of one tick: create or read, stage, switch; and once more for a lost race.
const ROUNDS: usize = 4;

/// Puts a bundle into the webhook configurations.
pub trait CaBundlePublisher: Send + Sync + 'static {
    /// Makes every configuration trust `bundle`; true when all of them do.
    fn trust(&self, bundle: &str) -> impl Future<Output = Result<bool, kube::Error>> + Send;
}

/// Keeps one Secret.
pub struct CertManager<T> {
    secrets: Api<Secret>,
    name: String,
    hosts: Vec<String>,
    lifetimes: Lifetimes,
    serving_cert: ServingCert,
    trust: Arc<T>,
}

/// A round that failed; the next may not.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// The API server did not do it.
    #[error("webhook certificate: {0}")]
    Api(#[source] Box<kube::Error>),
    /// No certificate could be issued.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// What is in the Secret cannot be served.
    #[error("webhook certificate: {0}")]
    Serve(#[from] InvalidKeyPair),
    /// The material cannot be written.
    #[error("webhook certificate: {0}")]
    Encode(#[from] serde_json::Error),
    /// Others wrote the Secret each time before us.
    #[error("webhook certificate: others changed Secret {0} {ROUNDS} times over")]
    Race(String),
}

impl From<kube::Error> for CertError {
    fn from(error: kube::Error) -> Self {
        CertError::Api(Box::new(error))
    }
}

impl<T: CaBundlePublisher> CertManager<T> {
    /// Keeps Secret `namespace/name` for `hosts`.
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
            trust,
        }
    }

    /// Keeps it for ever. `now` is the clock.
    pub async fn run(self, now: fn() -> Timestamp) {
        let interval = self.lifetimes.interval.unsigned_abs();
        let mut delays = limits::CERTIFICATE_BACKOFF.delays();
        loop {
            match self.tick(now()).await {
                Ok(()) => {
                    delays = limits::CERTIFICATE_BACKOFF.delays();
                    sleep(interval).await;
                }
                Err(error) => {
                    warn!(%error, "will be tried again");
                    sleep(delays.next().unwrap_or_default()).await;
                }
            }
        }
    }

    /// One look: serves what the Secret says, has it trusted, and takes every step that is due.
    ///
    /// # Errors
    /// When any of it fails; nothing that was served or trusted before is lost by that.
    pub async fn tick(&self, now: Timestamp) -> Result<(), CertError> {
        for _ in 0..ROUNDS {
            let Some((state, version)) = self.load(now).await? else { continue };
            // What is current was trusted before it became so, but for the very first.
            self.serving_cert.serve(state.current.certificate.as_bytes(), state.current.key.as_bytes())?;
            let trusted = self.trust.trust(&state.bundle()).await?;
            let step = state.step(now, &self.hosts, &self.lifetimes, trusted);
            if step == Step::Keep {
                return Ok(());
            }
            let issued = match step {
                Step::Stage | Step::Replace => Some(self.issue(now)?),
                Step::Keep | Step::Switch | Step::Retire => None,
            };
            info!(?step, secret = self.name, "webhook certificate");
            self.store(&state.after(step, now, || issued), version).await?;
        }
        Err(CertError::Race(self.name.clone()))
    }

    fn issue(&self, now: Timestamp) -> Result<KeyPair, IssueError> {
        issue(&self.hosts, now, self.lifetimes.certificate)
    }

    /// The Secret's material and version. One that is not there, or not ours to read, is made anew; then `None`.
    async fn load(&self, now: Timestamp) -> Result<Option<(CertState, Option<String>)>, CertError> {
        let found = self.secrets.get_opt(&self.name).await?;
        let version = found.as_ref().and_then(|s| s.metadata.resource_version.clone());
        if let Some(state) = found.as_ref().and_then(|s| s.data.as_ref()).and_then(CertState::from_secret) {
            return Ok(Some((state, version)));
        }
        if found.is_some() {
            warn!(secret = self.name, "holds no certificate of ours: it is written anew");
        }
        self.store(&CertState::new(self.issue(now)?), version).await?;
        Ok(None)
    }

    /// Writes the Secret if it still has this version, or is still absent. Another's write is not an error: whoever
    /// comes first decides, and the next round reads it.
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
