//! The metrics of the proxy. Those of upstream's router keep its names, labels and buckets, so that its dashboards work.
//!
//! A namespace is a label value only if the Sandbox exists. A client could otherwise create any number of series.

mod registration;
mod traffic;

use std::time::Duration;

use http::{Method, StatusCode};
use paddock_kube::build_info;
use prometheus::{
    Encoder as _, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, Result, TextEncoder,
};

pub(crate) use self::registration::register;
use self::registration::{counter, counters, gauge};
use self::traffic::Traffic;
use crate::refusal::Reason;

/// The status of a request whose client left before the answer: that of nginx.
pub(crate) const CLIENT_CLOSED_REQUEST: u16 = 499;

/// The label value of a namespace that is not known.
pub(crate) const NO_NAMESPACE: &str = "-";

/// The bounds of the durations of requests, in seconds: those of upstream's router.
const DURATIONS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0];

/// The metrics of one gateway. Clones are handles on the same metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    durations: HistogramVec,
    inflight: IntGauge,
    upstream_errors: IntCounterVec,
    retries: IntCounterVec,
    traffic: Traffic,
    authorizations: IntCounterVec,
    certificates: IntCounterVec,
    refusals: IntCounterVec,
    connections: IntGauge,
    reused: IntCounterVec,
    streams_cut: IntCounter,
    unauthenticated: IntGauge,
    guard_absent: IntGaugeVec,
    head: Histogram,
    connection_faults: IntCounterVec,
}

/// A fault of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub(crate) enum ConnectionFault {
    /// There were too many connections.
    Refused,
    /// A connection without an authorized request, or an idle one, was closed because a new one needed its place.
    Evicted,
    /// The TLS handshake failed or took too long.
    Handshake,
    /// The head of a request took too long.
    SlowHead,
    /// A connection with requests moved no byte.
    Stalled,
    /// The bytes were no HTTP, or a frame was too large.
    Protocol,
}

impl Metrics {
    /// New metrics in a registry of their own.
    ///
    /// # Errors
    /// If a metric is not valid. Their names are constants.
    pub fn new() -> Result<Self> {
        let registry = Registry::new();
        let metrics = Self {
            requests: counters(
                &registry,
                "sandbox_router_requests_total",
                "Requests that were answered.",
                &["method", "code", "sandbox_namespace"],
            )?,
            durations: register(
                &registry,
                HistogramVec::new(
                    seconds(
                        "sandbox_router_request_duration_seconds",
                        "The time from the head of a request to the end of its answer.",
                    ),
                    &["method", "code", "sandbox_namespace"],
                )?,
            )?,
            inflight: gauge(
                &registry,
                "sandbox_router_inflight_requests",
                "Requests and streams that have not ended.",
            )?,
            upstream_errors: counters(
                &registry,
                "sandbox_router_upstream_errors_total",
                "Requests that did not reach their Sandbox, or whose answer was cut.",
                &["sandbox_namespace", "reason"],
            )?,
            retries: counters(
                &registry,
                "sandbox_router_upstream_retries_total",
                "Repeated attempts to send a request. No byte of it had been sent.",
                &["sandbox_namespace"],
            )?,
            traffic: Traffic::register(&registry)?,
            authorizations: counters(
                &registry,
                "sandbox_router_authz_decisions_total",
                "Decisions about the credentials of requests.",
                &["decision", "sandbox_namespace"],
            )?,
            certificates: counters(
                &registry,
                "sandbox_router_cert_reloads_total",
                "Reads of a changed TLS certificate.",
                &["outcome"],
            )?,
            refusals: counters(
                &registry,
                "paddock_gateway_refusals_total",
                "Requests that the gateway answered itself, by reason.",
                &["reason"],
            )?,
            connections: gauge(
                &registry,
                "paddock_gateway_client_connections",
                "Open connections of clients, upgraded ones included.",
            )?,
            reused: counters(
                &registry,
                "paddock_gateway_sandbox_connections_total",
                "Connections to Sandboxes that requests used.",
                &["state"],
            )?,
            streams_cut: counter(
                &registry,
                "paddock_gateway_streams_cut_total",
                "Connections and streams that outlasted the drain of a shutdown.",
            )?,
            unauthenticated: gauge(
                &registry,
                "paddock_gateway_unauthenticated_allowed",
                "1 if requests without a credential reach Sandboxes.",
            )?,
            guard_absent: register(
                &registry,
                IntGaugeVec::new(
                    Opts::new(
                        "paddock_gateway_guard_absent",
                        "1 if a ValidatingAdmissionPolicy of the gateway is not in force, or if that is not known.",
                    ),
                    &["policy"],
                )?,
            )?,
            head: register(
                &registry,
                Histogram::with_opts(seconds(
                    "paddock_gateway_response_head_seconds",
                    "The time from the head of a request to the head of its answer.",
                ))?,
            )?,
            connection_faults: counters(
                &registry,
                "paddock_gateway_connection_faults_total",
                "Connections of clients that were refused or cut.",
                &["fault"],
            )?,
            registry,
        };
        let info = Opts::new("sandbox_router_build_info", "Always 1. The build is in the labels.");
        let info = register(&metrics.registry, IntGaugeVec::new(info, &build_info::LABELS)?)?;
        build_info::set(&info);
        paddock_kube::traces::register(&metrics.registry)?;
        Ok(metrics)
    }

    /// The registry, for the metrics of other parts.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The text for a scrape.
    ///
    /// # Errors
    /// If a metric cannot be written.
    pub fn exposition(&self) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    /// Whether requests without a credential reach Sandboxes.
    pub fn set_unauthenticated(&self, allowed: bool) {
        self.unauthenticated.set(i64::from(allowed));
    }

    /// Records whether an admission policy of the gateway is in force.
    pub fn guard(&self, policy: &str, in_force: bool) {
        self.guard_absent.with_label_values(&[policy]).set(i64::from(!in_force));
    }

    /// A changed certificate was read.
    pub fn certificate(&self, valid: bool) {
        self.certificates.with_label_values(&[if valid { "success" } else { "failure" }]).inc();
    }

    pub(crate) fn begin(&self) -> Inflight {
        Inflight::new(&self.inflight)
    }

    pub(crate) fn connection(&self) -> Inflight {
        Inflight::new(&self.connections)
    }

    pub(crate) fn answered(&self, method: &Method, code: StatusCode, namespace: &str, time: Duration) {
        let labels = [method_label(method), code_label(&code), namespace];
        self.requests.with_label_values(&labels).inc();
        self.durations.with_label_values(&labels).observe(time.as_secs_f64());
    }

    /// The bytes of a body that a client sent, and those of the body of its answer, also if the gateway itself answered.
    /// `received` is absent if the request had no body.
    pub(crate) fn client_traffic(&self, namespace: &str, received: Option<u64>, sent: u64) {
        self.traffic.of_client(namespace, received, sent);
    }

    /// The bytes of bodies that were sent to a Sandbox and came from it.
    pub(crate) fn sandbox_traffic(&self, namespace: &str, sent: u64, received: u64) {
        self.traffic.of_sandbox(namespace, sent, received);
    }

    pub(crate) fn head(&self, time: Duration) {
        self.head.observe(time.as_secs_f64());
    }

    pub(crate) fn refused(&self, reason: Reason, namespace: &str) {
        self.refusals.with_label_values(&[reason.as_str()]).inc();
        let upstream = match reason {
            Reason::Unreachable => "dial",
            Reason::Timeout => "timeout",
            Reason::ConnectionLost => "eof",
            Reason::BodyTooLarge
            | Reason::SandboxIdRequired
            | Reason::InvalidSandboxId
            | Reason::InvalidNamespace
            | Reason::InvalidPort
            | Reason::InvalidPath
            | Reason::InvalidPathEncoding
            | Reason::InvalidHost
            | Reason::AmbiguousRequest
            | Reason::UnsupportedMethod
            | Reason::InvalidTimeout
            | Reason::HeadersTooLarge
            | Reason::Unauthenticated
            | Reason::Forbidden
            | Reason::OriginNotAllowed
            | Reason::AuthorizerFailed
            | Reason::AuthorizerBusy
            | Reason::SandboxNotFound
            | Reason::Suspended
            | Reason::SuspendedForProbes
            | Reason::Ended
            | Reason::WakeTimeout
            | Reason::HoldLimit
            | Reason::WakeFailed
            | Reason::SandboxBusy
            | Reason::ClientBusy
            | Reason::NotReady
            | Reason::Internal => return,
        };
        self.upstream_errors.with_label_values(&[namespace, upstream]).inc();
    }

    /// The answer of a Sandbox ended early.
    pub(crate) fn cut(&self, namespace: &str) {
        self.upstream_errors.with_label_values(&[namespace, "eof"]).inc();
    }

    pub(crate) fn retried(&self, namespace: &str) {
        self.retries.with_label_values(&[namespace]).inc();
    }

    pub(crate) fn used_connection(&self, reused: bool) {
        self.reused.with_label_values(&[if reused { "reused" } else { "new" }]).inc();
    }

    /// Upstream's router knows two decisions. The metric of the refusals has the reasons.
    pub(crate) fn authorized(&self, admitted: bool, namespace: &str) {
        let decision = if admitted { "allow" } else { "deny" };
        self.authorizations.with_label_values(&[decision, namespace]).inc();
    }

    pub(crate) fn streams_cut(&self, count: usize) {
        self.streams_cut.inc_by(count as u64);
    }

    pub(crate) fn connection_fault(&self, fault: ConnectionFault) {
        let fault: &'static str = fault.into();
        self.connection_faults.with_label_values(&[fault]).inc();
    }
}

/// Counts one thing until it is dropped.
#[derive(Debug)]
pub(crate) struct Inflight(IntGauge);

impl Inflight {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Inflight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The method, or one word for all that HTTP does not define. Clients choose the method.
fn method_label(method: &Method) -> &str {
    match *method {
        Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::PATCH | Method::DELETE | Method::OPTIONS => {
            method.as_str()
        }
        _ => "OTHER",
    }
}

/// The status, or the first one of its class if HTTP does not define it. Sandboxes choose the status.
fn code_label(code: &StatusCode) -> &str {
    if code.canonical_reason().is_some() || code.as_u16() == CLIENT_CLOSED_REQUEST {
        return code.as_str();
    }
    match code.as_u16() / 100 {
        1 => "100",
        2 => "200",
        3 => "300",
        4 => "400",
        _ => "500",
    }
}

fn seconds(name: &str, help: &str) -> HistogramOpts {
    HistogramOpts::new(name, help).buckets(DURATIONS.to_vec())
}

#[cfg(test)]
mod tests {
    mod dashboards;

    use std::collections::BTreeSet;

    use strum::VariantArray;

    use super::*;

    const MANUAL: &str = include_str!("../../docs/gateway.md");

    #[test]
    fn the_manual_lists_each_metric_and_no_others() {
        let metrics = Metrics::new().unwrap();
        crate::sandboxes::Metrics::register(metrics.registry()).unwrap();
        // A family without a value is not gathered, so the names come from the descriptions.
        let listed: BTreeSet<&str> = MANUAL
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .filter(|word| word.starts_with("sandbox_router_") || word.starts_with("paddock_gateway_"))
            .collect();
        let sources = [
            include_str!("metrics.rs"),
            include_str!("metrics/traffic.rs"),
            include_str!("sandboxes/metrics.rs"),
            include_str!("tcp/metrics.rs"),
        ];
        let source = sources.concat();
        let registered: BTreeSet<&str> = source
            .split('"')
            .filter(|word| word.starts_with("sandbox_router_") || word.starts_with("paddock_gateway_"))
            .filter(|word| !word.ends_with('_'))
            .collect();
        assert_eq!(listed, registered);
    }

    #[test]
    fn the_manual_lists_each_reason_with_its_status() {
        for reason in Reason::VARIANTS {
            let status = reason.status().as_str().to_owned();
            let word = format!("`{}`", reason.as_str());
            let row = MANUAL.lines().find(|line| line.starts_with("| ") && line.contains(&word));
            let row = row.unwrap_or_else(|| panic!("{word} is not in the table"));
            assert!(row.split('|').nth(1).is_some_and(|cell| cell.contains(&status)), "{word} {status}: {row}");
        }
    }
}
