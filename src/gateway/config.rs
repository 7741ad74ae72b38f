//! The configuration of a gateway, and the checks of what depends on several settings.

use paddock_api::PortRange;
use paddock_kube::listen::ListenAddress;
use paddock_kube::tls::CertificateFiles;

use crate::authorize::ScopedTokens;
use crate::limits::Limits;
use crate::purpose::ProbeRule;
use crate::route::Router;
use crate::sandboxes;
use crate::session::{SameSite, Sessions};
use crate::timeouts::Timeouts;

/// The configuration of a gateway.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address of HTTP without TLS.
    pub http: ListenAddress,
    /// The address of HTTP over TLS, and its certificate.
    pub https: Option<Https>,
    /// The address of `/metrics` and `/connections`, without TLS.
    pub metrics: ListenAddress,
    /// The address of `/healthz` and `/readyz`.
    pub health: ListenAddress,
    /// The address of requests from inside of sandboxes, without TLS.
    pub inside: ListenAddress,
    /// Who may use Sandboxes.
    pub access: Access,
    /// The settings of the Sandbox half.
    pub sandboxes: sandboxes::Config,
    /// The settings of TCP connections. If absent, no connection resumes a Sandbox.
    pub tcp: Option<TcpConfig>,
    /// The settings of the proxy.
    pub proxy: ProxyConfig,
}

/// The settings of TCP connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpConfig {
    /// The ports that may stand for ports of Sandboxes. Those of other numbers are left alone.
    pub ports: PortRange,
}

/// A listener of HTTP over TLS.
#[derive(Clone, Debug)]
pub struct Https {
    /// The address.
    pub bind: ListenAddress,
    /// The files of the certificate. They are read again when they change.
    pub files: CertificateFiles,
}

/// Who may use Sandboxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Users that the API server knows, on the Sandboxes for which they have the right.
    Reviewed(ScopedTokens),
    /// Everybody. This is the default of upstream's router.
    Everybody,
}

/// The settings of the proxy.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// The ways of routing.
    pub router: Router,
    /// The settings of sessions.
    pub sessions: Sessions,
    /// The timeouts.
    pub timeouts: Timeouts,
    /// The limits.
    pub limits: Limits,
    /// The requests that wake nothing.
    pub probes: ProbeRule,
    /// Whether a Sandbox gets the client's Host when headers or the path route a request.
    pub preserve_host: bool,
    /// Whether answers to requests that the path routes are put under the prefix.
    pub rewrite_responses: bool,
    /// Whether each request has a line in the log.
    pub access_log: bool,
}

/// The settings do not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConfig {
    /// There is no listener.
    #[error("--http-bind-address and --https-bind-address are both 0: at least one of them must be an address")]
    NoListener,
    /// A cookie that nothing uses.
    #[error("--authz-cookie-name needs --path-routing-prefix or --host-routing-domain: a browser sends no headers")]
    CookieWithoutRoute,
    /// A cookie that nothing checks.
    #[error("--authz-cookie-name has no effect with --allow-unauthenticated: leave out one of them")]
    CookieWithoutAuthorization,
    /// A setting of the cookie without the cookie.
    #[error("{0} has no effect without --authz-cookie-name")]
    NoCookie(&'static str),
    /// A cookie that browsers refuse.
    #[error("--authz-cookie-samesite=none needs a secure cookie: leave out --authz-cookie-insecure")]
    InsecureCookie,
    /// A port of the gateway itself is in the range.
    #[error(
        "--tcp-wake-ports={range} has port {port} of {flag}: give a range without the ports of the gateway itself, such as \
         {}",
        PortRange::DEFAULT
    )]
    OwnPort {
        /// The range.
        range: PortRange,
        /// The port.
        port: u16,
        /// The flag of the listener.
        flag: &'static str,
    },
    /// A time that must be longer than zero.
    #[error("{0} must be longer than zero")]
    Zero(&'static str),
}

impl Config {
    /// The port of the gateway itself that is in the range of TCP connections, as an error. A client that the range leads to
    /// it would reach the gateway and not its Sandbox.
    #[must_use]
    pub fn own_port_in_range(&self) -> Option<InvalidConfig> {
        let TcpConfig { ports: range } = self.tcp?;
        let https = self.https.as_ref().map(|https| &https.bind);
        let own = [
            ("--http-bind-address", Some(&self.http)),
            ("--https-bind-address", https),
            ("--metrics-bind-address", Some(&self.metrics)),
            ("--health-probe-bind-address", Some(&self.health)),
            ("--sandbox-bind-address", Some(&self.inside)),
        ];
        own.into_iter().find_map(|(flag, bind)| {
            let port = bind?.ports().find(|port| range.contains(*port))?;
            Some(InvalidConfig::OwnPort { range, port, flag })
        })
    }

    /// Checks what depends on several settings.
    ///
    /// # Errors
    /// If two settings exclude each other, or one needs another.
    pub fn checked(self) -> Result<Self, InvalidConfig> {
        let sessions = &self.proxy.sessions;
        let secure = self.https.as_ref().is_some_and(|https| https.bind != ListenAddress::Off);
        if self.http == ListenAddress::Off && !secure {
            return Err(InvalidConfig::NoListener);
        }
        if sessions.cookie.is_some() {
            if self.proxy.router.path.is_none() && self.proxy.router.host.is_none() {
                return Err(InvalidConfig::CookieWithoutRoute);
            }
            if self.access == Access::Everybody {
                return Err(InvalidConfig::CookieWithoutAuthorization);
            }
        } else {
            for (flag, set) in [
                ("--authz-cookie-query-param", sessions.query_parameter.is_some()),
                ("--authz-cookie-allowed-origins", !sessions.allowed_origins.is_empty()),
                ("--authz-trust-forwarded-proto", sessions.trust_forwarded_proto),
            ] {
                if set {
                    return Err(InvalidConfig::NoCookie(flag));
                }
            }
        }
        if let Some(invalid) = self.own_port_in_range() {
            return Err(invalid);
        }
        if sessions.insecure && sessions.same_site == SameSite::None {
            return Err(InvalidConfig::InsecureCookie);
        }
        let timeouts = &self.proxy.timeouts;
        for (flag, time) in [
            ("--proxy-timeout", timeouts.proxy),
            ("--read-header-timeout", timeouts.request_head),
            ("--idle-timeout", timeouts.client_idle),
        ] {
            if time.is_zero() {
                return Err(InvalidConfig::Zero(flag));
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::tests_config;

    fn config() -> Config {
        Config {
            http: ListenAddress::loopback(),
            https: None,
            metrics: ListenAddress::Off,
            health: ListenAddress::Off,
            inside: ListenAddress::Off,
            access: Access::Reviewed(ScopedTokens::Accept),
            sandboxes: sandboxes::Config::default(),
            tcp: Some(TcpConfig { ports: PortRange::DEFAULT }),
            proxy: tests_config(),
        }
    }

    #[test]
    fn settings_that_do_not_fit_together_are_refused() {
        assert!(config().checked().is_ok());
        let without_cookie = |config: &mut Config| config.proxy.sessions = Sessions::default();
        type Change = fn(&mut Config);
        let own_port = |port, flag| InvalidConfig::OwnPort { range: PortRange::DEFAULT, port, flag };
        let cases: [(Change, InvalidConfig); 10] = [
            (|config| config.inside = ":10001".parse().unwrap(), own_port(10_001, "--sandbox-bind-address")),
            (|config| config.metrics = ":10000".parse().unwrap(), own_port(10_000, "--metrics-bind-address")),
            (|config| config.http = "127.0.0.1:29999".parse().unwrap(), own_port(29_999, "--http-bind-address")),
            (|config| config.http = ListenAddress::Off, InvalidConfig::NoListener),
            (|config| config.proxy.router = Router::default(), InvalidConfig::CookieWithoutRoute),
            (|config| config.access = Access::Everybody, InvalidConfig::CookieWithoutAuthorization),
            (|config| config.proxy.sessions.cookie = None, InvalidConfig::NoCookie("--authz-cookie-query-param")),
            (
                |config| {
                    config.proxy.sessions = Sessions { trust_forwarded_proto: true, ..Sessions::default() };
                },
                InvalidConfig::NoCookie("--authz-trust-forwarded-proto"),
            ),
            (
                |config| {
                    config.proxy.sessions.insecure = true;
                    config.proxy.sessions.same_site = SameSite::None;
                },
                InvalidConfig::InsecureCookie,
            ),
            (|config| config.proxy.timeouts.proxy = std::time::Duration::ZERO, InvalidConfig::Zero("--proxy-timeout")),
        ];
        for (change, wanted) in cases {
            let mut config = config();
            change(&mut config);
            assert_eq!(config.checked().err(), Some(wanted));
        }
        let mut open = config();
        without_cookie(&mut open);
        open.access = Access::Everybody;
        assert!(open.checked().is_ok());
    }
}
