//! `paddock operator`: from flags to a running operator, until SIGTERM or SIGINT.

mod connections;
mod flags;
mod label_domains;
mod record;
mod registry;
mod upstream;

use std::hash::{BuildHasher as _, RandomState};

use anyhow::Context as _;
use paddock_api::names::object::{
    CLAIM_ANNOTATION_DOMAINS, GATEWAY_SERVICE, OPERATOR_NAMESPACE, POOL_IGNORED_LABEL_DOMAINS,
};
use paddock_core::settings::{NetworkSettings, Settings, TcpWakeSettings};
use paddock_kube::cluster;
use paddock_kube::leader::Timing;
use paddock_kube::listen::ListenAddress;
use paddock_kube::tls::{Lifetimes, Mounted};
use paddock_operator::queue::Workers;
use paddock_operator::webhook::{Certificate, ClientConfig, Deployed, Registration, Workload};
use paddock_operator::write::DisabledEvents;
use paddock_operator::{Config, Leadership, MetricsAccess, WebhookSetup};
use tracing::info;

pub(crate) use self::flags::OperatorArgs;
use self::flags::{LeadershipArgs, TcpWakeArgs, WebhookArgs, WhoRegisters};
use self::label_domains::label_domains;
use crate::commands::process::{self, shutdown};

/// Runs until a signal.
pub(crate) fn run(args: OperatorArgs) -> anyhow::Result<()> {
    process::run("paddock-operator", &args.upstream.log(&args.log), serve(args))
}

async fn serve(args: OperatorArgs) -> anyhow::Result<()> {
    for flag in args.upstream.without_effect() {
        info!(flag, "this flag of upstream's controller has no effect");
    }
    let kube = cluster::config(args.cluster.kubeconfig.as_deref(), args.cluster.context.as_deref()).await?;
    let config = config(args, &kube.default_namespace)?;
    let shutdown = shutdown()?;
    paddock_operator::run(config, kube, shutdown).await?;
    Ok(())
}

fn config(args: OperatorArgs, own_namespace: &str) -> anyhow::Result<Config> {
    let OperatorArgs {
        cluster,
        api,
        leadership,
        sandboxes,
        registry,
        tcp_wake,
        connections,
        work,
        listen,
        webhook,
        record,
        reports,
        upstream: _,
        log: _,
    } = args;
    let in_cluster = cluster.kubeconfig.is_none();
    let pod = in_cluster.then(|| Pod { namespace: own_namespace.to_owned(), name: pod_name().unwrap_or_default() });
    let seed = seed();
    // An operator outside the cluster runs in no namespace of it, unless a flag names one.
    let named = webhook.webhook_service_namespace.clone().or_else(|| leadership.leader_election_namespace.clone());
    let runs_in = if in_cluster { Some(own_namespace.to_owned()) } else { named };
    // Whoever says where the leases are has said where the operator lives.
    let own_namespace = leadership.leader_election_namespace.clone().unwrap_or_else(|| own_namespace.to_owned());
    let tcp_wake = tcp_wake_settings(tcp_wake, pod.as_ref(), cluster.namespace.as_deref())?;
    let (connections, connections_interval) = connections.config();
    let annotation_domains = sandboxes.claim_annotation_domain;
    let ignored_label_domains =
        POOL_IGNORED_LABEL_DOMAINS.map(str::to_owned).into_iter().chain(work.pool_ignore_label_domain);
    let settings = Settings {
        cluster_domain: cluster.cluster_domain,
        workspace_size: sandboxes.workspace_size,
        init_image: sandboxes.init_image,
        throttle_cpu: sandboxes.throttle_cpu,
        cpu_metrics_interval: sandboxes.cpu_metrics_interval,
        connections_interval,
        exec_hold: sandboxes.exec_hold,
        keep_awake_at_most: sandboxes.keep_awake_at_most,
        reserve_for: sandboxes.warm_reservation_ttl,
        managed_fields_at_claim: sandboxes.managed_fields_at_claim,
        label_domains: label_domains(sandboxes.claim_label_domain, &sandboxes.claim_label_domains_file)?,
        annotation_domains: CLAIM_ANNOTATION_DOMAINS.map(str::to_owned).into_iter().chain(annotation_domains).collect(),
        isolated_handlers: sandboxes.isolation.isolated_handler,
        isolation_allow: sandboxes.isolation.isolation_allow.into_iter().collect(),
        own_namespace: runs_in,
        tcp_wake,
        network: NetworkSettings {
            router_namespaces: if sandboxes.router_namespace.is_empty() {
                vec![own_namespace.clone()]
            } else {
                sandboxes.router_namespace
            },
            egress_except: sandboxes.egress_except,
            egress_allow: sandboxes.egress_allow,
        },
        seed,
        pool_batch: work.sandbox_warm_pool_max_batch_size.into(),
        max_pool_size: work.max_pool_size,
        pool_ignored_label_domains: ignored_label_domains.collect(),
        pool_readiness_grace: work.sandbox_warm_pool_readiness_grace_period,
        ..Settings::default()
    };
    let workers = Workers {
        claims: work.sandbox_claim_concurrent_workers.into(),
        sandboxes: work.sandbox_concurrent_workers.into(),
        pools: work.sandbox_warm_pool_concurrent_workers.into(),
        templates: work.sandbox_template_concurrent_workers.into(),
    };
    Ok(Config {
        settings,
        shapes: api.surface,
        extensions: api.extensions,
        namespace: cluster.namespace,
        workers,
        disabled_events: DisabledEvents {
            claims: reports.disable_claim_events,
            sandboxes: reports.disable_sandbox_events,
        },
        kube_api_qps: Some(work.kube_api_qps),
        kube_api_burst: work.kube_api_burst,
        leadership: elected(leadership, &own_namespace, in_cluster)?,
        identity: identity(seed),
        pod: pod.as_ref().map(|pod| pod.name.clone()).filter(|name| !name.is_empty()),
        metrics: listen.metrics_bind_address,
        metrics_access: if listen.metrics_secure {
            MetricsAccess::Authorized { certificate: listen.metrics_cert_dir.map(|dir| Mounted { dir }) }
        } else {
            MetricsAccess::Open
        },
        health: listen.health_probe_bind_address,
        debug: listen.debug_bind_address,
        webhook: admission(webhook, &own_namespace, pod)?,
        plugin_dir: sandboxes.plugin_dir,
        plugin_cache_dir: sandboxes.plugin_cache_dir,
        plugin_memory: sandboxes.plugin_memory_budget,
        registry: registry.config()?,
        connections,
        record: record.config(),
        seed,
    })
}

/// The pod that this process runs in.
struct Pod {
    namespace: String,
    name: String,
}

/// The gateways that resume Sandboxes for TCP connections. The operator has to see the EndpointSlices of their Service.
fn tcp_wake_settings(
    args: TcpWakeArgs,
    pod: Option<&Pod>,
    served: Option<&str>,
) -> anyhow::Result<Option<TcpWakeSettings>> {
    let (true, Some(ports)) = (args.tcp_wake, args.tcp_wake_ports.0) else { return Ok(None) };
    let sees = |namespace: &str| served.is_none_or(|served| served == namespace);
    let service = match (args.gateway_service, pod) {
        (Some((namespace, service)), _) => {
            anyhow::ensure!(
                sees(&namespace),
                "--gateway-service={namespace}/{service} is not in the namespace of --namespace, whose objects alone the \
                 operator sees: install a gateway there, or set --tcp-wake=false"
            );
            Some((namespace, service))
        }
        (None, Some(pod)) => {
            Some((pod.namespace.clone(), GATEWAY_SERVICE.to_owned())).filter(|(namespace, _)| sees(namespace))
        }
        (None, None) => None,
    };
    Ok(service.map(|(namespace, service)| TcpWakeSettings { namespace, service, ports }))
}

fn admission(args: WebhookArgs, own_namespace: &str, pod: Option<Pod>) -> anyhow::Result<Option<WebhookSetup>> {
    if args.webhook_bind_address == ListenAddress::Off {
        return Ok(None);
    }
    let namespace = args.webhook_service_namespace.unwrap_or_else(|| own_namespace.to_owned());
    let client_config = match args.webhook_url {
        Some(url) => ClientConfig::Url(url),
        None => ClientConfig::Service {
            namespace: namespace.clone(),
            name: args.webhook_service_name,
            port: args.webhook_service_port,
        },
    };
    let certificate = match args.webhook_cert_dir {
        Some(dir) => Certificate::Mounted(Mounted { dir }),
        None => Certificate::SelfIssued {
            namespace: namespace.clone(),
            secret: args.webhook_secret_name,
            lifetimes: Lifetimes::of(
                args.webhook_cert_lifetime,
                args.webhook_cert_renew_before,
                args.webhook_cert_overlap,
            )
            .context("--webhook-cert-lifetime, --webhook-cert-renew-before, --webhook-cert-overlap")?,
            registration: match args.webhook_registration {
                WhoRegisters::Owned => Registration::Owned,
                WhoRegisters::Injected => Registration::Injected,
            },
        },
    };
    let deployed = match (args.deployment_name, pod) {
        (Some(name), _) => Some(Deployed { namespace, workload: Workload::Deployment(name) }),
        (None, Some(pod)) => Some(Deployed { namespace: pod.namespace, workload: Workload::OwnerOfPod(pod.name) }),
        (None, None) => None,
    };
    Ok(Some(WebhookSetup {
        bind: args.webhook_bind_address,
        client_config: Some(client_config),
        certificate,
        deployed,
        client_ca: args.webhook_client_ca,
        isolation_policies: args.isolation_policies,
    }))
}

/// Operators exclude each other by the Leases of one namespace. A pod uses its own; outside a pod, nothing says which
/// namespace the other operators use.
fn elected(args: LeadershipArgs, own_namespace: &str, in_cluster: bool) -> anyhow::Result<Leadership> {
    if !args.leader_elect {
        return Ok(Leadership::Alone);
    }
    anyhow::ensure!(
        in_cluster || args.leader_election_namespace.is_some(),
        "--leader-election-namespace is required with --kubeconfig: name the namespace in which the operators of this \
         cluster keep their Leases, such as {OPERATOR_NAMESPACE}. With --leader-elect=false, this process takes no \
         Lease, and other operators do not wait for it: use it only in a cluster without another operator"
    );
    let timing =
        Timing { lease: args.lease_duration, renew: args.lease_renew_deadline, retry: args.lease_retry_period };
    let timing = timing.checked().context("--lease-duration, --lease-renew-deadline, --lease-retry-period")?;
    Ok(Leadership::Elected { namespace: own_namespace.to_owned(), timing })
}

/// A random number. The names of warm sandboxes, the jitter and the holder of the leases come from it. Nobody can guess
/// it, so nobody can prepare a Pod or a Sandbox for the next name.
fn seed() -> u64 {
    // The standard library seeds its hash maps with random numbers of the operating system.
    RandomState::new().hash_one(std::process::id())
}

/// The pod's name, and a part that differs for each start of the process.
fn identity(seed: u64) -> String {
    format!("{}_{seed:016x}", pod_name().unwrap_or_else(|| "paddock".to_owned()))
}

/// The pod's name. Kubernetes gives it to the container as its hostname too, unless the pod uses the host's network.
fn pod_name() -> Option<String> {
    let variable = |name| std::env::var(name).ok().filter(|name| !name.is_empty());
    let file = || std::fs::read_to_string("/etc/hostname").ok().map(|name| name.trim().to_owned());
    variable("POD_NAME").or_else(|| variable("HOSTNAME")).or_else(file)
}
