//! `paddock manifests`: everything that a deployment needs.

use std::net::IpAddr;

use clap::Args;
use paddock_api::kind::ApiShapes;
use paddock_api::names::object;
use paddock_operator::manifests::{self, METRICS_NAMESPACE, POD_CIDRS, Settings};

use crate::output::{print, yaml};
use crate::values::parse_shapes;

#[derive(Debug, Args)]
pub(crate) struct ManifestsArgs {
    /// API shape of the templates, pools and claims to install: seed (all kinds in agents.x-k8s.io), upstream (in
    /// extensions.agents.x-k8s.io), or both.
    #[arg(long, value_name = "SURFACE", value_parser = parse_shapes, default_value = "both")]
    surface: ApiShapes,
    /// Namespace of the operator.
    #[arg(long, value_name = "NAMESPACE", default_value = object::OPERATOR_NAMESPACE)]
    namespace: String,
    /// Image of the operator.
    #[arg(long, value_name = "IMAGE", default_value_t = Settings::default().image)]
    image: String,
    /// Address range of the cluster's pods. The NetworkPolicy does not let pods connect to the webhook and the probes.
    /// The flag may be repeated.
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = parse_cidr, default_values = POD_CIDRS)]
    pod_cidr: Vec<String>,
    /// Namespace of Prometheus. The NetworkPolicy lets its pods connect to the metrics.
    #[arg(long, value_name = "NAMESPACE", default_value = METRICS_NAMESPACE)]
    metrics_namespace: String,
}

/// Prints them.
pub(crate) fn run(args: ManifestsArgs) -> anyhow::Result<()> {
    let ManifestsArgs { surface, namespace, image, pod_cidr, metrics_namespace } = args;
    let settings = Settings { namespace, image, shapes: surface, pod_cidrs: pod_cidr, metrics_namespace };
    print(&yaml(&manifests::all(&settings))?)
}

/// A range of addresses, such as `10.244.0.0/16`.
fn parse_cidr(value: &str) -> Result<String, String> {
    let parsed = value.split_once('/').and_then(|(address, bits)| {
        let most = if address.parse::<IpAddr>().ok()?.is_ipv4() { 32 } else { 128 };
        bits.parse::<u8>().ok().filter(|bits| (1..=most).contains(bits))
    });
    match parsed {
        Some(_) => Ok(value.to_owned()),
        None => Err(format!("{value:?} must be a range of addresses smaller than all, such as 10.244.0.0/16")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_an_address_with_a_length() {
        for good in ["10.244.0.0/16", "fd00:10:244::/56", "10.0.0.1/32"] {
            assert_eq!(parse_cidr(good).as_deref(), Ok(good));
        }
        for bad in ["10.244.0.0", "10.244.0.0/33", "0.0.0.0/0", "::/129", "pods", ""] {
            assert!(parse_cidr(bad).is_err_and(|error| error.contains("10.244.0.0/16")), "{bad}");
        }
    }
}
