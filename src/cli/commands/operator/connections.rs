//! The flags about the gateways that the operator asks for their open connections.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use paddock_operator::{ConnectionsConfig, GatewayService};

use crate::values::{parse_duration, parse_service};

#[derive(Debug, Args)]
#[command(next_help_heading = "Open connections of sandboxes")]
pub(super) struct ConnectionArgs {
    /// Service of the gateways, with their --metrics-bind-address as a port of the name metrics. The operator asks every
    /// gateway for its open connections while a plugin of the directory or of a SandboxPolicy decides whether a running
    /// sandbox is idle. The flag may be repeated, for gateways in other namespaces. Without the flag, idle plugins do not get
    /// the number of open connections.
    #[arg(long, value_name = "NAMESPACE/NAME", env = "PADDOCK_CONNECTIONS_SERVICE", value_delimiter = ',', value_parser = parse_service, requires = "connections_token_file")]
    connections_service: Vec<(String, String)>,
    /// File with a token of the operator's ServiceAccount for the audience paddock.dev/connections. The operator sends it to
    /// the gateways, and reads the file again for each round of questions.
    #[arg(long, value_name = "FILE", env = "PADDOCK_CONNECTIONS_TOKEN_FILE", requires = "connections_service")]
    connections_token_file: Option<PathBuf>,
    /// The interval at which the operator asks the gateways, from 1s to 1m, such as 15s.
    #[arg(long, value_name = "DURATION", env = "PADDOCK_CONNECTIONS_INTERVAL", value_parser = parse_interval, default_value = "30s")]
    connections_interval: Duration,
}

impl ConnectionArgs {
    /// The gateways and the interval. The interval is zero if no gateway is asked.
    pub(super) fn config(self) -> (Option<ConnectionsConfig>, Duration) {
        let services = self.connections_service.into_iter().map(|(namespace, name)| GatewayService { namespace, name });
        let services: Vec<_> = services.collect();
        // Neither flag can be given without the other one.
        let config = self.connections_token_file.map(|token_file| ConnectionsConfig { services, token_file });
        let interval = if config.is_some() { self.connections_interval } else { Duration::ZERO };
        (config, interval)
    }
}

fn parse_interval(value: &str) -> Result<Duration, String> {
    let interval = parse_duration(value)?;
    let is_right = (Duration::from_secs(1)..=Duration::from_mins(1)).contains(&interval);
    is_right.then_some(interval).ok_or_else(|| format!("{value:?} must be from 1s to 1m, such as 30s"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::parsed;

    #[test]
    fn gateways_are_asked_only_with_their_service_and_a_token() {
        let config = |args: &[&str]| parsed::<ConnectionArgs>(args).map(ConnectionArgs::config);
        let (service, file) = ("--connections-service=system/gateways", "--connections-token-file=/run/token");
        let of = |namespace: &str| GatewayService { namespace: namespace.to_owned(), name: "gateways".to_owned() };
        let gateways = ConnectionsConfig { services: vec![of("system")], token_file: "/run/token".into() };
        assert_eq!(config(&[]), Ok((None, Duration::ZERO)));
        assert_eq!(config(&[service, file]), Ok((Some(gateways.clone()), Duration::from_secs(30))));
        let faster = config(&[service, file, "--connections-interval=1s"]);
        assert_eq!(faster, Ok((Some(gateways), Duration::from_secs(1))));
        let of_both = ConnectionsConfig { services: vec![of("system"), of("team")], token_file: "/run/token".into() };
        // The variable has one text for all Services.
        for both in [
            &[service, "--connections-service=team/gateways"][..],
            &["--connections-service=system/gateways,team/gateways"],
        ] {
            let given: Vec<&str> = both.iter().copied().chain([file]).collect();
            assert_eq!(config(&given), Ok((Some(of_both.clone()), Duration::from_secs(30))), "{both:?}");
        }
        for (args, wanted) in [
            (&[service][..], "--connections-token-file"),
            (&[file], "--connections-service"),
            (&["--connections-service=gateways", file], "NAMESPACE/NAME"),
            (&["--connections-interval=0s"], "from 1s to 1m"),
            (&["--connections-interval=61s"], "from 1s to 1m"),
        ] {
            let error = config(args).unwrap_err();
            assert!(error.contains(wanted), "{args:?}: {error}");
        }
    }
}
