//! Flags of upstream's controller that have another name here, or no effect. Its manifests and patches can be used as they
//! are. A flag that would be lost in silence and promise something is refused.

use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};

use crate::commands::process::{LogArgs, LogFormat};
use crate::values::{parse_bool, parse_duration};

#[derive(Debug, Args)]
#[command(next_help_heading = "Accepted for the tooling of upstream's controller")]
pub(super) struct UpstreamArgs {
    /// Without effect.
    #[arg(long, value_name = "BOOL", env = "PADDOCK_SEPARATE_WATCH_CONNECTION", value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    separate_watch_connection: Option<bool>,
    /// Without effect.
    #[arg(long, value_name = "N", env = "PADDOCK_API_CONNECTIONS", value_parser = clap::value_parser!(u16).range(1..))]
    api_connections: Option<u16>,
    /// Without effect.
    #[arg(long, value_name = "BOOL", env = "PADDOCK_CACHE_LABEL_SELECTORS", value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    cache_label_selectors: Option<bool>,
    /// Without effect. --sandbox-warm-pool-max-batch-size and --kube-api-qps limit how fast pools are filled, and claims come
    /// before pools.
    #[arg(long, value_name = "F", env = "PADDOCK_SANDBOX_WARM_POOL_MAX_REFILL_RATE")]
    sandbox_warm_pool_max_refill_rate: Option<f64>,
    /// Without effect. Claims come before pools.
    #[arg(long, value_name = "DURATION", env = "PADDOCK_SANDBOX_WARM_POOL_REPLENISH_DELAY", value_parser = parse_duration)]
    sandbox_warm_pool_replenish_delay: Option<Duration>,
    /// Without effect.
    #[arg(long, value_name = "DURATION", env = "PADDOCK_SANDBOX_WARM_POOL_UNSCHEDULABLE_RECHECK_INTERVAL", value_parser = parse_duration)]
    sandbox_warm_pool_unschedulable_recheck_interval: Option<Duration>,
    /// Without effect.
    #[arg(long, value_name = "DURATION", env = "PADDOCK_SANDBOX_WRITE_BEHIND_WINDOW", value_parser = parse_duration)]
    sandbox_write_behind_window: Option<Duration>,
    /// Must be true: an autoscaler may always evict the pods of warm sandboxes.
    #[arg(long, value_name = "BOOL", env = "PADDOCK_ENABLE_WARM_POOL_EVICTION", value_parser = parse_eviction, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    enable_warm_pool_eviction: Option<bool>,
    /// If false, there are no spans. If true, without effect: --otlp-endpoint or the variables OTEL_* name the collector.
    #[arg(long, value_name = "BOOL", env = "PADDOCK_ENABLE_TRACING", value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    enable_tracing: Option<bool>,
    /// Without effect. There are no profiles of Go.
    #[arg(long, value_name = "BOOL", env = "PADDOCK_ENABLE_PPROF", value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    enable_pprof: Option<bool>,
    /// Without effect. See --enable-pprof.
    #[arg(long, value_name = "BOOL", env = "PADDOCK_ENABLE_PPROF_DEBUG", value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    enable_pprof_debug: Option<bool>,
    /// Without effect. See --enable-pprof.
    #[arg(long, value_name = "N", env = "PADDOCK_PPROF_BLOCK_PROFILE_RATE", allow_negative_numbers = true)]
    pprof_block_profile_rate: Option<i64>,
    /// Without effect. See --enable-pprof.
    #[arg(long, value_name = "N", env = "PADDOCK_PPROF_MUTEX_PROFILE_FRACTION", allow_negative_numbers = true)]
    pprof_mutex_profile_fraction: Option<i64>,
    /// At most VersionTLS12: the metrics are served with TLS 1.2 and 1.3.
    #[arg(long, value_name = "VERSION", env = "PADDOCK_TLS_MIN_VERSION", value_parser = parse_min_version)]
    tls_min_version: Option<String>,
    /// Must be empty: the cipher suites cannot be chosen.
    #[arg(long, value_name = "SUITES", env = "PADDOCK_TLS_CIPHER_SUITES", value_parser = parse_cipher_suites)]
    tls_cipher_suites: Option<String>,
    /// If true, the log is text with the level debug, unless other flags say otherwise.
    #[arg(long, value_name = "BOOL", env = "PADDOCK_ZAP_DEVEL", value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    zap_devel: Option<bool>,
    /// The format of the log, if --log-format is absent.
    #[arg(long, value_name = "ENCODER", env = "PADDOCK_ZAP_ENCODER")]
    zap_encoder: Option<ZapEncoder>,
    /// The level of the log, if --log-level is absent: debug, info, error, panic, or a number above 0 for debug.
    #[arg(long, value_name = "LEVEL", env = "PADDOCK_ZAP_LOG_LEVEL", value_parser = parse_zap_level)]
    zap_log_level: Option<&'static str>,
    /// Without effect.
    #[arg(long, value_name = "LEVEL", env = "PADDOCK_ZAP_STACKTRACE_LEVEL")]
    zap_stacktrace_level: Option<String>,
    /// Without effect. Times are those of RFC 3339.
    #[arg(long, value_name = "ENCODING", env = "PADDOCK_ZAP_TIME_ENCODING")]
    zap_time_encoding: Option<String>,
}

/// The values of `--zap-encoder`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ZapEncoder {
    /// One JSON object for each line.
    Json,
    /// Lines of text.
    Console,
}

impl From<ZapEncoder> for LogFormat {
    fn from(encoder: ZapEncoder) -> Self {
        match encoder {
            ZapEncoder::Json => LogFormat::Json,
            ZapEncoder::Console => LogFormat::Text,
        }
    }
}

impl UpstreamArgs {
    /// The settings of the log and of the spans. Our own flags come first.
    pub(super) fn log(&self, own: &LogArgs) -> LogArgs {
        let devel = self.zap_devel == Some(true);
        let format = self.zap_encoder.map(LogFormat::from).or(devel.then_some(LogFormat::Text));
        let level = self.zap_log_level.or(devel.then_some("debug"));
        LogArgs {
            log_format: own.log_format.or(format),
            log_level: own.log_level.clone().or(level.map(str::to_owned)),
            otlp_endpoint: own.otlp_endpoint.clone(),
            spans: self.enable_tracing != Some(false),
        }
    }

    /// The flags that were given and have no effect.
    pub(super) fn without_effect(&self) -> impl Iterator<Item = &'static str> {
        [
            (self.separate_watch_connection.is_some(), "separate-watch-connection"),
            (self.api_connections.is_some(), "api-connections"),
            (self.cache_label_selectors.is_some(), "cache-label-selectors"),
            (self.sandbox_warm_pool_max_refill_rate.is_some(), "sandbox-warm-pool-max-refill-rate"),
            (self.sandbox_warm_pool_replenish_delay.is_some(), "sandbox-warm-pool-replenish-delay"),
            (
                self.sandbox_warm_pool_unschedulable_recheck_interval.is_some(),
                "sandbox-warm-pool-unschedulable-recheck-interval",
            ),
            (self.sandbox_write_behind_window.is_some(), "sandbox-write-behind-window"),
            (self.enable_warm_pool_eviction.is_some(), "enable-warm-pool-eviction"),
            (self.enable_tracing == Some(true), "enable-tracing"),
            (self.enable_pprof.is_some(), "enable-pprof"),
            (self.enable_pprof_debug.is_some(), "enable-pprof-debug"),
            (self.pprof_block_profile_rate.is_some(), "pprof-block-profile-rate"),
            (self.pprof_mutex_profile_fraction.is_some(), "pprof-mutex-profile-fraction"),
            (self.tls_min_version.is_some(), "tls-min-version"),
            (self.tls_cipher_suites.is_some(), "tls-cipher-suites"),
            (self.zap_stacktrace_level.is_some(), "zap-stacktrace-level"),
            (self.zap_time_encoding.is_some(), "zap-time-encoding"),
        ]
        .into_iter()
        .filter_map(|(given, flag)| given.then_some(flag))
    }
}

fn parse_eviction(value: &str) -> Result<bool, String> {
    if parse_bool(value)? {
        return Ok(true);
    }
    Err("an autoscaler may always evict the pods of warm sandboxes: leave the flag out".to_owned())
}

fn parse_min_version(value: &str) -> Result<String, String> {
    match value {
        "VersionTLS10" | "VersionTLS11" | "VersionTLS12" => Ok(value.to_owned()),
        "VersionTLS13" => {
            Err("the metrics are served with TLS 1.2 too: leave the flag out, or expect VersionTLS12".to_owned())
        }
        _ => Err(format!("{value:?} is no version: expected VersionTLS12 or the like")),
    }
}

fn parse_cipher_suites(value: &str) -> Result<String, String> {
    if value.is_empty() {
        return Ok(String::new());
    }
    Err("the cipher suites cannot be chosen: leave the flag out. All of them have forward secrecy".to_owned())
}

fn parse_zap_level(value: &str) -> Result<&'static str, String> {
    match value {
        "debug" => Ok("debug"),
        "info" => Ok("info"),
        "error" | "panic" => Ok("error"),
        _ if value.parse::<u8>().is_ok_and(|level| level > 0) => Ok("debug"),
        _ => Err(format!("{value:?} is no level: expected debug, info, error, panic or a number above 0")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::OperatorArgs;
    use super::*;
    use crate::values::parsed;

    fn given(flags: &[&str]) -> OperatorArgs {
        parsed(flags).unwrap()
    }

    /// The arguments of "High-Throughput Deployment Example" in docs/configuration.md of upstream, and its other flags.
    #[test]
    fn every_flag_of_upstreams_manual_is_taken() {
        let args = given(&[
            "--leader-elect=true",
            "--extensions=true",
            "--separate-watch-connection=true",
            "--api-connections=4",
            "--sandbox-warm-pool-max-refill-rate=25",
            "--sandbox-warm-pool-max-batch-size=200",
            "--disable-sandbox-events=true",
            "--disable-claim-events=true",
            "--disable-claim-observability-annotations=true",
            "--cache-label-selectors=true",
            "--sandbox-claim-concurrent-workers=100",
            "-sandbox-warm-pool-replenish-delay=1s",
            "--sandbox-warm-pool-unschedulable-recheck-interval=1m",
            "--sandbox-write-behind-window=0",
            "--enable-warm-pool-eviction",
            "--enable-tracing",
            "--enable-pprof",
            "--enable-pprof-debug=false",
            "--pprof-block-profile-rate=-1",
            "--pprof-mutex-profile-fraction=10",
            "--metrics-secure-serving",
            "--metrics-cert-dir=/etc/metrics-certs",
            "--tls-min-version=VersionTLS12",
            "--tls-cipher-suites=",
            "-zap-devel=false",
            "--zap-encoder=json",
            "--zap-log-level=5",
            "--zap-stacktrace-level=error",
            "--zap-time-encoding=rfc3339nano",
        ]);
        assert!(args.listen.metrics_secure);
        assert_eq!(args.upstream.without_effect().count(), 17);
        assert_eq!(given(&["--extensions"]).upstream.without_effect().count(), 0);
    }

    #[test]
    fn settings_of_zap_count_unless_ours_are_given() {
        let log = |flags: &[&str]| {
            let args = given(flags);
            let log = args.upstream.log(&args.log);
            (log.log_format, log.log_level, log.spans)
        };
        let (text, json) = (Some(LogFormat::Text), Some(LogFormat::Json));
        let level = |level: &str| Some(level.to_owned());
        assert_eq!(log(&["--zap-devel"]), (text, level("debug"), true));
        assert_eq!(log(&["--zap-devel", "--zap-encoder=json", "--zap-log-level=panic"]), (json, level("error"), true));
        assert_eq!(log(&["--zap-encoder=console", "--zap-log-level=2"]), (text, level("debug"), true));
        assert_eq!(
            log(&["--zap-devel", "--log-format=json", "--log-level=warn", "--enable-tracing=false"]),
            (json, level("warn"), false)
        );
    }

    #[test]
    fn flags_that_promise_what_is_not_there_are_refused() {
        for (flag, wanted) in [
            ("--tls-min-version=VersionTLS13", "TLS 1.2 too"),
            ("--tls-min-version=1.2", "VersionTLS12"),
            ("--tls-cipher-suites=TLS_AES_128_GCM_SHA256", "cannot be chosen"),
            ("--enable-warm-pool-eviction=false", "leave the flag out"),
            ("--zap-log-level=loud", "debug, info, error, panic"),
            ("--api-connections=0", "1.."),
        ] {
            let error = parsed::<OperatorArgs>(&[flag]).unwrap_err();
            assert!(error.contains(wanted), "{flag}: {error}");
        }
    }
}
