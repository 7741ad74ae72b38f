//! The rule that tells probes from uses. The platform team may extend it.

use http::HeaderMap;
use http::header::USER_AGENT;

use crate::arrival::Purpose;

/// Texts in the User-Agent of the probes of Kubernetes, of load balancers, of monitoring and of crawlers. A general word
/// such as `bot` is not among them, because an agent that uses its Sandbox may be called so.
pub const PROBE_USER_AGENTS: [&str; 36] = [
    // Kubernetes and load balancers.
    "kube-probe/",
    "GoogleHC/",
    "ELB-HealthChecker/",
    "Amazon-Route53-Health-Check-Service",
    "Azure Traffic Manager Endpoint Monitor",
    "Edge Health Probe",
    "Load Balancer Agent",
    "Envoy/HC",
    "HAProxy",
    "Consul Health Check",
    // Monitoring.
    "Prometheus/",
    "Blackbox Exporter/",
    "Blackbox-Exporter/",
    "GoogleStackdriverMonitoring-UptimeChecks",
    "Datadog/Synthetics",
    "Uptime-Kuma/",
    "UptimeRobot/",
    "Better Stack Better Uptime Bot",
    "Pingdom",
    "StatusCake",
    "Site24x7",
    "NewRelicPinger",
    // Crawlers and link previews.
    "Googlebot",
    "bingbot",
    "YandexBot",
    "Baiduspider",
    "DuckDuckBot",
    "Applebot",
    "AhrefsBot",
    "SemrushBot",
    "facebookexternalhit",
    "Twitterbot",
    "LinkedInBot",
    "Slackbot",
    "Discordbot",
    "TelegramBot",
];

/// Recognizes requests that must not wake a Sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeRule {
    /// Texts of which the User-Agent of a probe contains one, in lower case.
    user_agents: Vec<String>,
    /// Paths in the Sandbox that only probes ask for. A `*` at the end stands for any rest.
    paths: Vec<String>,
}

impl ProbeRule {
    /// The usual rule with more texts and paths.
    #[must_use]
    pub fn new(more_user_agents: &[String], paths: &[String]) -> Self {
        let usual = PROBE_USER_AGENTS.iter().map(|text| text.to_ascii_lowercase());
        // An empty text would make every request a probe.
        let more = more_user_agents.iter().map(|text| text.trim().to_ascii_lowercase()).filter(|text| !text.is_empty());
        Self { user_agents: usual.chain(more).collect(), paths: paths.to_vec() }
    }

    /// The purpose of a request with this path in the Sandbox. A browser that only prepares for a click is a probe too.
    #[must_use]
    pub fn purpose(&self, headers: &HeaderMap, path: &str) -> Purpose {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let agent = text(USER_AGENT.as_str()).to_ascii_lowercase();
        let prepares = ["sec-purpose", "purpose"].iter().any(|name| text(name).starts_with("prefetch"));
        let is_path = |wanted: &String| match wanted.strip_suffix('*') {
            Some(beginning) => path.starts_with(beginning),
            None => path == wanted,
        };
        let is_probe =
            prepares || self.user_agents.iter().any(|probe| agent.contains(probe)) || self.paths.iter().any(is_path);
        if is_probe { Purpose::Probe } else { Purpose::Use }
    }
}

impl Default for ProbeRule {
    fn default() -> Self {
        Self::new(&[], &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purpose(rule: &ProbeRule, headers: &[(&'static str, &'static str)], path: &str) -> Purpose {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        rule.purpose(&headers, path)
    }

    #[test]
    fn probes_and_crawlers_are_recognized_and_clients_are_not() {
        let rule = ProbeRule::default();
        for agent in [
            "kube-probe/1.36",
            "ELB-HealthChecker/2.0",
            "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            "mozilla/5.0 (compatible; bingbot/2.0)",
            "prometheus/3.1.0",
        ] {
            assert_eq!(purpose(&rule, &[("user-agent", agent)], "/"), Purpose::Probe, "{agent}");
        }
        for agent in [
            "",
            "python-requests/2.34.2",
            "Go-http-client/2.0",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140 Safari/537.36",
            "my-agent-bot/1.0",
            "grpc-python/1.83",
        ] {
            assert_eq!(purpose(&rule, &[("user-agent", agent)], "/execute"), Purpose::Use, "{agent}");
        }
        assert_eq!(purpose(&rule, &[("sec-purpose", "prefetch;prerender")], "/"), Purpose::Probe);
        assert_eq!(purpose(&rule, &[], "/healthz"), Purpose::Use, "a path is a probe only if it is configured");
    }

    #[test]
    fn the_platform_team_adds_user_agents_and_paths() {
        let agents = ["Acme-Monitor".to_owned(), String::new(), " ".to_owned()];
        let rule = ProbeRule::new(&agents, &["/healthz".to_owned(), "/metrics*".to_owned()]);
        assert_eq!(purpose(&rule, &[("user-agent", "acme-monitor 7")], "/"), Purpose::Probe);
        assert_eq!(purpose(&rule, &[("user-agent", "kube-probe/1.36")], "/"), Purpose::Probe);
        for (path, expected) in [
            ("/healthz", Purpose::Probe),
            ("/healthz/", Purpose::Use),
            ("/metrics", Purpose::Probe),
            ("/metrics/cadvisor", Purpose::Probe),
            ("/execute", Purpose::Use),
        ] {
            assert_eq!(purpose(&rule, &[("user-agent", "curl/8")], path), expected, "{path}");
        }
    }
}
