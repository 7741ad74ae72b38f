//! The flags of `paddock gateway`, each with its default, its unit and its environment variable. Flags that upstream's
//! router has keep their names.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use paddock_gateway::authorize::ScopedTokens;
use paddock_gateway::limits::Limits;
use paddock_gateway::route::{HostDomain, PathPrefix};
use paddock_gateway::session::{AllowedOrigin, SameSite};
use paddock_kube::listen::ListenAddress;

use crate::commands::process::LogArgs;
use crate::values::{OptionalPorts, parse_bool, parse_duration, parse_namespace, parse_port_range};

/// The smallest head of a request that has to be accepted.
const LEAST_HEADER_BYTES: i64 = 8192;
/// The largest head that HTTP/2 can state.
const MOST_HEADER_BYTES: i64 = 1 << 20;

/// Flags may be written as Go programs take them, see `paddock operator --help`.
#[derive(Debug, Args)]
pub(crate) struct GatewayArgs {
    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
    #[command(flatten)]
    pub(super) listen: ListenArgs,
    #[command(flatten)]
    pub(super) routing: RoutingArgs,
    #[command(flatten)]
    pub(super) access: AccessArgs,
    #[command(flatten)]
    pub(super) sessions: SessionArgs,
    #[command(flatten)]
    pub(super) wake: WakeArgs,
    #[command(flatten)]
    pub(super) timeouts: TimeoutArgs,
    #[command(flatten)]
    pub(super) limits: LimitArgs,
    #[command(flatten)]
    pub(super) compatibility: CompatibilityArgs,
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Cluster")]
pub(super) struct ClusterArgs {
    /// Kubeconfig file. If absent, the gateway uses the ServiceAccount of its pod. It ignores the variable KUBECONFIG.
    #[arg(long, value_name = "FILE", env = "PADDOCK_KUBECONFIG")]
    pub(super) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig file. If absent, the current context of the file.
    #[arg(long, value_name = "NAME", env = "PADDOCK_CONTEXT", requires = "kubeconfig")]
    pub(super) context: Option<String>,
    /// The only namespace whose Sandboxes the gateway serves. If absent, it serves all namespaces.
    #[arg(long, alias = "cache-namespace", value_name = "NAMESPACE", env = "PADDOCK_NAMESPACE", value_parser = parse_namespace)]
    pub(super) namespace: Option<String>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Listeners")]
pub(super) struct ListenArgs {
    /// Address of the proxy without TLS, for HTTP/1.1 and HTTP/2 with prior knowledge. 0 turns it off.
    #[arg(long, value_name = "ADDRESS", env = "PADDOCK_HTTP_BIND_ADDRESS", default_value = ":8080")]
    pub(super) http_bind_address: ListenAddress,
    /// Address of the proxy with TLS, for example :8443. 0 turns it off.
    #[arg(long, value_name = "ADDRESS", env = "PADDOCK_HTTPS_BIND_ADDRESS", default_value = "0")]
    pub(super) https_bind_address: ListenAddress,
    /// File of the TLS certificate, with the certificates that sign it, in PEM format. The gateway reads it again when it
    /// changes.
    #[arg(long, value_name = "FILE", env = "PADDOCK_TLS_CERT_FILE")]
    pub(super) tls_cert_file: Option<PathBuf>,
    /// File of the private key of the TLS certificate, in PEM format.
    #[arg(long, value_name = "FILE", env = "PADDOCK_TLS_KEY_FILE")]
    pub(super) tls_key_file: Option<PathBuf>,
    /// Address of /metrics, and of /connections for the operator. 0 turns it off.
    #[arg(long, value_name = "ADDRESS", env = "PADDOCK_METRICS_BIND_ADDRESS", default_value = ":9090")]
    pub(super) metrics_bind_address: ListenAddress,
    /// Address of /healthz and /readyz. 0 turns it off.
    #[arg(long, value_name = "ADDRESS", env = "PADDOCK_HEALTH_PROBE_BIND_ADDRESS", default_value = ":8081")]
    pub(super) health_probe_bind_address: ListenAddress,
    /// Address for requests from inside of sandboxes, for example :8082. A sandbox is known by its address there. It sends
    /// POST /awake?for=10m to be kept running, and POST /idle to be suspended. 0 turns it off.
    #[arg(long, value_name = "ADDRESS", env = "PADDOCK_SANDBOX_BIND_ADDRESS", default_value = "0")]
    pub(super) sandbox_bind_address: ListenAddress,
    /// Whether each request has a line in the log. Paths, headers and bodies are never in the log.
    #[arg(long, value_name = "BOOL", env = "PADDOCK_ACCESS_LOG", value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", action = ArgAction::Set)]
    pub(super) access_log: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Routing")]
pub(super) struct RoutingArgs {
    /// Prefix of the paths PREFIX/NAMESPACE/NAME/PORT/REST, which name a Sandbox. If absent, no path does.
    #[arg(long, value_name = "PREFIX", env = "PADDOCK_PATH_ROUTING_PREFIX")]
    pub(super) path_routing_prefix: Option<PathPrefix>,
    /// Whether Location and the Path of cookies in answers are put under the prefix.
    #[arg(long, value_name = "BOOL", env = "PADDOCK_PATH_ROUTING_REWRITE_RESPONSES", value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", action = ArgAction::Set)]
    pub(super) path_routing_rewrite_responses: bool,
    /// Domain of the hosts NAME--PORT.NAMESPACE.DOMAIN and NAME.NAMESPACE.DOMAIN, which name a Sandbox. If absent, no host
    /// does.
    #[arg(long, value_name = "DOMAIN", env = "PADDOCK_HOST_ROUTING_DOMAIN")]
    pub(super) host_routing_domain: Option<HostDomain>,
    /// Whether Sandboxes get the Host of the client when headers or the path name them. If false, they get their own
    /// address. A Sandbox that the host names always gets the Host of the client.
    #[arg(long, value_name = "BOOL", env = "PADDOCK_PRESERVE_HOST", value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set)]
    pub(super) preserve_host: bool,
}

/// The values of upstream's `--authz-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum AuthzMode {
    /// Everybody may use every Sandbox.
    AllowAll,
    /// The API server knows the user and gives them the right.
    #[value(name = "tokenreview")]
    TokenReview,
}

impl AuthzMode {
    pub(super) fn is_open(self) -> bool {
        match self {
            AuthzMode::AllowAll => true,
            AuthzMode::TokenReview => false,
        }
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Access")]
pub(super) struct AccessArgs {
    /// Whether clients without a credential may use every Sandbox, as in upstream's router. If absent, the variable
    /// ALLOW_UNAUTHENTICATED_ROUTER decides, and the default is false.
    #[arg(long, value_name = "BOOL", env = "PADDOCK_ALLOW_UNAUTHENTICATED", value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    pub(super) allow_unauthenticated: Option<bool>,
    /// Upstream's name of the same setting: allow-all, or tokenreview for users with the right to create
    /// sandboxes/proxy.
    #[arg(long, value_name = "MODE", env = "PADDOCK_AUTHZ_MODE")]
    pub(super) authz_mode: Option<AuthzMode>,
    /// What happens to tokens that are limited to one Sandbox or claim, as `paddock token` prints them. If absent, they are
    /// accepted beside the tokens of the API server.
    #[arg(long, value_name = "RULE", env = "PADDOCK_AUTHZ_SCOPED_TOKENS")]
    pub(super) authz_scoped_tokens: Option<ScopedTokensRule>,
}

/// The rule for tokens that are limited to one Sandbox or claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ScopedTokensRule {
    /// They are accepted beside the tokens of the API server.
    Accept,
    /// Only they are accepted. A client can then not send a token that the API server would take.
    Require,
    /// They are refused.
    Refuse,
}

impl From<ScopedTokensRule> for ScopedTokens {
    fn from(rule: ScopedTokensRule) -> Self {
        match rule {
            ScopedTokensRule::Accept => Self::Accept,
            ScopedTokensRule::Require => Self::Require,
            ScopedTokensRule::Refuse => Self::Refuse,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum CookieSameSite {
    /// Other sites may link to a Sandbox.
    Lax,
    /// Requests from other sites carry no cookie.
    Strict,
    /// All requests carry the cookie.
    None,
}

impl From<CookieSameSite> for SameSite {
    fn from(value: CookieSameSite) -> Self {
        match value {
            CookieSameSite::Lax => SameSite::Lax,
            CookieSameSite::Strict => SameSite::Strict,
            CookieSameSite::None => SameSite::None,
        }
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Sessions of browsers")]
pub(super) struct SessionArgs {
    /// Name of the cookie of a session, for Sandboxes that the path or the host names. If absent, there are no sessions.
    #[arg(long, value_name = "NAME", env = "PADDOCK_AUTHZ_COOKIE_NAME", value_parser = token)]
    pub(super) authz_cookie_name: Option<String>,
    /// Name of the query parameter with the token that begins a session. The gateway answers with a redirect to the same
    /// URL without the token, and with the cookie.
    #[arg(long, value_name = "NAME", env = "PADDOCK_AUTHZ_COOKIE_QUERY_PARAM", value_parser = token)]
    pub(super) authz_cookie_query_param: Option<String>,
    /// Attribute SameSite of the cookie.
    #[arg(long, value_name = "MODE", env = "PADDOCK_AUTHZ_COOKIE_SAMESITE", default_value = "lax")]
    pub(super) authz_cookie_samesite: CookieSameSite,
    /// Whether browsers send the cookie without TLS too. Only for development.
    #[arg(long, value_name = "BOOL", env = "PADDOCK_AUTHZ_COOKIE_INSECURE", value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set)]
    pub(super) authz_cookie_insecure: bool,
    /// Other origins whose pages may use the cookie, separated by commas. The origin of the gateway always may.
    #[arg(long, value_name = "ORIGIN", env = "PADDOCK_AUTHZ_COOKIE_ALLOWED_ORIGINS", value_delimiter = ',')]
    pub(super) authz_cookie_allowed_origins: Vec<AllowedOrigin>,
    /// Whether the scheme of a client is that of X-Forwarded-Proto. Only for a gateway behind a proxy that sets this
    /// header itself.
    #[arg(long, value_name = "BOOL", env = "PADDOCK_AUTHZ_TRUST_FORWARDED_PROTO", value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set)]
    pub(super) authz_trust_forwarded_proto: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Wake")]
pub(super) struct WakeArgs {
    /// Text in the User-Agent of requests that neither wake a Sandbox nor keep it awake. May be repeated. Common probes,
    /// health checks and crawlers are known already.
    #[arg(long, value_name = "TEXT", env = "PADDOCK_PROBE_USER_AGENT", value_delimiter = ',')]
    pub(super) probe_user_agent: Vec<String>,
    /// Path in a Sandbox whose requests neither wake it nor keep it awake, such as /healthz or /metrics*. May be repeated.
    #[arg(long, value_name = "PATH", env = "PADDOCK_PROBE_PATH", value_delimiter = ',')]
    pub(super) probe_path: Vec<String>,
    /// Requests that wait for Sandboxes at the same time. No namespace gets all places.
    #[arg(long, value_name = "COUNT", env = "PADDOCK_MAX_HELD_REQUESTS", default_value = "4096")]
    pub(super) max_held_requests: usize,
    /// Requests that wait for one Sandbox at the same time.
    #[arg(long, value_name = "COUNT", env = "PADDOCK_MAX_HELD_REQUESTS_PER_SANDBOX", default_value = "512")]
    pub(super) max_held_requests_per_sandbox: usize,
    /// The longest time for which a request waits for its Sandbox to wake.
    #[arg(long, value_name = "DURATION", env = "PADDOCK_HOLD_TIMEOUT", value_parser = parse_duration, default_value = "60s")]
    pub(super) hold_timeout: Duration,
    /// Range of ports that stand for ports of suspended Sandboxes, FIRST-LAST, so that TCP connections to their Services
    /// resume them. It must be the operator's range, without the gateway's own ports. 0 turns this off. The system must not
    /// choose ports of the range for outgoing connections (net.ipv4.ip_local_port_range). If absent, 10000-29999, or off
    /// if one of the gateway's own ports is among them.
    #[arg(long, value_name = "RANGE", env = "PADDOCK_TCP_WAKE_PORTS", value_parser = parse_port_range)]
    pub(super) tcp_wake_ports: Option<OptionalPorts>,
    /// Whether pods may have loopback addresses, which are the gateway's own. Only for tests.
    #[arg(long, value_name = "BOOL", env = "PADDOCK_ALLOW_LOOPBACK_POD_IP", value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set)]
    pub(super) allow_loopback_pod_ip: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Timeouts")]
pub(super) struct TimeoutArgs {
    /// Time from a request to the head of its answer, with the time for waking the Sandbox. A shorter X-Sandbox-Timeout of
    /// the client takes precedence. If absent, the variable PROXY_TIMEOUT_SECONDS, or else 180s.
    #[arg(long, value_name = "DURATION", env = "PADDOCK_PROXY_TIMEOUT", value_parser = parse_duration)]
    pub(super) proxy_timeout: Option<Duration>,
    /// Time from sending a request to a Sandbox to the head of its answer. 0 for no limit of its own. A command that runs
    /// for longer is cut off.
    #[arg(long, value_name = "DURATION", env = "PADDOCK_RESPONSE_HEADER_TIMEOUT", value_parser = parse_duration, default_value = "0")]
    pub(super) response_header_timeout: Duration,
    /// The longest time of a gRPC call. 0 for no limit. A shorter grpc-timeout of the client takes precedence.
    #[arg(long, value_name = "DURATION", env = "PADDOCK_GRPC_PROXY_TIMEOUT", value_parser = parse_duration, default_value = "0")]
    pub(super) grpc_proxy_timeout: Duration,
    /// Time in which a client has to send the head of a request.
    #[arg(long, value_name = "DURATION", env = "PADDOCK_READ_HEADER_TIMEOUT", value_parser = parse_duration, default_value = "10s")]
    pub(super) read_header_timeout: Duration,
    /// Time for which a connection of a client may wait for its next request.
    #[arg(long, value_name = "DURATION", env = "PADDOCK_IDLE_TIMEOUT", value_parser = parse_duration, default_value = "120s")]
    pub(super) idle_timeout: Duration,
    /// Time for which a request or stream may move no byte in either direction. 0 for no limit.
    #[arg(long, value_name = "DURATION", env = "PADDOCK_STREAM_IDLE_TIMEOUT", value_parser = parse_duration, default_value = "1h")]
    pub(super) stream_idle_timeout: Duration,
    /// Time for which a connection to a Sandbox is kept for the next request. It has to be shorter than the time for which
    /// the servers in Sandboxes keep theirs.
    #[arg(long, value_name = "DURATION", env = "PADDOCK_SANDBOX_IDLE_TIMEOUT", value_parser = parse_duration, default_value = "1s")]
    pub(super) sandbox_idle_timeout: Duration,
    /// Time from SIGTERM until the gateway accepts no more connections. It is not ready meanwhile, so that its Service stops
    /// sending clients to it.
    #[arg(long, value_name = "DURATION", env = "PADDOCK_DRAIN_DELAY", value_parser = parse_duration, default_value = "5s")]
    pub(super) drain_delay: Duration,
    /// Time for which the gateway then waits for requests and streams. WebSockets that are left are closed with code 1001.
    #[arg(long, value_name = "DURATION", env = "PADDOCK_SHUTDOWN_TIMEOUT", value_parser = parse_duration, default_value = "30s")]
    pub(super) shutdown_timeout: Duration,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(super) struct LimitArgs {
    /// The largest body of a request, in bytes. 0 for no limit.
    #[arg(long, value_name = "BYTES", env = "PADDOCK_MAX_REQUEST_BODY_BYTES", default_value = "0")]
    pub(super) max_request_body_bytes: u64,
    /// Connections of clients. If absent, one for 128 KiB of the memory limit.
    #[arg(long, value_name = "COUNT", env = "PADDOCK_MAX_CONNECTIONS")]
    pub(super) max_connections: Option<usize>,
    /// Connections of one client address. A load balancer in front of the gateway is one client. If absent, an eighth of all connections.
    #[arg(long, value_name = "COUNT", env = "PADDOCK_MAX_CONNECTIONS_PER_CLIENT")]
    pub(super) max_connections_per_client: Option<usize>,
    /// Concurrent requests and streams of one client address. If absent, half as many as connections.
    #[arg(long, value_name = "COUNT", env = "PADDOCK_MAX_REQUESTS_PER_CLIENT")]
    pub(super) max_requests_per_client: Option<usize>,
    /// Concurrent requests and streams to one Sandbox. If absent, an eighth of the number of connections.
    #[arg(long, value_name = "COUNT", env = "PADDOCK_MAX_REQUESTS_PER_SANDBOX")]
    pub(super) max_requests_per_sandbox: Option<usize>,
    /// Concurrent requests on one HTTP/2 connection.
    #[arg(long, value_name = "COUNT", env = "PADDOCK_MAX_HTTP2_STREAMS", default_value_t = Limits::DEFAULT.http2_streams, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) max_http2_streams: u32,
    /// The largest head of a request, in bytes.
    #[arg(long, value_name = "BYTES", env = "PADDOCK_MAX_HEADER_BYTES", default_value_t = Limits::DEFAULT.head_bytes, value_parser = clap::value_parser!(u32).range(LEAST_HEADER_BYTES..=MOST_HEADER_BYTES))]
    pub(super) max_header_bytes: u32,
    /// The number of headers of a request.
    #[arg(long, value_name = "COUNT", env = "PADDOCK_MAX_HEADERS", default_value_t = Limits::DEFAULT.headers)]
    pub(super) max_headers: usize,
}

/// Flags of upstream's router that the gateway does not need. They are accepted, so that its manifests can be used.
#[derive(Debug, Args)]
#[command(next_help_heading = "Accepted without effect, for manifests of upstream's router")]
pub(super) struct CompatibilityArgs {
    /// Without effect. The gateway finds pods by its watch, and not by DNS.
    #[arg(long, value_name = "DOMAIN", env = "PADDOCK_CLUSTER_DOMAIN")]
    pub(super) cluster_domain: Option<String>,
    /// Without effect. The gateway always watches pods.
    #[arg(long, value_name = "BOOL", env = "PADDOCK_CACHE_ENABLED", value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    pub(super) cache_enabled: Option<bool>,
    /// Without effect. The gateway dials until the time of the request is over.
    #[arg(long, value_name = "COUNT", env = "PADDOCK_UPSTREAM_MAX_RETRIES")]
    pub(super) upstream_max_retries: Option<u32>,
    /// Without effect. The gateway dials a closed port again after a few milliseconds.
    #[arg(long, value_name = "DURATION", env = "PADDOCK_UPSTREAM_RETRY_INITIAL_DELAY", value_parser = parse_duration)]
    pub(super) upstream_retry_initial_delay: Option<Duration>,
    /// Without effect. See --upstream-retry-initial-delay.
    #[arg(long, value_name = "DURATION", env = "PADDOCK_UPSTREAM_RETRY_MAX_DELAY", value_parser = parse_duration)]
    pub(super) upstream_retry_max_delay: Option<Duration>,
}

/// A name that means the same in a cookie and in a query.
fn token(value: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
    if !value.is_empty() && value.bytes().all(plain) {
        return Ok(value.to_owned());
    }
    Err(format!("{value:?} must consist of letters, digits, '-', '_', '.' and '~', such as sandbox_session"))
}
