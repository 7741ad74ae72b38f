//! The life of a gateway: connects the parts, serves, and shuts down in order.

use std::net::SocketAddr;
use std::sync::Arc;

use paddock_kube::client::client;
use paddock_kube::clock::Clock;
use paddock_kube::guard::{Guards, Policies, follow};
use paddock_kube::listen::ListenAddress;
use paddock_kube::server::{Protocol as EndpointProtocol, Server, serve as serve_endpoints};
use paddock_kube::tls::{ServingCert, follow_files_with};
use paddock_kube::{endpoints, limits as shared_limits};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::authorize::Authorizer;
use crate::client::Places;
use crate::config::{Access, Config, Https};
use crate::drain::{Drained, Stage};
use crate::limits;
use crate::metrics::Metrics;
use crate::proxy::Proxy;
use crate::proxy::backend::Cluster;
use crate::sandboxes::{self, Sandboxes};
use crate::server::{Protocol, serve};
use crate::tcp::TcpPorts;
use crate::{connections, inside};

/// The reason why a gateway cannot start, or ended before its shutdown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A client of the API server cannot be created.
    #[error("cannot make a client of the API server: {0}")]
    Client(#[source] Box<kube::Error>),
    /// An address cannot be listened on.
    #[error("--{flag}: {source}")]
    Listen {
        /// The flag of the address.
        flag: &'static str,
        /// The fault.
        source: std::io::Error,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The metrics cannot be registered.
    #[error("the metrics cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
    /// A part ended before the shutdown.
    #[error("the part {0:?} ended before the shutdown")]
    Ended(&'static str),
}

/// The addresses on which a gateway listens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// HTTP without TLS.
    pub http: Option<SocketAddr>,
    /// HTTP over TLS.
    pub https: Option<SocketAddr>,
    /// `/metrics` and `/connections`.
    pub metrics: Option<SocketAddr>,
    /// `/healthz` and `/readyz`.
    pub health: Option<SocketAddr>,
    /// The requests from inside of sandboxes.
    pub inside: Option<SocketAddr>,
}

/// A gateway that serves.
#[derive(Debug)]
pub struct Running {
    /// The addresses.
    pub addresses: Addresses,
    /// Begins the shutdown.
    pub stop: CancellationToken,
    /// Completes when the shutdown has ended.
    pub ended: JoinHandle<Result<Drained, Error>>,
}

/// Runs a gateway until `shutdown` completes, and drains it. See [`start`] for the arguments.
///
/// # Errors
/// If the gateway cannot start, or if it ends before `shutdown`.
pub async fn run(
    config: Config,
    policies: Policies,
    kube: kube::Config,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let mut running = start(config, policies, kube).await?;
    let ended = tokio::select! {
        () = shutdown => {
            running.stop.cancel();
            (&mut running.ended).await
        }
        ended = &mut running.ended => ended,
    };
    let drained = ended.unwrap_or(Err(Error::Ended("supervisor")))?;
    info!(cut = drained.cut, "the gateway has shut down");
    Ok(())
}

/// Starts a gateway. It serves until it is stopped. `policies` are those that limit its credential. It reports the ones that
/// are not in force, and serves without them.
///
/// # Errors
/// If a client cannot be created, or an address cannot be listened on.
pub async fn start(config: Config, policies: Policies, kube: kube::Config) -> Result<Running, Error> {
    let metrics = Metrics::new()?;
    let clock = Clock::default();
    let failed = |error| Error::Client(Box::new(error));
    let reader = client(&kube, false, &clock).map_err(failed)?;
    let asker = client(&kube, true, &clock).map_err(failed)?;
    let guards = watch::Sender::new(Guards::default());
    let known_guards = guards.subscribe();
    let counted = metrics.clone();
    let guarded = follow(asker.clone(), policies, guards, move |policy, in_force| counted.guard(policy, in_force));
    let sandbox_metrics = sandboxes::Metrics::register(metrics.registry())?;
    let sandboxes = Sandboxes::new(reader, config.sandboxes, clock.clone(), sandbox_metrics);
    metrics.set_unauthenticated(config.access == Access::Everybody);
    let authorizer = match config.access {
        Access::Reviewed(scoped) => Authorizer::reviewed(asker.clone(), scoped, clock),
        Access::Everybody => Authorizer::everybody(),
    };
    let backend = Cluster { sandboxes: sandboxes.clone(), authorizer };
    let proxy = Arc::new(Proxy::new(config.proxy, backend, metrics.clone()));
    let mut addresses = Addresses::default();
    let mut parts: JoinSet<&'static str> = JoinSet::new();
    let places = Places::new(&proxy.config.limits);
    let bind = match &config.http {
        ListenAddress::At(_) => config.http.clone(),
        ListenAddress::Off => config.https.as_ref().map_or(ListenAddress::Off, |https| https.bind.clone()),
    };
    let tcp = TcpPorts::new(config.tcp.as_ref(), bind, sandboxes.clone(), proxy.clone(), places.clone())?;
    let tcp_complete = tcp.complete();

    let mut serving_cert = None;
    if let Some(Https { bind, files }) = config.https
        && let Some(listener) = listen("https-bind-address", &bind, &mut addresses.https).await?
    {
        let certificate = ServingCert::default();
        let tls = Arc::new(certificate.server_config()?);
        let (follow, counted) = (certificate.clone(), metrics.clone());
        spawn(&mut parts, "certificate", async move {
            let counted = |valid| counted.certificate(valid);
            follow_files_with(files, follow, limits::CERTIFICATE_POLL_INTERVAL, counted).await;
        });
        serving_cert = Some(certificate);
        spawn_listener(&mut parts, "HTTPS", serve(listener, Protocol::Tls(tls), places.clone(), proxy.clone()), &proxy);
    }
    if let Some(listener) = listen("http-bind-address", &config.http, &mut addresses.http).await? {
        spawn_listener(&mut parts, "HTTP", serve(listener, Protocol::Plain, places, proxy.clone()), &proxy);
    }

    let waiting_for = {
        let (sandboxes, proxy) = (sandboxes.clone(), proxy.clone());
        move || {
            let mut waiting = sandboxes.waiting_for();
            if serving_cert.as_ref().is_some_and(|certificate| !certificate.ready()) {
                waiting.push("the TLS certificate".to_owned());
            }
            if !tcp_complete() {
                waiting.push("the ports of Sandboxes".to_owned());
            }
            if proxy.drain.stage() > Stage::Serving {
                waiting.push("the end of the shutdown: draining".to_owned());
            }
            waiting
        }
    };
    if let Some(listener) = listen("sandbox-bind-address", &config.inside, &mut addresses.inside).await? {
        let server = Server {
            protocol: EndpointProtocol::Plain,
            limits: sandboxes::limits::INSIDE_SERVER,
            on_incident: Arc::new(|_| {}),
        };
        let router = inside::router(sandboxes.clone());
        spawn(&mut parts, "requests of sandboxes", serve_endpoints(listener, server, router, CancellationToken::new()));
    }
    let faults = move || known_guards.borrow().faults();
    let scraped = metrics.clone();
    let scraped = endpoints::metrics(move || scraped.exposition()).merge(connections::router(sandboxes.clone(), asker));
    for (flag, bind, router, address) in [
        ("health-probe-bind-address", &config.health, endpoints::probes(waiting_for, faults), &mut addresses.health),
        ("metrics-bind-address", &config.metrics, scraped, &mut addresses.metrics),
    ] {
        if let Some(listener) = listen(flag, bind, address).await? {
            let server = Server {
                protocol: EndpointProtocol::Plain,
                limits: shared_limits::ENDPOINT_SERVER,
                on_incident: Arc::new(|_| {}),
            };
            spawn(&mut parts, flag, serve_endpoints(listener, server, router, CancellationToken::new()));
        }
    }
    spawn(&mut parts, "admission policies", guarded);
    spawn_listener(&mut parts, "TCP", tcp.run(), &proxy);
    spawn(&mut parts, "Sandboxes", async move { sandboxes.run().await });
    let pool = proxy.ways.pool.clone();
    spawn(&mut parts, "connections", async move { pool.sweep().await });

    let stop = CancellationToken::new();
    let ended = tokio::spawn(supervise(parts, proxy, metrics, stop.clone()));
    info!(?addresses, "started");
    Ok(Running { addresses, stop, ended })
}

async fn listen(
    flag: &'static str,
    bind: &ListenAddress,
    address: &mut Option<SocketAddr>,
) -> Result<Option<TcpListener>, Error> {
    let listener = bind.listen().await.map_err(|source| Error::Listen { flag, source })?;
    *address = listener.as_ref().and_then(|listener| listener.local_addr().ok());
    Ok(listener)
}

fn spawn(parts: &mut JoinSet<&'static str>, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
    parts.spawn(async move {
        part.await;
        name
    });
}

/// A listener ends by itself when the gateway drains. It counts as a part until the process ends.
fn spawn_listener(
    parts: &mut JoinSet<&'static str>,
    name: &'static str,
    listener: impl Future<Output = ()> + Send + 'static,
    proxy: &Arc<Proxy>,
) {
    let drain = proxy.drain.clone();
    spawn(parts, name, async move {
        listener.await;
        if drain.stage() >= Stage::Draining {
            std::future::pending::<()>().await;
        }
    });
}

/// Drains the gateway when it is stopped. The other parts run until the drain has ended, because the requests in flight
/// need them.
async fn supervise(
    mut parts: JoinSet<&'static str>,
    proxy: Arc<Proxy>,
    metrics: Metrics,
    stop: CancellationToken,
) -> Result<Drained, Error> {
    tokio::select! {
        () = stop.cancelled() => {}
        ended = parts.join_next() => {
            let name = ended.and_then(Result::ok).unwrap_or("a part that panicked");
            error!(part = name, "a part ended");
            return Err(Error::Ended(name));
        }
    }
    let drained = proxy.drain.run(&proxy.config.timeouts).await;
    metrics.streams_cut(drained.cut);
    Ok(drained)
}
