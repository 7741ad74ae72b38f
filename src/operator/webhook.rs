//! The admission webhook: the core's reviews over TLS, and their registration with the API server.
//!
//! Every replica admits, leading or not. [`start`] serves and keeps the certificate; what it was started with decides
//! who makes the webhook configurations and who issues certificates.

mod activity;
mod app;
mod config_sync;
mod metrics;
mod registration;
mod reservation;
mod server;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

pub use app::{App, Look, look};
pub use config_sync::{Deployed, Registration, WebhookConfigSync};
pub use metrics::Reviews;
pub use registration::{CONFIGURATION, ClientConfig, Desired, configurations};
pub use server::serve;

use self::reservation::LeaderReservations;
use crate::leader::Fence;
use crate::limits;
use crate::plugins::PluginClient;
use crate::sync::UnsyncedKinds;
use crate::tls::{CertManager, Lifetimes, Mounted, ServingCert, follow_files};
use crate::world::SharedWorld;

/// Who issues the certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// The operator, which keeps it in this Secret and has it trusted.
    SelfIssued {
        /// Namespace of the Secret.
        namespace: String,
        /// Name of the Secret.
        secret: String,
        /// How long things last.
        lifetimes: Lifetimes,
        /// Who makes the webhook configurations.
        registration: Registration,
    },
    /// Somebody else, who has it trusted as well (cert-manager).
    Mounted(Mounted),
}

/// What the webhook is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookConfig {
    /// How the API server reaches it.
    pub client_config: ClientConfig,
    /// Who issues the certificate.
    pub certificate: Certificate,
    /// Where the operator is deployed; absent outside of a cluster.
    pub deployed: Option<Deployed>,
}

impl WebhookConfig {
    /// As a test or the demo wants it: at a loopback address, everything its own.
    #[must_use]
    pub fn local(url: impl Into<String>, namespace: impl Into<String>) -> Self {
        Self {
            client_config: ClientConfig::Url(url.into()),
            certificate: Certificate::SelfIssued {
                namespace: namespace.into(),
                secret: SECRET.to_owned(),
                lifetimes: Lifetimes::default(),
                registration: Registration::Owned,
            },
            deployed: None,
        }
    }
}

/// The Secret that holds the certificate, unless another is named.
pub const SECRET: &str = "paddock-webhook-tls";

/// What the webhook works with.
pub struct Environment {
    /// For the Secret, the configurations and signs of activity.
    pub client: Client,
    /// What reviews look at.
    pub world: SharedWorld,
    /// Whether this replica acts.
    pub fence: Fence,
    /// Kinds that are not listed yet.
    pub unsynced: watch::Receiver<UnsyncedKinds>,
    /// Who answers.
    pub judge: PluginClient,
    /// Where reviews are counted.
    pub reviews: Reviews,
    /// Becomes true when there is a certificate to serve.
    pub serving: watch::Sender<bool>,
}

/// Serves until `stop`, then ends in order: answers what comes for a while, finishes what is under way, and takes the
/// configurations away if the deployment is gone.
pub async fn start(config: WebhookConfig, listener: TcpListener, environment: Environment, stop: CancellationToken) {
    let Environment { client, world, fence, unsynced, judge, reviews, serving } = environment;
    let Some(user) = whoami(&client, &stop).await else { return };
    let serving_cert = ServingCert::default();
    let (signs, receiver) = mpsc::channel(limits::ACTIVITY_QUEUE_CAPACITY);
    let reservations = LeaderReservations::new(world.clone(), fence);
    let look = look(world, unsynced, Some(user.as_str().into()));
    let app = App::new(look, judge, signs, reviews.clone()).with_reservations(Arc::new(reservations));

    let desired = Desired {
        client_config: config.client_config.clone(),
        own_namespace: config.deployed.as_ref().map(|d| d.namespace.clone()),
        operator_user: Some(user),
    };
    let mut tasks: JoinSet<()> = JoinSet::new();
    tasks.spawn(activity::write(client.clone(), receiver, reviews));
    let config_sync = match config.certificate {
        Certificate::Mounted(mounted) => {
            tasks.spawn(follow_files(mounted, serving_cert.clone(), limits::MOUNTED_CERTIFICATE_POLL_INTERVAL));
            None
        }
        Certificate::SelfIssued { namespace, secret, lifetimes, registration } => {
            let config_sync = Arc::new(WebhookConfigSync::new(client.clone(), desired, registration, config.deployed));
            let hosts = config.client_config.hosts();
            let cert_manager = CertManager::new(
                (client, &namespace, &secret),
                hosts,
                lifetimes,
                (serving_cert.clone(), config_sync.clone()),
            );
            tasks.spawn(cert_manager.run(Timestamp::now));
            Some(config_sync)
        }
    };
    let announce = serving_cert.clone();
    tasks.spawn(async move {
        while !announce.ready() {
            sleep(READY_POLL).await;
        }
        info!("the webhook has a certificate");
        serving.send_replace(true);
        // The sender lives as long as the webhook.
        std::future::pending::<()>().await;
    });

    let end = CancellationToken::new();
    let ended = end.clone();
    tasks.spawn(async move {
        stop.cancelled().await;
        sleep(limits::WEBHOOK_SHUTDOWN_DELAY).await;
        ended.cancel();
    });
    if let Err(error) = serve(listener, &serving_cert, app.router(), end).await {
        error!(%error, "the webhook cannot serve");
    }
    tasks.shutdown().await;
    if let Some(config_sync) = config_sync {
        match timeout(limits::WEBHOOK_WITHDRAW_TIMEOUT, config_sync.withdraw()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "could not look after the webhook configurations"),
            Err(_) => warn!("no time left to look after the webhook configurations"),
        }
    }
}

/// How often to look for the first certificate.
const READY_POLL: Duration = Duration::from_millis(50);

/// The operator's own user, as the API server knows it. Without knowing it, our own writes would be taken for
/// somebody else's, so this waits until it is told.
async fn whoami(client: &Client, stop: &CancellationToken) -> Option<String> {
    let api: Api<SelfSubjectReview> = Api::all(client.clone());
    let (mut wait, longest) = limits::WATCH_BACKOFF;
    loop {
        match api.create(&PostParams::default(), &SelfSubjectReview::default()).await {
            Ok(review) => match review.status.and_then(|s| s.user_info).and_then(|u| u.username) {
                Some(user) => return Some(user),
                None => warn!("the API server does not say who we are"),
            },
            Err(error) => warn!(%error, "cannot tell who we are"),
        }
        tokio::select! {
            () = stop.cancelled() => return None,
            () = sleep(wait) => wait = (wait * 2).min(longest),
        }
    }
}
