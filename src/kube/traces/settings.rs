//! The settings of the sender, from the variables that OpenTelemetry specifies. The SDK itself reads those of the sampler, of
//! the batches, of headers and of resource attributes. It ignores a sampler that it does not know, so that one is checked here.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use crate::limits;

/// The flag and the variable with the URL of the collector, without the path.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT (--otlp-endpoint)";

const QUEUE_SIZE: &str = "OTEL_BSP_MAX_QUEUE_SIZE";

const SAMPLER: &str = "OTEL_TRACES_SAMPLER";

const SAMPLER_ARG: &str = "OTEL_TRACES_SAMPLER_ARG";

/// The samplers of the SDK.
const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];

/// A setting cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: {message}")]
pub struct InvalidSettings {
    setting: String,
    message: String,
}

impl InvalidSettings {
    pub(super) fn new(setting: &str, message: String) -> Self {
        Self { setting: setting.to_owned(), message }
    }
}

/// The settings of a sender.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Settings {
    /// The URL to which spans are sent.
    pub(super) url: Uri,
    /// The time for one request.
    pub(super) timeout: Duration,
    /// The number of spans that may wait.
    pub(super) queue: usize,
    /// The file with the CA certificates of the collector. `None` for those of the system.
    pub(super) certificate: Option<PathBuf>,
    /// Whether the environment names the service.
    pub(super) names_service: bool,
}

impl Settings {
    /// The settings. `None` if nothing names a collector, or the environment turns traces off.
    pub(super) fn read(
        endpoint: Option<&str>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, InvalidSettings> {
        let is = |name: &str, value: &str| variable(name).is_some_and(|given| given.eq_ignore_ascii_case(value));
        if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
            return Ok(None);
        }
        // A setting of traces alone comes before that of all signals.
        let either = |what: &str| {
            let names = [format!("OTEL_EXPORTER_OTLP_TRACES_{what}"), format!("OTEL_EXPORTER_OTLP_{what}")];
            names.into_iter().find_map(|name| variable(&name).map(|value| (name, value)))
        };
        let url = match (variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), endpoint) {
            (Some(whole), _) => url("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &whole, "")?,
            (None, Some(base)) => url(ENDPOINT, base.trim_end_matches('/'), "/v1/traces")?,
            (None, None) => return Ok(None),
        };
        if let Some((name, protocol)) = either("PROTOCOL")
            && protocol != "http/protobuf"
        {
            let message = format!("{protocol:?} is not supported; it must be http/protobuf, whose port is often 4318");
            return Err(InvalidSettings::new(&name, message));
        }
        let timeout = match either("TIMEOUT") {
            None => limits::SPANS_TIMEOUT,
            Some((name, text)) => Duration::from_millis(number(&name, &text, 600_000, "milliseconds")?),
        };
        let queue = match variable(QUEUE_SIZE) {
            None => limits::SPANS,
            Some(text) => number(QUEUE_SIZE, &text, 100_000, "spans")?,
        };
        if let Some(sampler) = variable(SAMPLER) {
            if !SAMPLERS.contains(&sampler.as_str()) {
                let message = format!("{sampler:?} must be one of {}", SAMPLERS.join(", "));
                return Err(InvalidSettings::new(SAMPLER, message));
            }
            let is_ratio = |text: String| text.parse().is_ok_and(|ratio| (0.0..=1.0).contains(&ratio));
            if sampler.ends_with("ratio") && !variable(SAMPLER_ARG).is_none_or(is_ratio) {
                let message = format!("must be a number from 0 to 1 for the sampler {sampler}");
                return Err(InvalidSettings::new(SAMPLER_ARG, message));
            }
        }
        let attributes = variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
        let named = attributes.split(',').any(|pair| pair.trim_start().starts_with("service.name="));
        Ok(Some(Self {
            url,
            timeout,
            queue,
            certificate: either("CERTIFICATE").map(|(_, file)| file.into()),
            names_service: named || variable("OTEL_SERVICE_NAME").is_some(),
        }))
    }
}

/// The URL with this path added. A user belongs into a header, which no message shows.
fn url(setting: &str, text: &str, path: &str) -> Result<Uri, InvalidSettings> {
    let is_plain = |url: &Uri| {
        matches!(url.scheme_str(), Some("http" | "https"))
            && url.query().is_none()
            && url.authority().is_some_and(|at| !at.host().is_empty() && !at.as_str().contains('@'))
    };
    let url = text.parse().ok().filter(is_plain).and_then(|_| format!("{text}{path}").parse().ok());
    url.ok_or_else(|| {
        let text = if text.contains('@') { "the URL" } else { text };
        let message = format!(
            "{text} must be an http or https URL without user and query, such as http://collector.observability:4318"
        );
        InvalidSettings::new(setting, message)
    })
}

fn number<N: TryFrom<u64>>(setting: &str, text: &str, most: u64, unit: &str) -> Result<N, InvalidSettings> {
    let number =
        text.parse().ok().filter(|number| (1..=most).contains(number)).and_then(|number| number.try_into().ok());
    number.ok_or_else(|| InvalidSettings::new(setting, format!("{text:?} must be a number of {unit} from 1 to {most}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(endpoint: Option<&str>, variables: &[(&str, &str)]) -> Result<Option<Settings>, String> {
        let variable =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Settings::read(endpoint, variable).map_err(|error| error.to_string())
    }

    #[test]
    fn the_path_is_added_to_the_endpoint_of_all_signals_alone() {
        let url = |endpoint, variables: &[_]| read(endpoint, variables).unwrap().unwrap().url.to_string();
        assert_eq!(url(Some("http://a:4318"), &[]), "http://a:4318/v1/traces");
        assert_eq!(url(Some("https://a/otlp/"), &[]), "https://a/otlp/v1/traces");
        let whole = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://b:1/x");
        assert_eq!(url(Some("http://a:4318"), &[whole]), "http://b:1/x");
    }

    #[test]
    fn nothing_is_sent_without_a_collector_or_if_traces_are_off() {
        assert_eq!(read(None, &[]), Ok(None));
        for off in [("OTEL_SDK_DISABLED", "TRUE"), ("OTEL_TRACES_EXPORTER", "none")] {
            assert_eq!(read(Some("http://a:4318"), &[off]), Ok(None), "{off:?}");
        }
    }

    #[test]
    fn settings_that_cannot_be_used_are_named() {
        const FLAG: &str = "OTEL_EXPORTER_OTLP_ENDPOINT (--otlp-endpoint)";
        for endpoint in ["collector:4318", "collector", "ftp://a", "http://", "http://a?b", "http:///", "http://a b"] {
            let refused = read(Some(endpoint), &[]).unwrap_err();
            let text = endpoint.trim_end_matches('/');
            assert!(refused.starts_with(&format!("{FLAG}: {text} must be an http or https URL")), "{refused}");
        }
        let refused = read(Some("http://user:secret@a"), &[]).unwrap_err();
        assert!(refused.starts_with(FLAG) && !refused.contains("secret"), "{refused}");
        for (name, value, error) in [
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "x", "x must be an http or https URL"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "\"grpc\" is not supported"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "10s", "\"10s\" must be a number of milliseconds from 1"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "\"0\" must be a number of spans from 1"),
            ("OTEL_TRACES_SAMPLER", "often", "\"often\" must be one of always_on, "),
        ] {
            let refused = read(Some("http://a"), &[(name, value)]).unwrap_err();
            assert!(refused.starts_with(&format!("{name}: {error}")), "{refused}");
        }
        for (ratio, is_good) in [("0.1", true), ("1", true), ("1.5", false), ("ten", false)] {
            let sampler = ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio");
            let read = read(Some("http://a"), &[sampler, (SAMPLER_ARG, ratio)]);
            assert_eq!(read.is_ok(), is_good, "{ratio}: {read:?}");
        }
    }

    #[test]
    fn the_name_of_the_service_may_come_from_the_environment() {
        for (variables, named) in [
            (vec![], false),
            (vec![("OTEL_SERVICE_NAME", "x")], true),
            (vec![("OTEL_RESOURCE_ATTRIBUTES", "a=b, service.name=x")], true),
            (vec![("OTEL_RESOURCE_ATTRIBUTES", "a.service.name=x")], false),
        ] {
            assert_eq!(read(Some("http://a"), &variables).unwrap().unwrap().names_service, named, "{variables:?}");
        }
    }
}
