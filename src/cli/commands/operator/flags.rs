//! The flags of `paddock operator`, each with its default, its unit and its environment variable.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use paddock_api::kind::ApiShapes;
use paddock_core::isolation::HostAccess;
use paddock_core::settings::ManagedFieldsAtClaim;
use paddock_kube::listen::ListenAddress;

use crate::values::{
    parse_bool, parse_cidr, parse_domain, parse_duration, parse_managed_fields, parse_namespace, parse_plugin_memory,
    parse_positive_duration, parse_quantity, parse_shapes,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl From<LogFormat> for paddock_kube::logs::LogFormat {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Text => Self::Text,
            LogFormat::Json => Self::Json,
        }
    }
}

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
    pub(super) work: WorkArgs,
    #[command(flatten)]
    pub(super) listen: ListenArgs,
    #[command(flatten)]
    pub(super) webhook: WebhookArgs,
    #[command(flatten)]
    pub(super) reports: ReportArgs,
    #[command(flatten)]
    pub(super) log: LogArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Cluster")]
pub(super) struct ClusterArgs {
    /// Kubeconfig file. Without it, the pod's own service account is used; the variable KUBECONFIG is not looked at.
    #[arg(long, value_name = "FILE", env = "PADDOCK_KUBECONFIG")]
    pub(super) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig file; its current one if absent.
    #[arg(long, value_name = "NAME", env = "PADDOCK_CONTEXT", requires = "kubeconfig")]
    pub(super) context: Option<String>,
    /// Serves this namespace only; all if absent.
    #[arg(long, value_name = "NAMESPACE", env = "PADDOCK_NAMESPACE")]
    pub(super) namespace: Option<String>,
    /// Domain of the cluster's DNS, in the addresses of sandboxes.
    #[arg(long, value_name = "DOMAIN", env = "PADDOCK_CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub(super) cluster_domain: String,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "API")]
pub(super) struct ApiArgs {
    /// API shape of templates, pools and claims that is served: seed (all kinds in agents.x-k8s.io), upstream
    /// (upstream's, in extensions.agents.x-k8s.io), or both.
    #[arg(long, value_name = "SURFACE", env = "PADDOCK_SURFACE", value_parser = parse_shapes, default_value = "both")]
    pub(super) surface: ApiShapes,
    /// Serves templates, pools and claims; without them, Sandboxes alone.
    #[arg(long, value_name = "BOOL", env = "PADDOCK_EXTENSIONS", value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", action = ArgAction::Set)]
    pub(super) extensions: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Leadership")]
pub(super) struct LeadershipArgs {
    /// Acts only while holding the leases, as two replicas must. Without it, this process acts always.
    #[arg(long, value_name = "BOOL", env = "PADDOCK_LEADER_ELECT", value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", action = ArgAction::Set)]
    pub(super) leader_elect: bool,
    /// Namespace of the leases; that of the pod or of the kubeconfig's context if absent.
    #[arg(long, value_name = "NAMESPACE", env = "PADDOCK_LEADER_ELECTION_NAMESPACE")]
    pub(super) leader_election_namespace: Option<String>,
    /// How long a lease stands that is not renewed: whole seconds.
    #[arg(long, value_name = "DURATION", env = "PADDOCK_LEASE_DURATION", value_parser = parse_duration, default_value = "15s")]
    pub(super) lease_duration: Duration,
    /// How long after the last renewal the leader goes on acting: shorter than the lease.
    #[arg(long, value_name = "DURATION", env = "PADDOCK_LEASE_RENEW_DEADLINE", value_parser = parse_duration, default_value = "10s")]
    pub(super) lease_renew_deadline: Duration,
    /// How often leases are tried or renewed: shorter than half of the renew deadline.
    #[arg(long, value_name = "DURATION", env = "PADDOCK_LEASE_RETRY_PERIOD", value_parser = parse_duration, default_value = "2s")]
    pub(super) lease_retry_period: Duration,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Sandboxes")]
pub(super) struct SandboxArgs {
    /// Directory that is watched for plugins and the files that bind them.
    #[arg(long, value_name = "DIR", env = "PADDOCK_PLUGIN_DIR")]
    pub(super) plugin_dir: Option<PathBuf>,
    /// Directory that keeps the last good version of each plugin over a restart of the container. It must be writable,
    /// and only the operator may write to it.
    #[arg(long, value_name = "DIR", env = "PADDOCK_PLUGIN_CACHE_DIR", requires = "plugin_dir")]
    pub(super) plugin_cache_dir: Option<PathBuf>,
    /// Memory that all calls of plugins together may use, from 128Mi. By default, a quarter of the memory limit of the
    /// process, from 128Mi to 1Gi.
    #[arg(long, value_name = "QUANTITY", env = "PADDOCK_PLUGIN_MEMORY_BUDGET", value_parser = parse_plugin_memory)]
    pub(super) plugin_memory_budget: Option<usize>,
    /// Size of the volume that takes the place of an emptyDir without sizeLimit, where a sandbox can fall idle.
    #[arg(long, value_name = "QUANTITY", env = "PADDOCK_WORKSPACE_SIZE", value_parser = parse_quantity, default_value = "1Gi")]
    pub(super) workspace_size: String,
    /// How long the start of an exec, attach, port-forward or proxied request keeps a sandbox awake.
    #[arg(long, value_name = "DURATION", env = "PADDOCK_EXEC_HOLD", value_parser = parse_duration, default_value = "1h")]
    pub(super) exec_hold: Duration,
    /// How long a warm sandbox stays reserved for a claim that was admitted but is not stored yet. 0 disables reservations.
    #[arg(long, alias = "claim-promise", value_name = "DURATION", env = "PADDOCK_WARM_RESERVATION_TTL", value_parser = parse_duration, default_value = "2s")]
    pub(super) warm_reservation_ttl: Duration,
    /// Whether a claim's take of a warm sandbox clears the sandbox's managedFields, if Paddock is its only manager, or
    /// keeps them. Clearing saves the API server a third of the write. Later updates are then not recorded until somebody
    /// uses server-side apply.
    #[arg(long, value_name = "clear|keep", env = "PADDOCK_MANAGED_FIELDS_AT_CLAIM", value_parser = parse_managed_fields, default_value = "clear")]
    pub(super) managed_fields_at_claim: ManagedFieldsAtClaim,
    /// Domain whose labels a claim may add to its pod; may be repeated.
    #[arg(
        long,
        value_name = "DOMAIN",
        env = "PADDOCK_CLAIM_LABEL_DOMAIN",
        value_delimiter = ',',
        default_value = "sandbox.users.io"
    )]
    pub(super) claim_label_domain: Vec<String>,
    /// Domain whose annotations a claim may add to its pod, besides sandbox.users.io and podsnapshot.gke.io; may be
    /// repeated. `*` means every domain except those that Kubernetes, an operator, a runtime, a network plugin, a service
    /// mesh or the identity of a cloud reads.
    #[arg(long, value_name = "DOMAIN", env = "PADDOCK_CLAIM_ANNOTATION_DOMAIN", value_delimiter = ',', value_parser = parse_domain)]
    pub(super) claim_annotation_domain: Vec<String>,
    /// Handler of RuntimeClasses whose pods are off the host's kernel, with its variants (kata means kata-qemu too); may be repeated.
    #[arg(long, value_name = "HANDLER", env = "PADDOCK_ISOLATED_HANDLER", value_delimiter = ',', default_values = ["runsc", "gvisor", "kata"])]
    pub(super) isolated_handler: Vec<String>,
    /// Access to the host that pods of generated code may have, named by its field; may be repeated. The PodSecurity
    /// profile baseline and volumeDevices are denied to them otherwise. Names: hostPath, hostNetwork, hostPID, hostIPC,
    /// hostPort, privileged, capabilities, procMount, sysctls, seccompProfile, appArmorProfile, seLinuxOptions,
    /// hostProcess, volumeDevices, probeHost.
    #[arg(
        long,
        value_name = "FIELD",
        env = "PADDOCK_ISOLATION_ALLOW",
        value_parser = HostAccess::named,
        value_delimiter = ','
    )]
    pub(super) isolation_allow: Vec<HostAccess>,
    /// Namespace whose router pods (label app: sandbox-router) the default NetworkPolicy of a template admits; may be
    /// repeated. The operator's own namespace if absent.
    #[arg(long, value_name = "NAMESPACE", env = "PADDOCK_ROUTER_NAMESPACE", value_delimiter = ',', value_parser = parse_namespace)]
    pub(super) router_namespace: Vec<String>,
    /// CIDR block that the default NetworkPolicy of a template does not let sandboxes connect to, in addition to all
    /// addresses that are not public; may be repeated.
    #[arg(long, value_name = "CIDR", env = "PADDOCK_EGRESS_EXCEPT", value_delimiter = ',', value_parser = parse_cidr)]
    pub(super) egress_except: Vec<String>,
    /// CIDR block that the default NetworkPolicy of a template lets sandboxes connect to, although its addresses are
    /// not public; may be repeated.
    #[arg(long, value_name = "CIDR", env = "PADDOCK_EGRESS_ALLOW", value_delimiter = ',', value_parser = parse_cidr)]
    pub(super) egress_allow: Vec<String>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Work")]
pub(super) struct WorkArgs {
    /// Sandboxes reconciled at once.
    #[arg(long, value_name = "N", env = "PADDOCK_SANDBOX_CONCURRENT_WORKERS", value_parser = clap::value_parser!(u16).range(1..), default_value = "128")]
    pub(super) sandbox_concurrent_workers: u16,
    /// Claims reconciled at once.
    #[arg(long, value_name = "N", env = "PADDOCK_SANDBOX_CLAIM_CONCURRENT_WORKERS", value_parser = clap::value_parser!(u16).range(1..), default_value = "128")]
    pub(super) sandbox_claim_concurrent_workers: u16,
    /// Pools reconciled at once.
    #[arg(long, value_name = "N", env = "PADDOCK_SANDBOX_WARM_POOL_CONCURRENT_WORKERS", value_parser = clap::value_parser!(u16).range(1..), default_value = "32")]
    pub(super) sandbox_warm_pool_concurrent_workers: u16,
    /// Templates reconciled at once.
    #[arg(long, value_name = "N", env = "PADDOCK_SANDBOX_TEMPLATE_CONCURRENT_WORKERS", value_parser = clap::value_parser!(u16).range(1..), default_value = "8")]
    pub(super) sandbox_template_concurrent_workers: u16,
    /// Sandboxes that one look at a pool creates or deletes at the most.
    #[arg(long, value_name = "N", env = "PADDOCK_SANDBOX_WARM_POOL_MAX_BATCH_SIZE", value_parser = clap::value_parser!(u16).range(1..), default_value = "100")]
    pub(super) sandbox_warm_pool_max_batch_size: u16,
    /// The largest number of sandboxes in a pool, whatever its spec says. The pool reports that it is limited.
    #[arg(long, value_name = "N", env = "PADDOCK_MAX_POOL_SIZE", default_value = "10000")]
    pub(super) max_pool_size: u32,
    /// Domain of labels that anybody may add to a warm sandbox or its pod. A sandbox with another added label is replaced. May be repeated.
    #[arg(
        long,
        value_name = "DOMAIN",
        env = "PADDOCK_POOL_IGNORE_LABEL_DOMAIN",
        value_delimiter = ',',
        default_values = ["topology.kubernetes.io", "kueue.x-k8s.io"]
    )]
    pub(super) pool_ignore_label_domain: Vec<String>,
    /// How long a warm sandbox that has a node may be without being Ready, before it is replaced.
    #[arg(long, value_name = "DURATION", env = "PADDOCK_SANDBOX_WARM_POOL_READINESS_GRACE_PERIOD", value_parser = parse_positive_duration, default_value = "5m")]
    pub(super) sandbox_warm_pool_readiness_grace_period: Duration,
    /// Writes a second to the API server at the most; zero or less: as many as it takes.
    #[arg(long, value_name = "F", env = "PADDOCK_KUBE_API_QPS", allow_negative_numbers = true, default_value = "-1")]
    pub(super) kube_api_qps: f64,
    /// Writes in a burst above that rate; a second's worth if absent.
    #[arg(long, value_name = "N", env = "PADDOCK_KUBE_API_BURST", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) kube_api_burst: Option<u32>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Listening (HOST:PORT, :PORT, or 0 for not at all)")]
pub(super) struct ListenArgs {
    /// /metrics, for Prometheus.
    #[arg(long, value_name = "ADDRESS", env = "PADDOCK_METRICS_BIND_ADDRESS", default_value = ":8080")]
    pub(super) metrics_bind_address: ListenAddress,
    /// Serves /metrics over TLS, and only to users whom RBAC allows to get the nonResourceURL /metrics (ClusterRole
    /// paddock-metrics-reader). Without it, everybody who reaches the address reads them.
    #[arg(long, value_name = "BOOL", env = "PADDOCK_METRICS_SECURE", value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set)]
    pub(super) metrics_secure: bool,
    /// Directory with tls.crt and tls.key for --metrics-secure. Without it, the operator issues a certificate that
    /// clients cannot verify.
    #[arg(long, value_name = "DIR", env = "PADDOCK_METRICS_CERT_DIR")]
    pub(super) metrics_cert_dir: Option<PathBuf>,
    /// /healthz and /readyz.
    #[arg(long, value_name = "ADDRESS", env = "PADDOCK_HEALTH_PROBE_BIND_ADDRESS", default_value = ":8081")]
    pub(super) health_probe_bind_address: ListenAddress,
    /// /debug/seen/KIND/NAMESPACE/NAME, /debug/bindings and /debug/plugins: objects with what their authors put into them, so on loopback; `kubectl port-forward` reaches it.
    #[arg(long, value_name = "ADDRESS", env = "PADDOCK_DEBUG_BIND_ADDRESS", default_value = "127.0.0.1:8082")]
    pub(super) debug_bind_address: ListenAddress,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Webhook")]
pub(super) struct WebhookArgs {
    /// Admission webhook, over TLS; 0 for none.
    #[arg(long, value_name = "ADDRESS", env = "PADDOCK_WEBHOOK_BIND_ADDRESS", default_value = ":9443")]
    pub(super) webhook_bind_address: ListenAddress,
    /// The API server reaches the webhook at this URL, where it is outside of the cluster; else by its Service.
    #[arg(long, value_name = "URL", env = "PADDOCK_WEBHOOK_URL", value_parser = https)]
    pub(super) webhook_url: Option<String>,
    /// Service in front of the webhook.
    #[arg(long, value_name = "NAME", env = "PADDOCK_WEBHOOK_SERVICE_NAME", default_value = "paddock-webhook")]
    pub(super) webhook_service_name: String,
    /// Port of that Service.
    #[arg(long, value_name = "PORT", env = "PADDOCK_WEBHOOK_SERVICE_PORT", value_parser = clap::value_parser!(u16).range(1..), default_value = "443")]
    pub(super) webhook_service_port: u16,
    /// Namespace of that Service, and of the Secret that holds its certificate; that of the leases if absent.
    #[arg(long, value_name = "NAMESPACE", env = "PADDOCK_WEBHOOK_SERVICE_NAMESPACE")]
    pub(super) webhook_service_namespace: Option<String>,
    /// Secret that the operator keeps its certificate in.
    #[arg(long, value_name = "NAME", env = "PADDOCK_WEBHOOK_SECRET_NAME", default_value = paddock_operator::webhook::SECRET)]
    pub(super) webhook_secret_name: String,
    /// Directory with tls.crt and tls.key that somebody else keeps, and has trusted; the operator then issues none itself.
    #[arg(long, value_name = "DIR", env = "PADDOCK_WEBHOOK_CERT_DIR")]
    pub(super) webhook_cert_dir: Option<PathBuf>,
    /// CA of the API servers' client certificates, in PEM format. With it, the webhook serves only clients with a
    /// certificate of this CA; the API server presents one if its AdmissionConfiguration says so.
    #[arg(long, value_name = "FILE", env = "PADDOCK_WEBHOOK_CLIENT_CA")]
    pub(super) webhook_client_ca: Option<PathBuf>,
    /// Who makes the webhook configurations: the operator (owned), or manifests to which it adds the CA bundle (injected).
    #[arg(long, value_name = "WHO", env = "PADDOCK_WEBHOOK_REGISTRATION", default_value = "owned")]
    pub(super) webhook_registration: WhoRegisters,
    /// How long a certificate that the operator issues is good.
    #[arg(long, value_name = "DURATION", env = "PADDOCK_WEBHOOK_CERT_LIFETIME", value_parser = parse_duration, default_value = "2160h")]
    pub(super) webhook_cert_lifetime: Duration,
    /// How long before its end it is replaced.
    #[arg(long, value_name = "DURATION", env = "PADDOCK_WEBHOOK_CERT_RENEW_BEFORE", value_parser = parse_duration, default_value = "720h")]
    pub(super) webhook_cert_renew_before: Duration,
    /// How long a new authority is trusted before anything is served under it, and the old one after that.
    #[arg(long, value_name = "DURATION", env = "PADDOCK_WEBHOOK_CERT_OVERLAP", value_parser = parse_duration, default_value = "10m")]
    pub(super) webhook_cert_overlap: Duration,
    /// Deployment of the operator: when it is gone, so are the webhook configurations. In a cluster agent-sandbox-controller if absent.
    #[arg(long, value_name = "NAME", env = "PADDOCK_DEPLOYMENT_NAME")]
    pub(super) deployment_name: Option<String>,
}

/// Who makes the webhook configurations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum WhoRegisters {
    /// The operator.
    Owned,
    /// Manifests; the operator adds the CA bundle.
    Injected,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Reports")]
pub(super) struct ReportArgs {
    /// Sends no Events about claims.
    #[arg(long, value_name = "BOOL", env = "PADDOCK_DISABLE_CLAIM_EVENTS", value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set)]
    pub(super) disable_claim_events: bool,
    /// Sends no Events about Sandboxes.
    #[arg(long, value_name = "BOOL", env = "PADDOCK_DISABLE_SANDBOX_EVENTS", value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set)]
    pub(super) disable_sandbox_events: bool,
    /// Accepted for upstream's tooling, without effect: the annotations of a claim that metrics use cost no write of
    /// their own.
    #[arg(long, value_name = "BOOL", env = "PADDOCK_DISABLE_CLAIM_OBSERVABILITY_ANNOTATIONS", value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set)]
    pub(super) disable_claim_observability_annotations: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Logs")]
pub(super) struct LogArgs {
    /// Form of the log on standard error; text on a terminal and JSON elsewhere if absent.
    #[arg(long, value_name = "FORMAT", env = "PADDOCK_LOG_FORMAT")]
    pub(super) log_format: Option<LogFormat>,
    /// Level, or a filter such as `info,paddock_operator=debug`; RUST_LOG if absent, else info.
    #[arg(long, value_name = "FILTER", env = "PADDOCK_LOG_LEVEL")]
    pub(super) log_level: Option<String>,
}

fn https(value: &str) -> Result<String, String> {
    match value.strip_prefix("https://") {
        Some(rest) if !rest.is_empty() => Ok(value.to_owned()),
        Some(_) | None => Err(format!("{value:?}: the API server calls webhooks over TLS: expected https://HOST:PORT")),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::Parser;

    use super::*;
    use crate::values::go_style;

    #[derive(Debug, Parser)]
    #[command(args_override_self = true)]
    struct Parsed {
        #[command(flatten)]
        operator: OperatorArgs,
    }

    fn operator(args: &[&str]) -> Result<OperatorArgs, String> {
        let args = go_style(["operator"].iter().chain(args).map(OsString::from));
        Ok(Parsed::try_parse_from(args).map_err(|error| error.to_string())?.operator)
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
