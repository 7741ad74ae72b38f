//! The admission webhook: serves the reviews of the core over TLS, and registers itself with the API server.
//!
//! Every replica answers reviews, whether it leads or not. [`start`] serves the webhook and keeps the certificate. Its
//! configuration decides who creates the webhook configurations and who issues the certificates.

mod activity;
mod app;
mod asking;
mod config_sync;
mod fact_waits;
mod memory;
mod metrics;
mod own_deployment;
mod registered;
mod registration;
mod registration_events;
mod reservation;
mod terminating;
#[cfg(test)]
mod tests;
mod unanswered;
mod wire;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use kube::Client;
use paddock_kube::clock::Clock;
use paddock_kube::fair_queue::FairQueue;
use paddock_kube::guard::Guards;
use paddock_kube::leader::Fence;
use paddock_kube::server::{Incident, Protocol, Server, serve};
use paddock_kube::tls::{CertManager, ClientCa, Lifetimes, Mounted, ServingCert, follow_files};
use paddock_kube::user::wait_for_user;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

pub use app::{App, Look, Watched, look};
pub use asking::OnUnenforced;
pub use config_sync::{Registration, WebhookConfigSync};
pub use metrics::Reviews;
pub use own_deployment::{Deployed, Workload};
pub use registered::{EntryState, RegisteredEntry};
pub use registration::{CONFIGURATION, ClientConfig, Desired, configurations, configured_resources};
pub(crate) use registration::{changes_more_than_the_status, entries_of_pods};

use self::reservation::LeaderReservations;
use crate::limits;
use crate::plugins::PluginClient;
use crate::plugins::objects::check::PolicyCheck;
use crate::tasks::{Tasks, ended, spawn};
use crate::world::SharedWorld;

/// The issuer of the serving certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// The operator issues the certificate, keeps it in this Secret, and adds its CA to the webhook configurations.
    SelfIssued {
        /// The namespace of the Secret.
        namespace: String,
        /// The name of the Secret.
        secret: String,
        /// The durations of the certificates and of their rotation.
        lifetimes: Lifetimes,
        /// The creator of the webhook configurations.
        registration: Registration,
    },
    /// Another program, such as cert-manager, issues and mounts the certificate, and adds its CA to the webhook
    /// configurations.
    Mounted(Mounted),
}

/// The configuration of the webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookConfig {
    /// The way in which the API server reaches the webhook.
    pub client_config: ClientConfig,
    /// The issuer of the serving certificate.
    pub certificate: Certificate,
    /// The Deployment that the operator runs in. Absent outside a cluster.
    pub deployed: Option<Deployed>,
    /// The file with the CA of the API servers' client certificates. If absent, every client is served.
    pub client_ca: Option<PathBuf>,
}

impl WebhookConfig {
    /// The configuration for a test or the demo: a loopback address, a certificate and webhook configurations of its
    /// own.
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
            client_ca: None,
        }
    }
}

/// The name of the Secret with the certificate, unless another one is configured.
pub const SECRET: &str = "paddock-webhook-tls";

/// The parts of the operator that the webhook uses.
pub struct Environment {
    /// The client for the Secret, the webhook configurations and the activity records.
    pub client: Client,
    /// The World that reviews read.
    pub world: SharedWorld,
    /// The fence, which is open while this replica leads.
    pub fence: Fence,
    /// The state of the watches that fill the World.
    pub watched: Watched,
    /// The client that asks plugins.
    pub plugin_client: PluginClient,
    /// The check of SandboxPolicies.
    pub policy_check: PolicyCheck,
    /// Receives the answers for policies that do not act.
    pub on_unenforced: OnUnenforced,
    /// The metrics of reviews.
    pub reviews: Reviews,
    /// The clock of reviews and certificates.
    pub clock: Clock,
    /// Is called when the limits of the server close a connection.
    pub on_incident: Arc<dyn Fn(Incident) + Send + Sync>,
    /// Becomes true when there is a certificate to serve, and the entries that the operator registers were registered
    /// once.
    pub serving: watch::Sender<bool>,
    /// Receives the state of each webhook entry.
    pub registered: watch::Sender<Vec<RegisteredEntry>>,
    /// The ValidatingAdmissionPolicies that judge Pods too, so that isolated Pods start while no replica answers. `None` if
    /// the webhook alone judges them.
    pub isolation: Option<watch::Receiver<Guards>>,
}

/// Serves until `stop`, and then ends in order. It answers new calls for a few more seconds and finishes the calls in
/// flight. Then it removes the webhook configurations if the Deployment does not exist any more.
pub async fn start(config: WebhookConfig, listener: TcpListener, environment: Environment, stop: CancellationToken) {
    let Environment {
        client,
        world,
        fence,
        watched,
        plugin_client,
        policy_check,
        on_unenforced,
        reviews,
        clock,
        on_incident,
        serving,
        registered,
        isolation,
    } = environment;
    // Without the name, reviews would treat the operator's own writes as those of a user.
    let Some(user) = wait_for_user(&client, &stop).await else { return };
    let serving_cert = ServingCert::default();
    let activities = FairQueue::new(limits::ACTIVITY);
    let own_namespace = world.read(|world| world.settings().own_namespace.clone());
    let reservations = LeaderReservations::new(world.clone(), fence.clone());
    let look = look(world, watched, Some(user.as_str().into()));
    let touches = FairQueue::new(limits::TOUCHES);
    let app = App::new(look, plugin_client, activities.clone(), reviews.clone())
        .with_clock(clock.clone())
        .with_policies(policy_check, on_unenforced)
        .with_reservations(Arc::new(reservations))
        .with_touches(touches.clone());

    let desired = Desired {
        client_config: config.client_config.clone(),
        own_namespace,
        operator_user: Some(user),
        isolation_policies: false,
    };
    let mut tasks = Tasks::new();
    spawn(&mut tasks, "activity records", activity::write(client.clone(), activities, reviews.clone()));
    spawn(&mut tasks, "records of connections", activity::write_touches(client.clone(), touches));
    let registration = match &config.certificate {
        Certificate::SelfIssued { registration, .. } => *registration,
        Certificate::Mounted(_) => Registration::External,
    };
    let rest = (fence, reviews, registered);
    let config_sync = WebhookConfigSync::new(client.clone(), (desired, registration), config.deployed, rest);
    let config_sync = Arc::new(config_sync.with_isolation(isolation));
    match config.certificate {
        Certificate::Mounted(mounted) => {
            let interval = paddock_kube::limits::MOUNTED_CERTIFICATE_POLL_INTERVAL;
            spawn(&mut tasks, "mounted certificate", follow_files(mounted, serving_cert.clone(), interval));
            let config_sync = config_sync.clone();
            spawn(&mut tasks, "webhook configurations", async move { config_sync.run().await });
        }
        Certificate::SelfIssued { namespace, secret, lifetimes, .. } => {
            let hosts = config.client_config.hosts();
            let cert_manager = CertManager::new(
                (client, &namespace, &secret),
                hosts,
                lifetimes,
                (serving_cert.clone(), config_sync.clone()),
            );
            spawn(&mut tasks, "certificate", cert_manager.run(clock.clone()));
        }
    }
    let tls = match config.client_ca {
        None => match serving_cert.server_config() {
            Ok(tls) => Arc::new(ArcSwap::from_pointee(tls)),
            Err(error) => return error!(%error, "the webhook cannot serve"),
        },
        Some(file) => {
            let interval = paddock_kube::limits::MOUNTED_CERTIFICATE_POLL_INTERVAL;
            let mut clients = ClientCa::new(file, serving_cert.clone(), clock);
            let first = tokio::select! {
                () = stop.cancelled() => return,
                first = clients.first(interval) => first,
            };
            let tls = Arc::new(ArcSwap::from_pointee(first));
            spawn(&mut tasks, "CA of clients", clients.follow(tls.clone(), interval));
            tls
        }
    };
    spawn(&mut tasks, "readiness", announce(serving_cert, config_sync.clone(), serving));

    let end = CancellationToken::new();
    let end_later = async {
        stop.cancelled().await;
        sleep(limits::WEBHOOK_SHUTDOWN_DELAY).await;
        end.cancel();
        std::future::pending::<()>().await;
    };
    let server = Server { protocol: Protocol::Tls(tls), limits: limits::WEBHOOK_SERVER, on_incident };
    tokio::select! {
        () = serve(listener, server, app.router(), end.clone()) => {}
        () = end_later => {}
        // The operator ends with its webhook.
        task = ended(&mut tasks) => error!(task, "a task of the webhook ended unexpectedly"),
    }
    tasks.shutdown().await;
    match timeout(limits::WEBHOOK_WITHDRAW_TIMEOUT, config_sync.withdraw()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(%error, "the webhook configurations could not be checked or removed"),
        Err(_) => warn!("the check of the webhook configurations timed out"),
    }
}

/// Sends when there is a certificate, and the entries that the operator registers were registered once.
async fn announce(serving_cert: ServingCert, config_sync: Arc<WebhookConfigSync>, serving: watch::Sender<bool>) {
    while !serving_cert.ready() {
        sleep(READY_POLL).await;
    }
    info!("the webhook has a certificate");
    config_sync.registered_once().await;
    serving.send_replace(true);
    // The sender has to live as long as the webhook.
    std::future::pending::<()>().await;
}

/// The interval of the checks for the first certificate.
const READY_POLL: Duration = Duration::from_millis(50);
