//! `paddock gateway`: from flags to a running gateway, until SIGTERM or SIGINT.

mod flags;
mod upstream;

use paddock_api::PortRange;
use paddock_gateway::Config;
use paddock_gateway::authorize::ScopedTokens;
use paddock_gateway::config::{Access, Https, ProxyConfig, TcpConfig};
use paddock_gateway::limits::Limits;
use paddock_gateway::purpose::ProbeRule;
use paddock_gateway::route::Router;
use paddock_gateway::sandboxes::{self, HoldLimits};
use paddock_gateway::session::Sessions;
use paddock_gateway::timeouts::Timeouts;
use paddock_kube::cluster;
use paddock_kube::guard::Policies;
use paddock_kube::listen::ListenAddress;
use paddock_kube::memory;
use paddock_kube::tls::CertificateFiles;
use paddock_operator::manifests::gateway_guards;
use tracing::warn;

pub(crate) use self::flags::GatewayArgs;
use self::upstream::Upstream;
use crate::commands::process::{self, shutdown};

/// Runs until a signal, and drains.
pub(crate) fn run(args: GatewayArgs) -> anyhow::Result<()> {
    process::run("paddock-gateway", &args.log.clone(), serve(args))
}

async fn serve(args: GatewayArgs) -> anyhow::Result<()> {
    let shutdown = shutdown()?;
    let kube = cluster::config(args.cluster.kubeconfig.as_deref(), args.cluster.context.as_deref()).await?;
    let config = config(args, &Upstream::from_environment())?;
    raise_open_files(&config);
    let policies = policies(&config);
    paddock_gateway::run(config, policies, kube, shutdown).await?;
    Ok(())
}

/// The policies that `paddock manifests` generates for a gateway with this configuration.
fn policies(config: &Config) -> Policies {
    let served = config.sandboxes.namespace.clone();
    Policies::new("gateway", move |user| gateway_guards(served.as_deref(), user))
}

/// Raises the number of files that the process may open to what the system allows. Each connection and each port is one,
/// and the usual default is 1024.
fn raise_open_files(config: &Config) {
    let ports = config.tcp.map_or(0, |tcp| u64::from(tcp.ports.size()));
    // A connection of a client has one to a Sandbox.
    let wanted = 2 * u64::try_from(config.proxy.limits.connections).unwrap_or(u64::MAX) + ports;
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) if limit >= wanted => {}
        Ok(limit) => {
            warn!(limit, wanted, "the process may open fewer files than its limits of connections and ports need")
        }
        Err(error) => warn!(%error, "the number of files that the process may open cannot be raised"),
    }
}

fn config(args: GatewayArgs, upstream: &Upstream) -> anyhow::Result<Config> {
    let GatewayArgs { cluster, listen, routing, access, sessions, timeouts, limits, wake, compatibility: _, log: _ } =
        args;
    let https = match (listen.tls_cert_file, listen.tls_key_file) {
        (Some(certificate), Some(key)) => {
            Some(Https { bind: listen.https_bind_address, files: CertificateFiles { certificate, key } })
        }
        (None, None) if listen.https_bind_address == ListenAddress::Off => None,
        (_, _) => anyhow::bail!(
            "--https-bind-address needs a certificate: give --tls-cert-file and --tls-key-file, or none of the three"
        ),
    };
    let defaults = Timeouts::DEFAULT;
    let timeouts = Timeouts {
        request_head: timeouts.read_header_timeout,
        client_idle: timeouts.idle_timeout,
        stream_idle: timeouts.stream_idle_timeout,
        proxy: timeouts.proxy_timeout.or(upstream.proxy_timeout).unwrap_or(defaults.proxy),
        response_head: timeouts.response_header_timeout,
        grpc: timeouts.grpc_proxy_timeout,
        sandbox_idle: timeouts.sandbox_idle_timeout,
        drain_delay: timeouts.drain_delay,
        drain: timeouts.shutdown_timeout,
        ..defaults
    };
    let within = memory::limit().map_or(Limits::DEFAULT, Limits::within);
    let connections = limits.max_connections.unwrap_or(within.connections);
    let limits = Limits {
        connections,
        connections_per_client: limits.max_connections_per_client.unwrap_or((connections / 8).max(1)),
        requests_per_client: limits.max_requests_per_client.unwrap_or(within.requests_per_client),
        requests_per_sandbox: limits.max_requests_per_sandbox.unwrap_or(within.requests_per_sandbox),
        http2_streams: limits.max_http2_streams,
        head_bytes: limits.max_header_bytes,
        headers: limits.max_headers,
        body_bytes: Some(limits.max_request_body_bytes).filter(|bytes| *bytes > 0),
        ..within
    };
    let everybody = match access.authz_mode {
        Some(mode) => mode.is_open() || access.allow_unauthenticated == Some(true),
        None => access.allow_unauthenticated.unwrap_or(upstream.allow_unauthenticated),
    };
    if everybody && access.authz_scoped_tokens.is_some() {
        anyhow::bail!("--authz-scoped-tokens has no effect if clients need no credential: leave out one of them");
    }
    let scoped = access.authz_scoped_tokens.map(ScopedTokens::from).unwrap_or_default();
    let explicit = wake.tcp_wake_ports;
    let tcp = explicit.map_or(Some(PortRange::DEFAULT), |ports| ports.0).map(|ports| TcpConfig { ports });
    let config = Config {
        http: listen.http_bind_address,
        https,
        metrics: listen.metrics_bind_address,
        health: listen.health_probe_bind_address,
        inside: listen.sandbox_bind_address,
        access: if everybody { Access::Everybody } else { Access::Reviewed(scoped) },
        sandboxes: sandboxes::Config {
            namespace: cluster.namespace,
            allow_loopback_pod_ip: wake.allow_loopback_pod_ip,
            hold: HoldLimits {
                places: wake.max_held_requests,
                per_sandbox: wake.max_held_requests_per_sandbox,
                time: wake.hold_timeout,
            },
        },
        tcp,
        proxy: ProxyConfig {
            router: Router { path: routing.path_routing_prefix, host: routing.host_routing_domain },
            sessions: Sessions {
                cookie: sessions.authz_cookie_name,
                query_parameter: sessions.authz_cookie_query_param,
                same_site: sessions.authz_cookie_samesite.into(),
                insecure: sessions.authz_cookie_insecure,
                allowed_origins: sessions.authz_cookie_allowed_origins,
                trust_forwarded_proto: sessions.authz_trust_forwarded_proto,
            },
            timeouts,
            limits,
            probes: ProbeRule::new(&wake.probe_user_agent, &wake.probe_path),
            preserve_host: routing.preserve_host,
            rewrite_responses: routing.path_routing_rewrite_responses,
            access_log: listen.access_log,
        },
    };
    if explicit.is_none()
        && let Some(own) = config.own_port_in_range()
    {
        warn!("no TCP connection resumes a Sandbox: {own}");
        return Ok(Config { tcp: None, ..config }.checked()?);
    }
    Ok(config.checked()?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Args as _;

    use super::*;
    use crate::commands::token::TokenArgs;
    use crate::values::parsed;

    const REVIEWED: Access = Access::Reviewed(ScopedTokens::Accept);

    fn made(args: &[&str]) -> Result<Config, String> {
        config(parsed(args)?, &Upstream::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn every_flag_that_upstreams_manifests_pass_is_taken() {
        let config = made(&[
            "--http-bind-address=:8080",
            "--https-bind-address=:8443",
            "--tls-cert-file=/tls/tls.crt",
            "--tls-key-file=/tls/tls.key",
            "--metrics-bind-address=:9090",
            "-health-probe-bind-address=:8081",
            "--cluster-domain=cluster.local",
            "--proxy-timeout=3m",
            "--response-header-timeout=30s",
            "--grpc-proxy-timeout=0",
            "--shutdown-timeout=30s",
            "--max-request-body-bytes=1048576",
            "--allow-loopback-pod-ip=false",
            "--upstream-max-retries=3",
            "--upstream-retry-initial-delay=200ms",
            "--upstream-retry-max-delay=800ms",
            "--cache-enabled",
            "--cache-namespace=team",
            "--access-log=false",
            "--path-routing-prefix=/sandboxes",
            "--path-routing-rewrite-responses=false",
            "--authz-mode=tokenreview",
            "--authz-cookie-name=session",
            "--authz-cookie-query-param=token",
            "--authz-cookie-samesite=strict",
            "--authz-cookie-insecure=false",
            "--authz-cookie-allowed-origins=https://a.example.com,https://b.example.com:8443",
            "--authz-trust-forwarded-proto",
        ])
        .unwrap();
        assert_eq!(config.proxy.timeouts.response_head, Duration::from_secs(30));
        assert_eq!(config.proxy.limits.body_bytes, Some(1_048_576));
        assert_eq!(config.sandboxes.namespace.as_deref(), Some("team"));
        assert_eq!(config.proxy.sessions.allowed_origins.len(), 2);
        assert_eq!(config.access, REVIEWED);
        assert!(!config.proxy.access_log && !config.proxy.rewrite_responses);
    }

    #[test]
    fn the_defaults_are_those_of_the_tables() {
        let config = made(&[]).unwrap();
        assert_eq!(config.proxy.timeouts, Timeouts::DEFAULT);
        assert_eq!(config.proxy.limits, memory::limit().map_or(Limits::DEFAULT, Limits::within));
        assert_eq!(config.sandboxes.hold, HoldLimits::default());
        assert_eq!(config.access, REVIEWED, "anonymous clients are off");
    }

    #[test]
    fn policies_are_those_of_the_manifests_with_which_a_gateway_is_deployed() {
        use paddock_operator::manifests::{Settings, all};
        let user = "system:serviceaccount:agent-sandbox-system:sandbox-router";
        for (args, served) in [(&[][..], None), (&["--namespace=team"], Some("team"))] {
            let documents = all(&Settings { served_namespace: served.map(str::to_owned), ..Settings::default() });
            let spec = |kind: &str, name: &str| {
                let document = documents.iter().find(|d| d["kind"] == kind && d["metadata"]["name"] == name);
                document.map(|document| document["spec"].clone())
            };
            let policies = policies(&made(args).unwrap()).of(user);
            assert_eq!(policies.len(), 1);
            for desired in policies {
                assert_eq!(spec("ValidatingAdmissionPolicy", &desired.name), Some(desired.policy), "{args:?}");
                assert_eq!(spec("ValidatingAdmissionPolicyBinding", &desired.name), Some(desired.binding), "{args:?}");
            }
        }
    }

    #[test]
    fn range_without_a_flag_never_keeps_a_gateway_from_starting() {
        let ports = |args: &[&str]| made(args).unwrap().tcp.map(|tcp| tcp.ports.to_string());
        assert_eq!(ports(&[]).as_deref(), Some("10000-29999"));
        assert_eq!(ports(&["--http-bind-address=127.0.0.1:18080"]), None);
        assert_eq!(
            ports(&["--http-bind-address=127.0.0.1:18080", "--tcp-wake-ports=20000-21000"]).as_deref(),
            Some("20000-21000")
        );
        assert_eq!(ports(&["--tcp-wake-ports=0"]), None);
    }

    #[test]
    fn anonymous_clients_are_allowed_by_name_alone() {
        for (args, wanted) in [
            (&["--allow-unauthenticated"][..], Access::Everybody),
            (&["--allow-unauthenticated=true"], Access::Everybody),
            (&["--allow-unauthenticated=false"], REVIEWED),
            (&["--authz-mode=allow-all"], Access::Everybody),
            (&["--authz-mode=tokenreview"], REVIEWED),
            (&["--authz-scoped-tokens=accept"], REVIEWED),
            (&["--authz-scoped-tokens=require"], Access::Reviewed(ScopedTokens::Require)),
            (&["--authz-scoped-tokens=refuse"], Access::Reviewed(ScopedTokens::Refuse)),
        ] {
            assert_eq!(made(args).unwrap().access, wanted, "{args:?}");
        }
        let upstream = Upstream { allow_unauthenticated: true, proxy_timeout: Some(Duration::from_secs(7)) };
        let open = config(parsed(&[]).unwrap(), &upstream).unwrap();
        assert_eq!((open.access, open.proxy.timeouts.proxy), (Access::Everybody, Duration::from_secs(7)));
        for args in [&["--allow-unauthenticated=false"][..], &["--authz-mode=tokenreview"]] {
            assert_eq!(config(parsed(args).unwrap(), &upstream).unwrap().access, REVIEWED, "a flag comes first");
        }
    }

    #[test]
    fn the_manual_names_flags_that_exist_with_their_defaults() {
        let manual = concat!(include_str!("../../../docs/gateway.md"), include_str!("../../../docs/inside.md"));
        let command = GatewayArgs::augment_args(clap::Command::new("gateway"));
        let find = |flag: &str| command.get_arguments().find(|arg| arg.get_long() == Some(flag));
        let token = TokenArgs::augment_args(clap::Command::new("token"));
        let of_token = |flag: &str| token.get_arguments().any(|arg| arg.get_long() == Some(flag));
        // Every program has a help. The others are those of kubectl, `paddock manifests` and the operator, and one that the
        // manual says is not there.
        let others = [
            "help",
            "config",
            "connections-service",
            "server-side",
            "gateway",
            "clusterrole",
            "serviceaccount",
            "audience",
            "served-namespace",
            "keep-awake-at-most",
        ];
        for word in manual.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')) {
            let Some(flag) = word.strip_prefix("--").filter(|flag| flag.starts_with(|c: char| c.is_ascii_lowercase()))
            else {
                continue;
            };
            let known = find(flag).is_some() || of_token(flag) || others.contains(&flag) || flag == "upstream-";
            assert!(known, "--{flag} is in the manual and does not exist");
        }
        let rows = manual.lines().filter_map(|line| line.strip_prefix("| `--")).map(|row| {
            let mut cells = row.split('|').map(str::trim);
            (cells.next().unwrap_or_default().trim_end_matches('`').to_owned(), cells.next().unwrap_or_default())
        });
        let timeouts: Vec<_> = rows.collect();
        assert!(timeouts.len() >= 10, "{timeouts:?}");
        for (flag, shown) in timeouts {
            let arg = find(&flag).unwrap_or_else(|| panic!("--{flag}"));
            let default = arg.get_default_values().first().and_then(|value| value.to_str());
            let wanted = match default {
                Some("0") => "off",
                Some(default) => default,
                // The variable of upstream takes precedence over the default of this one.
                None => "180s",
            };
            assert_eq!(shown, wanted, "--{flag}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_could_be() {
        for (args, wanted) in [
            (&["--authz-mode=scoped-token"][..], "tokenreview"),
            (&["--authz-scoped-tokens=yes"], "require"),
            (&["--authz-scoped-tokens=require", "--allow-unauthenticated"], "leave out one of them"),
            (&["--authz-scoped-tokens=accept", "--allow-unauthenticated"], "leave out one of them"),
            (&["--authz-scoped-tokens=refuse", "--authz-mode=allow-all"], "leave out one of them"),
            (&["--path-routing-prefix=sandboxes"], "must begin with /"),
            (&["--host-routing-domain=*.example.com"], "such as sandbox.example.com"),
            (&["--authz-cookie-allowed-origins=example.com"], "SCHEME://HOST"),
            (&["--https-bind-address=:8443"], "--tls-cert-file"),
            (&["--tls-cert-file=/a"], "--tls-key-file"),
            (&["--http-bind-address=0"], "at least one of them"),
            (&["--authz-cookie-name=session"], "--path-routing-prefix or --host-routing-domain"),
            (&["--authz-cookie-name=a b"], "letters, digits"),
            (&["--proxy-timeout=0"], "longer than zero"),
            (&["--proxy-timeout=-1s"], "negative"),
            (&["--max-header-bytes=100"], "8192"),
            (&["--tcp-wake-ports=80-90"], "such as 10000-29999"),
            (&["--tcp-wake-ports=8000-9000"], "has port 8080 of --http-bind-address"),
        ] {
            let error = made(args).unwrap_err();
            assert!(error.contains(wanted), "{args:?}: {error}");
        }
    }
}
