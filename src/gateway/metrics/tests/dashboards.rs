//! The metrics that dashboards of upstream's router read: names, labels, buckets and values.

use std::collections::BTreeSet;

use super::super::*;

const BY_NAMESPACE: &[&str] = &["sandbox_namespace"];

/// The labels of each family of upstream's router that has series. No address is cached here, so
/// `sandbox_router_cache_invalidations_total` has none. The label `implementation` is Paddock's own, and the others are
/// upstream's.
const FAMILIES: [(&str, &[&str]); 14] = [
    ("sandbox_router_requests_total", &["method", "code", "sandbox_namespace"]),
    ("sandbox_router_request_duration_seconds_count", &["method", "code", "sandbox_namespace"]),
    ("sandbox_router_inflight_requests", &[]),
    ("sandbox_router_upstream_errors_total", &["sandbox_namespace", "reason"]),
    ("sandbox_router_upstream_retries_total", BY_NAMESPACE),
    ("sandbox_router_authz_decisions_total", &["sandbox_namespace", "decision"]),
    ("sandbox_router_cert_reloads_total", &["outcome"]),
    ("sandbox_router_client_rx_bytes_total", BY_NAMESPACE),
    ("sandbox_router_client_tx_bytes_total", BY_NAMESPACE),
    ("sandbox_router_upstream_rx_bytes_total", BY_NAMESPACE),
    ("sandbox_router_upstream_tx_bytes_total", BY_NAMESPACE),
    ("sandbox_router_request_size_bytes_count", BY_NAMESPACE),
    ("sandbox_router_response_size_bytes_count", BY_NAMESPACE),
    (
        "sandbox_router_build_info",
        &["git_version", "git_commit", "build_date", "go_version", "compiler", "platform", "implementation"],
    ),
];

const DURATION_BUCKETS: [&str; 15] =
    ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "30", "60", "180", "+Inf"];

const SIZE_BUCKETS: [&str; 9] =
    ["100", "1024", "10240", "102400", "1048576", "10485760", "104857600", "1073741824", "+Inf"];

/// A scrape after one event of each sort.
fn scrape() -> String {
    let metrics = Metrics::new().unwrap();
    metrics.answered(&Method::POST, StatusCode::OK, "team", Duration::from_secs(20));
    for reason in [Reason::Unreachable, Reason::Timeout, Reason::ConnectionLost, Reason::Forbidden] {
        metrics.refused(reason, "team");
    }
    metrics.retried("team");
    metrics.authorized(true, "team");
    metrics.authorized(false, NO_NAMESPACE);
    metrics.certificate(true);
    metrics.client_traffic("team", Some(300), 5);
    metrics.sandbox_traffic("team", 300, 5);
    metrics.client_traffic("team", None, 7);
    metrics.sandbox_traffic("team", 0, 7);
    String::from_utf8(metrics.exposition().unwrap()).unwrap()
}

/// The name of a series, and the text between its braces.
fn series(line: &str) -> Option<(&str, &str)> {
    let (name, _) = line.rsplit_once(' ').filter(|_| !line.starts_with('#'))?;
    Some(name.strip_suffix('}').and_then(|name| name.split_once('{')).unwrap_or((name, "")))
}

fn labels(text: &str) -> BTreeSet<&str> {
    text.split(',').filter_map(|pair| pair.split_once('=')).map(|(label, _)| label).collect()
}

#[test]
fn families_have_the_labels_that_dashboards_select() {
    let text = scrape();
    for (name, wanted) in FAMILIES {
        let found: Vec<_> = text.lines().filter_map(series).filter(|(found, _)| *found == name).collect();
        assert!(!found.is_empty(), "{name} is not in:\n{text}");
        let wanted: BTreeSet<&str> = wanted.iter().copied().collect();
        for (_, found) in found {
            assert_eq!(labels(found), wanted, "{name}");
        }
    }
}

#[test]
fn histograms_have_the_buckets_of_upstream() {
    let text = scrape();
    for (name, wanted) in [
        ("sandbox_router_request_duration_seconds_bucket", &DURATION_BUCKETS[..]),
        ("sandbox_router_request_size_bytes_bucket", &SIZE_BUCKETS[..]),
        ("sandbox_router_response_size_bytes_bucket", &SIZE_BUCKETS[..]),
    ] {
        let buckets = text.lines().filter_map(series).filter(|(found, _)| *found == name);
        let found: Vec<&str> =
            buckets.map(|(_, labels)| labels.split("le=\"").nth(1).unwrap().trim_end_matches('"')).collect();
        assert_eq!(found, wanted, "{name}");
    }
}

#[test]
fn values_are_those_that_dashboards_compare() {
    let text = scrape();
    for line in [
        "sandbox_router_upstream_errors_total{reason=\"dial\",sandbox_namespace=\"team\"} 1",
        "sandbox_router_upstream_errors_total{reason=\"timeout\",sandbox_namespace=\"team\"} 1",
        "sandbox_router_upstream_errors_total{reason=\"eof\",sandbox_namespace=\"team\"} 1",
        "sandbox_router_upstream_retries_total{sandbox_namespace=\"team\"} 1",
        "sandbox_router_authz_decisions_total{decision=\"allow\",sandbox_namespace=\"team\"} 1",
        "sandbox_router_authz_decisions_total{decision=\"deny\",sandbox_namespace=\"-\"} 1",
        "sandbox_router_request_duration_seconds_bucket{code=\"200\",method=\"POST\",sandbox_namespace=\"team\",le=\"10\"} 0",
        "sandbox_router_request_duration_seconds_bucket{code=\"200\",method=\"POST\",sandbox_namespace=\"team\",le=\"30\"} 1",
        "sandbox_router_client_rx_bytes_total{sandbox_namespace=\"team\"} 300",
        "sandbox_router_upstream_tx_bytes_total{sandbox_namespace=\"team\"} 300",
        "sandbox_router_client_tx_bytes_total{sandbox_namespace=\"team\"} 12",
        "sandbox_router_upstream_rx_bytes_total{sandbox_namespace=\"team\"} 12",
        "sandbox_router_request_size_bytes_count{sandbox_namespace=\"team\"} 1",
        "sandbox_router_response_size_bytes_count{sandbox_namespace=\"team\"} 2",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
    }
}

#[test]
fn sandboxes_cannot_create_series_by_their_status() {
    for (status, label) in [(200, "200"), (499, "499"), (504, "504"), (299, "200"), (420, "400"), (999, "500")] {
        assert_eq!(code_label(&StatusCode::from_u16(status).unwrap()), label);
    }
}
