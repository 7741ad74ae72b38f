//! The life of an operator: connects the parts, follows the leadership, and shuts down in order.

mod leadership;
mod plugin_state;
mod running;
mod supervise;

use std::net::SocketAddr;
use std::sync::Arc;

use paddock_core::world::World;
use paddock_plugin_host::{Host, HostConfig};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::info;

use self::leadership::{LeadershipState, follow_obstacle, start_election};
use self::plugin_state::{await_plugins, follow_outages, follow_plugins, not_loaded};
pub use self::running::{Addresses, Error, Running};
use self::supervise::{Part, Parts, changed, sender_ended, supervise};
use crate::config::{Config, Leadership, WebhookSetup};
use crate::definitions::Definitions;
use crate::endpoints::{Debug, Readiness, Scrape, debug, protect};
use crate::limiter::WriteLimiter;
use crate::metrics::{Metrics, MetricsError};
use crate::plugins::directory::DirectorySource;
use crate::plugins::objects::feed::ObjectSource;
use crate::plugins::objects::report::{Replica, Reporter};
use crate::plugins::registry::{PullCount, PullSecrets, Puller};
use crate::plugins::{Plugins, Sources, metered};
use crate::queue::{Queue, Trigger};
use crate::reconcile::{Reconciler, Traces};
use crate::record::Recorder;
use crate::sync::{UnknownKinds, UnsyncedKinds};
use crate::tasks::{Tasks, spawn};
use crate::watch::{ConnectionRounds, CpuUseLists, Watch, over_http, resync};
use crate::webhook::{ClientConfig, Environment, Reviews, Watched, WebhookConfig};
use crate::world::SharedWorld;
use crate::write::{Writer, events};
use crate::{endpoints, guard, limits, plugins, webhook};
use paddock_kube::client::client;
use paddock_kube::clock::Clock;
use paddock_kube::guard::{Guards, follow};
use paddock_kube::leader::Fence;
use paddock_kube::server::{Protocol, Server, serve};

/// Runs an operator until `shutdown` completes, and stops it in order.
///
/// # Errors
/// If the operator cannot start, or if it ends before `shutdown`.
pub async fn run(config: Config, kube: kube::Config, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    let mut running = start(config, kube).await?;
    tokio::select! {
        () = shutdown => {
            info!("shutting down");
            running.stop.cancel();
            (&mut running.ended).await.unwrap_or(Err(Error::Ended("supervisor")))
        }
        ended = &mut running.ended => ended.unwrap_or(Err(Error::Ended("supervisor"))),
    }
}

/// Starts an operator with the built-in plugins, the plugins of `--plugin-dir` and those of the cluster's objects. It runs
/// until it is stopped.
///
/// # Errors
/// If a client cannot be created, an address cannot be listened on, or a built-in plugin does not load.
pub async fn start(config: Config, kube: kube::Config) -> Result<Running, Error> {
    let stop_plugins = CancellationToken::new();
    let memory_bytes = config.plugin_memory.unwrap_or_else(plugins::memory::default_budget);
    info!(memory_bytes, "memory for all calls of plugins");
    let metrics = Metrics::new()?;
    let host = Host::new(HostConfig { memory_bytes, ..HostConfig::default() })?;
    let host = Arc::new(host.on_compiled({
        let metrics = metrics.clone();
        move |plugin: &str, took| metrics.compiled(plugin, took)
    }));
    let largest = host.config().component_bytes;
    let directory = |dir| DirectorySource::new(dir, limits::PLUGIN_DIRECTORY_POLL_INTERVAL, largest as u64);
    let clock = Clock::default();
    let reader = client(&kube, false, &clock).map_err(|error| Error::Client(Box::new(error)))?;
    let own_namespace = config.settings.own_namespace.clone();
    let secrets = PullSecrets::new(reader.clone(), own_namespace.clone());
    let count = {
        let metrics = metrics.clone();
        move |count: PullCount<'_>| metrics.pulled(count)
    };
    let puller = Puller::new(&config.registry, secrets, largest, count).map_err(Error::Registry)?;
    let sources = Sources {
        files: config.plugin_dir.clone().map(directory),
        objects: Some(ObjectSource::new(reader, own_namespace, puller)),
        cache: config.plugin_cache_dir.clone(),
    };
    let plugins = plugins::start(host, sources, stop_plugins.clone()).await?;
    let end_with_us = stop_plugins.drop_guard();
    start_with(config, (kube, clock, metrics), plugins, end_with_us).await
}

/// Starts an operator with these plugins.
async fn start_with(
    config: Config,
    (kube, clock, metrics): (kube::Config, Clock, Metrics),
    plugins: Plugins,
    guard: DropGuard,
) -> Result<Running, Error> {
    let world = SharedWorld::new(World::new(config.settings.clone())).with_clock(clock.clone());
    let queue = Queue::new(config.workers, config.seed);
    let limiter = WriteLimiter::new(config.kube_api_qps, config.kube_api_burst);
    let traces = Traces::default();
    let recorder = Recorder::start(&config.record, config.seed, &metrics).map_err(Error::Record)?;
    let kinds = config.kinds();
    let unsynced = watch::Sender::new(kinds.iter().copied().collect::<UnsyncedKinds>());
    let unknown = watch::Sender::new(UnknownKinds::new());
    let mut tasks = Tasks::new();

    // Each client has its own connections, so a burst of writes delays neither the watches nor the renewal of the
    // leases.
    let failed = |error| Error::Client(Box::new(error));
    let reader = client(&kube, false, &clock).map_err(failed)?;
    let writer = client(&kube, false, &clock).map_err(failed)?;
    let side = client(&kube, true, &clock).map_err(failed)?;

    let obstacle = watch::Sender::new(None);
    spawn(&mut tasks, "leadership obstacle", follow_obstacle(obstacle.subscribe(), metrics.clone()));
    let serving = watch::Sender::new(config.webhook.is_none());
    let registered = watch::Sender::new(Vec::new());
    let (guards, isolation) = (watch::Sender::new(Guards::default()), watch::Sender::new(Guards::default()));
    let (cpu_use, connections) = (watch::Sender::new(None), watch::Sender::new(None));
    let definitions = watch::Sender::new(None);
    let (awaited, plugins_awaited) = watch::channel(not_loaded(&plugins.status.borrow()));
    let readiness = Readiness {
        unsynced: unsynced.subscribe(),
        unknown: unknown.subscribe(),
        webhook: serving.subscribe(),
        plugins_awaited,
        plugins: plugins.status.clone(),
        obstacle: obstacle.subscribe(),
        registered: registered.subscribe(),
        guards: guards.subscribe(),
        isolation: isolation.subscribe(),
        cpu_use: cpu_use.subscribe(),
        connections: connections.subscribe(),
        definitions: definitions.subscribe(),
        outages: plugins.objects.outages.clone(),
        clock: clock.clone(),
    };
    let counted = metrics.clone();
    let count = move |policy: &str, in_force| counted.guard(policy, in_force);
    spawn(&mut tasks, "admission policies", follow(side.clone(), guard::policies(&config), guards, count.clone()));
    let needs_isolation = config.webhook.as_ref().is_some_and(|setup| setup.isolation_policies);
    let isolation_state = needs_isolation.then(|| isolation.subscribe());
    if needs_isolation {
        let policies = guard::isolation(&config);
        spawn(&mut tasks, "isolation policies", follow(side.clone(), policies, isolation, count));
    }
    // The task of the plugins has the senders.
    spawn(&mut tasks, "plugins", sender_ended(plugins.status.clone()));
    spawn(&mut tasks, "plugin status", follow_plugins(plugins.status.clone(), metrics.clone()));
    spawn(&mut tasks, "watches of plugins", follow_outages(plugins.objects.outages.clone(), metrics.clone()));
    spawn(&mut tasks, "plugins at start", await_plugins(plugins.status.clone(), awaited));
    let definitions =
        Definitions { client: side.clone(), shapes: config.shapes, metrics: metrics.clone(), fault: definitions };
    spawn(&mut tasks, "definitions", definitions.run());
    let mut addresses = Addresses::default();
    let scrape =
        Scrape { metrics: metrics.clone(), queue: queue.clone(), limiter: limiter.clone(), clock: clock.clone() };
    let (plugin_status, reports) = (plugins.status, plugins.reports);
    let decisions = recorder.clone();
    let shown = Debug { world: world.clone(), traces: traces.clone(), decisions, plugins: plugin_status, reports };
    let scraped = protect(&config.metrics_access, endpoints::metrics(scrape), &side, &mut tasks)?;
    let probes = (Protocol::Plain, endpoints::probes(readiness.clone()));
    let shown = (Protocol::Plain, debug(shown));
    for (flag, bind, (protocol, router), address) in [
        ("metrics-bind-address", &config.metrics, scraped, &mut addresses.metrics),
        ("health-probe-bind-address", &config.health, probes, &mut addresses.health),
        ("debug-bind-address", &config.debug, shown, &mut addresses.debug),
    ] {
        if let Some(listener) = bind.listen().await.map_err(|source| Error::Listen { flag, source })? {
            *address = listener.local_addr().ok();
            let server = Server {
                protocol,
                limits: paddock_kube::limits::ENDPOINT_SERVER,
                on_incident: metrics.incidents(flag),
            };
            spawn(&mut tasks, flag, serve(listener, server, router, CancellationToken::new()));
        }
    }

    let fence = match (&config.leadership, &config.namespace) {
        (Leadership::Alone, Some(_)) => Fence::open(),
        (Leadership::Alone, None) | (Leadership::Elected { .. }, _) => Fence::closed(),
    };
    let plugin_client = metered(plugins.policies.plugin_client, metrics.clone(), recorder.clone());
    let webhook = match &config.webhook {
        None => None,
        Some(setup) => {
            let environment = Environment {
                client: side.clone(),
                world: world.clone(),
                fence: fence.clone(),
                watched: Watched {
                    namespace: config.namespace.as_deref().map(Into::into),
                    unsynced: unsynced.subscribe(),
                    unknown: unknown.subscribe(),
                },
                plugin_client: plugin_client.clone(),
                policy_check: plugins.objects.check,
                on_unenforced: Arc::new({
                    let metrics = metrics.clone();
                    move |answers| metrics.unenforced(answers)
                }),
                reviews: Reviews::register(metrics.registry()).map_err(MetricsError::from)?,
                clock: clock.clone(),
                on_incident: metrics.incidents("webhook-bind-address"),
                serving,
                registered,
                isolation: isolation_state,
            };
            let (address, webhook) = start_webhook(setup, environment).await?;
            addresses.webhook = address;
            webhook
        }
    };

    for kind in kinds {
        let watch = Watch {
            kind,
            namespace: config.namespace.clone(),
            client: reader.clone(),
            world: world.clone(),
            queue: queue.clone(),
            metrics: metrics.clone(),
            unsynced: unsynced.clone(),
            unknown: unknown.clone(),
        };
        spawn(&mut tasks, "watch", watch.run());
    }

    let interval = config.settings.cpu_metrics_interval;
    if !interval.is_zero() {
        let lists = CpuUseLists {
            client: reader.clone(),
            namespace: config.namespace.clone(),
            interval,
            world: world.clone(),
            metrics: metrics.clone(),
            unsynced: unsynced.subscribe(),
            fault: cpu_use,
        };
        spawn(&mut tasks, "CPU use", lists.run());
    }
    if let Some(of_gateways) = &config.connections {
        let rounds = ConnectionRounds {
            client: reader,
            config: of_gateways.clone(),
            interval: config.settings.connections_interval,
            ask: over_http(),
            world: world.clone(),
            metrics: metrics.clone(),
            fault: connections,
        };
        spawn(&mut tasks, "open connections", rounds.run());
    }

    let (events, event_queue) = events(metrics.clone(), config.disabled_events);
    spawn(&mut tasks, "events", event_queue.run(side.clone(), config.identity.clone()));
    spawn(
        &mut tasks,
        "resync",
        resync(world.clone(), queue.clone(), {
            let clock = clock.clone();
            move || clock.now()
        }),
    );
    spawn(&mut tasks, "bindings", follow_bindings(plugins.policies.bindings, world.clone(), queue.clone()));

    let (leading, election) = start_election(&config, (&side, &clock), &fence, obstacle);
    let stop_reports = CancellationToken::new();
    let reporter = Reporter {
        client: side.clone(),
        replica: replica(&config),
        seen: plugins.objects.seen,
        states: plugins.objects.states,
        outages: plugins.objects.outages,
        leading: leading.clone(),
        calls: plugins.objects.calls,
        clock: clock.clone(),
    };
    let reports = Part::spawn("status of plugins", stop_reports.clone(), reporter.run(stop_reports));
    let writer = Writer::new(writer, world.clone(), queue.clone(), (limiter, fence), metrics.clone());
    let reconciler =
        Reconciler { world: world.clone(), plugin_client, writer, events, metrics: metrics.clone(), traces };
    let work = Part::spawn("reconciler", CancellationToken::new(), reconciler.run(queue.clone()));
    let leadership = LeadershipState {
        leading: leading.clone(),
        readiness: readiness.clone(),
        world: world.clone(),
        queue: queue.clone(),
        metrics,
    };
    spawn(&mut tasks, "leadership", leadership.follow());

    let stop = CancellationToken::new();
    let parts = Parts { tasks, work, election, webhook, reports, world, queue, recorder, _plugins: guard };
    let ended = tokio::spawn(supervise(parts, stop.clone()));
    info!(identity = config.identity, surface = config.shapes.as_str(), ?addresses, "started");
    Ok(Running { addresses, readiness, leading, stop, ended })
}

/// This replica, as the status of plugins names it.
fn replica(config: &Config) -> Replica {
    match (&config.pod, &config.settings.own_namespace) {
        (Some(name), Some(namespace)) => Replica::Pod { namespace: namespace.clone(), name: name.clone() },
        (Some(_), None) | (None, _) => Replica::Process(config.identity.clone()),
    }
}

/// Starts the webhook, unless its listener is off.
async fn start_webhook(
    setup: &WebhookSetup,
    environment: Environment,
) -> Result<(Option<SocketAddr>, Option<Part>), Error> {
    let failed = |source| Error::Listen { flag: "webhook-bind-address", source };
    let Some(listener) = setup.bind.listen().await.map_err(failed)? else {
        environment.serving.send_replace(true);
        return Ok((None, None));
    };
    let address = listener.local_addr().map_err(failed)?;
    let client_config = setup.client_config.clone().unwrap_or_else(|| ClientConfig::Url(format!("https://{address}")));
    let config = WebhookConfig {
        client_config,
        certificate: setup.certificate.clone(),
        deployed: setup.deployed.clone(),
        client_ca: setup.client_ca.clone(),
    };
    let stop = CancellationToken::new();
    let webhook = Part::spawn("webhook", stop.clone(), webhook::start(config, listener, environment, stop));
    Ok((Some(address), Some(webhook)))
}

async fn follow_bindings(
    mut bindings: watch::Receiver<paddock_core::binding::Bindings>,
    world: SharedWorld,
    queue: Queue,
) {
    loop {
        let now = bindings.borrow_and_update().clone();
        queue.push(world.set_bindings(now), Trigger::Related);
        changed(&mut bindings).await;
    }
}
