//! Values of flags as Go's flag package takes them, and its single-hyphen spelling.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use paddock_api::PortRange;
use paddock_api::kind::ApiShapes;
use paddock_api::names::object::{GATEWAY_SERVICE, OPERATOR_NAMESPACE};
use paddock_core::model::{Quantity, is_dns_subdomain, names, parse_go_duration};
use paddock_core::settings::{ANY_DOMAIN, ManagedFieldsAtClaim};

/// `-flag` becomes `--flag`, as Go's flag package reads both alike. Values and everything behind `--` stay.
pub(crate) fn go_style(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut literal = false;
    args.into_iter()
        .map(|arg| {
            literal |= arg == "--";
            match arg.to_str() {
                // One letter is a short flag of ours; a digit begins a negative number.
                Some(text) if !literal => match text.strip_prefix('-') {
                    Some(name) if name.len() > 1 && name.starts_with(|c: char| c.is_ascii_lowercase()) => {
                        OsString::from(format!("--{name}"))
                    }
                    Some(_) | None => arg,
                },
                Some(_) | None => arg,
            }
        })
        .collect()
}

/// Parses the flags of a subcommand as the command line does.
#[cfg(test)]
pub(crate) fn parsed<A: clap::Args>(args: &[&str]) -> Result<A, String> {
    let command = A::augment_args(clap::Command::new("paddock").args_override_self(true));
    let args = go_style(["paddock"].iter().chain(args).map(OsString::from));
    let matches = command.try_get_matches_from(args).map_err(|error| error.to_string())?;
    A::from_arg_matches(&matches).map_err(|error| error.to_string())
}

/// `clear` or `keep`.
pub(crate) fn parse_managed_fields(value: &str) -> Result<ManagedFieldsAtClaim, String> {
    match value {
        "clear" => Ok(ManagedFieldsAtClaim::Clear),
        "keep" => Ok(ManagedFieldsAtClaim::Keep),
        _ => Err(format!("{value:?} is unknown: expected clear or keep")),
    }
}

/// An API shape, or both.
pub(crate) fn parse_shapes(value: &str) -> Result<ApiShapes, String> {
    ApiShapes::ALL
        .into_iter()
        .find(|shapes| shapes.as_str() == value)
        .ok_or_else(|| format!("no surface {value:?}: expected seed, upstream or both"))
}

/// A boolean in any of Go's spellings.
pub(crate) fn parse_bool(value: &str) -> Result<bool, String> {
    match value {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("{value:?} is not a boolean: expected true or false")),
    }
}

/// The memory of all calls of plugins: a quantity of bytes that is enough for one call.
pub(crate) fn parse_plugin_memory(value: &str) -> Result<usize, String> {
    let least = paddock_plugin_host::HostConfig::LEAST_MEMORY;
    let bytes = Quantity::parse(value).and_then(|quantity| usize::try_from(quantity.ceil()).ok());
    bytes
        .filter(|bytes| *bytes >= least)
        .ok_or_else(|| format!("{value:?} must be a quantity of at least {}Mi, such as 512Mi", least >> 20))
}

/// The CPU limit of a throttled container, in thousandths of a core. Nodes give no container less than 10m: 1 ms of each
/// tenth of a second. A whole core is no throttle.
pub(crate) fn parse_throttle_cpu(value: &str) -> Result<u32, String> {
    let millicores = Quantity::parse(value).and_then(Quantity::millicores);
    millicores
        .filter(|millicores| (10..=1000).contains(millicores))
        .ok_or_else(|| format!("{value:?} must be a CPU quantity from 10m to 1, such as 10m"))
}

/// A duration as Go writes it, and not negative.
pub(crate) fn parse_duration(value: &str) -> Result<Duration, String> {
    let nanos =
        parse_go_duration(value).map_err(|error| format!("{value:?} {error}: expected 90s, 1h30m or the like"))?;
    u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| format!("{value:?} is negative"))
}

/// The same, and more than nothing.
pub(crate) fn parse_positive_duration(value: &str) -> Result<Duration, String> {
    match parse_duration(value)? {
        Duration::ZERO => Err(format!("{value:?} is no time: expected a positive duration, as 90s or 5m")),
        duration => Ok(duration),
    }
}

/// The interval of the lists of CPU use: nothing, or at most a third of the age from which a sample counts as none.
pub(crate) fn parse_cpu_metrics_interval(value: &str) -> Result<Duration, String> {
    let interval = parse_duration(value)?;
    let is_right = interval.is_zero() || (Duration::from_secs(1)..=Duration::from_mins(1)).contains(&interval);
    is_right.then_some(interval).ok_or_else(|| format!("{value:?} must be 0s, or from 1s to 1m, such as 30s"))
}

/// A CIDR block in the form that the API server keeps, of some addresses and not of all.
pub(crate) fn parse_cidr(value: &str) -> Result<String, String> {
    let wrong = || format!("{value:?} is not a CIDR block: expected ADDRESS/LENGTH, as 10.0.0.0/8 or fd00::/8");
    let (address, length) = value.split_once('/').ok_or_else(wrong)?;
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let length: u32 = length.parse().map_err(|_| wrong())?;
    let block = match address {
        IpAddr::V4(v4) if length <= 32 => {
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & u32::MAX.checked_shl(32 - length).unwrap_or(0)))
        }
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            return Err(format!("{value:?} is an IPv4-mapped block: expected the IPv4 block itself"));
        }
        IpAddr::V6(v6) if length <= 128 => {
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & u128::MAX.checked_shl(128 - length).unwrap_or(0)))
        }
        IpAddr::V4(_) | IpAddr::V6(_) => return Err(wrong()),
    };
    if length == 0 {
        return Err(format!("{value:?} is every address: expected a smaller block, as 10.0.0.0/8"));
    }
    if block != address {
        return Err(format!("{value:?} has bits behind its length: expected {block}/{length}"));
    }
    Ok(format!("{block}/{length}"))
}

/// A range of ports, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OptionalPorts(pub(crate) Option<PortRange>);

/// A range of ports, or `0` for none.
pub(crate) fn parse_port_range(value: &str) -> Result<OptionalPorts, String> {
    match value {
        "0" => Ok(OptionalPorts(None)),
        range => PortRange::parse(range).map(|range| OptionalPorts(Some(range))).map_err(|error| error.to_string()),
    }
}

/// The namespace and the name of a Service.
pub(crate) fn parse_service(value: &str) -> Result<(String, String), String> {
    let wrong = || {
        format!("{value:?} is not a Service: expected NAMESPACE/NAME, such as {OPERATOR_NAMESPACE}/{GATEWAY_SERVICE}")
    };
    let (namespace, name) = value.split_once('/').ok_or_else(wrong)?;
    for label in [namespace, name] {
        if names::dns_label(label).is_some() {
            return Err(wrong());
        }
    }
    Ok((namespace.to_owned(), name.to_owned()))
}

/// The name of a namespace.
pub(crate) fn parse_namespace(value: &str) -> Result<String, String> {
    names::dns_label(value).map_or_else(
        || Ok(value.to_owned()),
        |problem| Err(format!("{value:?} is not the name of a namespace: {problem}")),
    )
}

/// The name of a RuntimeClass.
pub(crate) fn parse_class(value: &str) -> Result<String, String> {
    if is_dns_subdomain(value) {
        return Ok(value.to_owned());
    }
    Err(format!("{value:?} is not the name of a RuntimeClass: expected a name such as gvisor or kata-qemu"))
}

/// The handler of a RuntimeClass.
pub(crate) fn parse_handler(value: &str) -> Result<String, String> {
    names::dns_label(value).map_or_else(
        || Ok(value.to_owned()),
        |problem| Err(format!("{value:?} is not the handler of a RuntimeClass: {problem}")),
    )
}

/// The host of a URL: a DNS name or an address.
pub(crate) fn parse_host(value: &str) -> Result<String, String> {
    if is_dns_subdomain(value) || value.parse::<IpAddr>().is_ok() {
        return Ok(value.to_owned());
    }
    Err(format!("{value:?} is no host: expected a DNS name or an IP address without a port, as 192.0.2.7"))
}

/// The reference of a container image. The node that pulls the image checks the rest.
pub(crate) fn parse_image(value: &str) -> Result<String, String> {
    if value.is_empty() || value.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!("{value:?} is no image: expected a reference such as ghcr.io/example/paddock:v1"));
    }
    Ok(value.to_owned())
}

/// A quantity of storage, more than nothing.
pub(crate) fn parse_quantity(value: &str) -> Result<String, String> {
    match Quantity::parse(value) {
        Some(quantity) if quantity > Quantity::ZERO => Ok(value.to_owned()),
        Some(_) | None => Err(format!("{value:?} is not a size: expected a positive quantity, as 500Mi or 1Gi")),
    }
}

/// The domain of annotations, or `*` for any domain.
pub(crate) fn parse_domain(value: &str) -> Result<String, String> {
    if value == ANY_DOMAIN || is_dns_subdomain(value) {
        return Ok(value.to_owned());
    }
    Err(format!("{value:?} is no domain: expected a domain such as example.com, or *"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_hyphens_are_doubled_and_values_are_left() {
        let given =
            ["paddock", "operator", "-leader-elect=false", "--extensions", "-h", "-kube-api-qps", "-1", "--", "-x-y"];
        let wanted =
            ["paddock", "operator", "--leader-elect=false", "--extensions", "-h", "--kube-api-qps", "-1", "--", "-x-y"];
        assert_eq!(go_style(given.map(OsString::from)), wanted.map(OsString::from));
    }

    #[test]
    fn durations_are_gos() {
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["", "5", "-1s", "1d", "s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_positive_duration("1ns"), Ok(Duration::from_nanos(1)));
        for none in ["0", "0s", "0h0m"] {
            assert!(parse_duration(none).is_ok() && parse_positive_duration(none).is_err(), "{none}");
        }
    }

    #[test]
    fn blocks_are_those_that_the_api_server_takes() {
        for (given, kept) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("192.0.2.7/32", "192.0.2.7/32"),
            ("FD00:0::/8", "fd00::/8"),
            ("64:ff9b::/96", "64:ff9b::/96"),
            ("::1/128", "::1/128"),
        ] {
            assert_eq!(parse_cidr(given).as_deref(), Ok(kept));
        }
        for (bad, wanted) in [
            ("", "ADDRESS/LENGTH"),
            ("10.0.0.0", "ADDRESS/LENGTH"),
            ("10.0.0/8", "ADDRESS/LENGTH"),
            ("10.0.0.0/33", "ADDRESS/LENGTH"),
            ("fd00::/129", "ADDRESS/LENGTH"),
            ("10.0.0.0/-1", "ADDRESS/LENGTH"),
            ("example.com/8", "ADDRESS/LENGTH"),
            ("10.1.2.3/8", "expected 10.0.0.0/8"),
            ("fd00::1/8", "expected fd00::/8"),
            ("0.0.0.0/0", "a smaller block"),
            ("::/0", "a smaller block"),
            ("::ffff:10.0.0.0/104", "IPv4 block itself"),
        ] {
            let error = parse_cidr(bad).unwrap_err();
            assert!(error.contains(wanted) && error.contains(bad), "{bad}: {error}");
        }
    }

    #[test]
    fn values_of_manifests_are_those_that_the_api_server_takes() {
        assert!(
            parse_host("192.0.2.7").is_ok() && parse_host("::1").is_ok() && parse_host("paddock.example.com").is_ok()
        );
        for bad in ["", "https://a", "a:9443", "a b", "*", "A_b"] {
            assert!(parse_host(bad).is_err_and(|error| error.contains("without a port")), "{bad}");
        }
        assert!(parse_image("ghcr.io/a/b@sha256:0").is_ok());
        for bad in ["", "a b", "a\nargs: []"] {
            assert!(parse_image(bad).is_err_and(|error| error.contains("no image")), "{bad}");
        }
        for bad in ["", "Team", "a.b", "kube_system", "a\nb"] {
            assert!(parse_namespace(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_kubernetes_quantities() {
        for good in ["1Gi", "500M", "1.5Ti", "1073741824"] {
            assert_eq!(parse_quantity(good).as_deref(), Ok(good));
        }
        for bad in ["", "0", "0Gi", "1GB", "Gi", "-1Gi", "1 Gi"] {
            assert!(parse_quantity(bad).is_err(), "{bad}");
        }
    }
}
