//! The flags of `paddock operator`, each with its default, its unit and its environment variable.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use paddock_api::kind::ApiShapes;
use paddock_core::settings::ManagedFieldsAtClaim;
use paddock_kube::listen::ListenAddress;

use super::connections::ConnectionArgs;
use super::record::RecordArgs;
use super::registry::RegistryArgs;
use super::upstream::UpstreamArgs;
use crate::commands::isolation::IsolationArgs;
use crate::commands::process::LogArgs;
use crate::values::{
    OptionalPorts, parse_bool, parse_cidr, parse_cpu_metrics_interval, parse_domain, parse_duration, parse_image,
    parse_managed_fields, parse_namespace, parse_plugin_memory, parse_port_range, parse_positive_duration,
    parse_quantity, parse_service, parse_shapes, parse_throttle_cpu,
};

/// Flags may be written as Go programs take them: `--flag=value`, `--flag value`, `-flag value`; booleans bare or with
/// `=true` or `=false`; the last one of a name counts.
#[derive(Debug, Args)]
pub(crate) struct OperatorArgs {
    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
    #[command(flatten)]
    pub(super) api: ApiArgs,
    #[command(flatten)]
    pub(super) leadership: LeadershipArgs,
    #[command(flatten)]
    pub(super) sandboxes: SandboxArgs,
    #[command(flatten)]
    pub(super) registry: RegistryArgs,
    #[command(flatten)]
    pub(super) tcp_wake: TcpWakeArgs,
    #[command(flatten)]
    pub(super) connections: ConnectionArgs,
    #[command(flatten)]
    pub(super) work: WorkArgs,
    #[command(flatten)]
    pub(super) listen: ListenArgs,
    #[command(flatten)]
    pub(super) webhook: WebhookArgs,
    #[command(flatten)]
    pub(super) record: RecordArgs,
    #[command(flatten)]
    pub(super) reports: ReportArgs,
    #[command(flatten)]
    pub(super) upstream: UpstreamArgs,
    #[command(flatten)]
    pub(super) log: LogArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Cluster")]
pub(super) struct ClusterArgs {
    /// Kubeconfig file. If absent, the operator uses the ServiceAccount of its pod. It ignores the variable KUBECONFIG.
    #[arg(long, value_name = "FILE", env = "PADDOCK_KUBECONFIG")]
    pub(super) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig file. If absent, the current context of the file.
    #[arg(long, value_name = "NAME", env = "PADDOCK_CONTEXT", requires = "kubeconfig")]
    pub(super) context: Option<String>,
    /// The only namespace that the operator serves. If absent, it serves all namespaces.
    #[arg(long, value_name = "NAMESPACE", env = "PADDOCK_NAMESPACE")]
    pub(super) namespace: Option<String>,
    /// Domain of the cluster's DNS, in the addresses of sandboxes.
    #[arg(long, value_name = "DOMAIN", env = "PADDOCK_CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub(super) cluster_domain: String,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "API")]
pub(super) struct ApiArgs {
    /// API shape of the templates, pools and claims that the operator serves: seed (all kinds in agents.x-k8s.io),
    /// upstream (in extensions.agents.x-k8s.io), or both.
    #[arg(long, value_name = "SURFACE", env = "PADDOCK_SURFACE", value_parser = parse_shapes, default_value = "both")]
    pub(super) surface: ApiShapes,
    /// Whether the operator serves templates, pools and claims. If false, it serves only Sandboxes.
    #[arg(long, value_name = "BOOL", env = "PADDOCK_EXTENSIONS", value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", action = ArgAction::Set)]
    pub(super) extensions: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Leadership")]
pub(super) struct LeadershipArgs {
    /// Whether the operator writes only while it holds its Leases. Two replicas need this. If false, this process takes no
    /// Lease. It writes while nobody else holds one in any namespace, or always if --namespace limits it to one. Use that
    /// only in a cluster without another operator.
    #[arg(long, value_name = "BOOL", env = "PADDOCK_LEADER_ELECT", value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", action = ArgAction::Set)]
    pub(super) leader_elect: bool,
    /// Namespace of the Leases. If absent, the namespace of the pod. Required with --kubeconfig. While somebody holds a
    /// Lease of the same name in another namespace, this process does not act, unless --namespace limits it to one.
    #[arg(long, value_name = "NAMESPACE", env = "PADDOCK_LEADER_ELECTION_NAMESPACE")]
    pub(super) leader_election_namespace: Option<String>,
    /// The time after its last renewal at which a Lease expires, in whole seconds.
    #[arg(long, value_name = "DURATION", env = "PADDOCK_LEASE_DURATION", value_parser = parse_duration, default_value = "15s")]
    pub(super) lease_duration: Duration,
    /// The time after the last renewal at which the leader stops writing. It must be shorter than the lease duration.
    #[arg(long, value_name = "DURATION", env = "PADDOCK_LEASE_RENEW_DEADLINE", value_parser = parse_duration, default_value = "10s")]
    pub(super) lease_renew_deadline: Duration,
    /// The interval at which the operator tries to take or renew its Leases. It must be shorter than half of the renew
    /// deadline.
    #[arg(long, value_name = "DURATION", env = "PADDOCK_LEASE_RETRY_PERIOD", value_parser = parse_duration, default_value = "2s")]
    pub(super) lease_retry_period: Duration,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Sandboxes")]
pub(super) struct SandboxArgs {
    /// Directory of the plugins and of the files that bind them. The operator reads it once a second. SandboxPlugins and
    /// SandboxPolicies need no directory.
    #[arg(long, value_name = "DIR", env = "PADDOCK_PLUGIN_DIR")]
    pub(super) plugin_dir: Option<PathBuf>,
    /// Directory for the last good version of each plugin, which then survives a restart of the container. The operator
    /// must be able to write to the directory, and nobody else may.
    #[arg(long, value_name = "DIR", env = "PADDOCK_PLUGIN_CACHE_DIR")]
    pub(super) plugin_cache_dir: Option<PathBuf>,
    /// Memory that all calls of plugins together may use, at least 128Mi. If absent, a quarter of the memory limit of
    /// the process, but at least 128Mi and at most 1Gi.
    #[arg(long, value_name = "QUANTITY", env = "PADDOCK_PLUGIN_MEMORY_BUDGET", value_parser = parse_plugin_memory)]
    pub(super) plugin_memory_budget: Option<usize>,
    /// Size of the volume claim that replaces an emptyDir without sizeLimit, if the sandbox has an idleTimeout.
    #[arg(long, value_name = "QUANTITY", env = "PADDOCK_WORKSPACE_SIZE", value_parser = parse_quantity, default_value = "1Gi")]
    pub(super) workspace_size: String,
    /// Image with the program /paddock-init of the same version as the operator, such as the image of the operator. It holds
    /// the containers of templates whose claimData.start is AfterDelivery. Without the flag, no sandboxes of such templates
    /// are made.
    #[arg(long, value_name = "IMAGE", env = "PADDOCK_INIT_IMAGE", value_parser = parse_image)]
    pub(super) init_image: Option<String>,
    /// CPU limit of a container while its idle sandbox is throttled, from 10m to 1. Idle plugins may then
    /// throttle sandboxes, for which the operator needs the right to patch pods/resize. Without the flag, no sandbox is
    /// throttled.
    #[arg(long, value_name = "QUANTITY", env = "PADDOCK_THROTTLE_CPU", value_parser = parse_throttle_cpu)]
    pub(super) throttle_cpu: Option<u32>,
    /// The interval at which the operator reads the CPU use of pods from metrics-server (metrics.k8s.io), from 1s to 1m, such
    /// as 15s. It reads only while a plugin of the directory or of a SandboxPolicy decides whether a running sandbox is idle.
    /// With 0s, idle plugins get no CPU use.
    #[arg(long, value_name = "DURATION", env = "PADDOCK_CPU_METRICS_INTERVAL", value_parser = parse_cpu_metrics_interval, default_value = "30s")]
    pub(super) cpu_metrics_interval: Duration,
    /// The time for which the start of an exec, attach, port-forward or proxied request keeps an idle sandbox running.
    #[arg(long, value_name = "DURATION", env = "PADDOCK_EXEC_HOLD", value_parser = parse_duration, default_value = "1h")]
    pub(super) exec_hold: Duration,
    /// The longest time for which the annotation policy.paddock.dev/keep-awake-until of a Sandbox may keep it running, from
    /// the present time on. Example: kubectl annotate sandbox NAME policy.paddock.dev/keep-awake-until=2026-12-01T18:00:00Z
    #[arg(long, value_name = "DURATION", env = "PADDOCK_KEEP_AWAKE_AT_MOST", value_parser = parse_duration, default_value = "24h")]
    pub(super) keep_awake_at_most: Duration,
    /// The time for which a warm sandbox is reserved for a claim that was admitted and is not stored yet. 0 turns
    /// reservations off.
    #[arg(long, alias = "claim-promise", value_name = "DURATION", env = "PADDOCK_WARM_RESERVATION_TTL", value_parser = parse_duration, default_value = "2s")]
    pub(super) warm_reservation_ttl: Duration,
    /// Whether a warm sandbox keeps its managedFields when a claim takes it, or loses them if Paddock is its only
    /// manager. Clearing them saves the API server a third of the time of this write. The API server then records no
    /// later update until somebody uses server-side apply.
    #[arg(long, value_name = "clear|keep", env = "PADDOCK_MANAGED_FIELDS_AT_CLAIM", value_parser = parse_managed_fields, default_value = "clear")]
    pub(super) managed_fields_at_claim: ManagedFieldsAtClaim,
    /// Domain whose labels a claim may add to its pod. The flag may be repeated. If absent, the domains of
    /// --claim-label-domains-file.
    #[arg(long, value_name = "DOMAIN", env = "PADDOCK_CLAIM_LABEL_DOMAIN", value_delimiter = ',')]
    pub(super) claim_label_domain: Vec<String>,
    /// File with these domains, one a line or separated by commas, as upstream's ConfigMap agent-sandbox-config has it. The
    /// operator reads it when it starts. If the file is absent or empty, sandbox.users.io.
    #[arg(
        long,
        value_name = "FILE",
        env = "PADDOCK_CLAIM_LABEL_DOMAINS_FILE",
        default_value = "/etc/sandbox-config/allowed-label-domains"
    )]
    pub(super) claim_label_domains_file: PathBuf,
    /// Domain whose annotations a claim may add to its pod, besides sandbox.users.io and podsnapshot.gke.io. The flag
    /// may be repeated. `*` means every domain, except those of annotations that Kubernetes, an operator, a runtime, a
    /// network plugin, a service mesh or a cloud's identity service reads.
    #[arg(long, value_name = "DOMAIN", env = "PADDOCK_CLAIM_ANNOTATION_DOMAIN", value_delimiter = ',', value_parser = parse_domain)]
    pub(super) claim_annotation_domain: Vec<String>,
    #[command(flatten)]
    pub(super) isolation: IsolationArgs,
    /// Namespace whose router pods (label app: sandbox-router) the default NetworkPolicy of a template admits. The flag
    /// may be repeated. If absent, the operator's own namespace.
    #[arg(long, value_name = "NAMESPACE", env = "PADDOCK_ROUTER_NAMESPACE", value_delimiter = ',', value_parser = parse_namespace)]
    pub(super) router_namespace: Vec<String>,
    /// CIDR block that the default NetworkPolicy of a template does not let sandboxes connect to, in addition to all
    /// addresses that are not public. The flag may be repeated.
    #[arg(long, value_name = "CIDR", env = "PADDOCK_EGRESS_EXCEPT", value_delimiter = ',', value_parser = parse_cidr)]
    pub(super) egress_except: Vec<String>,
    /// CIDR block that the default NetworkPolicy of a template lets sandboxes connect to, although its addresses are
    /// not public. The flag may be repeated.
    #[arg(long, value_name = "CIDR", env = "PADDOCK_EGRESS_ALLOW", value_delimiter = ',', value_parser = parse_cidr)]
    pub(super) egress_allow: Vec<String>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "TCP connections to suspended sandboxes")]
pub(super) struct TcpWakeArgs {
    /// Whether a TCP connection to the Service of a sandbox with the resumePolicy OnDemand resumes it. Turn this off if
    /// policies that are not NetworkPolicies restrict who may connect to sandboxes: the operator does not see them, and the
    /// connections come from the gateway.
    #[arg(long, value_name = "BOOL", env = "PADDOCK_TCP_WAKE", value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", action = ArgAction::Set)]
    pub(super) tcp_wake: bool,
    /// Service whose pods are the gateways. If absent, sandbox-router-svc in the namespace of the pod. Outside a pod, or
    /// if the operator serves only another namespace, there is none, and no TCP connection resumes a sandbox.
    #[arg(long, value_name = "NAMESPACE/NAME", env = "PADDOCK_GATEWAY_SERVICE", value_parser = parse_service)]
    pub(super) gateway_service: Option<(String, String)>,
    /// Range of the gateway's ports that stand for ports of sandboxes, FIRST-LAST. The gateways must have the same. 0 turns
    /// this off.
    #[arg(long, value_name = "RANGE", env = "PADDOCK_TCP_WAKE_PORTS", value_parser = parse_port_range, default_value = "10000-29999")]
    pub(super) tcp_wake_ports: OptionalPorts,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Work")]
pub(super) struct WorkArgs {
    /// The number of Sandboxes that are reconciled at the same time.
    #[arg(long, value_name = "N", env = "PADDOCK_SANDBOX_CONCURRENT_WORKERS", value_parser = clap::value_parser!(u16).range(1..), default_value = "128")]
    pub(super) sandbox_concurrent_workers: u16,
    /// The number of claims that are reconciled at the same time.
    #[arg(long, value_name = "N", env = "PADDOCK_SANDBOX_CLAIM_CONCURRENT_WORKERS", value_parser = clap::value_parser!(u16).range(1..), default_value = "128")]
    pub(super) sandbox_claim_concurrent_workers: u16,
    /// The number of pools that are reconciled at the same time.
    #[arg(long, value_name = "N", env = "PADDOCK_SANDBOX_WARM_POOL_CONCURRENT_WORKERS", value_parser = clap::value_parser!(u16).range(1..), default_value = "32")]
    pub(super) sandbox_warm_pool_concurrent_workers: u16,
    /// The number of templates that are reconciled at the same time.
    #[arg(long, value_name = "N", env = "PADDOCK_SANDBOX_TEMPLATE_CONCURRENT_WORKERS", value_parser = clap::value_parser!(u16).range(1..), default_value = "8")]
    pub(super) sandbox_template_concurrent_workers: u16,
    /// The largest number of sandboxes that one reconcile of a pool creates or deletes.
    #[arg(long, value_name = "N", env = "PADDOCK_SANDBOX_WARM_POOL_MAX_BATCH_SIZE", value_parser = clap::value_parser!(u16).range(1..), default_value = "100")]
    pub(super) sandbox_warm_pool_max_batch_size: u16,
    /// The largest number of sandboxes in a pool, whatever its spec says. A larger pool reports that it is limited.
    #[arg(long, value_name = "N", env = "PADDOCK_MAX_POOL_SIZE", default_value = "10000")]
    pub(super) max_pool_size: u32,
    /// Domain of labels that anybody may add to a warm sandbox or its pod, besides topology.kubernetes.io and
    /// kueue.x-k8s.io. Its pool replaces a sandbox with another added label. The flag may be repeated.
    #[arg(long, value_name = "DOMAIN", env = "PADDOCK_POOL_IGNORE_LABEL_DOMAIN", value_delimiter = ',')]
    pub(super) pool_ignore_label_domain: Vec<String>,
    /// The time after which a pool replaces a warm sandbox whose pod has a node and which is not Ready.
    #[arg(long, value_name = "DURATION", env = "PADDOCK_SANDBOX_WARM_POOL_READINESS_GRACE_PERIOD", value_parser = parse_positive_duration, default_value = "5m")]
    pub(super) sandbox_warm_pool_readiness_grace_period: Duration,
    /// The largest number of writes to the API server a second. With zero or less, the rate has no limit.
    #[arg(long, value_name = "F", env = "PADDOCK_KUBE_API_QPS", allow_negative_numbers = true, default_value = "-1")]
    pub(super) kube_api_qps: f64,
    /// The largest number of writes in a burst above that rate. If absent, the number of one second.
    #[arg(long, value_name = "N", env = "PADDOCK_KUBE_API_BURST", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) kube_api_burst: Option<u32>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Listening (HOST:PORT, :PORT, or 0 for not at all)")]
pub(super) struct ListenArgs {
    /// Address of /metrics, for Prometheus.
    #[arg(long, value_name = "ADDRESS", env = "PADDOCK_METRICS_BIND_ADDRESS", default_value = ":8080")]
    pub(super) metrics_bind_address: ListenAddress,
    /// Whether the operator serves /metrics over TLS, and only to users whom RBAC allows to get the nonResourceURL
    /// /metrics (ClusterRole paddock-metrics-reader). If false, everybody who reaches the address can read the metrics.
    #[arg(long, alias = "metrics-secure-serving", value_name = "BOOL", env = "PADDOCK_METRICS_SECURE", value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set)]
    pub(super) metrics_secure: bool,
    /// Directory with tls.crt and tls.key for --metrics-secure. If absent, the operator issues a certificate that
    /// clients cannot verify.
    #[arg(long, value_name = "DIR", env = "PADDOCK_METRICS_CERT_DIR")]
    pub(super) metrics_cert_dir: Option<PathBuf>,
    /// Address of /healthz and /readyz.
    #[arg(long, value_name = "ADDRESS", env = "PADDOCK_HEALTH_PROBE_BIND_ADDRESS", default_value = ":8081")]
    pub(super) health_probe_bind_address: ListenAddress,
    /// Address of /debug/, with the pages that `paddock explain` reads. These pages show the content of users' objects, so
    /// the default is loopback. `kubectl port-forward` reaches it.
    #[arg(long, value_name = "ADDRESS", env = "PADDOCK_DEBUG_BIND_ADDRESS", default_value = "127.0.0.1:8082")]
    pub(super) debug_bind_address: ListenAddress,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Webhook")]
pub(super) struct WebhookArgs {
    /// Address of the admission webhook, over TLS. 0 turns the webhook off.
    #[arg(long, value_name = "ADDRESS", env = "PADDOCK_WEBHOOK_BIND_ADDRESS", default_value = ":9443")]
    pub(super) webhook_bind_address: ListenAddress,
    /// URL at which the API server reaches the webhook of an operator outside the cluster. If absent, the API server
    /// uses the Service.
    #[arg(long, value_name = "URL", env = "PADDOCK_WEBHOOK_URL", value_parser = https)]
    pub(super) webhook_url: Option<String>,
    /// Service in front of the webhook.
    #[arg(long, value_name = "NAME", env = "PADDOCK_WEBHOOK_SERVICE_NAME", default_value = "paddock-webhook")]
    pub(super) webhook_service_name: String,
    /// Port of that Service.
    #[arg(long, value_name = "PORT", env = "PADDOCK_WEBHOOK_SERVICE_PORT", value_parser = clap::value_parser!(u16).range(1..), default_value = "443")]
    pub(super) webhook_service_port: u16,
    /// Namespace of that Service, and of the Secret that contains the certificate. If absent, the namespace of the
    /// Leases.
    #[arg(long, value_name = "NAMESPACE", env = "PADDOCK_WEBHOOK_SERVICE_NAMESPACE")]
    pub(super) webhook_service_namespace: Option<String>,
    /// Secret that contains the certificate of the webhook.
    #[arg(long, value_name = "NAME", env = "PADDOCK_WEBHOOK_SECRET_NAME", default_value = paddock_operator::webhook::SECRET)]
    pub(super) webhook_secret_name: String,
    /// Directory with tls.crt and tls.key. Another program maintains these files and makes the API server trust them.
    /// The operator then issues no certificate for the webhook.
    #[arg(long, value_name = "DIR", env = "PADDOCK_WEBHOOK_CERT_DIR")]
    pub(super) webhook_cert_dir: Option<PathBuf>,
    /// CA of the API servers' client certificates, in PEM format. The webhook then serves only clients with a
    /// certificate of this CA. The API server presents a certificate if its AdmissionConfiguration says so.
    #[arg(long, value_name = "FILE", env = "PADDOCK_WEBHOOK_CLIENT_CA")]
    pub(super) webhook_client_ca: Option<PathBuf>,
    /// Whether the cluster has the policies of `paddock generate vap`. The API server then admits Pods of generated code
    /// although the webhook does not answer, and these policies alone judge them. The operator compares the policies with
    /// those of its own flags every minute. While one is absent or differs, this flag has no effect: such Pods are denied
    /// without an answer.
    #[arg(long, value_name = "BOOL", env = "PADDOCK_ISOLATION_POLICIES", value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set)]
    pub(super) isolation_policies: bool,
    /// The source of the webhook configurations.
    #[arg(long, value_name = "WHO", env = "PADDOCK_WEBHOOK_REGISTRATION", default_value = "owned")]
    pub(super) webhook_registration: WhoRegisters,
    /// The lifetime of a certificate that the operator issues.
    #[arg(long, value_name = "DURATION", env = "PADDOCK_WEBHOOK_CERT_LIFETIME", value_parser = parse_duration, default_value = "2160h")]
    pub(super) webhook_cert_lifetime: Duration,
    /// The time before its end at which the operator replaces such a certificate.
    #[arg(long, value_name = "DURATION", env = "PADDOCK_WEBHOOK_CERT_RENEW_BEFORE", value_parser = parse_duration, default_value = "720h")]
    pub(super) webhook_cert_renew_before: Duration,
    /// The time for which a new authority is trusted before the operator uses it, and for which the old authority is
    /// trusted after that.
    #[arg(long, value_name = "DURATION", env = "PADDOCK_WEBHOOK_CERT_OVERLAP", value_parser = parse_duration, default_value = "10m")]
    pub(super) webhook_cert_overlap: Duration,
    /// Deployment of the operator. The webhook configurations are deleted together with it. If absent, an operator in a
    /// pod uses the Deployment that owns the pod.
    #[arg(long, value_name = "NAME", env = "PADDOCK_DEPLOYMENT_NAME")]
    pub(super) deployment_name: Option<String>,
}

/// Who makes the webhook configurations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum WhoRegisters {
    /// The operator creates them.
    Owned,
    /// Manifests create them, and the operator adds the CA bundle.
    Injected,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Reports")]
pub(super) struct ReportArgs {
    /// Whether the operator sends no Events about claims.
    #[arg(long, value_name = "BOOL", env = "PADDOCK_DISABLE_CLAIM_EVENTS", value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set)]
    pub(super) disable_claim_events: bool,
    /// Whether the operator sends no Events about Sandboxes.
    #[arg(long, value_name = "BOOL", env = "PADDOCK_DISABLE_SANDBOX_EVENTS", value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set)]
    pub(super) disable_sandbox_events: bool,
    /// Accepted for upstream's tooling, without effect. The annotations of a claim that metrics use cost no additional
    /// write.
    #[arg(long, value_name = "BOOL", env = "PADDOCK_DISABLE_CLAIM_OBSERVABILITY_ANNOTATIONS", value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set)]
    pub(super) disable_claim_observability_annotations: bool,
}

fn https(value: &str) -> Result<String, String> {
    match value.strip_prefix("https://") {
        Some(rest) if !rest.is_empty() => Ok(value.to_owned()),
        Some(_) | None => Err(format!("{value:?}: the API server calls webhooks over TLS: expected https://HOST:PORT")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::parsed;

    fn operator(args: &[&str]) -> Result<OperatorArgs, String> {
        parsed(args)
    }

    #[test]
    fn every_flag_that_upstreams_tooling_passes_is_taken() {
        let args = operator(&[
            "--extensions",
            "-sandbox-concurrent-workers=10",
            "--sandbox-claim-concurrent-workers=20",
            "--sandbox-warm-pool-concurrent-workers=3",
            "--sandbox-template-concurrent-workers=4",
            "--sandbox-warm-pool-max-batch-size=300",
            "--sandbox-warm-pool-readiness-grace-period=10m0s",
            "--kube-api-qps=-1",
            "--kube-api-burst=10",
            "--leader-election-namespace=agent-sandbox-system",
            "-leader-elect=false",
            "--metrics-bind-address=:8080",
            "--health-probe-bind-address=:8081",
            "--cluster-domain=cluster.local",
            "--disable-claim-events",
            "--disable-claim-observability-annotations=true",
            "--disable-sandbox-events=false",
        ])
        .unwrap();
        assert!(args.reports.disable_claim_events && !args.reports.disable_sandbox_events);
        assert!(args.reports.disable_claim_observability_annotations);
        assert!(args.api.extensions && !args.leadership.leader_elect);
        assert_eq!(args.work.sandbox_concurrent_workers, 10);
        assert_eq!(args.work.sandbox_warm_pool_max_batch_size, 300);
        assert_eq!(args.work.sandbox_warm_pool_readiness_grace_period, Duration::from_secs(600));
        assert!(args.work.kube_api_qps < 0.0);
    }

    #[test]
    fn a_renamed_flag_is_taken_by_its_old_name() {
        for name in ["--warm-reservation-ttl=0", "--claim-promise=0s", "-claim-promise=0s"] {
            assert_eq!(operator(&[name]).unwrap().sandboxes.warm_reservation_ttl, Duration::ZERO, "{name}");
        }
    }

    #[test]
    fn the_last_of_a_name_counts() {
        let args =
            operator(&["--leader-elect=true", "--leader-elect=false", "--cluster-domain=a", "--cluster-domain=b"]);
        let args = args.unwrap();
        assert!(!args.leadership.leader_elect);
        assert_eq!(args.cluster.cluster_domain, "b");
    }

    #[test]
    fn a_flag_that_may_be_repeated_keeps_every_value() {
        let args = operator(&[
            "--router-namespace=routers",
            "--router-namespace=team-a,team-b",
            "--egress-except=203.0.112.0/24",
            "-egress-allow=10.1.0.0/16",
            "--egress-allow=fd00:1::/32",
        ])
        .unwrap();
        assert_eq!(args.sandboxes.router_namespace, ["routers", "team-a", "team-b"]);
        assert_eq!(args.sandboxes.egress_except, ["203.0.112.0/24"]);
        assert_eq!(args.sandboxes.egress_allow, ["10.1.0.0/16", "fd00:1::/32"]);
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_could_be() {
        for (flag, wanted) in [
            ("--sandbox-concurrent-workers=0", "1.."),
            ("--workspace-size=big", "500Mi"),
            ("--exec-hold=1d", "1h30m"),
            ("--keep-awake-at-most=1d", "1h30m"),
            ("--cpu-metrics-interval=500ms", "0s, or from 1s to 1m, such as 30s"),
            ("--cpu-metrics-interval=61s", "0s, or from 1s to 1m, such as 30s"),
            ("--cpu-metrics-interval=30", "90s, 1h30m"),
            ("--surface=other", "seed, upstream or both"),
            ("--managed-fields-at-claim=drop", "clear or keep"),
            ("--claim-annotation-domain=example.com/x", "a domain such as example.com"),
            ("--leader-elect=perhaps", "true or false"),
            ("--metrics-bind-address=8080", ":PORT"),
            ("--webhook-url=http://x", "https://HOST:PORT"),
            ("--router-namespace=Routers", "not the name of a namespace"),
            ("--egress-except=10.1.2.3/8", "expected 10.0.0.0/8"),
            ("--egress-allow=10.0.0.1", "ADDRESS/LENGTH"),
        ] {
            let error = operator(&[flag]).unwrap_err();
            assert!(error.contains(wanted), "{flag}: {error}");
        }
    }
}
